"""Independent oracle for the cloud project.

Every figure is computed by plain DuckDB SQL over the raw landing files (seven CSV files and
the usage event JSONL files). Nothing is imported from the product, so that agreement between
the two is evidence. The only parameter of every function is the landing folder.

Conventions, all from the marts section of the cloud spec: an event is clean when its cost is
at least -0.01; days are UTC days; sums are exact decimals. "Landed" means every row of the
files, quarantined ones included.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb

Row = dict[str, Any]

CSV_SOURCES = (
    "customers_orgs",
    "users",
    "resources",
    "support_tickets",
    "marketing_touches",
    "nps_surveys",
    "billing_monthly",
)

# Anything between the largest normal ratio (2.00) and the smallest spike ratio (11.8) will do.
SPIKE_RATIO = 5


# ----------------------------------------------------------------------------------------------
# Typed, otherwise untouched, copies of the raw files
# ----------------------------------------------------------------------------------------------


def connect(landing: Path) -> duckdb.DuckDBPyConnection:
    """Load the eight landed sources into an in-memory database, typed but not repaired.

    Follows the source contracts section: dates are ISO text, amounts have at most four decimals
    (invoices two, exchange rates five, carbon six), so every number is an exact DECIMAL.
    The value of an event is either a JSON number or a JSON string; `value_is_text` keeps which.
    """
    con = duckdb.connect()
    for source in CSV_SOURCES:
        con.execute(
            f"create table landed_{source} as "
            f"select * from read_csv('{_quoted(landing / f'{source}.csv')}', "
            "header = true, all_varchar = true)"
        )
    con.execute(
        f"""
        create table landed_events as
        select * from read_json(
            '{_quoted(landing / "usage_events_stream" / "*.jsonl")}',
            format = 'newline_delimited', filename = 'source_file',
            columns = {{
                event_id: 'VARCHAR', timestamp: 'VARCHAR', org_id: 'VARCHAR',
                resource_id: 'VARCHAR', service: 'VARCHAR', region: 'VARCHAR',
                metric: 'VARCHAR', value: 'JSON', unit: 'VARCHAR',
                cost_usd_increment: 'VARCHAR', schema_version: 'VARCHAR',
                carbon_kg: 'VARCHAR', genai_tokens: 'VARCHAR'
            }})
        """
    )
    con.execute(
        """
        create table events as
        select event_id,
               strptime(timestamp, '%Y-%m-%dT%H:%M:%SZ')               as at_utc,
               cast(strptime(timestamp, '%Y-%m-%dT%H:%M:%SZ') as date) as usage_date,
               org_id, resource_id, service, region, metric, unit,
               cast(value ->> '$' as decimal(18, 4))                   as value,
               coalesce(json_type(value) = 'VARCHAR', false)           as value_is_text,
               cast(cost_usd_increment as decimal(18, 4))              as cost,
               cast(cost_usd_increment as decimal(18, 4)) >= -0.01     as clean,
               cast(schema_version as integer)                         as schema_version,
               cast(carbon_kg as decimal(18, 6))                       as carbon_kg,
               cast(genai_tokens as bigint)                            as genai_tokens,
               source_file
        from landed_events
        """
    )
    con.execute(
        """
        create table orgs as
        select org_id, plan_tier, is_enterprise = 'True' as is_enterprise,
               cast(signup_date as date) as signup_date, lifecycle_stage,
               cast(nps_score as decimal(9, 2)) as nps_score
        from landed_customers_orgs
        """
    )
    con.execute(
        """
        create table users as
        select user_id, org_id, active = 'True' as active,
               cast(created_at as date) as created_at, cast(last_login as date) as last_login
        from landed_users
        """
    )
    con.execute(
        """
        create table resources as
        select resource_id, org_id, service, region, state,
               cast(created_at as date) as created_at,
               coalesce(cast(cast(tags_json as json) as varchar[]), []) as tags
        from landed_resources
        """
    )
    con.execute(
        """
        create table tickets as
        select ticket_id, org_id, category, severity,
               cast(created_at as date)              as created_date,
               cast(resolved_at as date)             as resolved_date,
               cast(cast(csat as decimal(9, 2)) as integer) as csat,
               sla_breached = 'True'                 as sla_breached
        from landed_support_tickets
        """
    )
    con.execute(
        """
        create table touches as
        select touch_id, org_id, cast(timestamp as date) as touch_date,
               clicked = 'True' as clicked, converted = 'True' as converted
        from landed_marketing_touches
        """
    )
    con.execute(
        """
        create table surveys as
        select org_id, cast(survey_date as date) as survey_date,
               cast(nps_score as decimal(9, 2)) as nps_score
        from landed_nps_surveys
        """
    )
    con.execute(
        """
        create table invoices as
        select invoice_id, org_id, cast(month as date) as month, currency,
               cast(subtotal as decimal(18, 2))             as subtotal,
               cast(credits as decimal(18, 2))              as credits,
               cast(taxes as decimal(18, 2))                as taxes,
               cast(exchange_rate_to_usd as decimal(18, 5)) as landed_fx
        from landed_billing_monthly
        """
    )
    return con


def _quoted(path: Path) -> str:
    """Return a path that can stand between single quotes in SQL."""
    return str(path).replace("'", "''")


def _rows(con: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    """Run one query and return its rows as dictionaries."""
    cursor = con.execute(query)
    names = [str(column[0]) for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


# ----------------------------------------------------------------------------------------------
# Marts
# ----------------------------------------------------------------------------------------------


def org_daily_usage_by_service(landing: Path) -> list[Row]:
    """Clean usage by org, UTC day and service (marts section, org_daily_usage_by_service).

    The metric sums add `value` (a null adds nothing) and are 0 when there is no such metric.
    `carbon_kg` leaves out the false zeros of events without a value (rules section: carbon 0
    with null value becomes null). `carbon_kg` and `genai_tokens` are None with nothing to sum.
    """
    return _rows(
        connect(landing),
        """
        select org_id, usage_date, service,
               count(*)  as events,
               sum(cost) as cost_usd,
               coalesce(sum(value) filter (where metric = 'requests'), 0)         as requests,
               coalesce(sum(value) filter (where metric = 'cpu_hours'), 0)        as cpu_hours,
               coalesce(sum(value) filter (where metric = 'storage_gb_hours'), 0)
                   as storage_gb_hours,
               cast(sum(genai_tokens) as bigint)               as genai_tokens,
               sum(carbon_kg) filter (where value is not null) as carbon_kg,
               count(*) filter (where value is null)           as events_missing_value
        from events
        where clean
        group by org_id, usage_date, service
        order by org_id, usage_date, service
        """,
    )


def revenue_by_org_month(landing: Path) -> list[Row]:
    """Revenue on the full org x month spine (marts section, revenue_by_org_month).

    Rules section: USD converts at 1, null credits are 0, and an invoice whose subtotal is
    negative while its tax is positive is quarantined. A month that has only quarantined
    invoices stays on the spine with `invoices` 0 and with currency, fx and amounts None.
    Amounts are exact products (seven decimals), not rounded.
    """
    return _rows(
        connect(landing),
        """
        with judged as (
            select *,
                   subtotal < 0 and taxes > 0                    as quarantined,
                   case when currency = 'USD' then 1.00000 else landed_fx end as fx
            from invoices
        ),
        spine as (
            select org_id, month
            from (select org_id from orgs) cross join (select distinct month from invoices)
        ),
        valid as (
            select org_id, month, any_value(currency) as currency, any_value(fx) as fx_applied,
                   sum(subtotal * fx)             as subtotal_usd,
                   sum(coalesce(credits, 0) * fx) as credits_usd,
                   sum(taxes * fx)                as taxes_usd,
                   count(*)                       as invoices
            from judged
            where not quarantined
            group by org_id, month
        ),
        quarantine as (
            select org_id, month, count(*) as invoices from judged where quarantined
            group by org_id, month
        )
        select org_id, month, v.currency, v.fx_applied,
               v.subtotal_usd, v.credits_usd, v.taxes_usd,
               v.subtotal_usd - v.credits_usd + v.taxes_usd as net_usd,
               coalesce(v.invoices, 0)                      as invoices,
               coalesce(q.invoices, 0)                      as invoices_quarantined
        from spine
        left join valid as v using (org_id, month)
        left join quarantine as q using (org_id, month)
        order by org_id, month
        """,
    )


def tickets_by_org_date(landing: Path) -> list[Row]:
    """Tickets by org, created date and severity (marts section, tickets_by_org_date).

    Rules section: a csat outside 1..5 becomes null. Resolution is known to the day only, so its
    hours are 24 x whole days. Ratios are exact fractions, None when there is nothing to average.
    A ticket is open when it has no resolved date.
    """
    rows = _rows(
        connect(landing),
        """
        select org_id, created_date, severity,
               count(*)                                             as tickets,
               count(*) filter (where sla_breached)                 as sla_breaches,
               coalesce(sum(csat) filter (where csat between 1 and 5), 0)   as csat_sum,
               count(*) filter (where csat between 1 and 5)         as csat_n,
               coalesce(sum(resolved_date - created_date), 0)       as resolution_days,
               count(resolved_date)                                 as resolved,
               count(*) filter (where resolved_date is null)        as open,
               count(*) filter (where category = 'integration')     as integration,
               count(*) filter (where category = 'billing')         as billing,
               count(*) filter (where category = 'availability')    as availability,
               count(*) filter (where category = 'usability')       as usability,
               count(*) filter (where category = 'performance')     as performance,
               count(*) filter (where category = 'security')        as security
        from tickets
        group by org_id, created_date, severity
        order by org_id, created_date, severity
        """,
    )
    for row in rows:
        csat_sum, resolved = row.pop("csat_sum"), row.pop("resolved")
        days = row.pop("resolution_days")
        row["sla_breach_rate"] = Fraction(row["sla_breaches"], row["tickets"])
        row["csat_avg"] = Fraction(int(csat_sum), row["csat_n"]) if row["csat_n"] else None
        row["avg_resolution_hours"] = Fraction(24 * int(days), resolved) if resolved else None
    return rows


def genai_tokens_by_org_date(landing: Path) -> list[Row]:
    """Tokens by org and UTC day (marts section, genai_tokens_by_org_date).

    Clean version 2 events with more than zero tokens. Cost per million is a ratio of sums.
    """
    rows = _rows(
        connect(landing),
        """
        select org_id, usage_date,
               cast(sum(genai_tokens) as bigint) as total_tokens,
               sum(cost)                         as cost_usd,
               count(*)                          as events
        from events
        where clean and schema_version = 2 and genai_tokens > 0
        group by org_id, usage_date
        order by org_id, usage_date
        """,
    )
    for row in rows:
        row["cost_per_million"] = Fraction(row["cost_usd"]) * 1_000_000 / row["total_tokens"]
    return rows


# Unit rates (cost per unit of value) of the clean rows that have one, with the robust score of
# each event inside its service and metric: 0.6745 * (rate - median) / MAD.
_RATE_SCORES = """
    with rated as (
        select *, cast(cost as double) / cast(value as double) as rate
        from events where clean and value > 0
    ),
    centre as (
        select service, metric, median(rate) as centre from rated group by service, metric
    ),
    spread as (
        select service, metric, centre, median(abs(rate - centre)) as mad
        from rated join centre using (service, metric)
        group by service, metric, centre
    )
    select event_id, 0.6745 * (rate - centre) / mad as score
    from rated join spread using (service, metric)
