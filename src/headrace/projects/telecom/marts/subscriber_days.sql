-- Usage and its cost per day and subscriber.
SELECT CAST(started_at AS DATE) AS day, msisdn,
       count(*) FILTER (WHERE category = 'call') AS calls, sum(seconds) AS seconds,
       count(*) FILTER (WHERE category = 'data') AS sessions, sum(up_bytes + down_bytes) AS bytes,
       coalesce(sum(due) FILTER (WHERE category = 'call'), 0) / 60
           + coalesce(sum(due) FILTER (WHERE category = 'data'), 0) / 1000000000 AS cost_zar
FROM usage GROUP BY ALL
