-- Price per unit of each service and metric: the yardstick for cost spikes. Exact median and MAD: batch only.
SELECT service, metric,
       median(cost_usd / nullif(value, 0)) AS rate,
       mad(cost_usd / nullif(value, 0)) AS rate_mad,
       count(*) AS observations
FROM usage_events WHERE value > 0 GROUP BY ALL
