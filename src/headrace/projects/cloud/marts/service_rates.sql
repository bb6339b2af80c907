-- Median price per unit of each service: what an event should have cost. Over all landed events, so that a quarantine
-- rule that changes does not change what is usual. Exact median: batch only.
SELECT service, median(cost_usd / nullif(value, 0)) AS service_rate FROM usage_events_judged WHERE value > 0 GROUP BY ALL
