-- Cost spikes: events whose price per unit is far above that of their service and metric.
SELECT event_id, CAST(happened_at AS DATE) AS usage_date, happened_at, org_id, resource_id, service, region, metric, value, unit,
       cost_usd, expected_cost, cost_usd - expected_cost AS excess,
       CAST(cost_usd / nullif(expected_cost, 0) AS DECIMAL(38,2)) AS multiple,
       rate_mad AS score, rate_mad_threshold AS threshold, version,
       z_score > z_threshold AS by_z_score, global_mad > global_mad_threshold AS by_global_mad,
       outside_percentiles > percentile_threshold AS by_percentile
FROM event_scores WHERE NOT quarantined AND rate_mad > rate_mad_threshold
