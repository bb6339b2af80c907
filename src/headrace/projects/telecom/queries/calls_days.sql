-- A subscriber's calls by day, newest first: how many, of which type, how long together and on average, to a millionth of a
-- second. Days without calls are left out. The end is not included.
SELECT CAST(start AS DATE) AS day, coalesce(sum(events) FILTER (WHERE category = 'call'), 0) AS total_calls,
       coalesce(sum(events) FILTER (WHERE category = 'call' AND usage_type = 'voice'), 0) AS voice_calls,
       coalesce(sum(events) FILTER (WHERE category = 'call' AND usage_type = 'video'), 0) AS video_calls,
       coalesce(sum(seconds), 0) AS total_duration_seconds,
       round(sum(seconds) / nullif(sum(events) FILTER (WHERE category = 'call'), 0), 6) AS avg_duration_seconds,
       sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes, measure(bytes) AS bytes, round(measure(cost_zar), 6) AS cost_zar
FROM usage_15min WHERE msisdn = $msisdn AND start >= $start_time AND start < $end_time
GROUP BY day HAVING sum(events) FILTER (WHERE category = 'call') > 0 ORDER BY day DESC LIMIT 10000
