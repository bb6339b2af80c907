-- Records of one source that were quarantined, by day of event and reason. Those without a day count in quality only.
SELECT day, reason, sum(records) AS records FROM quality
WHERE source = $source AND kind = 'quarantined' AND day <> DATE '1970-01-01' GROUP BY day, reason ORDER BY day, reason LIMIT 1000
