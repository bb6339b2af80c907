"""Starting programs, their wall time and peak memory, and figures with their goals."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ran:
    """One process: wall seconds from start to exit; of it and its children together, seconds of processor time and peak
    resident memory; and its report."""

    seconds: float
    cpu: float
    rss_mb: int
    report: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One result. ``goal`` is a bound on ``value`` (a ratio, or milliseconds); None where it is only shown."""

    name: str
    value: float
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        if self.at_least is None and self.at_most is None:
            return None
        low, high = self.at_least, self.at_most
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g} {self.unit}".replace(" x", "x")
        return f"<= {self.at_most:g} {self.unit}".replace(" x", "x") if self.at_most is not None else ""


@dataclass
class Result:
    """Figures of one suite, and the runs that they come from."""

    suite: str
    figures: list[Figure] = field(default_factory=list)
    runs: dict[str, list[Ran]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def seconds(self, name: str) -> float:
        return statistics.median(r.seconds for r in self.runs[name])

    def rss(self, name: str) -> int:
        return max(r.rss_mb for r in self.runs[name])

    def cpu(self, name: str) -> float:
        return statistics.median(r.cpu for r in self.runs[name])

    def ratio(
        self, name: str, of: str, to: str, *, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        """A figure: the median seconds of one program over those of another."""
        a, b = self.seconds(of), self.seconds(to)
        detail = f"{of} {a:.2f} s, {self.rss(of)} MB; {to} {b:.2f} s, {self.rss(to)} MB; processor time {self.cpu(of) / self.cpu(to):.2f}x"
        self.figures.append(Figure(name, a / b, at_least=at_least, at_most=at_most, detail=detail))

    def as_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "figures": [
                {
                    "name": f.name,
                    "value": round(f.value, 4),
                    "unit": f.unit,
                    "goal": f.goal,
                    "met": f.met,
                    "detail": f.detail,
                }
                for f in self.figures
            ],
            "runs": {
                name: [
                    {"seconds": round(r.seconds, 4), "cpu": round(r.cpu, 3), "rss_mb": r.rss_mb, "report": r.report}
                    for r in runs
                ]
                for name, runs in self.runs.items()
            },
            "notes": self.notes,
        }

    def as_markdown(self) -> str:
        lines = [f"## {self.suite}", "", "| figure | value | goal | met | from |", "|---|---|---|---|---|"]
        for f in self.figures:
            met = {True: "yes", False: "**no**", None: ""}[f.met]
            value = f"{f.value:.2f}x" if f.unit == "x" else f"{f.value:.4g} {f.unit}"
            lines.append(f"| {f.name} | {value} | {f.goal} | {met} | {f.detail} |")
        if self.runs:
            lines += [
                "",
                "| process | seconds (each round) | processor seconds | peak RSS, children included |",
                "|---|---|---|---|",
            ]
            for name, runs in self.runs.items():
                wall, cpu = (
                    ", ".join(f"{value:.2f}" for value in values)
                    for values in ((r.seconds for r in runs), (r.cpu for r in runs))
                )
                lines.append(f"| {name} | {wall} | {cpu} | {max(r.rss_mb for r in runs)} MB |")
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)])


def run(
    module: str, *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 1800
) -> Ran:
    """Runs a Python module to its end in a cold process; the last line that it prints may be a report in JSON."""
    return run_command([sys.executable, "-m", module, *map(str, arguments)], environment=environment, timeout=timeout)


def run_command(command: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = 1800) -> Ran:
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", str(ROOT / "src")), str(ROOT)]),
        **(environment or {}),
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody compiles every module at every start
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=ROOT)
        peak = Peak(process.pid)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            seconds = time.perf_counter() - started
            process.kill()
            peak.stop()
        if process.returncode:
            errors.seek(0)
            told = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{told[-4000:]}")
    print(
        f"{seconds:8.2f} s  {peak.cpu:7.2f} s cpu  {peak.rss_mb:5d} MB  {' '.join(command[2:])}",
        file=sys.stderr,
        flush=True,
    )
    last = output.decode().strip().splitlines()[-1:]
    return Ran(seconds, peak.cpu, peak.rss_mb, json.loads(last[0]) if last and last[0].startswith("{") else {})


def environment(folder: Path, *packages: str) -> str:
    """The Python of an environment that has these packages, for a peer that cannot share Headrace's."""
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "complete").touch()
    return str(python)


class Peak:
    """Watches the memory and the processor time of a process and its children until stopped."""

    def __init__(self, pid: int, every: float = 0.02) -> None:
        self.pid = pid
        self.every = every
        self.rss_mb = 0
        self._spent: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, of all together; up to one look behind."""
        return sum(self._spent.values()) / TICKS

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def look(self) -> None:
        resident = 0
        for pid in family(self.pid):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            self._spent[pid] = int(fields[11]) + int(fields[12])
            resident += int(fields[21]) * PAGE
        self.rss_mb = max(self.rss_mb, resident >> 20)

    def _watch(self) -> None:
        while not self._done.is_set():
            self.look()
            self._done.wait(self.every)


def family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    found, at = [pid], 0
    while at < len(found):
        try:
            for thread in os.listdir(f"/proc/{found[at]}/task"):
                found += [int(p) for p in Path(f"/proc/{found[at]}/task/{thread}/children").read_text().split()]
        except OSError:
            pass
        at += 1
    return found
