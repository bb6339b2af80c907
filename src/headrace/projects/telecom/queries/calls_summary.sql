-- A subscriber's calls of a range in one row, and the quarters of an hour in which the first and the last one began. The end is
-- not included.
SELECT coalesce(sum(events) FILTER (WHERE category = 'call'), 0) AS total_calls,
       coalesce(sum(events) FILTER (WHERE category = 'call' AND usage_type = 'voice'), 0) AS voice_calls,
       coalesce(sum(events) FILTER (WHERE category = 'call' AND usage_type = 'video'), 0) AS video_calls,
       coalesce(sum(seconds), 0) AS total_duration_seconds,
       count(DISTINCT CAST(start AS DATE)) FILTER (WHERE category = 'call') AS active_days,
       min(start) FILTER (WHERE category = 'call') AS first_call, max(start) FILTER (WHERE category = 'call') AS last_call,
       sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes, measure(bytes) AS bytes, round(measure(cost_zar), 6) AS cost_zar
FROM usage_15min WHERE msisdn = $msisdn AND start >= $start_time AND start < $end_time
