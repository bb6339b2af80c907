"""The Delta lake and the lake in memory keep what the port promises."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from headrace.adapters.delta_lake import DeltaLake
from headrace.adapters.duckdb_engine import DuckDBEngine
from headrace.ports import Engine, Lake
from headrace.testing.lake import LakeSuite
from headrace.testing.memory import MemoryLake

ENGINE = DuckDBEngine(Path(tempfile.gettempdir()), memory="256MB", threads=1)


class TestDelta(LakeSuite):
    def open(self, place: Path) -> Lake:
        return DeltaLake(place / "lake")

    def engine(self) -> Engine:
        return ENGINE


class TestMemory(LakeSuite):
    checkpoint = 40

    def open(self, place: Path) -> Lake:
        return MemoryLake.at(place)

    def engine(self) -> Engine:
        return ENGINE

    # A lake in memory is of one process: what several of them do is not asked of it.
    test_of_processes_with_one_base_one_wins = None  # type: ignore[assignment]


def test_a_commit_is_on_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, synced = DeltaLake(tmp_path), set()
    true_sync = os.fsync

    def sync(handle: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{handle}"))
        true_sync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    for version in range(2):
        path = lake.new_file("t")
        rows = ENGINE.write("SELECT 1 AS n", path)
        assert lake.commit("t", [(path, rows)], keep=None, base=lake.snapshot("t")) == version
        log = tmp_path / "t/_delta_log"
        assert {path, str(tmp_path / "t"), str(log), str(log / f"{version:020d}.json")} <= synced
