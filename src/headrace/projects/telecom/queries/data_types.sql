-- Data of a day by type: sessions, bytes up and down, cost.
SELECT usage_type AS data_type, sum(events) AS sessions, measure(bytes) AS bytes, sum(up_bytes) AS up_bytes,
       sum(down_bytes) AS down_bytes, round(measure(cost_zar), 6) AS cost_zar
FROM network_hourly WHERE day = $day AND category = 'data' GROUP BY usage_type ORDER BY usage_type
