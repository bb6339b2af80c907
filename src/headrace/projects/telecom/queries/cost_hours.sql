-- What all usage of a day cost, by hour, in ZAR and in WAK: WAK = ZAR / (WAKMRV x MRVZAR), at that hour's mean prices. In an
-- hour without a tick the last known price holds: price_of says so, mrvzar_of and wakmrv_of which hour it is of.
WITH u AS (SELECT hour, category, measure(cost_zar) AS cost_zar, sum(events) AS events, sum(unpriced) AS unpriced
           FROM network_hourly WHERE day = $day GROUP BY hour, category)
SELECT u.hour, u.category, round(u.cost_zar, 6) AS cost_zar, round(u.cost_zar / nullif(coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid), 0), 6) AS cost_wak,
       CASE WHEN coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid) IS NULL THEN 'unknown'
            WHEN m.mid * w.mid IS NULL THEN 'last known' ELSE 'this hour' END AS price_of,
       round(coalesce(m.mid, lm.mid), 6) AS mrvzar, CASE WHEN m.mid IS NULL THEN lm.priced_at ELSE u.hour END AS mrvzar_of,
       round(coalesce(w.mid, lw.mid), 6) AS wakmrv, CASE WHEN w.mid IS NULL THEN lw.priced_at ELSE u.hour END AS wakmrv_of,
       u.events, u.unpriced
FROM u
LEFT JOIN forex_hourly AS m ON m.pair_name = 'MRVZAR' AND m.hour = u.hour AND m.day = $day
LEFT JOIN forex_hourly AS w ON w.pair_name = 'WAKMRV' AND w.hour = u.hour AND w.day = $day
LEFT JOIN last_prices AS lm ON lm.pair_name = 'MRVZAR' AND lm.hour = u.hour AND lm.day = $day
LEFT JOIN last_prices AS lw ON lw.pair_name = 'WAKMRV' AND lw.hour = u.hour AND lw.day = $day
ORDER BY u.hour, u.category LIMIT 100
