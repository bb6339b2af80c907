-- The hours for which each hour's price is the last known one: its own, and those after it without a tick, for 31 days.
SELECT pair_name, priced_at, mid, priced_at + INTERVAL '1 hour' * hours_later AS hour
FROM (
    SELECT pair_name, priced_at, mid, next_at, hours_later + unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
           16, 17, 18, 19, 20, 21, 22, 23]) AS hours_later
    FROM (
        SELECT pair_name, hour AS priced_at, mid, lead(hour) OVER (PARTITION BY pair_name ORDER BY hour) AS next_at,
               24 * unnest([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
               26, 27, 28, 29, 30]) AS hours_later
        FROM forex_hourly
    ) AS days
) AS hours
WHERE next_at IS NULL OR priced_at + INTERVAL '1 hour' * hours_later < next_at
