-- Prices of each pair and hour: the mean of bid and ask over its ticks, and the bid's open, high, low and close.
SELECT pair_name, CAST(ticked_at AS DATE) AS day, date_trunc('hour', ticked_at) AS hour,
       sum(bid_price + ask_price) / nullif(2 * count(*), 0) AS mid,
       arg_min(bid_price, ticked_at) AS open, max(bid_price) AS high, min(bid_price) AS low,
       arg_max(bid_price, ticked_at) AS close, count(*) AS ticks
FROM forex_ticks GROUP BY ALL
