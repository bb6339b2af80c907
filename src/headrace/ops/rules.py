"""Rules for Prometheus: what is computed ahead, and the alerts that follow from a project's declared goals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from headrace.model.project import LoadedProject
from headrace.model.retention import spelled

MINUTE = 60
OBJECTIVE = 0.999
"""The part of requests that is to be answered without an error of the server."""
BURN = (("page", 14.4, "1h", 60, "5m", 5), ("warn", 6.0, "6h", 360, "30m", 30))
"""Severity, by how many times the budget of 30 days is spent too fast, and the two windows, named and in minutes. Burning
14.4 times as fast for an hour spends 2 % of the budget, 6 times for six hours 5 %: Google, The Site Reliability Workbook,
chapter 5, "Alerting on SLOs", method 6."""
LAG = 1000
"""Records that may wait in a lane, however their number rises."""
QUARANTINED = (("warn", 0.01), ("page", 0.05))
SKEW = 0.5
LARGE = 50_000
"""Rows of a partition from which on skew harms: half of what a partition of a serving table should have at most."""
BUSY = 100
"""Writes a second from which on the balance of nodes and shards says something."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often Prometheus scrapes and evaluates, in seconds; and for trials, by how many times everything that takes minutes
    is to be faster."""

    interval: float = 15.0
    speed: float = 1.0

    def of(self, minutes: float) -> str:
        """A window or a wait; never shorter than four scrapes, as a rate needs two."""
        return duration(max(minutes * MINUTE / self.speed, 4 * self.interval))

    def times(self, count: int) -> str:
        """So many scrapes."""
        return duration(count * self.interval)


def duration(seconds: float) -> str:
    """As Prometheus writes it."""
    if seconds != int(seconds):
        return f"{math.ceil(seconds * 1000)}ms"
    unit, size = next((u, s) for u, s in (("h", 3600), ("m", 60), ("s", 1)) if int(seconds) % s == 0)
    return f"{int(seconds) // size}{unit}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; ``runbook`` is its heading in docs/monitoring.md. ``wait`` and ``hold`` are durations of Prometheus."""

    name: str
    expr: str
    severity: str
    summary: str
    wait: str
    hold: str
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        return self.name.lower()

    def rule(self, runbooks: str) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "keep_firing_for": self.hold,
            "labels": {"severity": self.severity, **self.labels},
            "annotations": {"summary": self.summary, "runbook_url": f"{runbooks}#{self.runbook}"},
        }


def recorded(project: LoadedProject, pace: Pace) -> dict[str, str]:
    """By name, what is computed ahead."""
    of = f'project="{project.name}"'
    window = pace.of(5)
    judged, requests = "headrace_records_total", "headrace_http_request_duration_seconds_count"

    def by_dataset(more: str) -> str:
        return f"sum by (project, dataset) (rate({judged}{{{of}{more}}}[{window}]))"

    def answered(more: str, length: str) -> str:
        return f"sum by (project) (rate({requests}{{{of}{more}}}[{length}]))"

    def uneven(counter: str, by: str) -> str:
        each = f"sum by (project, {by}) (rate({counter}{{{of}}}[{window}]))"
        return f"max by (project) ({each}) / avg by (project) ({each}) - 1"

    found = {
        "mart:headrace_behind:seconds": f"time() - max by (project, mart) (headrace_as_of_timestamp_seconds{{{of}}})",
        "lane:headrace_consumer_lag:records": f"max by (project, lane) (headrace_consumer_lag_records{{{of}}})",
        "dataset:headrace_quarantined:ratio_rate5m": (
            by_dataset(', outcome="quarantined"') + " / " + by_dataset("")  # NaN where nothing came
        ),
    }
    for name, minutes in {(window, m) for _, _, long, a, short, b in BURN for window, m in ((long, a), (short, b))}:
        length = pace.of(minutes)
        errors, all_of_them = answered(', status=~"5.."', length), answered("", length)
        found[f"project:headrace_http_errors:ratio_rate{name}"] = (
            f"({errors} or 0 * {all_of_them}) / {all_of_them}"  # nothing to count is 0, not unknown
        )
    for store, (counter, by) in UNITS.items():
        found[f"project:{store}_writes:skew_ratio"] = uneven(counter, by)
        found[f"project:{store}_writes:rate5m"] = f"sum by (project) (rate({counter}{{{of}}}[{window}]))"
    return dict(sorted(found.items()))


