-- Usage cost per organisation and calendar month (UTC): what an invoice of that month would be compared with.
SELECT org_id, CAST(date_trunc('month', happened_at) AS DATE) AS month, sum(cost_usd) AS usage_usd, count(*) AS events
FROM usage_events GROUP BY ALL
