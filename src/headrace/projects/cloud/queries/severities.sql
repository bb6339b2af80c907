-- Tickets and broken SLAs of each severity between two days, over all organisations.
SELECT severity, sum(tickets) AS tickets, sum(sla_breaches) AS sla_breaches, measure(sla_breach_rate) AS sla_breach_rate,
       measure(csat_avg) AS csat_avg, measure(avg_resolution_hours) AS avg_resolution_hours, sum(open) AS open
FROM tickets_by_org_date WHERE created_date BETWEEN $from AND $to GROUP BY severity ORDER BY severity
