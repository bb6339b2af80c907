"""Dashboards for Grafana, as its provisioning reads them: made here as data, checked by tests, never drawn by us."""

from __future__ import annotations

import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DATASOURCE = {"type": "prometheus", "uid": "headrace-prometheus"}
WINDOW = "$__rate_interval"
"""Grafana's own: at least four scrapes long, so that a rate has something to go by."""
WIDTH, HEIGHT = 24, 8
"""Of Grafana's grid, and of a panel."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart of one or more expressions, each with the legend of its lines. ``unit`` is an id of Grafana's; in expressions
    ``OF`` stands for the labels that pick the project."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]
    about: str = ""
    kind: str = "timeseries"
    steps: Sequence[tuple[str, float]] = ()
    """Colours from a value on."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of rows; ``name`` is part of its file's name."""

    name: str
    title: str
    rows: Sequence[Row] = field(default_factory=tuple)


def rate(counter: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({counter}{{OF{more}}}[{WINDOW}]))"


def quantiles(histogram: str, by: str) -> list[tuple[str, str]]:
    each = f"sum by ({by}, le) (rate({histogram}_bucket{{OF}}[{WINDOW}]))"
    return [(f"histogram_quantile({q}, {each})", f"{{{{{by}}}}} p{round(q * 100)}") for q in (0.5, 0.99)]


def newest(gauge: str, by: str) -> str:
    """A gauge that several processes show alike."""
    return f"max by ({by}) ({gauge}{{OF}})"


def uneven(counter: str, by: str) -> list[tuple[str, str]]:
    """How unevenly a counter rises: both measures are of rates of a counter, as a gauge's average hides what is hot."""
    each = rate(counter, by)
    return [
        (f"max({each}) / avg({each})", "max / mean"),
        (f"stddev({each}) / avg({each})", "standard deviation / mean"),
    ]


