-- Calls and data as one stream of usage. `due` is what a record costs by the tariff of its moment, before it is divided by
-- the tariff's unit: its seconds or bytes, in whole steps, times the price. Without a tariff it is 0 and says so.
SELECT u.msisdn, u.tower_id, u.started_at, u.category, u.usage_type, u.up_bytes, u.down_bytes, u.seconds,
       t.category IS NULL AS unpriced,
       coalesce((u.units + t.step - 1) // nullif(t.step, 0) * t.step * t.price_zar, 0) AS due
FROM (
    SELECT msisdn, tower_id, event_datetime AS started_at, 'data' AS category, data_type AS usage_type,
           up_bytes, down_bytes, 0 AS seconds, up_bytes + down_bytes AS units
    FROM cdr_data
    UNION ALL
    SELECT msisdn, tower_id, start_time AS started_at, 'call' AS category, call_type AS usage_type,
           0 AS up_bytes, 0 AS down_bytes, call_duration_sec AS seconds, call_duration_sec AS units
    FROM cdr_voice
) AS u LEFT JOIN tariffs AS t ON t.category = u.category AND t.valid_from <= u.started_at AND u.started_at < t.valid_to
