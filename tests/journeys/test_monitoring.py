"""A real Prometheus watches real processes: alerts fire and end, and every panel has something to draw."""

from __future__ import annotations

import datetime as dt
import http.server
import itertools
import json
import math
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.http import credentials
from headrace.http.server import users_file
from headrace.ops.monitor import export
from headrace.ops.rules import Pace
from tests.kit import ProjectFolder, Quiet
from tools import services
from tools.services.process import free_port

DECLARED = """
project = Project("till")
sales = project.source("sales", csv("sales_*.csv"), id="id", event_time="sold_at", lateness="1 second",
    columns="id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "negative amount")
project.fresh("daily", "4 seconds")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS sales FROM sales GROUP BY ALL",
    "queries/sales.sql": "SELECT day, revenue, sales FROM daily WHERE shop = $shop ORDER BY day",
}
SETTINGS = "[inbox]\nquiet = 0.0\n[engine]\nmemory = '256MB'\nthreads = 1\n[serve]\naccess_log = false\n"
PACE = Pace(interval=0.25, speed=100)
"""What takes five minutes takes three seconds."""


class Till:
    """A project, and a thread that lands a small file of sales of this moment again and again. ``good`` and ``bad`` are how
    many of each it has; nothing lands while there are none."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.project = ProjectFolder(folder, DECLARED, FILES | {"headrace.toml": SETTINGS + settings})
        self.ids = itertools.count()
        self.good, self.bad = 4, 0
        self.ended = threading.Event()
        self.serve, self.stream, self.run = free_port(), free_port(), free_port()
        file = users_file(self.project.app)
        self.key = credentials.create_key(file, "prometheus", ("metrics",))
        self.login = credentials.create_key(file, "anybody", ("read",))

    def land(self) -> None:
        now = dt.datetime.now(dt.UTC).isoformat()
        amounts = ["1.00"] * self.good + ["-1.00"] * self.bad
        rows = [f"{next(self.ids)},{now},{'ab'[i % 2]},{amount}\n" for i, amount in enumerate(amounts)]
        if rows:
            name = f"sales_{next(self.ids)}.csv"
            self.project.land(f".{name}", "id,sold_at,shop,amount\n" + "".join(rows))
            landing = self.project.folder / "landing"
            (landing / f".{name}").rename(landing / name)

    def ask(self) -> None:
        for path in ("/v1/queries/sales?shop=a", "/v1/queries/nothing"):
            url = f"http://127.0.0.1:{self.serve}{path}"
            asked = urllib.request.Request(url, headers={"authorization": f"Bearer {self.login}"})
            with suppress(urllib.error.URLError), urllib.request.urlopen(asked, timeout=10):  # noqa: S310 - our own server
                pass

    @contextmanager
    def busy(self) -> Iterator[None]:
        def work() -> None:
            while not self.ended.wait(0.3):
                self.land()
                self.ask()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            thread.join()

    @contextmanager
    def command(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "headrace", "--project", str(self.project.folder), *words]
        log = (self.project.folder / f"{words[0]}.log").open("ab")
        with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)

    def processes(self) -> ExitStack:
        """Its server and its stream."""
        stack = ExitStack()
        stack.enter_context(self.command("serve", "--port", str(self.serve)))
        stack.enter_context(self.command("stream", "--quiet", "--metrics-port", str(self.stream)))
        return stack

    def export(self, folder: Path, pace: Pace, **targets: list[str]) -> Path:
        """What a Prometheus watches it by."""
        own = {"serve": [f"127.0.0.1:{self.serve}"], "stream": [f"127.0.0.1:{self.stream}"]}
        export(self.project.app.project, folder, own | targets, pace)
        (folder / "prometheus/serve.key").write_text(self.key)
        return folder / "prometheus/prometheus.yml"


Condition = Callable[[services.Prometheus], bool]


def fires(name: str, severity: str) -> Condition:
    return lambda prometheus: (name, severity) in prometheus.firing()


def is_quiet(prometheus: services.Prometheus) -> bool:
    """Whether nothing fires, and it is known how fresh the answers are."""
    return not prometheus.firing() and bool(prometheus.query("mart:headrace_behind:seconds < 4"))


