-- Tickets and broken SLAs of each severity between two days, over all organisations.
SELECT severity, sum(tickets) AS tickets, sum(sla_breaches) AS sla_breaches, round(measure(sla_breach_rate), 4) AS sla_breach_rate,
       round(measure(csat_avg), 2) AS csat_avg, round(measure(avg_resolution_hours), 1) AS avg_resolution_hours, sum(open) AS open
FROM tickets_by_org_date WHERE created_date BETWEEN $from AND $to GROUP BY severity ORDER BY severity
