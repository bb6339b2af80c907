-- data_usage with its cost in WAK, at the mean prices of each hour: see usage_in_wak. By day there is no cost in WAK. The end
-- is not included.
WITH u AS (SELECT CASE WHEN coalesce($granularity, 'hour') = 'day' THEN date_trunc('day', start) ELSE date_trunc('hour', start) END AS start_time,
                  category, usage_type, sum(events) AS events, sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes,
                  sum(seconds) AS seconds, measure(bytes) AS bytes, measure(cost_zar) AS cost_zar
           FROM usage_15min WHERE msisdn = $msisdn AND start >= $start_time AND start < $end_time
             AND CAST(coalesce($granularity, 'hour') AS VARCHAR) IN ('hour', 'day')
           GROUP BY start_time, category, usage_type)
SELECT u.start_time, u.category, u.usage_type, CASE u.category WHEN 'call' THEN u.seconds ELSE u.bytes END AS total,
       CASE u.category WHEN 'call' THEN 'seconds' ELSE 'bytes' END AS measure, u.events, u.up_bytes, u.down_bytes,
       round(u.cost_zar, 6) AS cost_zar,
       CASE WHEN coalesce($granularity, 'hour') = 'hour'
            THEN round(u.cost_zar / nullif(coalesce(m.mid, lm.mid) * coalesce(w.mid, lw.mid), 0), 6) END AS cost_wak
FROM u
LEFT JOIN forex_hourly AS m ON m.pair_name = 'MRVZAR' AND m.hour = u.start_time AND m.day = CAST(u.start_time AS DATE) AND m.hour >= date_trunc('hour', $start_time) AND m.hour < $end_time
LEFT JOIN forex_hourly AS w ON w.pair_name = 'WAKMRV' AND w.hour = u.start_time AND w.day = CAST(u.start_time AS DATE) AND w.hour >= date_trunc('hour', $start_time) AND w.hour < $end_time
LEFT JOIN last_prices AS lm ON lm.pair_name = 'MRVZAR' AND lm.hour = u.start_time AND lm.day = CAST(u.start_time AS DATE) AND lm.hour >= date_trunc('hour', $start_time) AND lm.hour < $end_time
LEFT JOIN last_prices AS lw ON lw.pair_name = 'WAKMRV' AND lw.hour = u.start_time AND lw.day = CAST(u.start_time AS DATE) AND lw.hour >= date_trunc('hour', $start_time) AND lw.hour < $end_time
ORDER BY u.start_time, u.category, u.usage_type LIMIT 10000
