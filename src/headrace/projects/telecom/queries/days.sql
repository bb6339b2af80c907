-- The days there are, newest first.
SELECT day, sum(events) AS events, round(measure(cost_zar), 6) AS cost_zar
FROM network_hourly GROUP BY day ORDER BY day DESC LIMIT coalesce($limit, 366)
