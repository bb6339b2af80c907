"""What an Engine promises, as tests."""

from __future__ import annotations

import threading
from pathlib import Path

import pyarrow as pa  # boundary: what an engine is offered
import pyarrow.parquet as pq  # boundary: what an engine writes, read by another

from headrace.errors import ContractError, DeclarationError, OutsideError
from headrace.ports import Engine
from headrace.testing.parallel import error_of


class EngineSuite:
    """``make(folder)`` gives a new engine that reads and writes below a folder."""

    def make(self, folder: Path) -> Engine:
        raise NotImplementedError

    def test_describe_names_columns_and_types_without_data(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        sql = "SELECT 1::BIGINT AS n, 'x' AS t, 1.5::DECIMAL(18,2) AS d, now() AS moment, [1, 2]::BIGINT[] AS many, true AS b, DATE '2024-01-01' AS day"
        types = ["BIGINT", "VARCHAR", "DECIMAL(18,2)", "TIMESTAMP WITH TIME ZONE", "BIGINT[]", "BOOLEAN", "DATE"]
        assert [tuple(c) for c in engine.describe(sql)] == list(
            zip(["n", "t", "d", "moment", "many", "b", "day"], types, strict=True)
        )

    def test_describe_says_what_is_wrong_with_a_statement(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.define("t", "SELECT 1 AS revenue")
        error = error_of(lambda: engine.describe("SELECT revenu FROM t"))
        assert isinstance(error, DeclarationError)
        assert error.code == "HR0204"
        assert "revenu" in error.what
        assert "\n" not in error.what

    def test_a_view_is_replaced_and_reads_what_is_there_when_it_is_read(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.define("a", "SELECT 1 AS x")
        engine.define("b", "SELECT x + 1 AS y FROM a")
        assert engine.rows("SELECT * FROM b") == [(2,)]
        engine.define("a", "SELECT 10 AS x")
        assert engine.rows("SELECT * FROM b") == [(11,)]

    def test_keep_takes_the_rows_as_they_are_now(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.define("a", "SELECT 1 AS x")
        engine.keep("k", "SELECT * FROM a")
        engine.define("a", "SELECT 2 AS x")
        assert engine.rows("SELECT * FROM k") == [(1,)]
        engine.keep("k", "SELECT * FROM a")
        assert engine.rows("SELECT * FROM k") == [(2,)]

    def test_rows_are_added_to_what_was_kept(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.keep("kept", "SELECT 1 AS x")
        engine.add("kept", "SELECT x + 1 FROM kept")
        assert sorted(engine.rows("SELECT x FROM kept")) == [(1,), (2,)]

    def test_arrow_data_is_read_by_its_name(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        engine.offer("people", pa.table({"name": ["a", None], "age": pa.array([1, 2], pa.int64())}))
        assert engine.rows("SELECT name, age FROM people ORDER BY age") == [("a", 1), (None, 2)]
        batch = pa.record_batch({"n": pa.arange(0, 1000)})
        engine.offer("stream", pa.RecordBatchReader.from_batches(batch.schema, iter([batch] * 3)))
        assert engine.rows("SELECT count(*), sum(n) FROM stream") == [(3000, 3 * 499500)]

    def test_values_are_bound_and_never_read_as_sql(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        assert engine.rows("SELECT ?, ?, ?", ["'; DROP TABLE x; --", 7, None]) == [("'; DROP TABLE x; --", 7, None)]

    def test_batches_give_every_row_in_lists_of_at_most_the_size(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        path = str(tmp_path / "n.parquet")
        engine.write("SELECT i FROM range(2500) AS t(i) ORDER BY i", path)
        found = list(engine.batches(f"SELECT i FROM {engine.scan([path], [])} ORDER BY i", 1000))
        assert [len(batch) for batch in found] == [1000, 1000, 500]
        assert [row[0] for batch in found for row in batch] == list(range(2500))
        assert list(engine.batches("SELECT 1 WHERE false")) == []

    def test_a_file_is_written_in_the_order_asked_for(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        path = str(tmp_path / "a folder" / "it's.parquet")
        assert engine.write("SELECT i, 'v' || i AS v FROM range(100000) AS t(i) ORDER BY i DESC", path) == 100_000
        assert engine.rows(f"SELECT count(*), max(v) FROM {engine.scan([path], [])}") == [(100_000, "v99999")]
        assert pq.read_table(path)["i"].to_pylist() == list(range(99_999, -1, -1))

    def test_a_file_without_rows_keeps_its_columns(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        path = str(tmp_path / "empty.parquet")
        assert engine.write("SELECT 1 AS n, 'x' AS t WHERE false", path) == 0
        assert engine.rows(f"SELECT * FROM {engine.scan([path], [])}") == []
        assert [name for name, _ in engine.describe(f"SELECT * FROM {engine.scan([path], [])}")] == ["n", "t"]

    def test_values_survive_a_file_exactly(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        sql = (
            "SELECT CAST('-99999999999999999999999999999999999999' AS DECIMAL(38,0)) AS big, CAST('0.1' AS DECIMAL(18,4)) AS money, "
            "TIMESTAMPTZ '2024-02-29 23:59:59.999999Z' AS moment, DATE '0001-01-01' AS day, ['b', NULL, 'a'] AS many, 0.1::DOUBLE AS f, "
            "CAST('-9223372036854775808' AS BIGINT) AS low, 'ü\U0001f30a' AS t, NULL::VARCHAR AS nothing, 'a\\x00b'::BLOB AS bytes"
        )
        path = str(tmp_path / "x.parquet")
        engine.write(sql, path)
        exact = "SELECT * REPLACE (CAST(moment AS VARCHAR) AS moment) FROM"
        assert engine.rows(f"{exact} {engine.scan([path], [])}") == engine.rows(f"{exact} ({sql})")

    def test_scanning_no_files_gives_no_rows_of_the_columns(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        scan = engine.scan([], [("n", "BIGINT"), ("d", "DECIMAL(18,2)"), ("s", "STRUCT(a VARCHAR)[]")])
        assert engine.rows(f"SELECT * FROM {scan}") == []
        assert engine.rows(f"SELECT count(n), sum(d) FROM {scan} WHERE n > 1") == [(0, None)]
        assert [tuple(c) for c in engine.describe(f"SELECT * FROM {scan}")][:2] == [
            ("n", "BIGINT"),
            ("d", "DECIMAL(18,2)"),
        ]

    def test_scanning_files_joins_them_by_column_name(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        a, b = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
        engine.write("SELECT 1 AS n, 'x' AS t", a)
        engine.write("SELECT 'y' AS t, 2 AS n, true AS more", b)
        assert engine.rows(f"SELECT n, t, more FROM {engine.scan([a, b], [])} ORDER BY n") == [
            (1, "x", None),
            (2, "y", True),
        ]

    def test_time_is_utc(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        assert engine.rows("SELECT CAST(TIMESTAMPTZ '2024-01-01 00:30:00+02:00' AS VARCHAR)")[0][0].startswith(
            "2023-12-31 22:30:00"
        )
        assert engine.rows("SELECT CAST(CAST(TIMESTAMPTZ '2024-01-01 00:30:00+02:00' AS DATE) AS VARCHAR)") == [
            ("2023-12-31",)
        ]

    def test_a_number_that_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        sql = "SELECT CAST(sum(x) AS BIGINT) AS s FROM (VALUES (9223372036854775807), (1)) AS t(x)"
        for work in (lambda: engine.rows(sql), lambda: engine.write(sql, str(tmp_path / "x.parquet"))):
            error = error_of(work)
            assert isinstance(error, ContractError)
            assert error.code == "HR0304"

    def test_a_write_that_fails_in_the_middle_ends_in_an_error(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        sql = "SELECT CASE WHEN i < 150000 THEN i ELSE error('stop') END AS i FROM range(150001) AS t(i)"
        errors: list[Exception] = []

        def fail() -> None:
            for _ in range(30):  # a race: what hangs does so within a dozen
                errors.append(error_of(lambda: engine.write(sql, str(tmp_path / "x.parquet"))))
                errors.append(error_of(lambda: engine.export(sql, str(tmp_path / "x.csv"), "csv")))

        failing = threading.Thread(target=fail, daemon=True)
        failing.start()
        failing.join(60)
        assert not failing.is_alive(), "a write that failed never ended"
        assert [type(error) for error in errors] == [OutsideError] * 60

    def test_a_file_that_is_gone_or_torn_is_an_outside_error(self, tmp_path: Path) -> None:
        engine = self.make(tmp_path)
        torn = tmp_path / "torn.parquet"
        torn.write_bytes(b"PAR1 and then nothing")
        for path in (str(tmp_path / "gone.parquet"), str(torn)):
            assert isinstance(
                error_of(lambda path=path: engine.rows(f"SELECT * FROM {engine.scan([path], [])}")), OutsideError
            )  # type: ignore[misc]
        assert engine.rows("SELECT 1") == [(1,)], "the engine goes on"

    def test_files_elsewhere_are_out_of_reach(self, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "secret.csv").write_text("password\n12345\n")
        engine = self.make(tmp_path / "lake")
        secret, new = str(elsewhere / "secret.csv"), elsewhere / "new.parquet"
        for sql in (
            f"SELECT * FROM read_csv('{secret}')",
            f"SELECT * FROM '{secret}'",
            f"SELECT * FROM read_text('{secret}')",
        ):
            assert isinstance(error_of(lambda sql=sql: engine.rows(sql)), OutsideError)  # type: ignore[misc]
            assert isinstance(error_of(lambda sql=sql: engine.describe(sql)), DeclarationError)  # type: ignore[misc]
        assert isinstance(error_of(lambda: engine.write("SELECT 1 AS n", str(new))), OutsideError)
        assert not new.exists()

    def test_a_variable_of_the_program_is_no_table(self, tmp_path: Path) -> None:
        people = pa.table({"name": ["a"]})
        assert isinstance(error_of(lambda: self.make(tmp_path).describe("SELECT * FROM people")), DeclarationError)
        assert people.num_rows == 1
