-- Usage and its cost over all subscribers per hour, category and type. Month and day are there to be partitions.
SELECT CAST(date_trunc('month', started_at) AS DATE) AS month, CAST(started_at AS DATE) AS day,
       date_trunc('hour', started_at) AS hour, category, usage_type,
       count(*) AS events, sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes, sum(up_bytes) + sum(down_bytes) AS bytes,
       sum(seconds) AS seconds,
       coalesce(sum(due) FILTER (WHERE category = 'call'), 0) / 60
           + coalesce(sum(due) FILTER (WHERE category = 'data'), 0) / 1000000000 AS cost_zar,
       count(*) FILTER (WHERE unpriced) AS unpriced
FROM usage GROUP BY ALL
