"""What a stream, a run and a landing tell of their work, against what was put in."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.app import App
from headrace.errors import OutsideError, SettingError
from headrace.ops.exporter import Exporter
from headrace.ops.metrics import Metrics
from headrace.ops.names import BY_NAME, EVERY, METRICS, Metric
from tests.kit import ProjectFolder, Quiet
from tools.services.process import free_port

DECLARED = """
project = Project("till")
sales = project.source("sales", csv("sales_*.csv"), id="id", event_time="sold_at", lateness="1 hour",
    columns="id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "negative amount")
shops = project.reference("shops", csv("shops.csv"), key="shop", columns="shop VARCHAR, town VARCHAR")
project.fresh("daily", "2 hours")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS sales FROM sales GROUP BY ALL",
    "queries/sales.sql": "SELECT day, revenue, sales FROM daily WHERE shop = $shop ORDER BY day",
    "queries/shops.sql": "SELECT shop, town FROM shops ORDER BY shop",
}
HEAD = "id,sold_at,shop,amount\n"
# Five clean, of which two shops have three days and one; two rejected, one of them twice over; one duplicate; one no CSV.
FIRST = HEAD + (
    "1,2024-01-01T10:00:00Z,a,1\n2,2024-01-02T10:00:00Z,a,2\n3,2024-01-03T10:00:00Z,a,3\n4,2024-01-03T11:00:00Z,b,4\n"
    "5,2024-01-03T11:30:00Z,b,5\n6,2024-01-03T11:31:00Z,b,-6\n7,oops,,7\n1,2024-01-01T10:00:00Z,a,1\n8,2024-01-03T11:31:00Z\n"
)
SECOND = HEAD + "9,2024-01-03T12:00:00Z,a,9\n10,2024-01-03T12:00:01Z,b,-1\n9,2024-01-03T12:00:00Z,a,9\n"

NOT_HERE = {"headrace_reconcile_drift_ratio", "headrace_damaged_tables"}
"""What a store in Cassandra shows, and what `headrace reconcile` has found: there is neither."""


@pytest.fixture
def till(tmp_path: Path) -> ProjectFolder:
    project = ProjectFolder(tmp_path, DECLARED, FILES)
    project.land("sales_1.csv", FIRST)
    project.land("shops.csv", "shop,town\na,Arles\nb,Bergen\n")
    return project


def opened(till: ProjectFolder, **settings: Any) -> App:
    app = till.app
    return App(app.folder, {"inbox.quiet": 0.0, "metrics.port": free_port(), **settings})


Samples = Mapping[tuple[str, ...], float]


def shown(app: App) -> Samples:
    """By name and label values, what is shown at the metrics' own port."""
    url = f"http://127.0.0.1:{app.settings['metrics.port']}/metrics"
    with urllib.request.urlopen(url, timeout=20) as response:
        return read(response.read().decode())


def read(text: str) -> Samples:
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names)), "each name under one heading"
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metric = BY_NAME.get(family.name) or BY_NAME[f"{family.name}_total"]
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
            key = (
                sample.name,
                *(sample.labels[label] for label in metric.labels),
                *filter(None, [sample.labels.get("le")]),
            )
            assert key not in found, key
            found[key] = sample.value
    return found


def names_of(samples: Samples) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds_" in name else name for name, *_ in samples}


def declared(verb: str) -> set[str]:
    return {metric.name for metric in METRICS if verb in metric.of}


