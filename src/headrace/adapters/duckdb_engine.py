"""The embedded engine: DuckDB over Parquet and Arrow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from headrace.errors import ContractError, DeclarationError, OutsideError

Row = tuple[Any, ...]
_NAMES = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/ | "((?:[^"]|"")*)" | (\w+)""",
    re.DOTALL | re.VERBOSE,
)
"""Texts and comments of SQL, which name nothing, and what names something: quoted, or bare."""
PIECE = 12_288
"""Rows of Arrow data that one thread takes at a time."""
GROUP = 20_480
"""Rows of a row group: what one thread reads or writes at a time, and so what a small file is shared by."""


class DuckDBEngine:
    """One connection to an in-memory DuckDB that reads what it is offered and files below ``folders``, nothing else.

    ``memory`` is DuckDB's own limit, as ``'512MB'``; ``spill`` the folder that it may use beyond it.
    """

    def __init__(
        self, *folders: Path, memory: str = "640MB", threads: int | None = None, spill: Path | None = None
    ) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory,
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,  # else a misspelt table is looked for among this program's variables
            # A COPY that fails while DuckDB 2.0 writes behind it waits for itself for ever (compare duckdb/duckdb#23885).
            "async_threads": 0,
            "parquet_metadata_cache": True,  # files never change, and each view over them would read their ends again
        }
        if threads:
            config["threads"] = threads
        if spill:
            config["temp_directory"] = str(spill)
        self._connection = duckdb.connect(config=config)
        self._views: dict[str, str] = {}
        self._reads: dict[str, frozenset[str]] = {}  # by view, whatever it may read
        self._waiting: set[str] = set()  # views that are not made yet
        # Order is what ORDER BY says. Keeping that of the input as well would hold row groups back, until memory is short
        # and one thread does all the work.
        allowed = ", ".join(_text(str(folder)) for folder in folders)
        self._connection.execute(
            f"SET timezone = 'UTC'; SET preserve_insertion_order = false; SET allowed_directories = [{allowed}]; "
            "SET enable_external_access = false; SET lock_configuration = true"
        )

    def describe(self, sql: str) -> Sequence[tuple[str, str]]:
        try:
            self._make(_names(sql))
            return [(row[0], row[1]) for row in self._connection.execute(f"DESCRIBE {sql}").fetchall()]
        except duckdb.Error as error:
            raise DeclarationError("HR0204", _reason(error), help=_hint(error)) from None

    def define(self, name: str, sql: str) -> None:
        # Made where it is first read: making one costs milliseconds, and most of a project's are not read by most runs.
        view = name.lower()
        if self._views.get(view) != sql:
            self._views[view] = sql
            self._reads[view] = _names(sql)
            self._waiting.add(view)

    def offer(self, name: str, batches: pa.RecordBatchReader | pa.Table) -> None:
        if isinstance(batches, pa.Table):
            batches = pa.Table.from_batches(batches.to_batches(max_chunksize=PIECE), batches.schema)
        else:
            batches = pa.RecordBatchReader.from_batches(batches.schema, _pieces(batches))
        try:
            self._connection.register(name, batches)
        except duckdb.Error as error:
            raise _translated(error) from None

    def keep(self, name: str, sql: str) -> None:
        self._run(f'CREATE OR REPLACE TEMP TABLE "{name}" AS {sql}')

    def add(self, name: str, sql: str) -> None:
        self._run(f'INSERT INTO "{name}" {sql}')

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        return list(self._run(sql, values).fetchall())

    def batches(self, sql: str, size: int = 10_000) -> Iterator[list[Row]]:
        cursor = self._connection.cursor()
        try:
            result = cursor.execute(sql)
            while rows := result.fetchmany(size):
                yield rows
        except duckdb.Error as error:
            raise _translated(error) from None
        finally:
            cursor.close()

    def write(self, sql: str, path: str) -> int:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        result = self._run(
            f"COPY ({sql}) TO {_text(path)} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {GROUP})"
        ).fetchone()
        with Path(path).open("rb") as written:
            os.fsync(written.fileno())
        return int(result[0]) if result else 0

    def export(self, sql: str, path: str, kind: str) -> int:
        options = {"csv": "FORMAT csv, HEADER", "parquet": "FORMAT parquet", "json": "FORMAT json"}[kind]
        result = self._run(f"COPY ({sql}) TO {_text(path)} ({options})").fetchone()
        return int(result[0]) if result else 0

    def scan(self, files: Sequence[str], columns: Sequence[tuple[str, str]], *, grown: bool = False) -> str:
        nothing = "SELECT " + ", ".join(f'CAST(NULL AS {type}) AS "{name}"' for name, type in columns) + " WHERE false"
        if not files:
            return f"({nothing})"
        if grown:
            return f"(SELECT * FROM {self.scan(files, columns)} UNION ALL BY NAME {nothing})"
        listed = ", ".join(_text(file) for file in files)
        return f"read_parquet([{listed}], union_by_name = true)" if len(files) > 1 else f"read_parquet([{listed}])"

    def execute(self, sql: str) -> None:
        """Runs statements for their effect."""
        self._run(sql)

    def close(self) -> None:
        self._connection.close()

    def _make(self, names: Iterable[str]) -> None:
        """Makes the views among ``names`` that are not made yet, and before each those that it reads."""
        seen: set[str] = set()

        def make(names: Iterable[str]) -> None:
            for name in sorted(self._reads.keys() & set(names) - seen):
                seen.add(name)
                make(self._reads[name])
                if name in self._waiting:
                    self._connection.execute(f'CREATE OR REPLACE TEMP VIEW "{name}" AS {self._views[name]}')
                    self._waiting.remove(name)

        if self._waiting:
            make(names)

    def _run(self, sql: str, values: Sequence[object] = ()) -> Any:
        try:
            self._make(_names(sql))
            return self._connection.execute(sql, list(values)) if values else self._connection.execute(sql)
        except duckdb.Error as error:
            raise _translated(error) from None


def _names(sql: str) -> frozenset[str]:
    """Whatever a statement may read by name, in lower case; other words of it, too."""
    return frozenset((found[2] or found[3]).lower() for found in _NAMES.finditer(sql) if found[2] or found[3])


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for first in range(0, batch.num_rows, PIECE):
            yield batch.slice(first, PIECE)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _reason(error: Exception) -> str:
    text = str(error).split("\n\nLINE")[0].split("\nLINE")[0].strip()
    first = text.split("\n")[0]
    return re.sub(r"^\w+( \w+)? Error: ", "", first)


def _hint(error: Exception) -> str:
    found = re.search(r"Candidate bindings: (.+)", str(error))
    return f"did you mean {found[1].split(chr(10))[0]}?" if found else ""


def _translated(error: Exception) -> Exception:
    text = str(error)
    if "No space left" in text or "disk full" in text.lower() or "File too large" in text:
        return OutsideError("HR0406", f"no space left: {_reason(error)}")
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        return ContractError("HR0304", _reason(error))
    if isinstance(error, (duckdb.BinderException, duckdb.CatalogException)):
        return DeclarationError("HR0204", _reason(error), help=_hint(error))
    if isinstance(error, duckdb.OutOfMemoryException):
        return OutsideError("HR0407", _reason(error), help="raise engine.memory in headrace.toml")
    return OutsideError("HR0407", _reason(error))
