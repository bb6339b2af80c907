-- Calls between two instants, of one phone or of all: how many, completed and not, the success rate (ASR, answer-seizure
-- ratio) and the mean duration of those that were completed (ACD, average call duration). With from_hour (0 to 23) or to_hour
-- (0 to 24) only calls that began within these hours of the day, across midnight where from_hour is the later one, by the
-- clocks of time_zone (UTC). Neither end_time nor to_hour is included. A call counts at the beginning of its minute.
SELECT coalesce(measure(total), 0) AS total, coalesce(measure(successful), 0) AS successful, coalesce(measure(failed), 0) AS failed,
       round(measure(asr_percent), 2) AS asr_percent, round(measure(acd_seconds), 2) AS acd_seconds
FROM call_outcomes
WHERE minute >= $start_time AND minute < $end_time AND ($phone_number IS NULL OR phone = $phone_number)
  AND CASE WHEN coalesce($to_hour, 24) - coalesce($from_hour, 0) = 24 THEN true
           WHEN coalesce($from_hour, 0) < coalesce($to_hour, 24)
           THEN extract(hour FROM minute AT TIME ZONE coalesce($time_zone, 'UTC')) >= coalesce($from_hour, 0)
            AND extract(hour FROM minute AT TIME ZONE coalesce($time_zone, 'UTC')) < coalesce($to_hour, 24)
           ELSE extract(hour FROM minute AT TIME ZONE coalesce($time_zone, 'UTC')) >= coalesce($from_hour, 0)
             OR extract(hour FROM minute AT TIME ZONE coalesce($time_zone, 'UTC')) < coalesce($to_hour, 24) END
  AND $start_time < $end_time AND coalesce($from_hour, 0) BETWEEN 0 AND 23 AND coalesce($to_hour, 24) BETWEEN 0 AND 24
  AND coalesce($from_hour, 0) <> coalesce($to_hour, 24)
