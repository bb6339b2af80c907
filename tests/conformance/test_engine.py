"""DuckDB keeps what the port promises."""

from __future__ import annotations

from pathlib import Path

from headrace.adapters.duckdb_engine import DuckDBEngine
from headrace.ports import Engine
from headrace.testing.engine import EngineSuite
from headrace.testing.parallel import error_of


class TestDuckDB(EngineSuite):
    def make(self, folder: Path) -> Engine:
        return DuckDBEngine(folder, memory="256MB", threads=2)

    def test_more_than_its_memory_goes_to_disk(self, tmp_path: Path) -> None:
        engine = DuckDBEngine(tmp_path, memory="40MB", threads=1, spill=tmp_path / "spill")
        sql = "SELECT i, md5(CAST(i AS VARCHAR)) AS v FROM range(600000) AS t(i) ORDER BY v"
        assert engine.write(sql, str(tmp_path / "big.parquet")) == 600_000

    def test_a_view_is_made_where_it_is_read_by_whatever_spelling(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.define("upper", "SELECT x + 1 AS x FROM Middle")
        engine.define("Middle", 'SELECT x + 10 AS x FROM "lo wer"')
        engine.define("lo wer", "SELECT 1 AS x")
        assert engine.rows("SELECT 'it''s from no', e'\\'', $$ ' $$, x /* ' */ FROM UPPER -- don't") == [
            ("it's from no", "'", " ' ", 12)
        ]
        engine.define("lo wer", "SELECT 2 AS x")
        assert [c for c, _ in engine.describe('SELECT * FROM "upper"')] == ["x"]
        assert engine.rows('SELECT x FROM "upper"') == [(13,)]
        assert list(engine.batches("SELECT 1")) == [[(1,)]]

    def test_what_is_wrong_with_a_view_is_said_each_time_it_is_read(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.define("wrong", "SELECT y FROM (SELECT 1 AS x)")
        for _ in range(2):
            assert "y" in str(error_of(lambda: engine.rows("SELECT * FROM wrong")))
        engine.define("wrong", "SELECT 1 AS x")
        assert engine.rows("SELECT * FROM wrong") == [(1,)]
