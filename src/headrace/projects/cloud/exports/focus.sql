-- FOCUS 1.2 cost and usage, all 57 columns and our own x_ columns. Two kinds of rows: usage (a day, resource and metric)
-- carries EffectiveCost, ListCost and quantities; an invoice's three rows carry BilledCost. The two do not reconcile, so
-- neither cost is in both. What this mapping decides, and where it falls short of FOCUS: docs/cloud.md.
WITH services(service, category, subcategory) AS (
    VALUES ('analytics', 'Analytics', 'Other (Analytics)'), ('compute', 'Compute', 'Other (Compute)'),
           ('database', 'Databases', 'Other (Databases)'), ('genai', 'AI and Machine Learning', 'Generative AI'),
           ('networking', 'Networking', 'Other (Networking)'), ('storage', 'Storage', 'Other (Storage)')
),
units(unit, focus_unit) AS (VALUES ('count', 'Requests'), ('hours', 'Hours'), ('gb_hours', 'GB-Hours')),
tag_values AS (
    SELECT resource_id, split_part(tag, ':', 1) AS key, list_sort(list(DISTINCT tag)) AS tags
    FROM (SELECT resource_id, unnest(from_json(tags_json, '["VARCHAR"]')) AS tag FROM resources WHERE tags_json IS NOT NULL)
    GROUP BY ALL
),
-- A key with two values is not final: FOCUS wants one value a key, and which of the two holds is not ours to say.
resource_tags AS (
    SELECT resource_id,
           CAST(to_json(map_from_entries(list({'k': key, 'v': substring(tags[1], length(key) + 2)} ORDER BY key)
                                         FILTER (WHERE len(tags) = 1))) AS VARCHAR) AS tags,
           string_agg(array_to_string(tags, ','), ',' ORDER BY key) FILTER (WHERE len(tags) > 1) AS conflicts
    FROM tag_values GROUP BY resource_id
),
usage AS (
    SELECT e.org_id, e.resource_id, e.service, e.region, e.metric, e.unit, CAST(e.happened_at AS DATE) AS day,
           e.value IS NULL AS unmeasured, CAST(sum(e.value) AS DECIMAL(18,4)) AS quantity, sum(e.cost_usd) AS cost_usd, count(*) AS events,
           sum(e.carbon_kg) AS carbon_kg, sum(e.genai_tokens) AS genai_tokens, max(e.rate_mad) AS score,
           CAST(max(s.service_rate) AS DECIMAL(18,8)) AS price
    FROM event_scores AS e LEFT JOIN service_rates AS s USING (service)
    WHERE NOT e.quarantined
    GROUP BY ALL
),
-- A credit is granted and a tax is levied on what is billed; a negative subtotal is no usage.
charges AS (
    SELECT b.*, unnest([subtotal, -credits, taxes]) AS amount, unnest(['subtotal', 'credit', 'tax']) AS part,
           unnest([CASE WHEN subtotal < 0 THEN 'Adjustment' ELSE 'Usage' END, 'Credit', 'Tax']) AS category
    FROM billing_monthly AS b
),
rows AS (
    SELECT CAST(NULL AS VARCHAR) AS AvailabilityZone,
           CAST(0 AS DECIMAL(38,4)) AS BilledCost,
           u.org_id AS BillingAccountId,
           o.org_name AS BillingAccountName,
           'Organisation' AS BillingAccountType,
           'USD' AS BillingCurrency,
           date_trunc('month', u.day) + INTERVAL 1 MONTH AS BillingPeriodEnd,
           date_trunc('month', u.day) AS BillingPeriodStart,
           'Usage' AS ChargeCategory,
           u.service || ' ' || u.metric || CASE WHEN u.unmeasured THEN ' (quantity not reported)' ELSE '' END AS ChargeDescription,
           'Usage-Based' AS ChargeFrequency,
           u.day + INTERVAL 1 DAY AS ChargePeriodEnd,
           u.day AS ChargePeriodStart,
           u.quantity AS ConsumedQuantity,
           CASE WHEN NOT u.unmeasured THEN coalesce(n.focus_unit, u.unit) END AS ConsumedUnit,
           coalesce(CAST(u.quantity * u.price AS DECIMAL(38,12)), CAST(u.cost_usd AS DECIMAL(38,12))) AS ListCost,
           CAST(u.cost_usd AS DECIMAL(38,4)) AS EffectiveCost,
           NULL AS InvoiceId,
           u.price AS ListUnitPrice,
           'Standard' AS PricingCategory,
           u.region AS RegionId,
           u.resource_id AS ResourceId,
           u.service AS ResourceType,
           coalesce(c.category, 'Other') AS ServiceCategory,
           u.service AS ServiceName,
           coalesce(c.subcategory, 'Other (Other)') AS ServiceSubcategory,
           u.service || '/' || u.metric AS SkuId,
           u.metric AS SkuMeter,
           t.tags AS Tags,
           u.carbon_kg AS x_CarbonKg, u.genai_tokens AS x_GenaiTokens, u.score AS x_AnomalyScore, u.events AS x_Events,
           t.conflicts AS x_TagConflicts, NULL AS x_ExchangeRateToUsd
    FROM usage AS u
    LEFT JOIN customers_orgs AS o USING (org_id)
    LEFT JOIN services AS c USING (service)
    LEFT JOIN units AS n USING (unit)
    LEFT JOIN resource_tags AS t USING (resource_id)
    UNION ALL BY NAME
    SELECT CAST(h.amount AS DECIMAL(38,4)) AS BilledCost,
           h.org_id AS BillingAccountId,
           o.org_name AS BillingAccountName,
           'Organisation' AS BillingAccountType,
           h.currency AS BillingCurrency,
           h.month + INTERVAL 1 MONTH AS BillingPeriodEnd,
           h.month AS BillingPeriodStart,
           h.category AS ChargeCategory,
           'Invoice ' || h.invoice_id || ': ' || h.part AS ChargeDescription,
           CASE h.part WHEN 'subtotal' THEN 'Usage-Based' ELSE 'One-Time' END AS ChargeFrequency,
           h.month + INTERVAL 1 MONTH AS ChargePeriodEnd,
           h.month AS ChargePeriodStart,
           -- FOCUS wants a credit or adjustment to have one amount in every cost; subtotal and tax are in usage, or on it.
           CAST(CASE WHEN h.category IN ('Credit', 'Adjustment') THEN h.amount ELSE 0 END AS DECIMAL(38,12)) AS ListCost,
           CAST(CASE WHEN h.category IN ('Credit', 'Adjustment') THEN h.amount ELSE 0 END AS DECIMAL(38,4)) AS EffectiveCost,
           h.invoice_id AS InvoiceId,
           'Other' AS ServiceCategory,
           'All services' AS ServiceName,
           'Other (Other)' AS ServiceSubcategory,
           h.fx AS x_ExchangeRateToUsd
    FROM charges AS h LEFT JOIN customers_orgs AS o USING (org_id)
)
SELECT AvailabilityZone, BilledCost, BillingAccountId, BillingAccountName, BillingAccountType, BillingCurrency,
       strftime(BillingPeriodEnd, '%Y-%m-%dT00:00:00Z') AS BillingPeriodEnd,
       strftime(BillingPeriodStart, '%Y-%m-%dT00:00:00Z') AS BillingPeriodStart,
       CAST(NULL AS VARCHAR) AS CapacityReservationId, CAST(NULL AS VARCHAR) AS CapacityReservationStatus,
       ChargeCategory, CAST(NULL AS VARCHAR) AS ChargeClass, ChargeDescription, ChargeFrequency,
       strftime(ChargePeriodEnd, '%Y-%m-%dT00:00:00Z') AS ChargePeriodEnd,
       strftime(ChargePeriodStart, '%Y-%m-%dT00:00:00Z') AS ChargePeriodStart,
       CAST(NULL AS VARCHAR) AS CommitmentDiscountCategory, CAST(NULL AS VARCHAR) AS CommitmentDiscountId,
       CAST(NULL AS VARCHAR) AS CommitmentDiscountName, CAST(NULL AS DECIMAL(38,4)) AS CommitmentDiscountQuantity,
       CAST(NULL AS VARCHAR) AS CommitmentDiscountStatus, CAST(NULL AS VARCHAR) AS CommitmentDiscountType,
       CAST(NULL AS VARCHAR) AS CommitmentDiscountUnit,
       ConsumedQuantity, ConsumedUnit,
       -- There are no contracts: what is agreed is the list price.
       ListCost AS ContractedCost, ListUnitPrice AS ContractedUnitPrice,
       EffectiveCost, InvoiceId, 'Cloud provider' AS InvoiceIssuerName, ListCost, ListUnitPrice,
       PricingCategory, BillingCurrency AS PricingCurrency, ListUnitPrice AS PricingCurrencyContractedUnitPrice,
       EffectiveCost AS PricingCurrencyEffectiveCost, ListUnitPrice AS PricingCurrencyListUnitPrice,
       ConsumedQuantity AS PricingQuantity, ConsumedUnit AS PricingUnit,
       'Cloud provider' AS ProviderName, 'Cloud provider' AS PublisherName,
       RegionId, RegionId AS RegionName, ResourceId, CAST(NULL AS VARCHAR) AS ResourceName, ResourceType,
       ServiceCategory, ServiceName, ServiceSubcategory, SkuId, SkuMeter, CAST(NULL AS VARCHAR) AS SkuPriceDetails,
       SkuId AS SkuPriceId, CAST(NULL AS VARCHAR) AS SubAccountId, CAST(NULL AS VARCHAR) AS SubAccountName,
       CAST(NULL AS VARCHAR) AS SubAccountType, Tags,
       x_AnomalyScore, x_CarbonKg, x_Events, x_ExchangeRateToUsd, x_GenaiTokens, x_TagConflicts
FROM rows
ORDER BY BillingAccountId, ChargePeriodStart, ResourceId, SkuId, InvoiceId, ChargeDescription
