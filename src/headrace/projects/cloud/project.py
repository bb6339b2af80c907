"""A cloud provider's usage cost, invoices, support and GenAI use, with data quality and cost spikes."""

from headrace import Project, bar, csv, jsonl, line, number, table

project = Project("cloud")

# Nothing happened after this day as far as the files know: it is the last day with a usage event.
DATA_END = "2025-08-31"

# References: who the customers are and what they own. The latest row of a key stands.

orgs = project.reference(
    "customers_orgs", csv("customers_orgs.csv"), key="org_id",
    doc="Customer organisations: the CRM's master data.",
    columns="""
        org_id VARCHAR NOT NULL, org_name VARCHAR, industry VARCHAR, hq_region VARCHAR, plan_tier VARCHAR,
        is_enterprise BOOLEAN, signup_date DATE, sales_rep VARCHAR, lifecycle_stage VARCHAR, marketing_source VARCHAR,
        nps_score DECIMAL(9,2)""",
)  # fmt: skip
# An NPS index goes from -100 to 100 (0 to 10 is the scale of one answer). The organisation stays, its score does not.
orgs.repair("nps_score", "CASE WHEN nps_score BETWEEN -100 AND 100 THEN nps_score END", "NPS outside -100 to 100")
orgs.flag("plan_tier = 'enterprise' AND NOT is_enterprise", "enterprise plan, not marked enterprise")
orgs.flag("plan_tier <> 'enterprise' AND is_enterprise", "marked enterprise, on another plan")

users = project.reference(
    "users", csv("users.csv"), key="user_id",
    doc="People who log in. The e-mail address is personal data: it is checked here and no query shows it.",
    columns="""
        user_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, email VARCHAR, role VARCHAR, active BOOLEAN,
        created_at DATE, last_login DATE""",
)  # fmt: skip
users.rule("regexp_full_match(email, '[^@ ]+@[^@ ]+[.][^@ ]+')", "not an e-mail address")
users.flag("last_login < created_at", "last login before creation")
users.flag("NOT active AND last_login IS NOT NULL", "inactive, has a login")
users.flag("active AND last_login IS NULL", "active, never logged in")

resources = project.reference(
    "resources", csv("resources.csv"), key="resource_id",
    doc="What organisations run. state is that of the day of the export, not of the day of an event.",
    columns="""
        resource_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, service VARCHAR NOT NULL, region VARCHAR,
        created_at DATE, state VARCHAR, tags_json VARCHAR""",
)  # fmt: skip
resources.rule("service IN ('analytics', 'compute', 'database', 'genai', 'networking', 'storage')", "unknown service")
for one, other in (("costcenter:alpha", "costcenter:beta"), ("env:dev", "env:prod"), ("team:ml", "team:core")):
    both = f"""contains(tags_json, '"{one}"') AND contains(tags_json, '"{other}"')"""
    resources.flag(both, f"tagged both {one} and {other}")

# Facts.

usage = project.source(
    "usage_events", jsonl("usage_events_stream/*.jsonl"), id="event_id", event_time="happened_at",
    doc="Metered usage with its cost. Since 2025-07-18 (schema version 2) with carbon, and for genai with tokens.",
    rename={"timestamp": "happened_at", "cost_usd_increment": "cost_usd"},
    columns="""
        event_id VARCHAR NOT NULL, happened_at TIMESTAMPTZ NOT NULL, org_id VARCHAR NOT NULL,
        resource_id VARCHAR NOT NULL, service VARCHAR NOT NULL, region VARCHAR, metric VARCHAR NOT NULL,
        value DECIMAL(18,4), unit VARCHAR, cost_usd DECIMAL(18,4) NOT NULL, schema_version INTEGER NOT NULL,
        carbon_kg DECIMAL(18,6), genai_tokens BIGINT""",
)  # fmt: skip
# Every metric has one unit, in all 41,125 rows that carry one: the missing ones are known, not guessed.
usage.repair(
    "unit",
    """coalesce(unit, CASE metric WHEN 'requests' THEN 'count' WHEN 'cpu_hours' THEN 'hours'
                                  WHEN 'storage_gb_hours' THEN 'gb_hours' END)""",
    "unit taken from the metric",
)
usage.repair("carbon_kg", "CASE WHEN value IS NOT NULL THEN carbon_kg END", "carbon of 0 without a value")
# A cent of rounding below zero is kept, as it always was: 5 of 43,200 events.
usage.rule("cost_usd >= -0.01", "negative cost")
usage.rule("schema_version IN (1, 2)", "unknown schema version")
usage.flag("value IS NULL", "value missing")
usage.flag("json_type(raw.value) = 'VARCHAR'", "value sent as text")

billing = project.source(
    "billing_monthly", csv("billing_monthly.csv"), id="invoice_id", event_time="month",
    doc="Invoices: one an organisation and month, in its currency.",
    rename={"exchange_rate_to_usd": "fx"},
    columns="""
        invoice_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, month DATE NOT NULL, subtotal DECIMAL(18,4) NOT NULL,
        credits DECIMAL(18,4), taxes DECIMAL(18,4) NOT NULL, currency VARCHAR NOT NULL, fx DECIMAL(18,8) NOT NULL""",
)  # fmt: skip
billing.repair("fx", "CASE currency WHEN 'USD' THEN 1 ELSE fx END", "USD rate is 1")
billing.repair("credits", "coalesce(credits, 0)", "no credits")
# All 13 have a tax of +21 % of the subtotal's size: one of the two signs is wrong, and the file does not say which.
billing.rule("NOT (subtotal < 0 AND taxes > 0)", "tax_sign_mismatch")