"""

# The expected cost of one unit: the median unit rate of the service over every landed row with
# a positive value, quarantined rows too (over clean rows only the total excess would be
# 10,320.62 and the gap would start at 1.99 instead of the 2.00 and 10,321.15 of the spec).
_SERVICE_RATES = """
    select service, median(cast(cost as double) / cast(value as double)) as unit_cost
    from events where value > 0 group by service
"""


def cost_spikes(landing: Path) -> list[Row]:
    """Cost anomalies by org, UTC day and service (marts section, cost_anomaly_mart).

    The unit-rate rule of the detector table: MAD of cost/value by service and metric over the
    clean rows with a positive value, robust score above 8, one-sided. The expected cost of an
    event is value x median unit rate of its service, rounded half away from zero to six
    decimals; its multiple is cost / expected rounded the same way to two.
    """
    return _rows(
        connect(landing),
        f"""
        with scores as ({_RATE_SCORES}),
        service_rates as ({_SERVICE_RATES}),
        flagged as (
            select e.*, cast(cast(e.value as double) * unit_cost as decimal(18, 6)) as expected
            from events as e
            join scores using (event_id)
            join service_rates using (service)
            where score > 8
        )
        select org_id, usage_date, service,
               count(*)                  as anomaly_events,
               sum(cost)                 as anomalous_cost,
               sum(expected)             as expected_cost,
               sum(cost) - sum(expected) as excess,
               max(cast(cast(cost as double) / cast(expected as double) as decimal(18, 2)))
                   as max_multiple
        from flagged
        group by org_id, usage_date, service
        order by org_id, usage_date, service
        """,
    )


# ----------------------------------------------------------------------------------------------
# Rules
# ----------------------------------------------------------------------------------------------

# One query per source: the violations of each rule, over all landed rows.
_RULES: dict[str, str] = {
    # Signed NPS index, so the range is -100..100; a null is missing, not out of range.
    # The two parts of the enterprise contradiction add up to the first (25 = 9 + 16).
    "customers_orgs": """
        select {
            nps_score_out_of_range: count(*) filter (where nps_score not between -100 and 100),
            enterprise_flag_contradicts_plan:
                count(*) filter (where is_enterprise <> (plan_tier = 'enterprise')),
            enterprise_plan_flagged_false:
                count(*) filter (where plan_tier = 'enterprise' and not is_enterprise),
            other_plan_flagged_true:
                count(*) filter (where plan_tier <> 'enterprise' and is_enterprise)
        } from orgs
    """,
    # "With login" means that a last login is recorded.
    "users": """
        select {
            created_before_org_signup: count(*) filter (where u.created_at < signup_date),
            last_login_before_created: count(*) filter (where last_login < u.created_at),
            inactive_with_login: count(*) filter (where not active and last_login is not null),
            active_without_login: count(*) filter (where active and last_login is null)
        } from users as u join orgs using (org_id)
    """,
    # A tag conflict is a resource that carries both tags of the pair.
    "resources": """
        select {
            created_before_org_signup: count(*) filter (where created_at < signup_date),
            tag_conflict_alpha_beta: count(*) filter (
                where list_has_all(tags, ['costcenter:alpha', 'costcenter:beta'])),
            tag_conflict_dev_prod: count(*) filter (
                where list_has_all(tags, ['env:dev', 'env:prod'])),
            tag_conflict_ml_core: count(*) filter (
                where list_has_all(tags, ['team:ml', 'team:core']))
        } from resources join orgs using (org_id)
    """,
    # A csat on an open ticket is counted on the landed csat: 172. After the repair of the
    # values outside 1..5 it would be 163. The data end is the last day with an event.
    "support_tickets": """
        select {
            csat_out_of_range: count(*) filter (where csat not between 1 and 5),
            created_before_org_signup: count(*) filter (where created_date < signup_date),
            resolved_after_data_end: count(*) filter (
                where resolved_date > (select max(usage_date) from events)),
            resolved_before_created: count(*) filter (where resolved_date < created_date),
            resolved_on_created_date: count(*) filter (where resolved_date = created_date),
            csat_on_open_ticket: count(*) filter (
                where csat is not null and resolved_date is null)
        } from tickets join orgs using (org_id)
    """,
    "marketing_touches": """
        select {
            touch_before_org_signup: count(*) filter (where touch_date < signup_date),
            converted_without_click: count(*) filter (where converted and not clicked)
        } from touches join orgs using (org_id)
    """,
    # The surveys before signup include the ones without a score.
    "nps_surveys": """
        select {
            nps_score_out_of_range: count(*) filter (where s.nps_score not between -100 and 100),
            survey_before_org_signup: count(*) filter (where survey_date < signup_date)
        } from surveys as s join orgs using (org_id)
    """,
    # The currency rule counts orgs, not invoices; quarantined invoices take part.
    "billing_monthly": """
        select {
            tax_sign_mismatch: count(*) filter (where subtotal < 0 and taxes > 0),
            usd_rate_not_one: count(*) filter (where currency = 'USD' and landed_fx <> 1),
            credits_missing: count(*) filter (where credits is null),
            org_changes_currency: (
                select count(*) from (
                    select org_id from invoices
                    group by org_id having count(distinct currency) > 1))
        } from invoices
    """,
    # All landed events, quarantined ones included. Before creation: the creation date is read as
    # the start of its day, so an event of the creation day itself is no violation.
    "usage_events": """
        select {
            cost_below_floor: count(*) filter (where cost < -0.01),
            value_as_text: count(*) filter (where value_is_text),
            unit_missing: count(*) filter (where unit is null),
            carbon_zero_without_value: count(*) filter (where carbon_kg = 0 and value is null),
            value_missing: count(*) filter (where value is null),
            before_resource_creation: count(*) filter (where usage_date < created_at),
            on_terminated_resource: count(*) filter (where state = 'terminated'),
            on_stopped_resource: count(*) filter (where state = 'stopped'),
            before_org_signup: count(*) filter (where usage_date < signup_date),
            on_churned_org: count(*) filter (where lifecycle_stage = 'churned'),
            on_lead_or_prospect_org: count(*) filter (
                where lifecycle_stage in ('lead', 'prospect'))
        }
        from events as e
        join resources as r using (resource_id)
        join orgs as o on o.org_id = e.org_id
    """,
}


def rule_counts(landing: Path) -> dict[str, dict[str, int]]:
    """Violations of every quarantine, repair and warning rule, by source (rules section).

    All counts are over landed rows, before any repair and with quarantined rows included.
    The comments at the queries say which reading was needed where the text allows several.
    """
    con = connect(landing)
    counts: dict[str, dict[str, int]] = {}
    for source, query in _RULES.items():
        found = con.execute(query).fetchall()[0][0]
        counts[source] = {str(name): int(count) for name, count in found.items()}
    return counts


# ----------------------------------------------------------------------------------------------
# Derived truth and detectors
# ----------------------------------------------------------------------------------------------

_SPIKES = f"""
    select event_id
    from events join ({_SERVICE_RATES}) using (service)
    where clean and value > 0
      and cast(cost as double) / cast(value as double) / unit_cost > {SPIKE_RATIO}
