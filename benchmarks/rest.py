"""Suite ``rest``: 20 rows by random key from one server process on core 0; the client is on core 1."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import landing as data
from benchmarks.measure import ROOT, Figure, Peak, Ran, Result, run_command

SECONDS = 3
CONNECTIONS = 32


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    peak: Peak


def suite(work: Path, rounds: int) -> Result:
    result = Result("rest")
    folder = data.project(work / "rest")
    settings = {"HEADRACE_INBOX__PATH": str(data.landing(work, 1).resolve()), "HEADRACE_INBOX__QUIET": "0"}
    command = [sys.executable, "-m", "headrace", "--project", str(folder)]
    run_command([*command, "run"], environment=settings)
    token = output([*command, "key", "create", "bench"], settings)
    paths = paths_of(_orgs(folder / ".headrace/store.db"))
    store = {"BENCH_STORE": str(folder / ".headrace/store.db")}
    uvicorn = [
        sys.executable,
        "-m",
        "uvicorn",
        *["--no-access-log", "--log-level", "error", "--loop", "uvloop", "--http", "httptools"],
    ]
    with ExitStack() as stack:

        def start(arguments: list[str], environment: dict[str, str]) -> Served:
            arguments = [*arguments, "--port", "{port}"]
            return stack.enter_context(serving(work, arguments, environment, paths[0], token))

        servers = {
            "Headrace, API key": start([*command, "serve"], settings),
            "Headrace, API key, no access log": start(
                [*command, "serve"], {**settings, "HEADRACE_SERVE__ACCESS_LOG": "false"}
            ),
            "FastAPI": start([*uvicorn, "benchmarks.peers.rest_fastapi:app"], store),
            "bare ASGI": start([*uvicorn, "benchmarks.peers.rest_bare:app"], store),
        }
        result.notes.append(same(servers, paths, token))
        rates = measured(work, servers, paths, token, rounds)
        peaks = {name: server.peak.rss_mb for name, server in servers.items()}
    for name, loads in rates.items():
        result.runs[name] = [Ran(SECONDS, load["cpu"], peaks[name], dict(load)) for load in loads]
    # Requests for a second of the server's own processor time: what a whole core would give. On a machine that does other
    # things too, requests for a second of the clock say more about those.
    whole = {name: statistics.median(f["rate"] * SECONDS / f["cpu"] for f in loads) for name, loads in rates.items()}
    clock = {name: statistics.median(f["rate"] for f in loads) for name, loads in rates.items()}
    p99 = {name: statistics.median(f["p99_ms"] for f in loads) for name, loads in rates.items()}

    def figure(name: str, of: str, to: str, at_least: float | None) -> None:
        told = "; ".join(
            f"{n} {whole[n]:,.0f} a processor second ({clock[n]:,.0f} a second, p99 {p99[n]:.1f} ms), {peaks[n]} MB"
            for n in (of, to)
        )
        result.figures.append(Figure(name, whole[of] / whole[to], at_least=at_least, detail=told))

    figure("20 rows with API key: Headrace / FastAPI without", "Headrace, API key", "FastAPI", 1.5)
    figure("the same, of a bare ASGI handler without", "Headrace, API key", "bare ASGI", 0.5)
    figure("without access log / bare ASGI handler", "Headrace, API key, no access log", "bare ASGI", None)
    tool = "wrk" if shutil.which("wrk") else "own client: install wrk, its own cost hides part of the differences"
    result.notes.append(
        f"{tool}, {CONNECTIONS} connections, {SECONDS} s, uncached, random keys; server on core 0, client on core 1"
    )
    return result


def measured(
    work: Path, servers: dict[str, Served], paths: list[str], token: str, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Loads of each server, in turns."""
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        for name, server in servers.items():
            server.peak.look()
            before = server.peak.cpu
            found = _load(work, server.port, paths, token)
            server.peak.look()
            found["cpu"] = server.peak.cpu - before
            if turn:  # the first only warms up
                rates[name].append(found)
    return rates


def _orgs(store: Path) -> list[str]:
    with sqlite3.connect(store) as connection:
        tables = [
            r[0]
            for r in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'orgs_%' AND type = 'table'")
        ]
        return sorted({r[0] for r in connection.execute(f'SELECT org_id FROM "{tables[0]}"')})


def paths_of(orgs: list[str]) -> list[str]:
    """Questions for 20 rows of one of these."""
    draw = random.Random(1)
    days = [f"2025-07-{d:02}" for d in range(3, 32)] + [f"2025-08-{d:02}" for d in range(1, 15)]
    return [
        f"/v1/queries/usage_page?org={draw.choice(orgs)}&from={draw.choice(days)}&to=2025-08-31&limit=20"
        for _ in range(2000)
    ]


@contextmanager
def serving(work: Path, command: Sequence[str], settings: dict[str, str], path: str, token: str) -> Iterator[Served]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", str(ROOT / "src")), str(ROOT)]),
        **settings,
    }
    full = [*pinned(0), *(part.format(port=port) for part in command)]
    with (work / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(full, env=env, cwd=ROOT, stdout=log, stderr=log)
    peak = Peak(process.pid, every=0.1)
    try:
        for _ in range(200):
            try:
                _get(port, path, token)
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(f"{' '.join(full)} does not answer; see {log.name}")
        yield Served(port, process, peak)
    finally:
        process.terminate()
        process.wait(20)
        peak.stop()


def same(servers: dict[str, Served], paths: list[str], token: str) -> str:
    """Stops where two servers answer differently."""
    answers: dict[str, list[Any]] = {}
    for path in paths[:50]:
        answers = {name: _get(server.port, path, token)["rows"] for name, server in servers.items()}
        first, *others = answers
        for other in others:
            if answers[other] != answers[first]:
                sys.exit(f"{path}: {first} and {other} differ:\n{answers[first][:2]}\n{answers[other][:2]}")
    return f"50 answers of {len(next(iter(answers.values())))} rows are equal in {', '.join(servers)}"


def _get(port: int, path: str, token: str) -> dict[str, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        found: dict[str, Any] = json.loads(answer.read())
        return found


def _load(work: Path, port: int, paths: list[str], token: str) -> dict[str, float]:
    if shutil.which("wrk"):
        script = work / "wrk.lua"
        listed = ",\n".join(f'"{path}"' for path in paths)
        script.write_text(
            f'local paths = {{\n{listed}\n}}\nwrk.headers["Authorization"] = "Bearer {token}"\n'
            "request = function() return wrk.format('GET', paths[math.random(#paths)]) end\n"
        )
        command = [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{SECONDS}s",
            "--latency",
            "-s",
            str(script),
            f"http://127.0.0.1:{port}",
        ]
        told = subprocess.run([*pinned(1), *command], capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            sys.exit(told)
        rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", told)[0])
        number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", told)[0]
        return {"rate": rate, "p99_ms": float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]}
    command = [sys.executable, "-m", "benchmarks.peers.load", str(port), str(SECONDS), str(CONNECTIONS), token]
    told = subprocess.run(
        [*pinned(1), *command], input="\n".join(paths), capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    return {k: float(v) for k, v in json.loads(told).items()}


def pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > core else []


def output(command: Sequence[str], settings: dict[str, str]) -> str:
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src")), **settings}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
