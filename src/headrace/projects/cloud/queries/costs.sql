-- The cost of each service by day, over all organisations.
SELECT usage_date, service, sum(cost_usd) AS cost_usd, sum(events) AS events
FROM org_daily_usage_by_service WHERE usage_date BETWEEN $from AND $to GROUP BY usage_date, service ORDER BY usage_date, service LIMIT 10000
