-- Revenue of all organisations by month, in USD, and how many invoices are missing from it.
SELECT month, round(measure(net_usd), 2) AS net_usd, round(measure(subtotal_usd), 2) AS subtotal_usd,
       round(measure(credits_usd), 2) AS credits_usd, round(measure(taxes_usd), 2) AS taxes_usd,
       sum(invoices) AS invoices, sum(invoices_quarantined) AS invoices_quarantined
FROM revenue_by_org_month GROUP BY month ORDER BY month
