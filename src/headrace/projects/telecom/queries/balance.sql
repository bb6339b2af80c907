-- What a subscriber has cost so far, hour by hour, newest first, in ZAR and in WAK. Each hour counts at its own prices; see
-- usage_in_wak. Hours of which no price is known count in ZAR only: hours_unknown says how many they are so far.
WITH u AS (SELECT date_trunc('hour', start) AS hour, measure(cost_zar) AS cost_zar, sum(unpriced) AS unpriced
           FROM usage_15min WHERE msisdn = $msisdn AND start < $to GROUP BY hour)
SELECT u.hour, round(sum(u.cost_zar) OVER (ORDER BY u.hour), 6) AS balance_zar,
       round(sum(u.cost_zar / nullif(coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid), 0)) OVER (ORDER BY u.hour), 6) AS balance_wak,
       round(u.cost_zar, 6) AS cost_zar, round(u.cost_zar / nullif(coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid), 0), 6) AS cost_wak,
       CASE WHEN coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid) IS NULL THEN 'unknown'
            WHEN m.mid * w.mid IS NULL THEN 'last known' ELSE 'this hour' END AS price_of,
       row_number() OVER (ORDER BY u.hour) - count(u.cost_zar / nullif(coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid), 0)) OVER (ORDER BY u.hour) AS hours_unknown,
       u.unpriced
FROM u
LEFT JOIN forex_hourly AS m ON m.pair_name = 'MRVZAR' AND m.hour = u.hour AND m.day = CAST(u.hour AS DATE) AND m.hour < $to
LEFT JOIN forex_hourly AS w ON w.pair_name = 'WAKMRV' AND w.hour = u.hour AND w.day = CAST(u.hour AS DATE) AND w.hour < $to
LEFT JOIN last_prices AS lm ON lm.pair_name = 'MRVZAR' AND lm.hour = u.hour AND lm.day = CAST(u.hour AS DATE) AND lm.hour < $to
LEFT JOIN last_prices AS lw ON lw.pair_name = 'WAKMRV' AND lw.hour = u.hour AND lw.day = CAST(u.hour AS DATE) AND lw.hour < $to
ORDER BY u.hour DESC LIMIT coalesce($limit, 100)
