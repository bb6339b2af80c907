-- Landed, clean, quarantined, duplicate and flagged records per source, day of event and reason.
SELECT source, day, kind, reason, count(*) AS records FROM verdicts GROUP BY ALL