def test_a_run_tells_what_it_judged_landed_wrote_and_keeps_in_quarantine(till: ProjectFolder) -> None:
    app = opened(till)
    exporter = Exporter(app, "run")
    with exporter:
        exporter.watch(app)
        began = shown(app)
        exporter.ran(app, app.run(exporter.observe(Quiet())))
        after = shown(app)
    # Before anything happened, what can happen is 0, so that the first step is seen.
    assert began["headrace_records_total", "sales", "batch", "clean"] == 0
    assert began["headrace_serving_write_errors_total", "sqlite"] == 0
    assert ("headrace_as_of_timestamp_seconds", "daily") not in began
    judged = {key[3]: value for key, value in after.items() if key[:3] == ("headrace_records_total", "sales", "batch")}
    assert judged == {"clean": 5, "quarantined": 3, "duplicate": 1}
    assert after["headrace_records_total", "shops", "batch", "clean"] == 2
    assert after["headrace_landed_records_total", "sales"] == 9
    assert after["headrace_bytes_total", "sales"] == len(FIRST.encode())
    rejected = {key[2]: v for key, v in after.items() if key[:2] == ("headrace_quarantine_records", "sales")}
    assert rejected == {"negative amount": 1, "sold_at is not TIMESTAMPTZ": 1, "shop is missing": 1, "unreadable": 1}
    # Three days of shop a, one of b: the largest partition has 3 rows, the mean one 2.
    (table,) = {key[1] for key in after if key[0] == "headrace_partition_rows"}
    assert after["headrace_partition_rows", table] == 3
    assert after["headrace_partition_skew_ratio", table] == pytest.approx(0.5)
    assert after["headrace_serving_written_rows_total", "sqlite"] == 4 + 2
    assert after["headrace_batch_duration_seconds_count", "batch"] == 1
    # 2024-01-03T11:30:00Z, which is the newest that is clean, and an hour before.
    assert after["headrace_as_of_timestamp_seconds", "daily"] == 1704281400
    assert after["headrace_watermark_timestamp_seconds", "daily"] == 1704281400 - 3600
    assert after["headrace_freshness_goal_seconds", "daily"] == 7200
    assert after["headrace_consumer_lag_records", "sales"] == 0
    assert names_of(after) == declared("run") - NOT_HERE


def test_a_stream_tells_of_each_record_once_by_its_verdict(till: ProjectFolder) -> None:
    till.run()
    app = opened(till)
    exporter = Exporter(app, "stream")
    till.land("sales_2.csv", SECOND)
    with exporter:
        exporter.watch(app)
        app.stream(exporter.observe(Quiet()), until_caught_up=True, stopped=lambda: False)
        after = shown(app)
    judged = {key[3]: value for key, value in after.items() if key[:3] == ("headrace_records_total", "sales", "speed")}
    assert judged == {"clean": 1, "quarantined": 1, "duplicate": 1}
    assert after["headrace_records_total", "sales", "batch", "clean"] == 0
    assert (
        after["headrace_as_of_timestamp_seconds", "daily"] == 1704283200
    )  # 12:00:00, which only the stream has counted
    assert after["headrace_consumer_lag_records", "sales"] == 0
    assert after["headrace_end_to_end_latency_seconds_count", "sales"] == 1
    assert after["headrace_end_to_end_latency_seconds_sum", "sales"] > 86_400
    assert after["headrace_batch_duration_seconds_count", "speed"] == 1
    assert names_of(after) == declared("stream") - NOT_HERE


def test_records_that_wait_are_lag_until_they_are_counted(till: ProjectFolder) -> None:
    till.run()
    app = opened(till)
    exporter = Exporter(app, "land")
    till.land("sales_2.csv", SECOND)
    with exporter:
        app.land(exporter.observe(Quiet()))
        exporter.worked()
        after = shown(app)
    assert after["headrace_consumer_lag_records", "sales"] == 3
    assert after["headrace_landed_records_total", "sales"] == 3
    assert names_of(after) == declared("land") - NOT_HERE
    assert ("headrace_last_success_timestamp_seconds", "land") in after


def test_a_run_that_counts_again_is_told_by_its_newest_state(till: ProjectFolder) -> None:
    """Quarantine is what is in it now, not what ever went in."""
    app = opened(till)
    exporter = Exporter(app, "run")
    with exporter:
        exporter.ran(app, app.run(exporter.observe(Quiet())))
        till.land("sales_1.csv", FIRST.replace("-6", "6"))
        again = till.app
        exporter.ran(again, again.run(exporter.observe(Quiet())))
        after = shown(app)
    assert after["headrace_quarantine_records", "sales", "negative amount"] == 0
    assert after["headrace_quarantine_records", "sales", "unreadable"] == 1


