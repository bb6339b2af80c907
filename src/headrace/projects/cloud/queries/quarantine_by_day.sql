-- Records of one source that were quarantined, by day of event and reason.
SELECT day, reason, sum(records) AS records FROM quality
WHERE source = $source AND kind = 'quarantined' GROUP BY day, reason ORDER BY day, reason LIMIT 1000
