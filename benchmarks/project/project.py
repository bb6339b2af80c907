"""The cloud project cut down to what the other programs of the benchmark do too: five marts of five sources."""

from headrace import Project, bar, csv, jsonl, line, table

project = Project("cloud")

usage = project.source(
    "usage_events",
    jsonl("usage_events_stream/*.jsonl"),
    id="event_id",
    event_time="happened_at",
    rename={"timestamp": "happened_at", "cost_usd_increment": "cost_usd"},
    columns="""event_id VARCHAR NOT NULL, happened_at TIMESTAMPTZ NOT NULL, org_id VARCHAR NOT NULL, resource_id VARCHAR NOT NULL,
        service VARCHAR NOT NULL, region VARCHAR, metric VARCHAR NOT NULL, value DECIMAL(18,4), unit VARCHAR,
        cost_usd DECIMAL(18,4) NOT NULL, schema_version INTEGER NOT NULL, carbon_kg DECIMAL(18,6), genai_tokens BIGINT""",
)
usage.repair(
    "unit",
    "coalesce(unit, CASE metric WHEN 'requests' THEN 'count' WHEN 'cpu_hours' THEN 'hours' WHEN 'storage_gb_hours' THEN 'gb_hours' END)",
    "unit taken from metric",
)
usage.repair("carbon_kg", "CASE WHEN value IS NOT NULL THEN carbon_kg END", "carbon without value")
usage.rule("cost_usd >= -0.01", "negative cost")
usage.rule("schema_version IN (1, 2)", "unknown schema version")
usage.flag("value IS NULL", "value missing")
usage.flag("json_type(raw.value) = 'VARCHAR'", "value sent as text")

billing = project.source(
    "billing_monthly",
    csv("billing_monthly.csv"),
    id="invoice_id",
    event_time="month",
    rename={"exchange_rate_to_usd": "fx"},
    columns="""invoice_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, month DATE NOT NULL, subtotal DECIMAL(18,4) NOT NULL,
        credits DECIMAL(18,4), taxes DECIMAL(18,4) NOT NULL, currency VARCHAR NOT NULL, fx DECIMAL(18,8) NOT NULL""",
)
billing.repair("fx", "CASE currency WHEN 'USD' THEN 1 ELSE fx END", "USD rate is 1")
billing.repair("credits", "coalesce(credits, 0)", "no credits")
billing.rule("NOT (subtotal < 0 AND taxes > 0)", "tax_sign_mismatch")

tickets = project.source(
    "support_tickets",
    csv("support_tickets.csv"),
    id="ticket_id",
    event_time="created_at",
    columns="""ticket_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, category VARCHAR, severity VARCHAR NOT NULL, created_at DATE NOT NULL,
        resolved_at DATE, csat DECIMAL(9,2), sla_breached BOOLEAN""",
)
tickets.repair("csat", "CASE WHEN csat BETWEEN 1 AND 5 THEN csat END", "csat outside 1 to 5")
tickets.rule("resolved_at >= created_at", "resolved before created")
tickets.flag("raw.csat IS NOT NULL AND resolved_at IS NULL", "csat on open ticket")

orgs = project.reference(
    "orgs",
    csv("customers_orgs.csv"),
    key="org_id",
    columns="""org_id VARCHAR NOT NULL, org_name VARCHAR, industry VARCHAR, hq_region VARCHAR, plan_tier VARCHAR, is_enterprise BOOLEAN,
        signup_date DATE, sales_rep VARCHAR, lifecycle_stage VARCHAR, marketing_source VARCHAR, nps_score DECIMAL(9,2)""",
)
orgs.repair("nps_score", "CASE WHEN nps_score BETWEEN -100 AND 100 THEN nps_score END", "NPS outside -100 to 100")
nps = project.source(
    "nps_surveys",
    csv("nps_surveys.csv"),
    id="org_id, survey_date",
    event_time="survey_date",
    columns="org_id VARCHAR NOT NULL, survey_date DATE NOT NULL, nps_score DECIMAL(9,2), comment VARCHAR",
)
nps.rule("nps_score BETWEEN -100 AND 100", "NPS outside -100 to 100")
nps.flag("nps_score IS NULL", "score missing")

project.page(
    "Costs", line("usage", x="usage_date", y="cost_usd", by="service"), bar("top_services", x="service", y="cost_usd")
)
project.page("Spikes", table("cost_spikes"))
