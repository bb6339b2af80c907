"""DuckDB keeps what the port promises."""

from __future__ import annotations

from pathlib import Path

from headrace.adapters.duckdb_engine import DuckDBEngine
from headrace.ports import Engine
from headrace.testing.engine import EngineSuite


class TestDuckDB(EngineSuite):
    def make(self, folder: Path) -> Engine:
        return DuckDBEngine(folder, memory="256MB", threads=2)

    def test_more_than_its_memory_goes_to_disk(self, tmp_path: Path) -> None:
        engine = DuckDBEngine(tmp_path, memory="40MB", threads=1, spill=tmp_path / "spill")
        sql = "SELECT i, md5(CAST(i AS VARCHAR)) AS v FROM range(600000) AS t(i) ORDER BY v"
        assert engine.write(sql, str(tmp_path / "big.parquet")) == 600_000
