"""The same batch as a hand-written DuckDB script: landing files to bronze, silver and gold as plain Parquet.

No catalog, no commits, no second run, no serving table: the floor of what the work costs with the same engine.
``python -m benchmarks.peers.duckdb_batch LANDING OUT``
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import duckdb

USAGE = {
    "event_id": "VARCHAR", "timestamp": "VARCHAR", "org_id": "VARCHAR", "resource_id": "VARCHAR", "service": "VARCHAR", "region": "VARCHAR",
    "metric": "VARCHAR", "value": "JSON", "unit": "VARCHAR", "cost_usd_increment": "JSON", "schema_version": "JSON", "carbon_kg": "JSON",
    "genai_tokens": "JSON",
}  # fmt: skip
TABLES = {
    "billing_monthly": "invoice_id org_id month subtotal credits taxes currency exchange_rate_to_usd",
    "support_tickets": "ticket_id org_id category severity created_at resolved_at csat sla_breached",
    "customers_orgs": "org_id org_name industry hq_region plan_tier is_enterprise signup_date sales_rep lifecycle_stage marketing_source nps_score",
    "nps_surveys": "org_id survey_date nps_score comment",
}


def number(column: str, type: str) -> str:
    return f"TRY_CAST(trim({column}, '\"') AS {type})"


def reasons(*rules: tuple[str, str]) -> str:
    """The reasons of the rules that fail, NULL where none does."""
    failing = " OR ".join(f"coalesce({condition}, false)" for condition, _ in rules)
    each = ", ".join(f"CASE WHEN {condition} THEN '{reason}' END" for condition, reason in rules)
    return f"CASE WHEN {failing} THEN list_filter([{each}], lambda x: x IS NOT NULL) END AS reasons"


def missing(*columns: str) -> list[tuple[str, str]]:
    return [(f"{column} IS NULL", f"{column} is missing") for column in columns]


def misread(columns: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"{raw} IS NOT NULL AND {typed} IS NULL", f"{typed} cannot be read") for typed, raw in columns.items()]


SILVER = {
    "usage_events": (
        f"""SELECT * REPLACE (coalesce(unit, CASE metric WHEN 'requests' THEN 'count' WHEN 'cpu_hours' THEN 'hours'
                                            WHEN 'storage_gb_hours' THEN 'gb_hours' END) AS unit,
                               CASE WHEN value IS NOT NULL THEN carbon_kg END AS carbon_kg)
            FROM (SELECT _file, _row, event_id, TRY_CAST("timestamp" AS TIMESTAMPTZ) AS happened_at, org_id, resource_id, service, region, metric,
                         {number("value", "DECIMAL(18,4)")} AS value, unit, {number("cost_usd_increment", "DECIMAL(18,4)")} AS cost_usd,
                         {number("schema_version", "INTEGER")} AS schema_version, {number("carbon_kg", "DECIMAL(18,6)")} AS carbon_kg,
                         {number("genai_tokens", "BIGINT")} AS genai_tokens, "timestamp" AS _happened_at, value AS _value, carbon_kg AS _carbon_kg,
                         genai_tokens AS _genai_tokens, unit AS _unit
                  FROM bronze)""",
        [
            *missing(
                "event_id", "happened_at", "org_id", "resource_id", "service", "metric", "cost_usd", "schema_version"
            ),
            *misread({"value": "_value", "genai_tokens": "_genai_tokens"}),
            ("NOT cost_usd >= -0.01", "negative cost"),
            ("schema_version NOT IN (1, 2)", "unknown schema version"),
        ],
        "event_id",
    ),
    "billing_monthly": (
        """SELECT * REPLACE (CASE currency WHEN 'USD' THEN 1 ELSE fx END AS fx, coalesce(credits, 0) AS credits)
           FROM (SELECT _file, _row, invoice_id, org_id, TRY_CAST(month AS DATE) AS month, TRY_CAST(subtotal AS DECIMAL(18,4)) AS subtotal,
                        TRY_CAST(credits AS DECIMAL(18,4)) AS credits, TRY_CAST(taxes AS DECIMAL(18,4)) AS taxes, currency,
                        TRY_CAST(exchange_rate_to_usd AS DECIMAL(18,8)) AS fx FROM bronze)""",
        [
            *missing("invoice_id", "org_id", "month", "subtotal", "taxes", "currency", "fx"),
            ("subtotal < 0 AND taxes > 0", "tax_sign_mismatch"),
        ],
        "invoice_id",
    ),
    "support_tickets": (
        """SELECT * REPLACE (CASE WHEN csat BETWEEN 1 AND 5 THEN csat END AS csat)
           FROM (SELECT _file, _row, ticket_id, org_id, category, severity, TRY_CAST(created_at AS DATE) AS created_at,
                        TRY_CAST(resolved_at AS DATE) AS resolved_at, TRY_CAST(csat AS DECIMAL(9,2)) AS csat,
                        TRY_CAST(sla_breached AS BOOLEAN) AS sla_breached FROM bronze)""",
        [
            *missing("ticket_id", "org_id", "severity", "created_at"),
            ("resolved_at < created_at", "resolved before created"),
        ],
        "ticket_id",
    ),
    "customers_orgs": (
        """SELECT * REPLACE (CASE WHEN nps_score BETWEEN -100 AND 100 THEN nps_score END AS nps_score)
           FROM (SELECT _file, _row, org_id, org_name, industry, hq_region, plan_tier, TRY_CAST(is_enterprise AS BOOLEAN) AS is_enterprise,
                        TRY_CAST(signup_date AS DATE) AS signup_date, sales_rep, lifecycle_stage, marketing_source,
                        TRY_CAST(nps_score AS DECIMAL(9,2)) AS nps_score FROM bronze)""",
        missing("org_id"),
        "org_id",
    ),
    "nps_surveys": (
        """SELECT _file, _row, org_id, TRY_CAST(survey_date AS DATE) AS survey_date, TRY_CAST(nps_score AS DECIMAL(9,2)) AS nps_score, comment
           FROM bronze""",
        [*missing("org_id", "survey_date"), ("nps_score NOT BETWEEN -100 AND 100", "NPS outside -100 to 100")],
        "org_id, survey_date",
    ),
}
GOLD = {
    "org_daily_usage_by_service": """SELECT org_id, CAST(happened_at AS DATE) AS usage_date, service, count(*) AS events, sum(cost_usd) AS cost_usd,
        coalesce(sum(value) FILTER (metric = 'requests'), 0) AS requests, coalesce(sum(value) FILTER (metric = 'cpu_hours'), 0) AS cpu_hours,
        coalesce(sum(value) FILTER (metric = 'storage_gb_hours'), 0) AS storage_gb_hours, sum(genai_tokens) AS genai_tokens,
        sum(carbon_kg) AS carbon_kg, count(*) FILTER (value IS NULL) AS events_missing_value
        FROM usage_events WHERE reasons IS NULL GROUP BY ALL""",
    "revenue_by_org_month": """SELECT org_id, month, sum(subtotal * fx) FILTER (reasons IS NULL) AS subtotal_usd,
        sum(credits * fx) FILTER (reasons IS NULL) AS credits_usd, sum(taxes * fx) FILTER (reasons IS NULL) AS taxes_usd,
        sum((subtotal - credits + taxes) * fx) FILTER (reasons IS NULL) AS net_usd, max(fx) AS fx_applied, max(currency) AS currency,
        count(*) FILTER (reasons IS NULL) AS invoices, count(*) FILTER (reasons IS NOT NULL) AS invoices_quarantined
        FROM billing_monthly GROUP BY ALL""",
    "tickets_by_org_date": """SELECT org_id, created_at AS created_date, severity, count(*) AS tickets, count(*) FILTER (sla_breached) AS sla_breaches,
        count(*) FILTER (sla_breached) / count(*) AS sla_breach_rate, avg(csat) AS csat_avg, count(csat) AS csat_n,
        avg((resolved_at - created_at) * 24) AS avg_resolution_hours, count(*) FILTER (resolved_at IS NULL) AS open,
        count(*) FILTER (category = 'integration') AS integration, count(*) FILTER (category = 'billing') AS billing,
        count(*) FILTER (category = 'availability') AS availability, count(*) FILTER (category = 'usability') AS usability,
        count(*) FILTER (category = 'performance') AS performance, count(*) FILTER (category = 'security') AS security
        FROM support_tickets WHERE reasons IS NULL GROUP BY ALL""",
    "genai_tokens_by_org_date": """SELECT org_id, CAST(happened_at AS DATE) AS usage_date, sum(genai_tokens) AS total_tokens, sum(cost_usd) AS cost_usd,
        count(*) AS events, sum(cost_usd) * 1000000 / sum(genai_tokens) AS cost_per_million
        FROM usage_events WHERE reasons IS NULL AND service = 'genai' AND schema_version = 2 AND genai_tokens > 0 GROUP BY ALL""",
    "cost_spikes": """WITH unit_rates AS (SELECT service, metric, median(cost_usd / value) AS rate, mad(cost_usd / value) AS rate_mad
                                          FROM usage_events WHERE reasons IS NULL AND value > 0 GROUP BY ALL),
             service_rates AS (SELECT service, median(cost_usd / value) AS service_rate FROM usage_events WHERE value > 0 GROUP BY ALL),
             spikes AS (SELECT u.*, CAST(value * service_rate AS DECIMAL(18,6)) AS expected_cost,
                               CAST(cost_usd / (value * service_rate) AS DECIMAL(18,2)) AS multiple
                        FROM usage_events AS u JOIN unit_rates USING (service, metric) JOIN service_rates USING (service)
                        WHERE reasons IS NULL AND value > 0 AND 0.6745 * (cost_usd / value - rate) > 8 * rate_mad)
        SELECT org_id, CAST(happened_at AS DATE) AS usage_date, service, count(*) AS anomaly_events, sum(cost_usd) AS anomalous_cost,
               sum(expected_cost) AS expected_cost, sum(cost_usd - expected_cost) AS excess, max(multiple) AS max_multiple
        FROM spikes GROUP BY ALL""",
}


def main(landing: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    for tier in ("bronze", "silver", "gold"):
        (out / tier).mkdir(parents=True)
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET timezone = 'UTC'; SET preserve_insertion_order = false")

    def write(sql: str, tier: str, name: str) -> str:
        file = out / tier / f"{name}.parquet"
        connection.execute(f"COPY ({sql}) TO '{file}' (FORMAT parquet)")
        return f"read_parquet('{file}')"

    seconds = {}
    started = time.perf_counter()
    origin = "filename AS _file, now() AS _landed_at"
    bronze = {
        "usage_events": write(
            f"SELECT * EXCLUDE (filename), {origin} FROM read_json('{landing}/usage_events_stream/*.jsonl', format = 'newline_delimited', "
            f"columns = {USAGE}, filename = true)",
            "bronze",
            "usage_events",
        )
    }
    for name, columns in TABLES.items():
        typed = dict.fromkeys(columns.split(), "VARCHAR")
        bronze[name] = write(
            f"SELECT * EXCLUDE (filename), {origin} FROM read_csv('{landing}/{name}.csv', header = true, columns = {typed}, filename = true)",
            "bronze",
            name,
        )
    seconds["land"] = time.perf_counter() - started
    for name, (typed_sql, rules, identity) in SILVER.items():
        numbered = bronze[name].replace(")", ", file_row_number = true)")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW bronze AS SELECT *, file_row_number AS _row FROM {numbered}")
        sql = f"SELECT *, {reasons(*rules)} FROM ({typed_sql})"
        twice = connection.execute(f"SELECT 1 FROM bronze GROUP BY {identity} HAVING count(*) > 1 LIMIT 1").fetchall()
        if twice:
            sql += f" QUALIFY reasons IS NOT NULL OR row_number() OVER (PARTITION BY reasons IS NULL, {identity} ORDER BY _file, _row) = 1"
        connection.execute(f"CREATE TEMP VIEW {name} AS FROM {write(sql, 'silver', name)}")
    seconds["refine"] = time.perf_counter() - started - seconds["land"]
    for name, sql in GOLD.items():
        write(sql, "gold", name)
    seconds["aggregate"] = time.perf_counter() - started - seconds["land"] - seconds["refine"]
    connection.close()
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
