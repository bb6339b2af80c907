"""Suite ``start``: what a person waits for before anything happens."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benchmarks import landing as data
from benchmarks.measure import Figure, Result, run_command


def suite(work: Path, rounds: int) -> Result:
    result = Result("start")
    files = data.landing(work, 1)
    folder = data.project(work / "start", whole=True)
    settings = {"HEADRACE_INBOX__PATH": str(files.resolve()), "HEADRACE_INBOX__QUIET": "0"}
    project = ["--project", str(folder)]
    commands: dict[str, tuple[list[str], float | None]] = {
        "python -c pass": (["-c", "pass"], None),
        "headrace --version": (["-m", "headrace", "--version"], 100),
        "headrace --help": (["-m", "headrace", "--help"], 150),
        "headrace check (cloud)": (["-m", "headrace", *project, "check"], 1000),
        "headrace run with nothing to do (cloud)": (["-m", "headrace", *project, "run"], None),
    }
    run_command([sys.executable, "-m", "headrace", *project, "run"], environment=settings)
    result.runs = {name: [] for name in commands}
    for _ in range(2 * rounds + 1):
        for name, (arguments, _) in commands.items():
            result.runs[name].append(run_command([sys.executable, *arguments], environment=settings))
    for name, (_, most) in commands.items():
        times = [r.seconds * 1000 for r in result.runs[name]]
        detail = f"the fastest of {len(times)}; median {statistics.median(times):.0f} ms, processor time {result.cpu(name) * 1000:.0f} ms, {result.rss(name)} MB"
        result.figures.append(Figure(name, min(times), "ms", at_most=most, detail=detail))
    return result
