-- Calls per phone and minute: how many, completed and not, and how long those lasted that were. ASR (answer-seizure ratio) is
-- the share that was completed, ACD (average call duration) the mean of those. A call counts in the minute in which it began:
-- clocks of all zones differ from UTC by whole minutes, so that minutes can be put together to the hours of any.
SELECT phone, date_trunc('minute', started_at) AS minute, count(*) AS total, count(*) FILTER (WHERE completed) AS successful,
       total - successful AS failed, coalesce(sum(seconds) FILTER (WHERE completed), 0) AS seconds_of_successful,
       successful * 100 / nullif(total, 0) AS asr_percent, seconds_of_successful / nullif(successful, 0) AS acd_seconds
FROM calls GROUP BY ALL
