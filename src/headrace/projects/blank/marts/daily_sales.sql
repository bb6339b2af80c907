-- Sales per shop and day (UTC).
SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts,
       revenue / nullif(receipts, 0) AS basket
FROM sales GROUP BY ALL
