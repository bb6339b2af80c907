-- The last known price of each pair at each hour, and which hour's price that is.
SELECT pair_name, CAST(hour AS DATE) AS day, hour, max(priced_at) AS priced_at, arg_max(mid, priced_at) AS mid
FROM price_reach GROUP BY ALL
