-- A pair's hourly prices: mean of bid and ask, and the bid's open, high, low and close. The end is not included.
SELECT hour, round(mid, 6) AS mid, open, high, low, close, ticks
FROM forex_hourly WHERE pair_name = $pair AND hour >= $from AND hour < $to ORDER BY hour LIMIT 10000