UNITS = {
    "cassandra": ("cassandra_table_writelatency_count", "instance"),
    "scylla": ("scylla_database_total_writes", "instance, shard"),
}
"""By store, the counter of writes that each replica did itself, and what shares the work."""


def alerts(project: LoadedProject, pace: Pace) -> Iterator[Alert]:
    of = f'project="{project.name}"'
    hold = pace.of(5)
    for mart, goal in project.goals.items():
        one = f'{{{of}, mart="{mart}"}}'
        yield Alert(
            "Stale", f"mart:headrace_behind:seconds{one} > {goal}", "page",
            f"The newest event that {mart} counts is older than {spelled(goal)}.", pace.times(2), hold, {"mart": mart},
        )  # fmt: skip
        yield Alert(
            "Absent", f"absent(headrace_as_of_timestamp_seconds{one})", "page",
            f"Nobody says how fresh {mart} is.", pace.times(3), hold, {"mart": mart},
        )  # fmt: skip
    lag = f"lane:headrace_consumer_lag:records{{{of}}}"
    yield Alert(
        "LagGrowing", f"deriv({lag}[{pace.of(10)}]) > 0 and {lag} > {LAG}", "warn",
        "Records of {{ $labels.lane }} come faster than they are counted.", pace.times(2), hold,
    )  # fmt: skip
    for severity, part in QUARANTINED:
        yield Alert(
            "QuarantineRate", f"dataset:headrace_quarantined:ratio_rate5m{{{of}}} > {part}", severity,
            f"More than {part:.0%} of the records of {{{{ $labels.dataset }}}} are rejected.", pace.times(2), hold,
        )  # fmt: skip
    yield Alert(
        "DriftHigh", f"max by (project, table) (headrace_reconcile_drift_ratio{{{of}}}) > 0", "page",
        "Answers from {{ $labels.table }} were not what bronze says.", pace.times(1), hold,
    )  # fmt: skip
    yield Alert(
        "DamagedTables", f"max by (project) (headrace_damaged_tables{{{of}}}) > 0", "page",
        "Somebody writes to the store's tables by the clock.", pace.times(1), hold,
    )  # fmt: skip
    skew, rows = (
        f"max by (project, table) (headrace_partition_{what}{{{of}}})" for what in ("skew_ratio", "rows")
    )  # fmt: skip
    yield Alert(
        "SkewHigh", f"{skew} > {SKEW} and {rows} > {LARGE}", "warn",
        "A partition of {{ $labels.table }} is large, and much larger than the others.", pace.of(15), hold,
    )  # fmt: skip
    for store, (_, by) in UNITS.items():
        expr = f"project:{store}_writes:skew_ratio{{{of}}} > {SKEW} and project:{store}_writes:rate5m{{{of}}} > {BUSY}"
        unit = "shard" if "shard" in by else "node"
        yield Alert(
            "SkewHigh", expr, "warn", f"One {unit} does much more of the writing than the others.", pace.of(15), hold,
            {"store": store},
        )  # fmt: skip
    yield Alert(
        "WriteErrors",
        f"sum by (project, backend) (increase(headrace_serving_write_errors_total{{{of}}}[{pace.of(5)}])) > 0",
        "page", "Rows could not be written to {{ $labels.backend }}.", "0s", hold,
    )  # fmt: skip
    for severity, times, long, _, short, _ in BURN:
        ratio, limit = f"project:headrace_http_errors:ratio_rate%s{{{of}}}", f"{times * (1 - OBJECTIVE):.4f}"
        yield Alert(
            "ApiErrorBudget", f"{ratio % long} > {limit} and {ratio % short} > {limit}", severity,
            f"Errors of the API spend its budget {times:g} times too fast.", pace.times(2), hold,
        )  # fmt: skip


def rules(project: LoadedProject, pace: Pace, runbooks: str) -> dict[str, Any]:
    """A file of rules."""
    interval = duration(pace.interval)
    return {
        "groups": [
            {
                "name": f"headrace_{project.name}_recorded",
                "interval": interval,
                "rules": [{"record": name, "expr": expr} for name, expr in recorded(project, pace).items()],
            },
            {
                "name": f"headrace_{project.name}_alerts",
                "interval": interval,
                "rules": [alert.rule(runbooks) for alert in alerts(project, pace)],
            },
        ]
    }
