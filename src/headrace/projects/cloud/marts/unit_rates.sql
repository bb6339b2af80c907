-- Median price per unit and median cost of each service and metric, with their median deviations. Exact: batch only.
SELECT service, metric,
       median(cost_usd / nullif(value, 0)) FILTER (WHERE value > 0) AS rate,
       mad(cost_usd / nullif(value, 0)) FILTER (WHERE value > 0) AS rate_mad,
       median(CAST(cost_usd AS DOUBLE)) AS cost,
       mad(CAST(cost_usd AS DOUBLE)) AS cost_mad,
       count(*) AS events
FROM usage_events WHERE value IS NOT NULL GROUP BY ALL
