-- Organisations whose invoices change currency from one month to another, quarantined invoices included.
SELECT org_id, count(DISTINCT currency) AS currencies, min(currency) AS one, max(currency) AS another, count(*) AS invoices
FROM billing_monthly_judged WHERE org_id IS NOT NULL GROUP BY ALL HAVING currencies > 1
