-- One organisation's tickets by day of creation and severity, with one column a category.
SELECT created_date, severity, tickets, sla_breaches, sla_breach_rate, csat_avg, csat_n, avg_resolution_hours, open,
       integration, billing, availability, usability, performance, security
FROM tickets_by_org_date WHERE org_id = $org AND created_date BETWEEN $from AND $to ORDER BY created_date, severity LIMIT 1000
