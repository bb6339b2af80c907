"""Every metric that a process of Headrace shows to Prometheus: one table, which docs/monitoring.md is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EVERY = ("serve", "stream", "run", "land")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. A counter's name ends in ``_total``, every other name in its unit. The values of ``labels`` are names of what
    the project declares, or of a fixed set: never of a record."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    of: tuple[str, ...]
    """The verbs whose processes show it."""
    help: str
    buckets: tuple[float, ...] = ()


REQUEST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
WRITE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)
BATCH = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
LATENCY = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86_400.0)

METRICS = (
    Metric("headrace_build_info", "gauge", ("version", "python"), EVERY, "What runs; always 1."),
    Metric("headrace_generation", "gauge", (), EVERY, "The published generation; 0 before the first."),
    Metric("headrace_stream_workers", "gauge", (), EVERY, "Workers that are registered in the store."),
    Metric(
        "headrace_as_of_timestamp_seconds", "gauge", ("mart",), EVERY,
        "Newest event time that the mart's answers count; of several sources the least.",
    ),
    Metric(
        "headrace_watermark_timestamp_seconds", "gauge", ("mart",), EVERY,
        "The mart's watermark, where all its sources declare a lateness.",
    ),
    Metric(
        "headrace_freshness_goal_seconds", "gauge", ("mart",), EVERY,
        "How old the newest event of a mart may be, where `project.fresh` says so.",
    ),
    Metric(
        "headrace_last_success_timestamp_seconds", "gauge", ("verb",), EVERY,
        "When a generation was last published and answers were last reconciled; and when this process last did its own work without failing.",
    ),
    Metric(
        "headrace_consumer_lag_records", "gauge", ("lane",), EVERY,
        "Records that have arrived and are not counted. What has arrived in Kafka `serve` knows only as far as it was landed.",
    ),
    Metric(
        "headrace_late_records_total", "counter", ("dataset",), EVERY,
        "Records that came below the watermark, of those that runs have counted.",
    ),
    Metric(
        "headrace_damaged_tables", "gauge", (), EVERY,
        "Tables of a cluster that somebody wrote to or deleted from by the clock, as their canaries tell.",
    ),
    Metric(
        "headrace_reconcile_drift_ratio", "gauge", ("table", "path"), EVERY,
        "Part of a serving table's keys that differed from bronze at the last reconcile.",
    ),
    Metric(
        "headrace_records_total", "counter", ("dataset", "path", "outcome"), ("stream", "run"),
        "Records judged by this process. path: batch, speed; outcome: clean, quarantined, duplicate, superseded.",
    ),
    Metric("headrace_landed_records_total", "counter", ("dataset",), ("stream", "run", "land"), "Records brought to bronze by this process."),
    Metric("headrace_bytes_total", "counter", ("dataset",), ("stream", "run", "land"), "Bytes of the files that this process landed."),
    Metric(
        "headrace_batch_duration_seconds", "histogram", ("path",), ("stream", "run"),
        "A run that published (batch); a micro-batch, from its first look at the records until they are answered (speed).", BATCH,
    ),
    Metric(
        "headrace_end_to_end_latency_seconds", "histogram", ("dataset",), ("stream",),
        "From the newest event of a micro-batch until it is answered.", LATENCY,
    ),
    Metric(
        "headrace_quarantine_records", "gauge", ("dataset", "rule"), ("run",),
        "Records in quarantine by the reason; `unreadable` where they could not be parsed. A record with two reasons is in both.",
    ),
    Metric(
        "headrace_partition_skew_ratio", "gauge", ("table",), ("run",),
        "By how much the largest partition of a serving table has more rows than the mean one: (max - mean) / mean.",
    ),
    Metric("headrace_partition_rows", "gauge", ("table",), ("run",), "Rows of the largest partition of a serving table."),
    Metric(
        "headrace_serving_write_seconds", "histogram", ("backend",), ("stream", "run"),
        "A write of rows to the store, with all that is tried again.", WRITE,
    ),
    Metric("headrace_serving_written_rows_total", "counter", ("backend",), ("stream", "run"), "Rows written to the store."),
    Metric("headrace_serving_write_errors_total", "counter", ("backend",), ("stream", "run"), "Writes to the store that failed for good."),
    Metric(
        "headrace_http_request_duration_seconds", "histogram", ("route", "method", "status"), ("serve",),
        "From request to response.", REQUEST,
    ),
    Metric("headrace_logins_total", "counter", ("result",), ("serve",), "Logins by password that were not known already."),
)  # fmt: skip
"""In the order of docs/monitoring.md."""
BY_NAME = {metric.name: metric for metric in METRICS}
