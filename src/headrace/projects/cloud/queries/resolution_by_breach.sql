-- Tickets with and without a broken SLA, and how long they took. Open: those with a broken one took no longer.
SELECT sla_breached, tickets, resolved, round(avg_resolution_hours, 1) AS avg_resolution_hours FROM resolution_by_breach ORDER BY sla_breached
