-- Usage and its cost per subscriber, quarter of an hour, category (call or data) and type. Half hours, hours and days are
-- rolled up from it. A call or session counts where it begins.
SELECT msisdn, time_bucket(INTERVAL '15 minutes', started_at) AS start, category, usage_type,
       count(*) AS events, sum(up_bytes) AS up_bytes, sum(down_bytes) AS down_bytes, sum(up_bytes) + sum(down_bytes) AS bytes,
       sum(seconds) AS seconds,
       coalesce(sum(due) FILTER (WHERE category = 'call'), 0) / 60
           + coalesce(sum(due) FILTER (WHERE category = 'data'), 0) / 1000000000 AS cost_zar,
       count(*) FILTER (WHERE unpriced) AS unpriced
FROM usage GROUP BY ALL
