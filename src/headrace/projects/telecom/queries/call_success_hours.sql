-- Calls and their success rate (ASR) by hour, of one phone or of all. The end is not included.
SELECT date_trunc('hour', minute) AS hour, measure(total) AS total, measure(successful) AS successful, measure(failed) AS failed,
       round(measure(asr_percent), 2) AS asr_percent, round(measure(acd_seconds), 2) AS acd_seconds
FROM call_outcomes
WHERE minute >= $start_time AND minute < $end_time AND ($phone_number IS NULL OR phone = $phone_number)
GROUP BY hour ORDER BY hour LIMIT 10000