"""


def spikes(landing: Path) -> set[str]:
    """Event ids of the derived cost spikes (comparison section, derived truth).

    cost / value / median of the service is at most 2.00 for a normal event and at least 11.8 for
    a spike; nothing lies between, so any cut inside the gap gives the same set.
    """
    return {str(row[0]) for row in connect(landing).execute(_SPIKES).fetchall()}


# The three flags of the original, over all landed costs (before the quarantine split).
_ORIGINAL_FLAGS: dict[str, str] = {
    # Mean and sample standard deviation; the absolute score, strictly above 3.
    "z_score": """
        select event_id
        from events, (select avg(cost) as mean, stddev_samp(cost) as sd from events)
        where abs(cost - mean) / sd > 3
    """,
    # Exact median and MAD, with the 0.6745 factor (without it the flags would be 12,895).
    "global_mad": """
        with centre as (select median(cast(cost as double)) as centre from events),
        spread as (
            select centre, median(abs(cast(cost as double) - centre)) as mad
            from events, centre group by centre
        )
        select event_id from events, spread where 0.6745 * abs(cost - centre) / mad > 3
    """,
    # Exact 1st and 99th percentile, strictly outside.
    "percentile": """
        select event_id
        from events, (select quantile_cont(cast(cost as double), 0.01) as p01,
                             quantile_cont(cast(cost as double), 0.99) as p99 from events)
        where cost < p01 or cost > p99
    """,
}


def original_flags(landing: Path) -> dict[str, tuple[int, int]]:
    """Flags of the original's three methods over (all landed, clean) events (comparison section).

    Exact statistics instead of the approximate quantiles of the original.
    """
    con = connect(landing)
    counts: dict[str, tuple[int, int]] = {}
    for name, query in _ORIGINAL_FLAGS.items():
        everything, clean = con.execute(
            f"select count(*), count(*) filter (where clean) from events where event_id in ({query})"
        ).fetchall()[0]
        counts[name] = (int(everything), int(clean))
    return counts


def _above_p99(times: int) -> str:
    """Return the query for events above a multiple of the 99th percentile of all landed costs."""
    return f"""
        select event_id
        from events, (select quantile_cont(cast(cost as double), 0.99) as p99 from events)
        where cost > {times} * p99
    """


def _cost_mad_above(threshold: str) -> str:
    """Return the query for the MAD detector on cost by service and metric.

    The statistics are over the clean events that have a value (zero values included: with only
    positive values the flags would be 211, 150 and 145). The absolute and the one-sided score
    flag the same events.
    """
    return f"""
        with costs as (
            select *, cast(cost as double) as amount
            from events where clean and value is not null
        ),
        centre as (
            select service, metric, median(amount) as centre from costs group by service, metric
        ),
        spread as (
            select service, metric, centre, median(abs(amount - centre)) as mad
            from costs join centre using (service, metric)
            group by service, metric, centre
        )
        select event_id from costs join spread using (service, metric)
        where 0.6745 * abs(amount - centre) / mad > {threshold}
    """


def _rate_mad_above(threshold: str) -> str:
    """Return the query for the one-sided MAD detector on the unit rate by service and metric.

    One-sided is needed: the absolute score would flag 156, 161 and 176 events.
    """
    return f"select event_id from ({_RATE_SCORES}) where score > {threshold}"


_DETECTORS: dict[str, str] = {
    "global_mad_3": _ORIGINAL_FLAGS["global_mad"],
    "z_3": _ORIGINAL_FLAGS["z_score"],
    "p99_x2": _above_p99(2),
    "p99_x3": _above_p99(3),
    "cost_mad_3_5": _cost_mad_above("3.5"),
    "cost_mad_5": _cost_mad_above("5"),
    "cost_mad_8": _cost_mad_above("8"),
    "rate_mad_8": _rate_mad_above("8"),
    "rate_mad_5": _rate_mad_above("5"),
    "rate_mad_3_5": _rate_mad_above("3.5"),
}


def detectors(landing: Path) -> dict[str, tuple[int, int]]:
    """(flags, true spikes among them) of each detector of the detector table.

    Counted on the clean events with a value, as the table says. The first four take their
    statistics from all landed events; the others from the events they are counted on.
    """
    con = connect(landing)
    con.execute(f"create table spikes as {_SPIKES}")
    counts: dict[str, tuple[int, int]] = {}
    for name, query in _DETECTORS.items():
        flags, true = con.execute(
            f"""
            select count(*), count(*) filter (where event_id in (select event_id from spikes))
            from events
            where clean and value is not null and event_id in ({query})
            """
        ).fetchall()[0]
        counts[name] = (int(flags), int(true))
    return counts


def watermark_drops(landing: Path, files_per_trigger: int, delay_days: int) -> int:
    """Events a naive streaming watermark would drop (comparison section, streaming trap).

    The files arrive in name order, a fixed number per trigger. The watermark of a trigger is the
    latest event time of the earlier triggers less the delay; strictly older events are dropped.
    """
    found = (
        connect(landing)
        .execute(
            f"""
        with batched as (
            select at_utc,
                   (dense_rank() over (order by source_file) - 1) // {int(files_per_trigger)}
                       as batch
            from events
        ),
        latest as (select batch, max(at_utc) as latest from batched group by batch),
        watermarks as (
            select batch,
                   max(latest) over (order by batch
                       rows between unbounded preceding and 1 preceding)
                       - interval {int(delay_days)} day as watermark
            from latest
        )
        select count(*) from batched join watermarks using (batch) where at_utc < watermark
        """
        )
        .fetchall()
    )
    return int(found[0][0])