def test_a_write_that_fails_is_counted_and_raised(till: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(till)

    def refuse(*_: Any) -> int:
        raise OutsideError("HR0406", "the disk is full")

    monkeypatch.setattr(type(app.store), "put", refuse)
    exporter = Exporter(app, "run")
    with exporter:
        exporter.watch(app)
        with pytest.raises(OutsideError):
            app.run(exporter.observe(Quiet()))
        after = shown(app)
    assert after["headrace_serving_write_errors_total", "sqlite"] >= 1
    assert after["headrace_serving_written_rows_total", "sqlite"] == 0


def test_a_store_that_does_not_answer_leaves_the_state_out_and_the_rest_in(till: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    till.run()
    app = opened(till)

    def refuse(*_: Any) -> str:
        raise OutsideError("HR0406", "nobody answers")

    exporter = Exporter(app, "stream")
    with exporter:
        assert ("headrace_as_of_timestamp_seconds", "daily") in shown(app)
        monkeypatch.setattr(type(app.store), "control", refuse)
        after = shown(app)
    assert ("headrace_as_of_timestamp_seconds", "daily") not in after
    assert ("headrace_records_total", "sales", "speed", "clean") in after


def test_a_port_that_is_taken_is_said_with_what_to_type(till: ProjectFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        exporter = Exporter(opened(till, **{"metrics.port": taken.getsockname()[1]}), "run")
        with pytest.raises(SettingError) as refused, exporter:
            pass
    assert (refused.value.code, refused.value.help) == ("HR0601", "another --metrics-port")


def test_the_server_tells_the_state_and_its_requests(till: ProjectFolder) -> None:
    till.run()
    metrics = Metrics(till.app)
    metrics.request("sales", "GET", 200, 0.003)
    metrics.request("sales", "BREW", 405, 7.0)
    metrics.request("sales", "STIR", 405, 0.0005)
    metrics.login("right")
    after = read(metrics.text()[0].decode())
    name = "headrace_http_request_duration_seconds"
    assert after[f"{name}_bucket", "sales", "GET", "200", "0.0025"] == 0
    assert after[f"{name}_bucket", "sales", "GET", "200", "0.005"] == 1
    assert after[f"{name}_bucket", "sales", "other", "405", "0.0005"] == 1
    assert after[f"{name}_bucket", "sales", "other", "405", "5.0"] == 1
    assert after[f"{name}_count", "sales", "other", "405"] == 2
    assert after[f"{name}_sum", "sales", "other", "405"] == pytest.approx(7.0005)
    assert after["headrace_logins_total", "right"] == 1
    assert names_of(after) == declared("serve") - NOT_HERE


@pytest.mark.slow
def test_status_tells_whether_a_goal_is_met(till: ProjectFolder) -> None:
    assert "stale       daily: nothing is counted yet (goal: 2 hours)" in till.command("status").stdout
    till.run()
    assert re.search(
        r"^stale       daily: \d+ d behind \(goal: 2 hours\)$", till.command("status").stdout, re.MULTILINE
    )
    till.land("sales_3.csv", HEAD + "11,2999-01-01T00:00:00Z,a,1\n")
    till.run()
    assert re.search(r"^fresh       daily: -\d+ d behind", till.command("status").stdout, re.MULTILINE)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric: Metric) -> None:
    """https://prometheus.io/docs/practices/naming: a prefix, a unit, _total of what only rises."""
    assert re.fullmatch(r"headrace_[a-z_]+", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    bare = metric.name.removesuffix("_total")
    things = ("records", "bytes", "rows", "tables", "errors", "logins", "workers", "generation", "info")
    assert bare.rsplit("_", 1)[1] in ("seconds", "ratio", *things)
    assert set(metric.of) <= set(EVERY)
