"""Tests of the exported rules, for `promtool test rules`: for every alert a story in which it fires, and one in which not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.model.project import LoadedProject
from headrace.ops.rules import MINUTE, Alert, Pace, alerts, duration

LONG = 30
"""Minutes that a story lasts, in steps of one: longer than any alert waits."""


@dataclass(frozen=True, slots=True)
class Story:
    """Series with what they begin with and by how much they rise a minute; which alerts fire at the end, by their labels, where
    ``fires``, and where not, that none does."""

    alert: str
    series: Mapping[str, tuple[float, float]]
    fires: tuple[Mapping[str, str], ...] = ()


def stories(project: LoadedProject) -> Iterator[Story]:
    def counts(name: str, label: str, rising: Mapping[str, float], more: str = "") -> dict[str, tuple[float, float]]:
        return {f'{name}{{{label}="{value}"{more}}}': (0, each) for value, each in rising.items()}

    for mart, goal in project.goals.items():
        newest = f'headrace_as_of_timestamp_seconds{{mart="{mart}"}}'
        yield Story("Stale", {newest: (MINUTE - goal, 0)}, ({"mart": mart, "severity": "page"},))
        yield Story("Stale", {newest: (MINUTE - goal, MINUTE)})
    others = list(project.goals)
    yield Story("Absent", {}, tuple({"mart": mart, "severity": "page"} for mart in others))
    yield Story("Absent", {f'headrace_as_of_timestamp_seconds{{mart="{mart}"}}': (0, 0) for mart in others})
    yield Story(
        "LagGrowing", {'headrace_consumer_lag_records{lane="sales"}': (0, 50)}, ({"lane": "sales", "severity": "warn"},)
    )
    yield Story("LagGrowing", {'headrace_consumer_lag_records{lane="sales"}': (900_000, -50)})
    yield Story("LagGrowing", {'headrace_consumer_lag_records{lane="sales"}': (0, 1)})
    judged, sales = "headrace_records_total", ', dataset="sales"'
    rejected = ({"dataset": "sales", "severity": "warn"}, {"dataset": "sales", "severity": "page"})
    yield Story("QuarantineRate", counts(judged, "outcome", {"clean": 940, "quarantined": 60}, sales), rejected)
    yield Story("QuarantineRate", counts(judged, "outcome", {"clean": 980, "quarantined": 20}, sales), rejected[:1])
    yield Story("QuarantineRate", counts(judged, "outcome", {"clean": 995, "quarantined": 5}, sales))
    drift = 'headrace_reconcile_drift_ratio{table="daily", path="batch"}'
    yield Story("DriftHigh", {drift: (0.001, 0)}, ({"table": "daily", "severity": "page"},))
    yield Story("DriftHigh", {drift: (0, 0)})
    yield Story("DamagedTables", {"headrace_damaged_tables": (1, 0)}, ({"severity": "page"},))
    yield Story("DamagedTables", {"headrace_damaged_tables": (0, 0)})
    skew, rows = (f'headrace_partition_{what}{{table="daily"}}' for what in ("skew_ratio", "rows"))
    yield Story("SkewHigh", {skew: (2, 0), rows: (90_000, 0)}, ({"table": "daily", "severity": "warn"},))
    yield Story("SkewHigh", {skew: (2, 0), rows: (900, 0)})
    nodes = counts("cassandra_table_writelatency_count", "instance", {"a": 90_000, "b": 20_000, "c": 20_000})
    yield Story("SkewHigh", nodes, ({"severity": "warn", "store": "cassandra"},))
    yield Story("SkewHigh", {name: (0, each / 1000) for name, (_, each) in nodes.items()})
    shards = counts("scylla_database_total_writes", "shard", {"0": 80_000, "1": 20_000}, ', instance="a"')
    yield Story("SkewHigh", shards, ({"severity": "warn", "store": "scylla"},))
    yield Story("SkewHigh", counts("scylla_database_total_writes", "shard", {"0": 50_000, "1": 60_000}))
    failed = 'headrace_serving_write_errors_total{backend="sqlite"}'
    yield Story("WriteErrors", {failed: (0, 1)}, ({"backend": "sqlite", "severity": "page"},))
    yield Story("WriteErrors", {failed: (7, 0)})
    answered = "headrace_http_request_duration_seconds_count"
    spent = ({"severity": "page"}, {"severity": "warn"})
    yield Story("ApiErrorBudget", counts(answered, "status", {"200": 980, "503": 20}), spent)
    yield Story("ApiErrorBudget", counts(answered, "status", {"200": 990, "503": 10}), spent[1:])
    yield Story("ApiErrorBudget", counts(answered, "status", {"200": 999.5, "404": 50, "503": 0.5}))


def trials(project: LoadedProject, pace: Pace, runbooks: str, file: str) -> dict[str, Any]:
    """Tests of the rules in ``file``."""
    known = list(alerts(project, pace))
    step = max(float(MINUTE), pace.interval)
    steps = math.ceil(LONG * MINUTE / step)
    tests = []
    for story in stories(project):
        if not any(alert.name == story.alert for alert in known):
            continue
        series = [
            {
                "series": _labelled(name, project.name),
                "values": _values(first, a_minute * step / MINUTE, steps),
            }
            for name, (first, a_minute) in story.series.items()
        ]
        expected = [
            _expected(labels, next(a for a in known if _is(a, story.alert, labels)), project.name, runbooks)
            for labels in story.fires
        ]
        tests.append(
            {
                "interval": duration(step),
                "input_series": series,
                "alert_rule_test": [
                    {"eval_time": duration(LONG * MINUTE), "alertname": story.alert, "exp_alerts": expected}
                ],
            }
        )
    return {"rule_files": [file], "evaluation_interval": duration(step), "tests": tests}


def _is(alert: Alert, name: str, labels: Mapping[str, str]) -> bool:
    """Whether an alert is the one that fires with these labels."""
    own = {"severity": alert.severity, **alert.labels}
    same = all(labels.get(label) == own.get(label) for label in ("severity", "store", "mart"))
    return alert.name == name and same


def _expected(labels: Mapping[str, str], alert: Alert, project: str, runbooks: str) -> dict[str, Any]:
    annotations: dict[str, str] = dict(alert.rule(runbooks)["annotations"])
    for label, value in labels.items():
        annotations["summary"] = annotations["summary"].replace(f"{{{{ $labels.{label} }}}}", value)
    return {"exp_labels": {"project": project, **labels}, "exp_annotations": annotations}


def _labelled(series: str, project: str) -> str:
    name, _, labels = series.removesuffix("}").partition("{")
    of = f'project="{project}"'
    return f"{name}{{{f'{of}, {labels}' if labels else of}}}"


def _values(first: float, rise: float, steps: int) -> str:
    return f"{first:.6f}{rise:+.6f}x{steps}"
