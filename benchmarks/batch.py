"""Suite ``batch``: landing files to five marts and serving tables at scale 1, each program in a cold process."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks import landing as data
from benchmarks import totals
from benchmarks.measure import Result, run, run_command


def suite(work: Path, landing: Path | None, rounds: int) -> Result:
    result = Result("batch")
    files = landing or data.landing(work, 1)
    headrace, script, spark, cloud = "headrace run", "DuckDB script", "PySpark", "headrace run, whole cloud project"
    result.runs = {headrace: [], script: [], spark: [], cloud: []}
    settings = {"HEADRACE_INBOX__PATH": str(files.resolve()), "HEADRACE_INBOX__QUIET": "0"}
    for _ in range(rounds):
        for name, whole in ((headrace, False), (cloud, True)):
            folder = data.project(work / ("cloud" if whole else "five"), whole=whole)
            command = [sys.executable, "-m", "headrace", "--project", str(folder), "run"]
            result.runs[name].append(run_command(command, environment=settings))
        result.runs[script].append(run("benchmarks.peers.duckdb_batch", files, work / "duckdb"))
        result.runs[spark].append(run("benchmarks.peers.pyspark_batch", files, work / "pyspark", "1"))
    of = {
        headrace: totals.of_headrace(work / "five"),
        script: totals.of_parquet(work / "duckdb/gold"),
        spark: totals.of_parquet(work / "pyspark"),
        cloud: totals.of_headrace(work / "cloud"),
    }
    result.notes.append(totals.check(of, golden=landing is not None))
    result.notes.append(
        "PySpark writes the five marts only; the script writes bronze, silver and gold as plain Parquet; neither serves."
    )
    result.ratio("cold batch: PySpark / Headrace", spark, headrace, at_least=8)
    result.ratio("cold batch: Headrace / DuckDB script", headrace, script, at_most=3)
    result.ratio(
        "cold batch, all sources, marts and queries of the cloud project: Headrace / DuckDB script of five marts",
        cloud,
        script,
    )
    return result
