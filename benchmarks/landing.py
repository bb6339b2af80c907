"""The data that benchmarks read: the cloud project's samples at a scale, made once, or a landing folder that is given."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import duckdb

from benchmarks.measure import ROOT
from headrace.flow.samples import Samples

CLOUD = ROOT / "src/headrace/projects/cloud"
FIVE = ROOT / "benchmarks/project"
EVENTS = 43_200
"""Usage events at scale 1."""


def landing(work: Path, scale: int) -> Path:
    """A landing folder with the project's samples."""
    folder = work / f"landing-{scale}"
    if not folder.is_dir():
        half = folder.with_suffix(".making")
        shutil.rmtree(half, ignore_errors=True)
        with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
            connection.execute("SET timezone = 'UTC'")

            def execute(sql: str) -> None:
                connection.execute(sql)

            samples = Samples(execute, half, seed=1, scale=scale)
            runpy.run_path(str(CLOUD / "samples.py"))["generate"](samples)
        half.rename(folder)
    return folder


def split(work: Path, whole: Path, share: float) -> tuple[Path, Path]:
    """Two landing folders: all but the last ``share`` of the usage events; and everything, as links to the same files.

    The held-back events are one new file, so that the files of the first folder do not change.
    """
    first, second = work / f"{whole.name}-before", work / f"{whole.name}-after"
    if not second.is_dir():
        for folder in (first, second):
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "usage_events_stream").mkdir(parents=True)
        files = sorted((whole / "usage_events_stream").glob("*.jsonl"))
        counts = [file.read_bytes().count(b"\n") for file in files]
        hold = round(sum(counts) * share)
        last: list[bytes] = []
        for file, count in zip(reversed(files), reversed(counts), strict=True):
            place = first / "usage_events_stream" / file.name
            if not hold:
                place.hardlink_to(file)
                continue
            lines = file.read_bytes().splitlines(keepends=True)
            last = lines[max(count - hold, 0) :] + last
            if count > hold:
                place.write_bytes(b"".join(lines[: count - hold]))
            hold = max(hold - count, 0)
        for file in whole.glob("*.csv"):
            shutil.copy(file, first)
        for file in [f for f in first.rglob("*") if f.is_file()]:
            (second / file.relative_to(first)).hardlink_to(file)
        (second / "usage_events_stream" / "events_part_9999.jsonl").write_bytes(b"".join(last))
    return first, second


def project(folder: Path, *, streamable: bool = False, whole: bool = False) -> Path:
    """A fresh copy of the benchmark's project, or of the ``whole`` cloud project that Headrace ships.

    ``streamable`` leaves out what needs all records at once (the cost spikes).
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        CLOUD if whole else FIVE, folder, ignore=shutil.ignore_patterns("__pycache__", "tests", "exports", "samples.py")
    )
    if streamable:
        for path in (
            "silver/spikes.sql",
            "marts/cost_spikes.sql",
            "marts/unit_rates.sql",
            "marts/service_rates.sql",
            "queries/cost_spikes.sql",
        ):
            (folder / path).unlink()
        text = (folder / "project.py").read_text()
        (folder / "project.py").write_text("".join(f"{line}\n" for line in text.splitlines() if "spikes" not in line))
    return folder
