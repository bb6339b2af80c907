-- Events whose unit cost is far above their service and metric; row-wise, the yardsticks are references.
SELECT u.*, CAST(u.value * s.service_rate AS DECIMAL(18,6)) AS expected_cost,
       CAST(u.cost_usd / nullif(u.value * s.service_rate, 0) AS DECIMAL(18,2)) AS multiple
FROM usage_events AS u JOIN unit_rates AS r USING (service, metric) JOIN service_rates AS s USING (service)
WHERE u.value > 0 AND 0.6745 * (u.cost_usd / nullif(u.value, 0) - r.rate) > 8 * r.rate_mad
