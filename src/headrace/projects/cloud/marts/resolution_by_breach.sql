-- Tickets with and without a broken SLA, and how long they took. Those with a broken one took no longer, so what breaks an
-- SLA is unknown.
SELECT coalesce(sla_breached, false) AS sla_breached,
       count(*) AS tickets,
       count(resolved_at) AS resolved,
       avg((resolved_at - created_at) * 24) FILTER (WHERE resolved_at >= created_at) AS avg_resolution_hours
FROM support_tickets GROUP BY ALL
