-- The hours for which each hour's mean price is the last known one: its own, and those behind it that have no tick, for 31
-- days. It starts from the last tick of each hour; an older price than that is no price.
SELECT r.pair_name, r.priced_at, p.mid, r.hour
FROM (
    SELECT pair_name, priced_at, next_at, priced_at + INTERVAL '1 hour' * (24 * days_later + hours_later) AS hour
    FROM (
        SELECT pair_name, priced_at, next_at, days_later, unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
               18, 19, 20, 21, 22, 23]) AS hours_later
        FROM (
            SELECT pair_name, priced_at, next_at, unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                   20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30]) AS days_later
            FROM (
                SELECT pair_name, date_trunc('hour', ticked_at) AS priced_at,
                       lead(date_trunc('hour', ticked_at)) OVER (PARTITION BY pair_name ORDER BY ticked_at) AS next_at
                FROM forex_ticks
            ) AS ticks
            WHERE next_at IS NULL OR next_at > priced_at
        ) AS by_day
    ) AS by_hour
) AS r LEFT JOIN forex_hourly AS p ON p.pair_name = r.pair_name AND p.day = CAST(r.priced_at AS DATE) AND p.hour = r.priced_at
WHERE r.next_at IS NULL OR r.hour < r.next_at
