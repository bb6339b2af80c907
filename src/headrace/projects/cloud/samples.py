"""Sample data of a made-up cloud provider: 80 customers, their bills and tickets, and 60 days of usage events.

``labels/spikes.csv`` names the events whose cost was multiplied: the project reads it, so that ``headrace query
detectors`` shows the precision and recall of every detector. ``_truth/faults.csv``, which it does not read, counts the
rows of every fault that was planted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace import Samples

DAYS = 60
EVENTS_PER_DAY = 720
RESOURCES_PER_DAY = 240
EVENT_FILES = 120

# fmt: off
WEIGHTS = {
    "industry": {"Gaming": 12, "Education": 10, "Manufacturing": 10, "Government": 9, "Retail": 9, "Healthcare": 8,
                 "Fintech": 7, "E-commerce": 6, "Energy": 5, "Media": 4},
    "hq_region": {"eu-central": 16, "ap-south": 15, "us-east": 14, "ap-northeast": 11, "sa-east": 10, "eu-west": 7,
                  "us-west": 7},
    "plan_tier": {"standard": 41, "pro": 21, "enterprise": 10, "free": 8},
    "sales_rep": {"rep_a": 14, "rep_b": 18, "rep_c": 9, "rep_d": 22, "rep_e": 17},
    "lifecycle_stage": {"active": 54, "at_risk": 11, "churned": 6, "prospect": 6, "lead": 3},
    "marketing_source": {"event": 21, "organic": 17, "partner": 16, "ads": 14, "referral": 12},
    "role": {"data_engineer": 201, "devops": 162, "developer": 130, "analyst": 113, "ml_engineer": 105, "admin": 89},
    "region": {"ap-northeast": 72, "us-east": 69, "us-west": 61, "sa-east": 57, "ap-south": 55, "eu-west": 46,
               "eu-central": 40},
    "category": {"integration": 181, "billing": 180, "availability": 165, "usability": 161, "performance": 158,
                 "security": 155},
    "severity": {"low": 412, "medium": 328, "high": 204, "critical": 56},
    "campaign": {"upgrade_enterprise": 271, "webinar_finops": 263, "genai_launch": 252, "welcome": 247,
                 "upgrade_pro": 245, "security_week": 222},
    "channel": {"event": 401, "email": 385, "ads": 358, "in_app": 356},
    "metric": {"requests": 45, "storage_gb_hours": 30, "cpu_hours": 25},
}
# What the totals and the rules of the project hang on is dealt out exactly; the rows left over are null.
COUNTS = {
    "org_nps": {"scored": 68, "impossible": 1},
    "service": {"compute": 116, "storage": 71, "database": 68, "networking": 64, "analytics": 42, "genai": 39},
    "state": {"running": 242, "stopped": 119, "terminated": 39},
    "tag_count": {"3": 115, "1": 106, "2": 96},
    "csat": {"3": 242, "4": 197, "2": 127, "5": 95, "1": 45, "6": 28, "0": 11, "7": 1},
    "comment": {"Missing features": 20, "Love genAI features": 14, "Complex billing": 13, "Stable but slow": 13,
                "Too expensive": 12, "Great support": 10},
    "currency": {"USD": 160, "ARS": 51, "EUR": 29},
}
TAGS = ["env:dev", "team:ml", "pii:true", "env:prod", "team:core", "costcenter:alpha", "costcenter:beta",
        "backup:daily"]
# fmt: on
FIRST_WORDS = ["Harbor", "Juniper", "Quarry", "Lantern", "Meadow", "Orchid", "Summit", "Tidal", "Willow", "Cobalt"]
LAST_WORDS = ["Works", "Systems", "Studio", "Networks", "Foods", "Robotics"]


def generate(samples: Samples) -> None:
    """Write the eight sources and the truth about them; the scale multiplies the usage events (and spikes) only."""
    _orgs(samples)
    _users(samples)
    _resources(samples)
    _tickets(samples)
    _touches(samples)
    _surveys(samples)
    _invoices(samples)
    _usage(samples)
    _truth(samples)


def _weighted(tag: str) -> str:
    return f"weighted('{tag}', i, {list(WEIGHTS[tag])}, {list(WEIGHTS[tag].values())})"


def _dealt(tag: str) -> str:
    return f"dealt('{tag}', i, {list(COUNTS[tag])}, {list(COUNTS[tag].values())})"


def _true_for(rows: int, tag: str) -> str:
    return f"CASE WHEN shuffled('{tag}', i) <= {rows} THEN 'True' ELSE 'False' END"


def _orgs(samples: Samples) -> None:
    # Everyone signed up before the first usage event; what an org owns may be older than its signup.
    samples.table(
        "orgs",
        f"""
        SELECT i,
            ident('org', 'org', i, width := 8) AS org_id,
            pick('first word', i, {FIRST_WORDS}) || ' ' || pick('last word', i, {LAST_WORDS}) || ' ' || i AS org_name,
            {_weighted("industry")} AS industry,
            {_weighted("hq_region")} AS hq_region,
            {_weighted("plan_tier")} AS plan_tier,
            {_true_for(17, "is_enterprise")} AS is_enterprise,
            DATE '2025-05-04' + whole('signup', i, 0, 59) AS signup_date,
            {_weighted("sales_rep")} AS sales_rep,
            {_weighted("lifecycle_stage")} AS lifecycle_stage,
            {_weighted("marketing_source")} AS marketing_source,
            CASE {_dealt("org_nps")}
                WHEN 'scored' THEN greatest(-100.0, least(100.0, round(19 + 24 * normal('org nps', i))))
                WHEN 'impossible' THEN 101.0 END::DOUBLE AS nps_score
        FROM range(80) t(i)
        """,
    )
    samples.csv("customers_orgs.csv", "SELECT * EXCLUDE i FROM orgs ORDER BY i")


def _users(samples: Samples) -> None:
    # The last login does not depend on the day of creation: about a third of the logins come before it.
    samples.table(
        "users",
        f"""
        WITH drawn AS (
            SELECT i,
                ident('user', 'user', i, width := 8) AS user_id,
                whole('user org', i, 0, 79) AS org,
                {_weighted("role")} AS role,
                {_true_for(728, "user active")} AS active,
                DATE '2025-05-04' + whole('user created', i, 0, 99) AS created_at,
                CASE WHEN shuffled('never logged in', i) > 139
                    THEN DATE '2025-05-14' + whole('last login', i, 0, 109) END AS last_login
            FROM range(800) t(i)
        )
        SELECT drawn.i, user_id, org_id, user_id || '@example.com' AS email, role, active, created_at, last_login
        FROM drawn JOIN orgs ON orgs.i = drawn.org
        """,
    )
    samples.csv("users.csv", "SELECT * EXCLUDE i FROM users ORDER BY i")


def _resources(samples: Samples) -> None:
    # The first 80 in random order give every org one resource, so that every org has usage.
    samples.table(
        "resources",
        f"""
        WITH drawn AS (
            SELECT i,
                ident('res', 'resource', i, width := 8) AS resource_id,
                CASE WHEN shuffled('first resource', i) <= 80 THEN shuffled('first resource', i) - 1
                    ELSE whole('resource org', i, 0, 79) END AS org,
                {_dealt("service")} AS service,
                {_weighted("region")} AS region,
                DATE '2025-05-04' + whole('resource created', i, 0, 109) AS created_at,
                {_dealt("state")} AS state,
                {_dealt("tag_count")}::INTEGER AS tag_count
            FROM range(400) t(i)
        ), tagged AS (
            SELECT drawn.i, '["' || string_agg(tag, '", "' ORDER BY nth) || '"]' AS tags_json
            FROM drawn JOIN (
                SELECT r.i, tag, row_number() OVER (PARTITION BY r.i ORDER BY u('tag ' || tag, r.i)) AS nth
                FROM range(400) r(i), unnest({TAGS}) t(tag)
            ) choices ON choices.i = drawn.i AND nth <= tag_count
            GROUP BY drawn.i
        )
        SELECT drawn.i, resource_id, org_id, service, region, created_at, state, tags_json
        FROM drawn JOIN orgs ON orgs.i = drawn.org LEFT JOIN tagged ON tagged.i = drawn.i
        """,
    )
    samples.csv("resources.csv", "SELECT * EXCLUDE i FROM resources ORDER BY i")


def _tickets(samples: Samples) -> None:
    samples.table(
        "tickets",
        f"""
        WITH drawn AS (
            SELECT i,
                ident('tkt', 'ticket', i, width := 8) AS ticket_id,
                whole('ticket org', i, 0, 79) AS org,
                {_weighted("category")} AS category,
                {_weighted("severity")} AS severity,
                DATE '2025-05-09' + whole('ticket created', i, 0, 114) AS created_at,
                CASE WHEN shuffled('open', i) > 240
                    THEN floor(-4.8 * ln(1 - u('days to resolve', i)))::INTEGER END AS days,
                {_dealt("csat")}::DOUBLE AS csat,
                {_true_for(95, "sla_breached")} AS sla_breached
            FROM range(1000) t(i)
        )
        SELECT drawn.i, ticket_id, org_id, category, severity, created_at, created_at + days AS resolved_at, csat,
            sla_breached
        FROM drawn JOIN orgs ON orgs.i = drawn.org
        """,
    )
    samples.csv("support_tickets.csv", "SELECT * EXCLUDE i FROM tickets ORDER BY i")


def _touches(samples: Samples) -> None:
    samples.table(
        "touches",
        f"""
        WITH drawn AS (
            SELECT i,
                ident('mkt', 'touch', i, width := 8) AS touch_id,
                whole('touch org', i, 0, 79) AS org,
                {_weighted("campaign")} AS campaign,
                {_weighted("channel")} AS channel,
                DATE '2025-05-04' + whole('touch day', i, 0, 119) AS timestamp,
                {_true_for(453, "clicked")} AS clicked,
                {_true_for(144, "converted")} AS converted
            FROM range(1500) t(i)
        )
        SELECT drawn.i, touch_id, org_id, campaign, channel, timestamp, clicked, converted
        FROM drawn JOIN orgs ON orgs.i = drawn.org
        """,
    )
    samples.csv("marketing_touches.csv", "SELECT * EXCLUDE i FROM touches ORDER BY i")


def _surveys(samples: Samples) -> None:
    # 60 orgs were asked, 32 of them twice, never twice on one day: (org_id, survey_date) is the only key.
    samples.table(
        "surveys",
        f"""
        WITH asked AS (
            SELECT orgs.i * 2 + again AS i, org_id,
                (whole('survey day', orgs.i, 0, 99) + again * whole('survey gap', orgs.i, 1, 99)) % 100 AS day
            FROM orgs JOIN (SELECT i, shuffled('asked', i) AS nth FROM orgs) ranked USING (i), range(2) t(again)
            WHERE nth <= CASE again WHEN 0 THEN 60 ELSE 32 END
        )
        SELECT i, org_id, DATE '2025-05-24' + day::INTEGER AS survey_date,
            CASE WHEN shuffled('no score', i) > 19
                THEN greatest(-100.0, least(100.0, round(26 + 16 * normal('nps', i))))::DOUBLE END AS nps_score,
            {_dealt("comment")} AS comment
        FROM asked
        """,
    )
    samples.csv("nps_surveys.csv", "SELECT * EXCLUDE i FROM surveys ORDER BY i")


def _invoices(samples: Samples) -> None:
    # Invoices do not follow usage, and pesos have the size of dollars: both are so in the real data, and neither is a
    # fault that was planted. A tax stays positive where the subtotal turned negative: that one is.
    samples.table(
        "invoices",
        f"""
        WITH drawn AS (
            SELECT orgs.i * 3 + month AS i, org_id, DATE '2025-06-01' + to_months(month::INTEGER) AS month,
                round(-204 * ln((1 - u('spend 1', orgs.i * 3 + month)) * (1 - u('spend 2', orgs.i * 3 + month))
                    * (1 - u('spend 3', orgs.i * 3 + month)) * (1 - u('spend 4', orgs.i * 3 + month))), 2) AS spend
            FROM orgs, range(3) t(month)
        ), dealt_out AS (
            SELECT *, shuffled('sign', i) <= 13 AS turned, {_dealt("currency")} AS currency,
                CASE WHEN shuffled('no credits', i) > 137 THEN round(-19 * ln(1 - u('credits', i)), 2) END AS credits
            FROM drawn
        ), rated AS (
            SELECT *, CASE currency
                WHEN 'USD' THEN round(1 + 0.05 * normal('rate', i), 5)
                WHEN 'EUR' THEN round(1.1 + 0.045 * normal('rate', i), 5)
                ELSE round(0.0015 + 0.00006 * normal('rate', i), 5) END AS rate
            FROM dealt_out
        )
        SELECT i, ident('inv', 'invoice', i, width := 8) AS invoice_id, org_id, month::DATE AS month,
            CASE WHEN turned THEN -spend ELSE spend END AS subtotal, credits, round(0.21 * spend, 2) AS taxes, currency,
            CASE WHEN currency = 'USD' AND rate = 1 THEN 1.00001 ELSE rate END AS exchange_rate_to_usd
        FROM rated
        """,
    )
    samples.csv("billing_monthly.csv", "SELECT * EXCLUDE i FROM invoices ORDER BY i")


def _usage(samples: Samples) -> None:
    per_day = samples.scaled(EVENTS_PER_DAY, at_least=2)
    # Every file holds events of the whole period: who drops what is late loses nearly all of them.
    samples.table(
        "slots",
        f"""
        SELECT i, place, place * {EVENT_FILES} // {per_day * DAYS} AS file
        FROM (SELECT i, shuffled('place', i) - 1 AS place FROM range({per_day * DAYS}) t(i)) ORDER BY place
        """,
    )
    # A busier provider has more events of the same resources a day, not more resources.
    samples.table(
        "busy",
        f"""
        SELECT day, row_number() OVER (PARTITION BY day ORDER BY u('busy', day * 1000 + r.i)) - 1 AS turn,
            r.service, price,
            '"org_id": "' || org_id || '", "resource_id": "' || resource_id || '", "service": "' || r.service
                || '", "region": "' || region || '"' AS labels
        FROM resources r
        JOIN (VALUES ('analytics', 0.07), ('compute', 0.08), ('database', 0.05), ('genai', 0.12), ('networking', 0.01),
            ('storage', 0.02)) prices(service, price) ON prices.service = r.service,
            range({DAYS}) d(day)
        QUALIFY turn < {RESOURCES_PER_DAY}
        """,
    )
    # Day 15 is 2025-07-18, the first of schema version 2: it has no event in its first minute, so that "from that day"
    # and "from 00:01 of that day" are the same rule. The cost is that of the amount, also where the value was lost.
    samples.view(
        "events",
        f"""
        WITH drawn AS (
            SELECT i, file, place, day, service, labels, price::DOUBLE AS price,
                {_weighted("metric")} AS metric,
                whole('minute', i, CASE WHEN day = 15 THEN 1 ELSE 0 END, 1439) AS minute,
                CASE WHEN day >= 15 THEN 2 ELSE 1 END AS schema_version,
                CASE WHEN u('value', i) < 0.0203 THEN 'null' WHEN u('value', i) < 0.0506 THEN 'string'
                    ELSE 'number' END AS value_kind,
                u('unit', i) < 0.048 AS unit_lost,
                normal('amount', i) AS amount_draw,
                greatest(0.4, least(2.0, 1 + 0.15 * normal('price', i))) AS noise
            FROM slots JOIN busy ON day = i // {per_day} AND turn = i % {per_day} % {RESOURCES_PER_DAY}
        ), measured AS (
            SELECT *, greatest(0.0, CASE metric
                WHEN 'requests' THEN round(120 + 11 * amount_draw)
                WHEN 'cpu_hours' THEN round(1.8 + 1.5 * amount_draw, 4)
                ELSE round(10 + 8 * amount_draw, 4) END) AS amount
            FROM drawn
        ), multiplied AS (
            SELECT *, u('spike', i) < 0.0038 AND price * amount >= 0.001 AS spiked,
                CASE WHEN spiked THEN greatest(12.0, least(28.0, 20 * noise)) ELSE noise END AS multiple
            FROM measured
        ), priced AS (
            SELECT *, round(price * amount * multiple, 4) AS owed, u('sign', i) < 0.0053 AND owed > 0 AS turned
            FROM multiplied
        )
        SELECT *, ident('evt', 'event', i) AS event_id, CASE WHEN turned THEN -owed ELSE owed END AS cost FROM priced
        """,
    )
    samples.jsonl(
        "usage_events_stream/events_part_{file:04}.jsonl",
        """
        SELECT file, place, concat(
            '{"event_id": "', event_id,
            strftime(TIMESTAMP '2025-07-03' + to_minutes(day * 1440 + minute), '", "timestamp": "%Y-%m-%dT%H:%M:00Z'),
            '", ', labels, ', "metric": "', metric, '", "value": ',
            CASE value_kind WHEN 'number' THEN amount::VARCHAR WHEN 'string' THEN '"' || amount || '"' ELSE 'null' END,
            CASE WHEN unit_lost THEN ', "unit": null' WHEN metric = 'requests' THEN ', "unit": "count"'
                WHEN metric = 'cpu_hours' THEN ', "unit": "hours"' ELSE ', "unit": "gb_hours"' END,
            ', "cost_usd_increment": ', cost, ', "schema_version": ', schema_version,
            CASE WHEN schema_version = 2 THEN ', "carbon_kg": '
                || CASE WHEN value_kind = 'null' THEN '0' ELSE round(0.0002 * amount, 6)::VARCHAR END END,
            CASE WHEN schema_version = 2 AND service = 'genai' THEN ', "genai_tokens": '
                || round(abs(800 + 500 * normal('tokens', i)))::INTEGER END,
            '}') AS line
        FROM events
        """,
        files=EVENT_FILES,
    )


def _truth(samples: Samples) -> None:
    samples.csv(
        "labels/spikes.csv",
        """
        SELECT event_id, round(multiple, 4) AS multiple, cost AS cost_usd_increment,
            CASE WHEN value_kind = 'null' THEN 'True' ELSE 'False' END AS value_lost,
            CASE WHEN turned THEN 'True' ELSE 'False' END AS sign_turned
        FROM events WHERE spiked ORDER BY event_id
        """,
    )
    samples.table(
        "usage_faults",
        """
        SELECT unnest([
            {'fault': 'cost_spike', 'rows': count(*) FILTER (spiked)},
            {'fault': 'negative_cost', 'rows': count(*) FILTER (turned)},
            {'fault': 'negative_cost_above_a_cent', 'rows': count(*) FILTER (turned AND owed > 0.01)},
            {'fault': 'value_as_text', 'rows': count(*) FILTER (value_kind = 'string')},
            {'fault': 'value_null', 'rows': count(*) FILTER (value_kind = 'null')},
            {'fault': 'unit_null', 'rows': count(*) FILTER (unit_lost)},
            {'fault': 'carbon_zero_for_null_value',
                'rows': count(*) FILTER (value_kind = 'null' AND schema_version = 2)}
        ], recursive := true) FROM events
        """,
    )
    samples.csv(
        "_truth/faults.csv",
        """
        SELECT source, fault, rows FROM (
            SELECT 'usage_events' AS source, fault, rows FROM usage_faults
            UNION ALL SELECT 'billing_monthly', unnest(['usd_rate_not_one', 'credits_null', 'tax_sign_mismatch']),
                unnest([count(*) FILTER (currency = 'USD'), count(*) FILTER (credits IS NULL),
                    count(*) FILTER (subtotal < 0)]) FROM invoices
            UNION ALL SELECT 'customers_orgs', unnest(['nps_score_null', 'nps_score_out_of_range']),
                unnest([count(*) FILTER (nps_score IS NULL), count(*) FILTER (nps_score > 100)]) FROM orgs
            UNION ALL SELECT 'nps_surveys', unnest(['nps_score_null', 'comment_null']),
                unnest([count(*) FILTER (nps_score IS NULL), count(*) FILTER (comment IS NULL)]) FROM surveys
            UNION ALL SELECT 'resources', 'tags_null', count(*) FILTER (tags_json IS NULL) FROM resources
            UNION ALL SELECT 'support_tickets', unnest(['csat_out_of_range', 'csat_null', 'resolved_at_null']),
                unnest([count(*) FILTER (csat NOT BETWEEN 1 AND 5), count(*) FILTER (csat IS NULL),
                    count(*) FILTER (resolved_at IS NULL)]) FROM tickets
            UNION ALL SELECT 'users', unnest(['last_login_null', 'last_login_before_created']),
                unnest([count(*) FILTER (last_login IS NULL), count(*) FILTER (last_login < created_at)]) FROM users
        ) ORDER BY source, fault
        """,
    )
