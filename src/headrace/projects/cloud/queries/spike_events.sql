-- The events behind one organisation's cost spikes, newest first.
SELECT event_id, happened_at, service, resource_id, region, metric, value, unit, cost_usd, expected_cost, multiple
FROM spikes WHERE org_id = $org ORDER BY happened_at DESC LIMIT coalesce($limit, 100)
