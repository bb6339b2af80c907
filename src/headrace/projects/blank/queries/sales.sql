-- Sales of one shop between two days, both included.
SELECT day, revenue, receipts, basket FROM daily_sales
WHERE shop = $shop AND day BETWEEN $from AND $to ORDER BY day
