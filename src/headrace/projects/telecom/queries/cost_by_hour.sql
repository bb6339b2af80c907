-- What all usage of a day cost, by hour, in ZAR.
SELECT hour, category, round(measure(cost_zar), 6) AS cost_zar, sum(events) AS events, sum(unpriced) AS unpriced
FROM network_hourly WHERE day = $day GROUP BY hour, category ORDER BY hour, category LIMIT 100