@pytest.mark.slow
@pytest.mark.timeout(400)  # on a busy machine
def test_alerts_fire_when_there_is_cause_and_end_with_it(prometheus: services.Prometheus, tmp_path: Path) -> None:
    (tmp_path / "till").mkdir()
    till = Till(tmp_path / "till")
    till.land()
    till.project.run()
    with till.busy():
        with till.processes():
            prometheus.watch(till.export(tmp_path / "monitoring", PACE))
            prometheus.wait_for(is_quiet, 90)

            till.good = 0  # whoever delivers has stopped
            prometheus.wait_for(fires("Stale", "page"), 90)
            till.good = 4
            prometheus.wait_for(is_quiet, 90)

            till.bad = 4  # half of what comes is rejected
            prometheus.wait_for(fires("QuarantineRate", "page"), 90)
            assert ("QuarantineRate", "warn") in prometheus.firing()
            till.bad = 0
            prometheus.wait_for(is_quiet, 90)

        prometheus.wait_for(fires("Absent", "page"), 90)  # nobody runs any more
        with till.processes():
            prometheus.wait_for(is_quiet, 90)
    rules = prometheus.get("rules")["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}


@contextmanager
def scylla() -> Iterator[str]:
    """A made-up exposition of two ScyllaDB nodes' worth of metrics, by the names of Scylla's own dashboards; all counters
    rise with time, on the first shard three times as fast."""
    counters = (
        "scylla_cql_reads", "scylla_cql_inserts", "scylla_cql_updates", "scylla_cache_row_hits", "scylla_cache_row_misses",
        "scylla_database_total_writes", "scylla_database_total_reads", "scylla_storage_proxy_coordinator_write_timeouts",
        "scylla_storage_proxy_coordinator_read_timeouts",
    )  # fmt: skip
    began = time.monotonic()

    def text() -> str:
        past, lines = time.monotonic() - began, []
        for shard, speed in enumerate((300, 100)):
            of = f'shard="{shard}"'
            lines += [f"{name}{{{of}}} {past * speed}" for name in counters]
            lines += [
                f"scylla_reactor_utilization{{{of}}} {speed / 4}",
                f"scylla_compaction_manager_compactions{{{of}}} 1",
            ]
            for what, bound in itertools.product(("write", "read"), ("64", "512", "+Inf")):
                name = f"scylla_storage_proxy_coordinator_{what}_latency_bucket"
                lines.append(f'{name}{{{of},le="{bound}"}} {past * speed}')
        return "\n".join(lines) + "\n"

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text().encode()
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def drawn(folder: Path) -> dict[str, str]:
    """By panel and legend, every expression of the dashboards, with the window that Grafana would put in."""
    found = {}
    for file in sorted((folder / "grafana/provisioning/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                name = f"{file.stem}: {panel['title']}: {target['legendFormat']}"
                found[name] = target["expr"].replace("$__rate_interval", "20s")
    return found


def has_data(prometheus: services.Prometheus, expression: str) -> bool:
    return any(math.isfinite(float(sample["value"][1])) for sample in prometheus.query(expression))


@pytest.mark.slow
@pytest.mark.cassandra
@pytest.mark.timeout(400)
def test_every_panel_has_data(prometheus: services.Prometheus, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "till").mkdir()
    settings = f"[cassandra]\nhosts = '127.0.0.1'\nport = {port}\nreplicas = 1\nkeyspace = 'till'\n"
    with ExitStack() as stack:
        node, place = tmp_path / "node", tmp_path / "monitoring"
        till = Till(tmp_path / "till", settings)
        at = stack.enter_context(scylla())
        till.export(place, PACE)  # the node reads its exporter's file as it starts
        node.mkdir()
        (node / "exporter.yaml").write_text((place / "cassandra/exporter.yaml").read_text())
        try:
            cassandra = stack.enter_context(services.cassandra(node, port=port, metrics=True))
        except services.MissingError as missing:
            pytest.skip(str(missing))
        till.bad = 1
        till.land()
        app = App(till.project.folder)
        app.run(Quiet())
        app.reconcile(Quiet())
        stack.enter_context(till.busy())
        stack.enter_context(till.processes())
        stack.enter_context(till.command("run", "--quiet", "--every", "1s", "--metrics-port", str(till.run)))
        config = till.export(
            place, Pace(3.0, 15), run=[f"127.0.0.1:{till.run}"], cassandra=[cassandra.metrics], scylla=[at]
        )
        prometheus.watch(config)
        missing_still = drawn(place)
        assert len(missing_still) > 60

        def all_have(prometheus: services.Prometheus) -> bool:
            for name, expression in list(missing_still.items()):
                if has_data(prometheus, expression):
                    del missing_still[name]
            return not missing_still

        try:
            prometheus.wait_for(all_have, 120)
        except TimeoutError:
            assert missing_still == {}
        # Skew is seen for what it is: the first shard does three times as much as the second.
        uneven = 'project:scylla_writes:skew_ratio{project="till"}'
        assert float(prometheus.query(uneven)[0]["value"][1]) == pytest.approx(0.5, abs=0.05)
