-- Organisations that were not invoiced in one currency throughout.
SELECT org_id, currencies, one, another, invoices FROM currency_changes ORDER BY org_id LIMIT coalesce($limit, 100)
