"""The Delta lake and the lake in memory keep what the port promises."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.adapters.delta_lake import DeltaLake
from headrace.adapters.duckdb_engine import DuckDBEngine
from headrace.ports import Engine, Lake
from headrace.testing.lake import LakeSuite
from headrace.testing.memory import MemoryLake

ENGINE = DuckDBEngine(memory="256MB", threads=1)


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
