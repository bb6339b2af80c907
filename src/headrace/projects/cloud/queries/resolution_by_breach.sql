-- Tickets with and without a broken SLA, and how long they took. Open: the two do not differ.
SELECT sla_breached, tickets, resolved, avg_resolution_hours FROM resolution_by_breach ORDER BY sla_breached
