-- Median price per unit of each service, over all landed events: what a spike should have cost. Exact median: batch only.
SELECT service, median(cost_usd / nullif(value, 0)) AS service_rate FROM usage_events_judged WHERE value > 0 GROUP BY ALL
