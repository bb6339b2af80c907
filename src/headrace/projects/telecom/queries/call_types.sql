-- Calls of a day by type: how many, how long together and on average, cost.
SELECT usage_type AS call_type, sum(events) AS calls, sum(seconds) AS seconds,
       round(sum(seconds) / nullif(sum(events), 0), 1) AS mean_seconds, round(measure(cost_zar), 6) AS cost_zar
FROM network_hourly WHERE day = $day AND category = 'call' GROUP BY usage_type ORDER BY usage_type
