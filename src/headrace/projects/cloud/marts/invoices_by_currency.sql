-- Invoices per month and currency, in that currency and in USD. Peso subtotals have the size of dollar subtotals: whether
-- the currency or the amounts are wrong is an open question, so nothing is converted twice or put right here.
SELECT month, currency,
       count(*) FILTER (WHERE NOT quarantined) AS invoices,
       count(*) FILTER (WHERE quarantined) AS invoices_quarantined,
       sum(subtotal) FILTER (WHERE NOT quarantined) AS subtotal,
       sum((subtotal - credits + taxes) * fx) FILTER (WHERE NOT quarantined) AS net_usd
FROM billing_monthly_judged WHERE month IS NOT NULL AND currency IS NOT NULL GROUP BY ALL
