-- What all subscribers used in a month (its first day), by day and type.
SELECT day, category, usage_type, category || ' ' || usage_type AS kind, sum(events) AS events, measure(bytes) AS bytes,
       sum(seconds) AS seconds, round(measure(cost_zar), 6) AS cost_zar
FROM network_hourly WHERE month = $month GROUP BY day, category, usage_type ORDER BY day, category, usage_type LIMIT 10000
