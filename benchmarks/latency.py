"""Suite ``latency``: how long one who asks alone waits for an answer, over SQLite and over one node of Cassandra.

The bounds are what the serving layer of a university's original promised for its own answers of the same kinds; absolute
times, so that they say something about this machine only. A project's questions are a table (``QUESTIONS``): another
project is another table.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import landing as data
from benchmarks import rest
from benchmarks.measure import ROOT, Figure, Ran, Result, run_command
from tools import services

SECONDS = 3
PERIOD = "from=2025-07-03&to=2025-08-31"


@dataclass(frozen=True)
class Question:
    """A kind of answer: the path that is asked (``{org}`` stands for each organisation in turn), and the milliseconds
    within which the original promised its own."""

    name: str
    path: str
    promised: float


QUESTIONS = (
    Question("all of one key", "/v1/queries/revenue?org={org}", 15),
    Question("a list of 20", "/v1/queries/orgs?limit=20", 10),
    Question("the whole in one row", "/v1/queries/summary", 40),
    Question("days of the whole", f"/v1/queries/tickets?severity=high&{PERIOD}", 25),
    Question("the largest of one key", f"/v1/queries/top_services?org={{org}}&{PERIOD}&limit=5", 18),
)


def suite(work: Path, rounds: int) -> Result:
    result = Result("latency")
    result.notes.append(f"one connection, uncached, {SECONDS} s a question; server on core 0, client on core 1")
    asked(result, work, rounds, "SQLite", {})
    with services.cassandra(heap="512m") as node:
        given = {
            "HEADRACE_CASSANDRA__HOSTS": node.host,
            "HEADRACE_CASSANDRA__PORT": str(node.port),
            "HEADRACE_CASSANDRA__KEYSPACE": f"latency_{time.time_ns()}",
            "HEADRACE_CASSANDRA__REPLICAS": "1",
        }
        asked(result, work, rounds, "Cassandra", given)
    return result


def asked(result: Result, work: Path, rounds: int, store: str, settings: dict[str, str]) -> None:
    folder = data.project(work / f"latency-{store.lower()}")
    settings = {
        "HEADRACE_INBOX__PATH": str(data.landing(work, 1).resolve()),
        "HEADRACE_INBOX__QUIET": "0",
        **settings,
    }
    command = [sys.executable, "-m", "headrace", "--project", str(folder)]
    run_command([*command, "run"], environment=settings)
    token = rest.output([*command, "key", "create", "bench"], settings)
    orgs = [row["org_id"] for row in json.loads(rest.output([*command, "query", "orgs", "--json"], settings))["rows"]]
    serve = [*command, "serve", "--port", "{port}"]
    with rest.serving(work, serve, settings, "/v1/queries/summary", token) as server:
        for question in QUESTIONS:
            paths = sorted({question.path.format(org=org) for org in orgs})
            loads = []
            for _ in range(rounds + 1):
                server.peak.look()
                before = server.peak.cpu
                found = waited(server.port, paths, token)
                server.peak.look()
                loads.append(Ran(SECONDS, server.peak.cpu - before, server.peak.rss_mb, found))
            del loads[0]  # it only warms up
            p50, p99 = (statistics.median(load.report[which] for load in loads) for which in ("p50_ms", "p99_ms"))
            result.runs[f"{question.name}, {store}"] = loads
            result.figures.append(
                Figure(f"{question.name}, {store}", p50, "ms", at_most=question.promised, detail=f"99 of 100 within {p99:.1f} ms")
            )  # fmt: skip


def waited(port: int, paths: list[str], token: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.peers.load", str(port), str(SECONDS), "1", token]
    told = subprocess.run(
        [*rest.pinned(1), *command], input="\n".join(paths), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name: float(value) for name, value in json.loads(told.stdout).items()}
