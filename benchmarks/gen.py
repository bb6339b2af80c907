"""Suite ``gen``: call detail records in files, by the telecom project's generator and by the original one, in one run."""

from __future__ import annotations

import json
import runpy
import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.measure import ROOT, Figure, Result, run_command

PROJECT = ROOT / "src/headrace/projects/telecom"
OURS = "headrace gen --volume prod"
SMALL = "the original's generator, development volume"
LARGE = "the original's generator, production volume"


def suite(work: Path, rounds: int) -> Result:
    result = Result("gen")
    target = work / "gen"
    project = work / "gen-project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", ".headrace", "landing"))
    ours = [sys.executable, "-m", "headrace", "--project", str(project), "gen", "--volume", "prod", "--to", str(target)]
    theirs = [sys.executable, "-m", "benchmarks.gen", str(target)]
    commands = {OURS: ours, SMALL: [*theirs, "dev"], LARGE: [*theirs, "prod"]}
    result.runs = {name: [] for name in commands}
    rows: dict[str, int] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            result.runs[name].append(run_command(command))
            # Of sessions and calls only; of ours also what comes twice, late and damaged.
            rows[name] = sum(file.read_bytes().count(b"\n") - 1 for file in target.rglob("cdr_*.csv"))
    shutil.rmtree(target)
    for peer, goal in ((SMALL, 20.0), (LARGE, None)):
        rate, other = rows[OURS] / result.seconds(OURS), rows[peer] / result.seconds(peer)
        spent = (rows[OURS] / result.cpu(OURS)) / (rows[peer] / result.cpu(peer))
        detail = (
            f"{rows[OURS]:,} rows at {rate:,.0f} a second, {result.rss(OURS)} MB; "
            f"{rows[peer]:,} at {other:,.0f}, {result.rss(peer)} MB; by processor time {spent:.1f}x"
        )
        result.figures.append(Figure(f"rows a second / {peer}", rate / other, at_least=goal, detail=detail))
    setup = statistics.median(run.report["setup"] for name in (SMALL, LARGE) for run in result.runs[name])
    result.notes.append(
        f"whole processes: the original spends {setup:.1f} s on its lists before the first row, ours also makes ticks and the truth"
    )
    return result


def main(folder: str, volume: str) -> None:
    """The original's files of sessions and calls, without its ticks."""
    import time

    started = time.perf_counter()
    original = runpy.run_path(str(PROJECT / "original.py"))
    files = original["cdr_files"](production=volume == "prod")
    setup = 0.0
    for name, text in files:
        setup = setup or time.perf_counter() - started
        (Path(folder) / name).write_bytes(text.encode())
    print(json.dumps({"setup": setup}))


if __name__ == "__main__":
    main(*sys.argv[1:])
