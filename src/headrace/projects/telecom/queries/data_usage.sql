-- What a subscriber used, by hour or by day (granularity), with its cost: bytes of data, seconds of calls. The end is not
-- included.
SELECT CASE WHEN coalesce($granularity, 'hour') = 'day' THEN date_trunc('day', start) ELSE date_trunc('hour', start) END AS start_time,
       category, usage_type, CASE category WHEN 'call' THEN sum(seconds) ELSE measure(bytes) END AS total,
       CASE category WHEN 'call' THEN 'seconds' ELSE 'bytes' END AS measure,
       sum(events) AS events, sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes, round(measure(cost_zar), 6) AS cost_zar
FROM usage_15min WHERE msisdn = $msisdn AND start >= $start_time AND start < $end_time
  AND CAST(coalesce($granularity, 'hour') AS VARCHAR) IN ('hour', 'day')
GROUP BY start_time, category, usage_type ORDER BY start_time, category, usage_type LIMIT 10000
