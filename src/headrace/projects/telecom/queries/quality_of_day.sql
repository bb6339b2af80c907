-- What was found of a day's records, by source and reason. Records without a time stand in `quality` only.
SELECT source, kind, reason, sum(records) AS records FROM quality
WHERE day = $day AND kind NOT IN ('landed', 'clean') GROUP BY source, kind, reason ORDER BY source, kind, reason LIMIT 1000
