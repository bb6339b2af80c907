-- Invoices by month and currency, in that currency and in USD. Open: peso subtotals have the size of dollar subtotals.
SELECT month, currency, invoices, invoices_quarantined, subtotal, round(net_usd, 4) AS net_usd
FROM invoices_by_currency ORDER BY month, currency
