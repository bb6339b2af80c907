"""Suite ``scale``: the same batch at 10 and 100 times the events, and an incremental run over one per cent more."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import landing as data
from benchmarks import totals
from benchmarks.measure import Figure, Ran, Result, run

STEPS = ("land", "refine", "aggregate")


def suite(work: Path, rounds: int, scales: tuple[int, ...], *, spark: bool) -> Result:
    result = Result("scale")
    for scale in scales:
        _one(result, work, scale, rounds, spark=spark)
        _incremental(result, work, scale, rounds)
    if len(scales) > 1:
        low, high = (f"headrace {s}x" for s in (scales[0], scales[-1]))
        a, b = (statistics.median(_run(r) for r in result.runs[n]) for n in (low, high))
        events = f"{data.EVENTS * scales[-1] / 1e6:.1f} M events"
        result.figures.append(
            Figure(
                f"growth of the run, {scales[0]}x to {scales[-1]}x",
                b / a,
                at_most=1.1 * scales[-1] / scales[0],
                detail=f"{a:.2f} s, {b:.2f} s ({events})",
            )
        )
    return result


def _one(result: Result, work: Path, scale: int, rounds: int, *, spark: bool) -> None:
    files = data.landing(work, scale)
    ours, script, theirs = f"headrace {scale}x", f"DuckDB script {scale}x", f"PySpark {scale}x (two rounds)"
    result.runs |= {ours: [], script: []} | ({theirs: []} if spark else {})
    for _ in range(rounds):
        result.runs[ours].append(run("benchmarks.peers.headrace_batch", data.project(work / "five"), files))
        result.runs[script].append(run("benchmarks.peers.duckdb_batch", files, work / "duckdb"))
    of = {ours: totals.of_headrace(work / "five"), script: totals.of_parquet(work / "duckdb/gold")}
    if spark:
        result.runs[theirs].append(run("benchmarks.peers.pyspark_batch", files, work / "pyspark", "2"))
        of[theirs] = totals.of_parquet(work / "pyspark")
    result.notes.append(totals.check(of, golden=False))
    a, b = (statistics.median(_steps(r) for r in result.runs[n]) for n in (ours, script))
    result.figures.append(
        Figure(
            f"{scale}x, land + refine + aggregate: Headrace / DuckDB script",
            a / b,
            at_most=1.5,
            detail=f"in process: {a:.2f} s, {b:.2f} s",
        )
    )
    result.ratio(f"{scale}x, cold process: Headrace / DuckDB script", ours, script)
    if spark:
        warm = result.runs[theirs][0].report["rounds"][1]
        mine = statistics.median(_run(r) for r in result.runs[ours])
        detail = f"second round in one session {warm:.1f} s, {result.rss(theirs)} MB; Headrace's run with publishing {mine:.2f} s"
        result.figures.append(Figure(f"{scale}x: PySpark warm / Headrace", warm / mine, at_least=8, detail=detail))
    result.figures.append(Figure(f"{scale}x: peak RSS of Headrace", result.rss(ours), "MB", at_most=1024))


def _incremental(result: Result, work: Path, scale: int, rounds: int) -> None:
    """One per cent of the events arrives later; only marts that add up (no exact medians over all events)."""
    before, after = data.split(work, data.landing(work, scale), 0.01)
    full, more = f"headrace {scale}x, streamable marts, all at once", f"headrace {scale}x, the last 1 %"
    result.runs |= {full: [], more: []}
    for _ in range(rounds):
        result.runs[full].append(
            run("benchmarks.peers.headrace_batch", data.project(work / "full", streamable=True), after)
        )
        folder = data.project(work / "more", streamable=True)
        run("benchmarks.peers.headrace_batch", folder, before)
        result.runs[more].append(run("benchmarks.peers.headrace_batch", folder, after))
    a, b = (statistics.median(_run(r) for r in result.runs[n]) for n in (more, full))
    result.figures.append(
        Figure(
            f"{scale}x: run over 1 % new events / full run",
            a / b,
            at_most=0.05 if scale >= 100 else None,
            detail=f"land to publish, in process: {a:.3f} s, {b:.2f} s",
        )
    )
    result.ratio(f"{scale}x: the same, cold processes", more, full)


def _steps(ran: Ran) -> float:
    return float(sum(ran.report["seconds"][step] for step in STEPS))


def _run(ran: Ran) -> float:
    return float(ran.report["run"])
