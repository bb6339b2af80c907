-- Every landed event with the score that each detector gives it. This file declares the detectors: a score above its
-- threshold is a flag. Whoever changes a score or a threshold raises the version.
--
-- z_score, global_mad and outside_percentiles are the original's three, with exact statistics; above_p99 asks how many
-- times the 99th percentile a cost is; cost_mad and rate_mad are robust z-scores inside a service and metric, of the
-- cost and of the price per unit. Only rate_mad decides about spikes: the others are kept to be compared with it.
-- A MAD below 1 % of its median counts as 1 %: where half of the prices are equal, a rounding is no spike.
SELECT e.*, 1 AS version, e.cost_usd / nullif(e.value, 0) / nullif(s.service_rate, 0) AS times_usual,
       CAST(e.value * s.service_rate AS DECIMAL(38,6)) AS expected_cost,
       abs(e.cost_usd - a.mean) / nullif(a.deviation, 0) AS z_score, 3.0 AS z_threshold,
       0.6745 * abs(e.cost_usd - a.median) / nullif(a.mad, 0) AS global_mad, 3.0 AS global_mad_threshold,
       greatest(e.cost_usd - a.p99, a.p01 - e.cost_usd) AS outside_percentiles, 0.0 AS percentile_threshold,
       e.cost_usd / nullif(a.p99, 0) AS above_p99,
       0.6745 * abs(e.cost_usd - r.cost) / nullif(greatest(r.cost_mad, 0.01 * abs(r.cost)), 0) AS cost_mad,
       CASE WHEN e.value > 0
            THEN 0.6745 * (e.cost_usd / nullif(e.value, 0) - r.rate) / nullif(greatest(r.rate_mad, 0.01 * abs(r.rate)), 0)
            END AS rate_mad, 8.0 AS rate_mad_threshold
FROM usage_events_judged AS e
LEFT JOIN unit_rates AS r ON r.service = e.service AND r.metric = e.metric
LEFT JOIN service_rates AS s ON s.service = e.service
CROSS JOIN overall_costs AS a