OVERVIEW = Dashboard(
    "overview", "overview",
    (
        Row("Answers", (
            Panel("Alerts that fire", "none", [('sum(ALERTS{OF, alertstate="firing"}) or vector(0)', "")], kind="stat",
                  steps=(("green", 0), ("red", 1))),
            Panel("Age of the newest event", "s", [("mart:headrace_behind:seconds{OF}", "{{mart}}"),
                  (newest("headrace_freshness_goal_seconds", "mart"), "{{mart}}: goal")],
                  "By the clock, of each mart that counts events; the goals are those of project.fresh."),
            Panel("Since the last success", "s", [(f"time() - {newest('headrace_last_success_timestamp_seconds', 'verb')}", "{{verb}}")]),
        )),
        Row("Work", (
            Panel("Records", "ops", [(rate("headrace_records_total", "path"), "{{path}}")], "Each record is counted once by each path."),
            Panel("Records that wait", "short", [("sum(lane:headrace_consumer_lag:records{OF})", "not counted")]),
            Panel("Rejected", "percentunit", [("dataset:headrace_quarantined:ratio_rate5m{OF}", "{{dataset}}")]),
        )),
        Row("API", (
            Panel("Requests", "reqps", [(rate("headrace_http_request_duration_seconds_count", "status"), "{{status}}")]),
            Panel("Errors of the server", "percentunit", [
                ("project:headrace_http_errors:ratio_rate5m{OF}", "5 min"), ("project:headrace_http_errors:ratio_rate1h{OF}", "1 h")]),
            Panel("Time to answer", "s", quantiles("headrace_http_request_duration_seconds", "project")),
        )),
        Row("Processes", (
            Panel("Up", "none", [("sum by (job) (up{OF})", "{{job}}")], kind="stat", steps=(("red", 0), ("green", 1))),
            Panel("Versions", "none", [("count by (version, python) (headrace_build_info{OF})", "{{version}}, Python {{python}}")], kind="stat"),
            Panel("Published generation", "none", [("max(headrace_generation{OF})", "generation")], kind="stat"),
        )),
    ),
)  # fmt: skip
FLOW = Dashboard(
    "flow", "flow of records",
    (
        Row("Arrival", (
            Panel("Landed", "ops", [(rate("headrace_landed_records_total", "dataset"), "{{dataset}}")]),
            Panel("Bytes landed", "Bps", [(rate("headrace_bytes_total", "dataset"), "{{dataset}}")]),
            Panel("Lag", "short", [("lane:headrace_consumer_lag:records{OF}", "{{lane}}")]),
        )),
        Row("Verdicts", (
            Panel("Verdicts", "ops", [(rate("headrace_records_total", "dataset, path, outcome"), "{{dataset}} {{path}} {{outcome}}")]),
            Panel("In quarantine", "short", [(newest("headrace_quarantine_records", "dataset, rule"), "{{dataset}}: {{rule}}")]),
            Panel("Late", "ops", [(f"sum by (dataset) (rate(headrace_late_records_total{{OF}}[{WINDOW}]))", "{{dataset}}")]),
        )),
        Row("Time", (
            Panel("Behind the watermark", "s", [(f"time() - {newest('headrace_watermark_timestamp_seconds', 'mart')}", "{{mart}}")]),
            Panel("Batches", "s", quantiles("headrace_batch_duration_seconds", "path"), "Runs that published, and micro-batches of streams."),
            Panel("From event to answer", "s", quantiles("headrace_end_to_end_latency_seconds", "dataset")),
        )),
        Row("Truth", (
            Panel("Workers of the stream", "none", [("max(headrace_stream_workers{OF})", "registered")], kind="stat"),
            Panel("Damaged tables of a cluster", "none", [("max(headrace_damaged_tables{OF})", "damaged")], kind="stat",
                  steps=(("green", 0), ("red", 1))),
            Panel("Drift at the last reconcile", "percentunit", [(newest("headrace_reconcile_drift_ratio", "table, path"), "{{table}} {{path}}")]),
        )),
    ),
)  # fmt: skip
LATENCY = 'cassandra_clientrequest_latency{OF, scope=~"Read|Write", quantile="0.99"}'
HITS, MISSES = rate("scylla_cache_row_hits", "instance"), rate("scylla_cache_row_misses", "instance")
STORE = Dashboard(
    "store", "store",
    (
        Row("As Headrace sees it", (
            Panel("Time of a write", "s", quantiles("headrace_serving_write_seconds", "backend")),
            Panel("Rows written", "wps", [(rate("headrace_serving_written_rows_total", "backend"), "{{backend}}")]),
            Panel("Writes that failed", "ops", [(rate("headrace_serving_write_errors_total", "backend"), "{{backend}}")]),
        )),
        Row("Cassandra", (
            Panel("Requests", "reqps", [(rate("cassandra_clientrequest_latency_count", "scope", ', scope=~"Read|Write"'), "{{scope}}")]),
            Panel("Latency, 99 of 100", "µs", [(f"max by (scope, instance) ({LATENCY})", "{{scope}} {{instance}}")]),
            Panel("Timeouts and unavailables", "ops", [
                (rate("cassandra_clientrequest_timeouts_count", "scope", ', scope=~"Read|Write"'), "{{scope}} timeouts"),
                (rate("cassandra_clientrequest_unavailables_count", "scope", ', scope=~"Read|Write"'), "{{scope}} unavailables")]),
            Panel("Pending compactions", "short", [("sum by (instance) (cassandra_compaction_pendingtasks_value{OF})", "{{instance}}")]),
            Panel("Dropped messages", "ops", [(rate("cassandra_droppedmessage_dropped_count", "scope"), "{{scope}}")]),
            Panel("Connected clients", "short", [("sum by (instance) (cassandra_client_connectednativeclients_value{OF})", "{{instance}}")]),
            Panel("Largest partition", "bytes", [("max by (keyspace, table) (cassandra_table_maxpartitionsize_value{OF})", "{{keyspace}}.{{table}}")]),
            Panel("Tombstones a read, 99 of 100", "short", [
                ('max by (keyspace, table) (cassandra_table_tombstonescannedhistogram{OF, quantile="0.99"})', "{{keyspace}}.{{table}}")]),
            Panel("On disk", "bytes", [("sum by (instance) (cassandra_table_livediskspaceused_count{OF})", "{{instance}}")]),
        )),
        Row("ScyllaDB (tried against made-up metrics, never against a server)", (
            Panel("Statements", "reqps", [
                (rate("scylla_cql_reads", "instance"), "{{instance}} reads"),
                (rate("scylla_cql_inserts", "instance"), "{{instance}} inserts"),
                (rate("scylla_cql_updates", "instance"), "{{instance}} updates")]),
            Panel("Latency, 99 of 100", "µs", [
                (f"histogram_quantile(0.99, {rate('scylla_storage_proxy_coordinator_write_latency_bucket', 'instance, le')})", "{{instance}} write"),
                (f"histogram_quantile(0.99, {rate('scylla_storage_proxy_coordinator_read_latency_bucket', 'instance, le')})", "{{instance}} read")]),
            Panel("Timeouts", "ops", [
                (rate("scylla_storage_proxy_coordinator_write_timeouts", "instance"), "{{instance}} write"),
                (rate("scylla_storage_proxy_coordinator_read_timeouts", "instance"), "{{instance}} read")]),
            Panel("Rows found in the cache", "percentunit", [(f"{HITS} / ({HITS} + {MISSES})", "{{instance}}")]),
            Panel("Compactions that run", "short", [("sum by (instance) (scylla_compaction_manager_compactions{OF})", "{{instance}}")]),
            Panel("Load of shards", "percent", [("max by (instance) (scylla_reactor_utilization{OF})", "{{instance}}: busiest")]),
        )),
    ),
)  # fmt: skip
NODE, SHARD = "instance", "instance, shard"
SKEW = Dashboard(
    "skew", "skew",
    (
        Row("Partitions of serving tables", (
            Panel("Largest over mean, less one", "short", [(newest("headrace_partition_skew_ratio", "table"), "{{table}}")]),
            Panel("Rows of the largest", "short", [(newest("headrace_partition_rows", "table"), "{{table}}")]),
        )),
        Row("Nodes of Cassandra", (
            Panel("Writes, how even", "short", uneven("cassandra_table_writelatency_count", NODE), "1 is even."),
            Panel("Reads, how even", "short", uneven("cassandra_table_readlatency_count", NODE), "1 is even."),
            Panel("Writes by node", "wps", [(rate("cassandra_table_writelatency_count", NODE), "{{instance}}")]),
            Panel("Reads by node", "rps", [(rate("cassandra_table_readlatency_count", NODE), "{{instance}}")]),
        )),
        Row("Shards of ScyllaDB (tried against made-up metrics, never against a server)", (
            Panel("Writes, how even", "short", uneven("scylla_database_total_writes", SHARD), "1 is even."),
            Panel("Reads, how even", "short", uneven("scylla_database_total_reads", SHARD), "1 is even."),
            Panel("Writes by shard", "wps", [(rate("scylla_database_total_writes", SHARD), "{{instance}} {{shard}}")]),
            Panel("Reads by shard", "rps", [(rate("scylla_database_total_reads", SHARD), "{{instance}} {{shard}}")]),
        )),
    ),
)  # fmt: skip
DASHBOARDS = (OVERVIEW, FLOW, STORE, SKEW)


