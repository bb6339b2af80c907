-- The events behind one organisation's cost spikes between two days (both included), newest first.
SELECT event_id, happened_at, service, resource_id, region, metric, value, unit, cost_usd, expected_cost, multiple
FROM spikes WHERE org_id = $org AND usage_date BETWEEN $from AND $to
ORDER BY usage_date DESC, happened_at DESC, event_id LIMIT coalesce($limit, 100)
