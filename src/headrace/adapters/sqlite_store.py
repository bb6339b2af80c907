"""The embedded store: SQLite in WAL mode. A table a serving table, its primary key the serving key and the slot."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from headrace.errors import OutsideError
from headrace.model.serving import ServingTable
from headrace.model.types import INTEGERS, Type

Row = tuple[Any, ...]
BATCH = 20_000
PATIENCE = 30.0
"""Seconds that a call waits for others who use the file."""
SPEED = "_speed"
"""What the names of tables of speed rows end in."""


class SQLiteStore:
    """Serving tables and control rows in one file; a connection a thread, opened at first use."""

    is_remote = False

    def __init__(self, file: Path) -> None:
        self.file = file
        self._local = threading.local()
        self._lanes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        """Lanes by their numbers: a lane's name has a topic's id in it, longer than the rest of many a row."""
        self._statements: dict[tuple[str, bool, bool, bool, bool, bool, bool], str] = {}

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        with self._writing() as connection:
            if old is None:
                connection.execute("INSERT OR IGNORE INTO control (name, value) VALUES (?, ?)", (name, new))
            else:
                connection.execute("UPDATE control SET value = ? WHERE name = ? AND value = ?", (new, name, old))
            return connection.changes() == 1

    def control(self, name: str) -> str | None:
        rows = self._read("SELECT value FROM control WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def controls(self, names: Sequence[str]) -> list[str | None]:
        return [self.control(name) for name in names]

    def set_control(self, name: str, value: str) -> None:
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO control (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO control (name, value) VALUES (?1, ?2 || ' ' || ?3) ON CONFLICT (name) DO UPDATE "
                "SET value = excluded.value WHERE ?2 > CAST(value AS INTEGER)",
                (name, value, text),
            )

    def create(self, table: ServingTable) -> None:
        columns = [f'"{c.name}" {_affinity(c.type)} NOT NULL' for c in table.key] + [
            f'"{p.name}" {"TEXT" if p.by else _affinity(p.type)}' for p in table.parts
        ]
        key = ", ".join(f'"{c.name}"' for c in table.key)
        with self._writing() as connection:
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "{table.name}" ({", ".join(columns)}, _records INTEGER NOT NULL, _slot INTEGER NOT NULL, '
                f"_gen INTEGER NOT NULL, PRIMARY KEY ({key}{', ' if key else ''}_slot)) WITHOUT ROWID"
            )
            if table.of_mart:
                within = ", ".join(f'"{c.name}"' for c in table.partition)
                order = ", ".join(f'"{c.name}"' for c in table.clustering)
                keys = ", ".join(k for k in (within, "_epoch", order, "_lane, _start") if k)
                connection.execute(
                    f'CREATE TABLE IF NOT EXISTS "{table.name}{SPEED}" ({", ".join(columns)}, _records INTEGER NOT NULL, '
                    f"_epoch INTEGER NOT NULL, _lane INTEGER NOT NULL, _start INTEGER NOT NULL, _fence INTEGER NOT NULL, "
                    f"PRIMARY KEY ({keys})) WITHOUT ROWID"
                )

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        return self._put(table.name, [c.name for c in table.key], [*table.columns, "_slot", "_gen"], ["_slot"], rows)

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        names = [*table.columns, "_epoch", "_lane", "_start", "_fence"]
        number = self._number(lane)
        whole = ((*row, epoch, number, start, fence) for row in rows)
        return self._put(table.name + SPEED, [c.name for c in table.key], names, ["_epoch", "_lane", "_start"], whole)

    def _put(self, name: str, key: list[str], columns: list[str], more: list[str], rows: Iterable[Row]) -> int:
        """Writes rows by (key, more); of two writes the one with the higher last column stands."""
        keys, newest = [*key, *more], columns[-1]
        others = ", ".join(f'"{c}" = excluded."{c}"' for c in columns if c not in keys)
        sql = (
            f'INSERT INTO "{name}" ({_quoted(columns)}) VALUES ({", ".join("?" * len(columns))}) '
            f'ON CONFLICT ({_quoted(keys)}) DO UPDATE SET {others} WHERE excluded."{newest}" > "{newest}"'
        )
        count = 0
        pending: list[Row] = []
        for row in rows:
            pending.append(row)
            if len(pending) == BATCH:
                count += self._many(sql, pending)
                pending = []
        return count + (self._many(sql, pending) if pending else 0)

    def fetch(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        reverse: bool = False,
        after: Row | None = None,
        limit: int | None = None,
    ) -> Sequence[Row]:
        low, low_in, high, high_in = bounds
        shape = (table.name, low is None, low_in, high is None, high_in, reverse, after is None)
        sql = self._statements.get(shape)
        if sql is None:
            sql = self._statements[shape] = _select(
                table, low is not None, low_in, high is not None, high_in, reverse, after is not None
            )
        values = [
            *partition,
            *(v for v in (low, high) if v is not None),
            *(after or ()),
            -1 if limit is None else limit,
        ]
        return self._read(sql, values)

    def fetch_speed(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        epoch: int,
    ) -> Sequence[Row]:
        low, low_in, high, high_in = bounds
        tests, order = (
            _bounded(table, low is not None, low_in, high is not None, high_in),
            _quoted(c.name for c in table.clustering),
        )
        sql = (
            f'SELECT {_quoted(table.columns)}, _lane, _start FROM "{table.name}{SPEED}" '
            f"WHERE {' AND '.join([*tests, '_epoch = ?'])} ORDER BY {', '.join(k for k in (order, '_lane, _start') if k)}"
        )
        rows = self._read(sql, [*partition, *(v for v in (low, high) if v is not None), epoch])
        return [(*row[:-2], self._name(row[-2]), row[-1]) for row in rows]

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        order = _quoted([*(c.name for c in table.key), "_slot"])
        return self._walk(f'SELECT {_quoted(table.columns)}, _slot, _gen FROM "{table.name}" ORDER BY {order}')

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        columns = _quoted(table.columns)
        sql = f'SELECT {columns}, _lane, _start, _fence FROM "{table.name}{SPEED}" WHERE _epoch = ?'
        for rows in self._walk(sql, (epoch,)):
            yield [(*row[:-3], self._name(row[-3]), *row[-2:]) for row in rows]

    def _walk(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Sequence[Row]]:
        """The rows of one statement, and so of one moment."""
        try:
            cursor = self._connection().cursor()
            cursor.execute(sql, values)
            while rows := list(itertools.islice(cursor, BATCH)):
                yield rows
        except apsw.Error as error:
            raise _outside(error) from None

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        starts = {self._number(lane): start for lane, start in (below or {}).items()}
        with self._writing() as connection:
            if below is None:
                connection.execute(f'DELETE FROM "{table.name}{SPEED}" WHERE _epoch = ?', (epoch,))
            for lane, start in starts.items():
                sql = f'DELETE FROM "{table.name}{SPEED}" WHERE _epoch = ? AND _lane = ? AND _start < ?'
                connection.execute(sql, (epoch, lane, start))

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        # Row by row: one statement would keep other writers waiting while it reads the whole table.
        names = [*(c.name for c in table.key), "_slot"]
        old = f'"{column}" < ? AND _gen <= ?'
        same = " AND ".join(f'"{name}" = ?' for name in names)
        sql = f'DELETE FROM "{table.name}" WHERE {same} AND _gen <= ?'
        after: Row = ()
        while True:
            beyond = f" AND ({_quoted(names)}) > ({', '.join('?' * len(names))})" if after else ""
            found = self._read(
                f'SELECT {_quoted(names)} FROM "{table.name}" WHERE {old}{beyond} ORDER BY {_quoted(names)} LIMIT ?',
                (start, generation, *after, BATCH),
            )
            if not found:
                return
            self._many(sql, [(*key, generation) for key in found])
            after = tuple(found[-1])

    def _number(self, lane: str) -> int:
        if lane not in self._lanes:
            with self._writing() as connection:
                connection.execute("INSERT OR IGNORE INTO lanes (name) VALUES (?)", (lane,))
            self._lanes[lane] = self._read("SELECT number FROM lanes WHERE name = ?", (lane,))[0][0]
        return self._lanes[lane]

    def _name(self, number: int) -> str:
        if number not in self._names:
            self._names[number] = self._read("SELECT name FROM lanes WHERE number = ?", (number,))[0][0]
        return self._names[number]

    def hold(self) -> None:
        # One transaction takes the file's locks once for many reads: two system calls each.
        connection = self._connection()
        if not connection.in_transaction:
            self._read("BEGIN")

    def release(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            _end(connection)

    def drop(self, table: str) -> None:
        with self._writing() as connection:
            connection.execute(f'DROP TABLE IF EXISTS "{table}"')
            connection.execute(f'DROP TABLE IF EXISTS "{table}{SPEED}"')

    def physical(self) -> Sequence[str]:
        sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('control', 'lanes') ORDER BY name"
        return [name for (name,) in self._read(sql) if not name.endswith(SPEED)]

    def close(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except apsw.Error as error:
            raise _outside(error) from None

    def _many(self, sql: str, rows: list[Row]) -> int:
        with self._writing() as connection:
            connection.executemany(sql, rows)
        return len(rows)

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Only one thread ever uses it, so that SQLite need not lock it at every value.
                flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
                connection = apsw.Connection(str(self.file), flags=flags, statementcachesize=512)
                connection.set_busy_timeout(int(PATIENCE * 1000))
                connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # else a bound LIMIT has every read planned anew
                _write_ahead(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                # Rows of a stream lie all over the file: what is changed again and again need not be copied there each time.
                connection.execute("PRAGMA wal_autocheckpoint = 16000")
                connection.execute("CREATE TABLE IF NOT EXISTS control (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS lanes (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)"
                )
            except apsw.Error as error:
                raise _outside(error) from None
            self._local.connection = connection
        return connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        connection = self._connection()
        _end(connection)  # what was held for reading
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise _outside(error) from None
        finally:
            _end(connection)  # nothing where it was committed, or where SQLite did so itself as the disk is full


def _write_ahead(connection: apsw.Connection) -> None:
    """Makes a new file one of WAL mode. Of two who do so at once SQLite refuses one without waiting, whatever its busy timeout."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _end(connection: apsw.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _select(table: ServingTable, low: bool, low_in: bool, high: bool, high_in: bool, reverse: bool, after: bool) -> str:
    tests = _bounded(table, low, low_in, high, high_in)
    key = [f'"{c.name}"' for c in table.clustering]
    if after:
        tests.append(f"({', '.join(key)}) {'<' if reverse else '>'} ({', '.join('?' * len(key))})")
    order = ", ".join(
        f"{k} {'DESC' if reverse else 'ASC'}" for k in [*(f'"{c.name}"' for c in table.partition), *key, "_slot"]
    )
    columns = ", ".join(f'"{c}"' for c in table.columns)
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    return f'SELECT {columns}, _slot, _gen FROM "{table.name}"{where} ORDER BY {order} LIMIT ?'


def _bounded(table: ServingTable, low: bool, low_in: bool, high: bool, high_in: bool) -> list[str]:
    """Conditions for one partition, and a range of its first clustering column."""
    tests = [f'"{c.name}" = ?' for c in table.partition]
    if low:
        tests.append(f'"{table.clustering[0].name}" {">=" if low_in else ">"} ?')
    if high:
        tests.append(f'"{table.clustering[0].name}" {"<=" if high_in else "<"} ?')
    return tests


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _affinity(type: Type) -> str:
    if type.name in INTEGERS or type.name == "BOOLEAN" or type.is_instant:
        return "INTEGER"
    return "REAL" if type.name == "DOUBLE" else "TEXT"


def _outside(error: apsw.Error) -> OutsideError:
    if isinstance(error, (apsw.FullError, apsw.IOError)):
        return OutsideError("HR0406", f"the store's disk is full or failing: {error}")
    return OutsideError("HR0407", f"store: {error}", retry=isinstance(error, (apsw.BusyError, apsw.LockedError)))
