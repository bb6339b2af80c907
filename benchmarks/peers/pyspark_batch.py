"""The same five marts in PySpark, ``local[2]``: explicit schemas, one pass over the events into a cache, no extra actions.

It writes the marts only (no bronze, no silver, no serving tables), so it does less than the others; more would only be
slower. ``python -m benchmarks.peers.pyspark_batch LANDING OUT ROUNDS``: each round in one session, the first is cold.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

USAGE = """event_id STRING, timestamp STRING, org_id STRING, resource_id STRING, service STRING, region STRING, metric STRING, value STRING,
    unit STRING, cost_usd_increment STRING, schema_version STRING, carbon_kg STRING, genai_tokens STRING"""
BILLING = """invoice_id STRING, org_id STRING, month DATE, subtotal DECIMAL(18,4), credits DECIMAL(18,4), taxes DECIMAL(18,4), currency STRING,
    exchange_rate_to_usd DECIMAL(18,8)"""
TICKETS = """ticket_id STRING, org_id STRING, category STRING, severity STRING, created_at DATE, resolved_at DATE, csat DECIMAL(9,2),
    sla_breached BOOLEAN"""
CATEGORIES = ("integration", "billing", "availability", "usability", "performance", "security")


def session() -> SparkSession:
    builder = SparkSession.builder.master("local[2]").appName("benchmark")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.memory": "2g",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def usage_events(spark: SparkSession, landing: Path) -> DataFrame:
    sent = spark.read.schema(USAGE).json(f"{landing}/usage_events_stream")
    typed = sent.select(
        "event_id",
        f.expr("try_to_timestamp(timestamp)").alias("happened_at"),
        "org_id",
        "service",
        "metric",
        f.expr("try_cast(value AS DECIMAL(18,4))").alias("value"),
        f.expr("try_cast(cost_usd_increment AS DECIMAL(18,4))").alias("cost_usd"),
        f.expr("try_cast(schema_version AS INT)").alias("schema_version"),
        f.expr("try_cast(carbon_kg AS DECIMAL(18,6))").alias("carbon_kg"),
        f.expr("try_cast(genai_tokens AS BIGINT)").alias("genai_tokens"),
    ).where("event_id IS NOT NULL AND happened_at IS NOT NULL AND cost_usd IS NOT NULL AND schema_version IS NOT NULL")
    judged = typed.withColumn("quarantined", f.expr("NOT (cost_usd >= -0.01 AND schema_version IN (1, 2))"))
    judged = judged.withColumn("carbon_kg", f.expr("CASE WHEN value IS NOT NULL THEN carbon_kg END")).withColumn(
        "day", f.to_date("happened_at")
    )
    return judged.dropDuplicates(["event_id", "quarantined"])


def run(spark: SparkSession, landing: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    judged = usage_events(spark, landing).cache()
    judged.createOrReplaceTempView("judged")
    judged.where("NOT quarantined").createOrReplaceTempView("usage")

    def write(name: str, frame: DataFrame) -> None:
        frame.coalesce(1).write.parquet(str(out / name))

    write(
        "org_daily_usage_by_service",
        spark.sql("""SELECT org_id, day AS usage_date, service, count(*) AS events, sum(cost_usd) AS cost_usd,
            coalesce(sum(value) FILTER (WHERE metric = 'requests'), 0) AS requests, coalesce(sum(value) FILTER (WHERE metric = 'cpu_hours'), 0) AS cpu_hours,
            coalesce(sum(value) FILTER (WHERE metric = 'storage_gb_hours'), 0) AS storage_gb_hours, sum(genai_tokens) AS genai_tokens,
            sum(carbon_kg) AS carbon_kg, count_if(value IS NULL) AS events_missing_value
            FROM usage GROUP BY org_id, day, service"""),
    )
    write(
        "genai_tokens_by_org_date",
        spark.sql("""SELECT org_id, day AS usage_date, sum(genai_tokens) AS total_tokens, sum(cost_usd) AS cost_usd, count(*) AS events,
            sum(cost_usd) * 1000000 / sum(genai_tokens) AS cost_per_million
            FROM usage WHERE service = 'genai' AND schema_version = 2 AND genai_tokens > 0 GROUP BY org_id, day"""),
    )
    # The yardsticks as doubles, as the project has them; percentile(…, 0.5) is the exact median.
    spark.sql("""SELECT service, percentile(CAST(cost_usd AS DOUBLE) / CAST(value AS DOUBLE), 0.5) AS service_rate
        FROM judged WHERE value > 0 GROUP BY service""").createOrReplaceTempView("service_rates")
    spark.sql("""SELECT service, metric, percentile(CAST(cost_usd AS DOUBLE) / CAST(value AS DOUBLE), 0.5) AS rate
        FROM usage WHERE value > 0 GROUP BY service, metric""").createOrReplaceTempView("rates")
    spark.sql("""SELECT service, metric, rate, percentile(abs(CAST(cost_usd AS DOUBLE) / CAST(value AS DOUBLE) - rate), 0.5) AS rate_mad
        FROM usage JOIN rates USING (service, metric) WHERE value > 0 GROUP BY service, metric, rate""").createOrReplaceTempView(
        "unit_rates"
    )
    write(
        "cost_spikes",
        spark.sql("""WITH spikes AS (
                SELECT u.*, CAST(CAST(value AS DOUBLE) * service_rate AS DECIMAL(18,6)) AS expected_cost,
                       CAST(CAST(cost_usd AS DOUBLE) / (CAST(value AS DOUBLE) * service_rate) AS DECIMAL(18,2)) AS multiple
                FROM usage u JOIN unit_rates USING (service, metric) JOIN service_rates USING (service)
                WHERE value > 0 AND 0.6745D * (CAST(cost_usd AS DOUBLE) / CAST(value AS DOUBLE) - rate) > 8 * rate_mad)
            SELECT org_id, day AS usage_date, service, count(*) AS anomaly_events, sum(cost_usd) AS anomalous_cost, sum(expected_cost) AS expected_cost,
                   sum(cost_usd - expected_cost) AS excess, max(multiple) AS max_multiple
            FROM spikes GROUP BY org_id, day, service"""),
    )
    judged.unpersist()
    spark.read.schema(BILLING).option("header", "true").csv(f"{landing}/billing_monthly.csv").createOrReplaceTempView(
        "invoices"
    )
    write(
        "revenue_by_org_month",
        spark.sql("""WITH mended AS (SELECT *, coalesce(credits, 0) AS credit, CASE currency WHEN 'USD' THEN CAST(1 AS DECIMAL(18,8)) ELSE exchange_rate_to_usd END AS fx,
                                            subtotal < 0 AND taxes > 0 AS quarantined FROM invoices)
            SELECT org_id, month, sum(subtotal * fx) FILTER (WHERE NOT quarantined) AS subtotal_usd,
                   sum(CAST(credit AS DECIMAL(18,4)) * fx) FILTER (WHERE NOT quarantined) AS credits_usd,
                   sum(taxes * fx) FILTER (WHERE NOT quarantined) AS taxes_usd,
                   sum(CAST(subtotal - credit + taxes AS DECIMAL(18,4)) * fx) FILTER (WHERE NOT quarantined) AS net_usd,
                   max(fx) AS fx_applied, max(currency) AS currency, count_if(NOT quarantined) AS invoices, count_if(quarantined) AS invoices_quarantined
            FROM mended GROUP BY org_id, month"""),
    )
    spark.read.schema(TICKETS).option("header", "true").csv(f"{landing}/support_tickets.csv").createOrReplaceTempView(
        "tickets_sent"
    )
    categories = ", ".join(f"count_if(category = '{c}') AS {c}" for c in CATEGORIES)
    write(
        "tickets_by_org_date",
        spark.sql(f"""WITH tickets AS (SELECT * EXCEPT (csat), CASE WHEN csat BETWEEN 1 AND 5 THEN csat END AS csat FROM tickets_sent
                                       WHERE resolved_at IS NULL OR resolved_at >= created_at)
            SELECT org_id, created_at AS created_date, severity, count(*) AS tickets, count_if(sla_breached) AS sla_breaches,
                   count_if(sla_breached) / count(*) AS sla_breach_rate, avg(csat) AS csat_avg, count(csat) AS csat_n,
                   avg(datediff(resolved_at, created_at) * 24) AS avg_resolution_hours, count_if(resolved_at IS NULL) AS open, {categories}
            FROM tickets GROUP BY org_id, created_at, severity"""),
    )


def main(landing: Path, out: Path, rounds: int) -> None:
    started = time.perf_counter()
    spark = session()
    begun = time.perf_counter() - started
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run(spark, landing, out)
        seconds.append(time.perf_counter() - started)
    spark.stop()
    print(json.dumps({"session": begun, "rounds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
