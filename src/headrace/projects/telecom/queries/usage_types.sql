-- What a subscriber used by day and type, and what that cost. The end is not included.
SELECT CAST(start AS DATE) AS day, category, usage_type, category || ' ' || usage_type AS kind, sum(events) AS events,
       measure(bytes) AS bytes, sum(seconds) AS seconds, round(measure(cost_zar), 6) AS cost_zar
FROM usage_15min WHERE msisdn = $msisdn AND start >= $from AND start < $to
GROUP BY day, category, usage_type ORDER BY day, category, usage_type LIMIT 10000
