-- Twenty rows of one organisation's usage, from any day on: what the benchmark `rest` asks for.
SELECT usage_date, service, cost_usd, requests, cpu_hours, storage_gb_hours, carbon_kg, genai_tokens
FROM org_daily_usage_by_service WHERE org_id = $org AND usage_date BETWEEN $from AND $to ORDER BY usage_date, service LIMIT $limit
