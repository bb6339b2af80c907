-- All usage there is, by type.
SELECT category, usage_type, sum(events) AS events, measure(bytes) AS bytes, sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes,
       sum(seconds) AS seconds, round(measure(cost_zar), 6) AS cost_zar, sum(unpriced) AS unpriced
FROM network_hourly GROUP BY category, usage_type ORDER BY category, usage_type LIMIT 1000
