-- Data quality of one source, or of all: records landed, clean, quarantined, duplicate and flagged, by reason.
SELECT source, kind, reason, sum(records) AS records FROM quality
WHERE ($source IS NULL OR source = $source) GROUP BY source, kind, reason ORDER BY source, kind, reason LIMIT 1000