def dashboard(of: Dashboard, project: str) -> dict[str, Any]:
    """One dashboard of a project as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in of.rows:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        across = next(n for n in (3, 2) if len(row.panels) % n == 0)
        for at, panel in enumerate(row.panels):
            wide = WIDTH // across
            place = {"h": HEIGHT, "w": wide, "x": at % across * wide, "y": y + at // across * HEIGHT}
            panels.append(_panel(panel, project, len(panels) + 1, place))
        y += -(-len(row.panels) // across) * HEIGHT
    return {
        # Of at most 40 characters, and the same at each export, so that links to it hold.
        "uid": f"headrace-{zlib.crc32(project.encode()):08x}-{of.name}",
        "title": f"Headrace {project}: {of.title}",
        "tags": ["headrace", project],
        "timezone": "utc",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {"type": "dashboards", "title": "Headrace", "tags": ["headrace", project], "asDropdown": False, "keepTime": True}
        ],
        "panels": panels,
    }  # fmt: skip


def _panel(panel: Panel, project: str, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults |= {
            "min": 0,
            "custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never"},
        }
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"}
    if panel.steps:
        # What lies below the first has its colour, too: Grafana wants that as a step without a value.
        steps = [
            {"color": colour, "value": None if at == 0 else value} for at, (colour, value) in enumerate(panel.steps)
        ]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {"refId": letter, "datasource": DATASOURCE, "expr": expression(expr, project), "legendFormat": legend or "__auto"}
            for letter, (expr, legend) in zip(string.ascii_uppercase, panel.lines, strict=False)
        ],
    }  # fmt: skip


def expression(expr: str, project: str) -> str:
    return expr.replace("{OF", f'{{project="{project}"')
