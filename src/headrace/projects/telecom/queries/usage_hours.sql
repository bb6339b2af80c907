-- What all subscribers used on a day, by hour and type: events, bytes of data, seconds of calls.
SELECT hour, category, usage_type, category || ' ' || usage_type AS kind, events, bytes, up_bytes, down_bytes, seconds,
       round(cost_zar, 6) AS cost_zar
FROM network_hourly WHERE day = $day ORDER BY hour, category, usage_type LIMIT 10000
