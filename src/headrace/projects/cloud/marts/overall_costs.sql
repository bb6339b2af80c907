-- What an event costs, over all services and all landed events: the yardsticks of the original's detectors. Exact.
SELECT avg(cost_usd) AS mean, stddev_samp(cost_usd) AS deviation, median(CAST(cost_usd AS DOUBLE)) AS median,
       mad(CAST(cost_usd AS DOUBLE)) AS mad, quantile_cont(CAST(cost_usd AS DOUBLE), 0.01) AS p01,
       quantile_cont(CAST(cost_usd AS DOUBLE), 0.99) AS p99
FROM usage_events_judged