tickets = project.source(
    "support_tickets", csv("support_tickets.csv"), id="ticket_id", event_time="created_at",
    doc="Support tickets, to the day.",
    columns="""
        ticket_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, category VARCHAR, severity VARCHAR NOT NULL,
        created_at DATE NOT NULL, resolved_at DATE, csat DECIMAL(9,2), sla_breached BOOLEAN""",
)  # fmt: skip
tickets.repair("csat", "CASE WHEN csat BETWEEN 1 AND 5 THEN csat END", "csat outside 1 to 5")
tickets.rule("severity IN ('low', 'medium', 'high', 'critical')", "unknown severity")
tickets.flag("raw.csat IS NOT NULL AND resolved_at IS NULL", "csat on an open ticket")
tickets.flag("resolved_at = created_at", "resolved on the day of creation")
tickets.flag("resolved_at < created_at", "resolved before creation")
tickets.flag(f"resolved_at > DATE '{DATA_END}'", "resolved after the end of the data")

touches = project.source(
    "marketing_touches", csv("marketing_touches.csv"), id="touch_id", event_time="touched_on",
    doc="Marketing contacts, to the day.",
    rename={"timestamp": "touched_on"},
    columns="""
        touch_id VARCHAR NOT NULL, org_id VARCHAR NOT NULL, campaign VARCHAR, channel VARCHAR,
        touched_on DATE NOT NULL, clicked BOOLEAN, converted BOOLEAN""",
)  # fmt: skip
touches.flag("converted AND NOT clicked", "converted without a click")

surveys = project.source(
    "nps_surveys", csv("nps_surveys.csv"), id="org_id, survey_date", event_time="survey_date",
    doc="NPS surveys: one an organisation and day. The score is an index from -100 to 100.",
    columns="org_id VARCHAR NOT NULL, survey_date DATE NOT NULL, nps_score DECIMAL(9,2), comment VARCHAR",
)  # fmt: skip
surveys.rule("nps_score BETWEEN -100 AND 100", "NPS outside -100 to 100")
surveys.flag("nps_score IS NULL", "score missing")

# Only generated data has this file: the events whose cost was multiplied, so that detectors meet a truth of their own.
project.reference(
    "spike_labels", csv("labels/spikes.csv"), key="event_id",
    doc="Known cost spikes, where somebody knows them.",
    rename={"cost_usd_increment": "cost_usd"},
    columns="""
        event_id VARCHAR NOT NULL, multiple DECIMAL(9,4), cost_usd DECIMAL(18,4), value_lost BOOLEAN,
        sign_turned BOOLEAN""",
)  # fmt: skip

# Pages.

DAYS = {"from": "2025-07-03", "to": DATA_END}

project.page(
    "Costs",
    number("summary", y="cost_usd", title="Usage cost, all days", unit="USD"),
    number("summary", y="events", title="Clean events"),
    line("costs", x="usage_date", y="cost_usd", by="service", title="Cost by service and day", unit="USD"),
    bar("top_orgs", x="org_name", y="cost_usd", title="Organisations that cost most", unit="USD", limit="15"),
    table("cost_spikes", title="Largest cost spikes", limit="15", org=""),
    **DAYS,
)
project.page(
    "One organisation",
    line("usage", x="usage_date", y="cost_usd", by="service", title="Cost by service and day", unit="USD"),
    bar("top_services", x="service", y="cost_usd", title="Services that cost most", unit="USD", limit="6"),
    bar("revenue", x="month", y="net_usd", title="Net revenue by month", unit="USD"),
    line("genai", x="usage_date", y="total_tokens", title="GenAI tokens by day"),
    table("org_tickets", title="Support tickets"),
    table("spike_events", title="Events behind the cost spikes", limit="15"),
    **DAYS,
)
project.page(
    "Spikes",
    table("cost_spikes", title="Cost spikes, largest excess first"),
    table("detectors", title="Detectors: precision and recall"),
    limit="50",
    **DAYS,
)
project.page(
    "Support",
    bar("severities", x="severity", y="tickets", title="Tickets by severity"),
    bar("severities", x="severity", y="sla_breach_rate", title="Share of tickets with a broken SLA"),
    line("tickets", x="created_date", y="tickets", title="Tickets of one severity by day"),
    table("severities", title="SLA, satisfaction and resolution"),
    severity="critical",
    **DAYS,
)
project.page(
    "Revenue",
    bar("revenue_by_month", x="month", y="net_usd", title="Net revenue by month", unit="USD"),
    table("revenue_by_month", title="All organisations, by month"),
    table("currency_changes", title="Organisations whose currency changes"),
)
project.page(
    "Data quality",
    bar("quarantine_by_day", x="day", y="records", by="reason", title="Quarantined by day of event"),
    table("quality", title="Landed, clean, quarantined, repaired and flagged"),
    source="usage_events",
)
project.page(
    "Open questions",
    table("currencies", title="Pesos with the size of dollars"),
    table("invoice_variance", title="Usage beside invoices, organisation by organisation"),
    number("genai_price_check", y="correlation", title="Correlation of GenAI tokens and cost"),
    table("resolution_by_breach", title="SLA breaches and time to resolve"),
    month="2025-07-01",
)
