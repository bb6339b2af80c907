-- Usage cost beside the invoice of a month, organisation by organisation. Open: they do not follow each other.
SELECT org_id, currency, usage_usd, round(subtotal_usd, 4) AS subtotal_usd, round(variance_usd, 4) AS variance_usd, invoices_quarantined
FROM invoice_variance WHERE month = $month ORDER BY org_id LIMIT 1000
