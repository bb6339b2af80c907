-- Usage cost beside what was invoiced, per organisation and month. They do not follow each other, so this is a report of
-- the difference and no check: neither side is taken for wrong.
SELECT r.org_id AS org_id, r.month AS month,
       max(r.currency) AS currency,
       max(u.usage_usd) AS usage_usd,
       max(r.subtotal_usd) AS subtotal_usd,
       max(r.subtotal_usd) - max(u.usage_usd) AS variance_usd,
       sum(r.invoices_quarantined) AS invoices_quarantined
FROM revenue_by_org_month AS r LEFT JOIN usage_by_org_month AS u USING (org_id, month) GROUP BY ALL
