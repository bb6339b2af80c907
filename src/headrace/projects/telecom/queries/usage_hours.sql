-- What all subscribers used on a day, by hour and type: events, bytes of data, seconds of calls. Of one category (call or data)
-- or of both.
SELECT hour, category, usage_type, events, bytes, up_bytes, down_bytes, seconds, round(cost_zar, 6) AS cost_zar
FROM network_hourly WHERE day = $day AND ($category IS NULL OR category = $category)
ORDER BY hour, category, usage_type LIMIT 10000
