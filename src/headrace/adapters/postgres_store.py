"""The store in PostgreSQL: a schema a project, a table a serving table, its primary key the serving key and the slot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from headrace.adapters.moves import Move, value_of
from headrace.adapters.postgres_session import Connected, Connection, DriverError, parameters, told
from headrace.errors import OutOfReachError
from headrace.model.serving import ServingTable, shortened
from headrace.model.types import INTEGERS, Type

Of = TypeVar("Of")
Row = tuple[Any, ...]
Bounds = tuple[Any, bool, Any, bool]
OPEN: Bounds = (None, True, None, True)
PIECE = 20_000
"""Rows that are written, read or removed at a time."""
FEW = 500
"""Rows from which on it pays to make a table for COPY."""
SPEED = "_speed"
"""What the names of tables of speed rows end in."""
LONGEST = 63
"""Bytes that PostgreSQL keeps of a name."""
MARK = "headrace: "
"""What the comment of a table of batch rows begins with; the name that a generation knows it by follows."""
TEXT = 'text COLLATE "C"'
"""Text that is ordered by its bytes, as answers are."""


class PostgresStore:
    """Serving tables and control rows in one schema. Safe to use from several threads, each of which gets a connection."""

    is_remote = True

    def __init__(self, url: str, *, password: str = "", ca: str = "", schema: str = "headrace") -> None:
        self.connected = Connected(parameters(url, password, ca))
        self.schema = schema
        self._made = False
        self._lanes: dict[str, int] = {}
        self._names: dict[int, str] = {}
        """Lanes by their numbers: a lane's name has a topic's id in it, longer than the rest of many a row."""
        self._statements: dict[tuple[str, bool, bool, bool, bool, bool, bool], bytes] = {}

    # Control rows

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        control = self._table("control")
        move: Move | None = None

        def work(connection: Connection) -> bool:
            nonlocal move
            found = connection.execute(f"SELECT value FROM {control} WHERE name = %s".encode(), [name]).fetchone()
            now = found[0] if found else None
            if move is None:
                if value_of(now) != old:
                    return False
                move = Move(now, new)
            elif now != move.before:  # the connection broke in an earlier try, when it was done already or was not
                made = move.is_made(now)
                if made is None:
                    raise OutOfReachError("HR0424", f"PostgreSQL does not say whether the {name} was moved", retry=True)
                return made
            if now is None:
                sql, values = (
                    f"INSERT INTO {control} (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    [name, move.after],
                )
            else:
                sql, values = f"UPDATE {control} SET value = %s WHERE name = %s AND value = %s", [move.after, name, now]
            return connection.execute(sql.encode(), values).rowcount == 1

        return self._write(work)

    def control(self, name: str) -> str | None:
        self._make()
        rows = self._read(f"SELECT value FROM {self._table('control')} WHERE name = %s", [name])
        return value_of(rows[0][0]) if rows else None

    def controls(self, names: Sequence[str]) -> list[str | None]:
        self._make()
        sql = f"SELECT name, value FROM {self._table('control')} WHERE name = ANY(%s)"
        found: dict[str, str] = dict(self._read(sql, [list(names)])) if names else {}
        return [value_of(found.get(name)) for name in names]

    def set_control(self, name: str, value: str) -> None:
        sql = f"INSERT INTO {self._table('control')} (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self._write(lambda connection: connection.execute(sql.encode(), [name, value]))

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        sql = (
            f"INSERT INTO {self._table('control')} AS c (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE "
            "SET value = excluded.value WHERE %s::bigint > split_part(c.value, ' ', 1)::bigint"
        )
        self._write(lambda connection: connection.execute(sql.encode(), [name, f"{value} {text}", value]))

    # Tables

    def create(self, table: ServingTable) -> None:
        self._make()
        if self._has(table.name + SPEED if table.of_mart else table.name) and self._has(table.name):
            return
        columns = ", ".join(
            f"{c} {type}{' NOT NULL' * (n < len(table.key))}" for n, (c, type) in enumerate(_columns(table))
        )
        numbers = ", ".join(f"{c} bigint NOT NULL" for c in ("_slot", "_gen"))
        key = _quoted([*(c.name for c in table.key), "_slot"])
        name, comment = self._table(table.name), (MARK + table.name).replace("'", "''")
        statements = [
            f"CREATE TABLE IF NOT EXISTS {name} ({columns}, {numbers}, PRIMARY KEY ({key}))",
            f"COMMENT ON TABLE {name} IS '{comment}'",
        ]
        if table.of_mart:
            numbers = ", ".join(f"{c} bigint NOT NULL" for c in ("_epoch", "_lane", "_start", "_fence"))
            names = [
                *(c.name for c in table.partition),
                "_epoch",
                *(c.name for c in table.clustering),
                "_lane",
                "_start",
            ]
            speed = self._table(table.name + SPEED)
            statements.append(
                f"CREATE TABLE IF NOT EXISTS {speed} ({columns}, {numbers}, PRIMARY KEY ({_quoted(names)}))"
            )
        self._define(*statements)

    def drop(self, table: str) -> None:
        self._define(f"DROP TABLE IF EXISTS {self._table(table)}, {self._table(table + SPEED)}")

    def physical(self) -> Sequence[str]:
        sql = (
            "SELECT obj_description(c.oid, 'pg_class') FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind = 'r'"
        )
        comments = [comment or "" for (comment,) in self._read(sql, [self.schema])]
        return sorted(comment.removeprefix(MARK) for comment in comments if comment.startswith(MARK))

    # Rows

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        columns = [*_columns(table), ("_slot", "bigint"), ("_gen", "bigint")]
        return self._put(table.name, [*(c.name for c in table.key), "_slot"], columns, rows)

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        more = ("_epoch", "_lane", "_start", "_fence")
        number = self._number(lane)
        whole = ((*row, epoch, number, start, fence) for row in rows)
        columns = [*_columns(table), *((name, "bigint") for name in more)]
        return self._put(table.name + SPEED, [*(c.name for c in table.key), *more[:-1]], columns, whole)

    def _put(self, table: str, key: list[str], columns: list[tuple[str, str]], rows: Iterable[Row]) -> int:
        """Writes rows by key; of two writes the one with the higher last column stands. In the order of the key, so that of
        two writers each waits for the other at most, and not for both."""
        quoted, newest = [c for c, _ in columns], columns[-1][0]
        others = ", ".join(f"{c} = excluded.{c}" for c in quoted if c.strip('"') not in key)
        names = _quoted(key)

        def insert(source: str) -> bytes:
            return (
                f"INSERT INTO {self._table(table)} AS t ({', '.join(quoted)}) SELECT DISTINCT ON ({names}) {', '.join(quoted)} FROM {source} "
                f"ORDER BY {names}, {newest} DESC ON CONFLICT ({names}) DO UPDATE SET {others} WHERE excluded.{newest} > t.{newest}"
            ).encode()

        types = [type.split()[0] for _, type in columns]
        arrays = insert(f"unnest({', '.join(f'%s::{type}[]' for type in types)}) AS n ({', '.join(quoted)})")
        copied = insert("pg_temp._copied")
        count, waiting = 0, iter(rows)

        def few(piece: list[Row], connection: Connection) -> None:
            connection.execute(arrays, [list(values) for values in zip(*piece, strict=True)])

        def many(piece: list[Row], connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(f"CREATE TEMP TABLE _copied (LIKE {self._table(table)}) ON COMMIT DROP".encode())
                # The table has the order of `create`, which is that of the rows.
                with cursor.copy(b"COPY pg_temp._copied FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(types)
                    for row in piece:
                        copy.write_row(row)
                cursor.execute(copied)

        while piece := list(itertools.islice(waiting, PIECE)):
            self._write(partial(few if len(piece) < FEW else many, piece))
            count += len(piece)
        return count

    def fetch(
        self,
        table: ServingTable,
        partition: Row,
        bounds: Bounds = OPEN,
        *,
        reverse: bool = False,
        after: Row | None = None,
        limit: int | None = None,
    ) -> Sequence[Row]:
        low, low_in, high, high_in = bounds
        shape = (table.name, low is None, low_in, high is None, high_in, reverse, after is None)
        sql = self._statements.get(shape)
        if sql is None:
            tests, order = _bounded(table, bounds), [c.name for c in table.clustering]
            if after is not None:
                tests.append(f"({_quoted(order)}) {'<' if reverse else '>'} ({', '.join(['%s'] * len(order))})")
            by = ", ".join(f"{_quoted([name])}{' DESC' * reverse}" for name in [*order, "_slot"])
            sql = self._statements[shape] = (
                f"SELECT {_quoted([*table.columns, '_slot', '_gen'])} FROM {self._table(table.name)}{_where(tests)} "
                f"ORDER BY {by} LIMIT %s::bigint"
            ).encode()
        return self._read(sql, [*partition, *(v for v in (low, high) if v is not None), *(after or ()), limit])

    def fetch_speed(self, table: ServingTable, partition: Row, bounds: Bounds = OPEN, *, epoch: int) -> Sequence[Row]:
        order = _quoted([*(c.name for c in table.clustering), "_lane", "_start"])
        rows = self._read(
            f"SELECT {_quoted([*table.columns, '_lane', '_start'])} FROM {self._table(table.name + SPEED)}"
            f"{_where([*_bounded(table, bounds), '_epoch = %s'])} ORDER BY {order}",
            [*partition, *(v for v in (bounds[0], bounds[2]) if v is not None), epoch],
        )
        return [(*row[:-2], self._lane_of(row[-2]), row[-1]) for row in rows]

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        order = _quoted([*(c.name for c in table.key), "_slot"])
        columns = _quoted([*table.columns, "_slot", "_gen"])
        return self._walk(f"SELECT {columns} FROM {self._table(table.name)} ORDER BY {order}", [])

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        columns = _quoted([*table.columns, "_lane", "_start", "_fence"])
        sql = f"SELECT {columns} FROM {self._table(table.name + SPEED)} WHERE _epoch = %s"
        for rows in self._walk(sql, [epoch]):
            yield [(*row[:-3], self._lane_of(row[-3]), *row[-2:]) for row in rows]

    def _walk(self, sql: str, values: list[Any]) -> Iterator[Sequence[Row]]:
        """The rows of one statement, and so of one moment; on a connection of its own, so that one may write meanwhile."""
        connection = self.connected.open()
        try:
            with connection.transaction(), connection.cursor("walk") as cursor:
                cursor.execute(sql.encode(), values)
                while rows := cursor.fetchmany(PIECE):
                    yield rows
        except DriverError as error:
            raise told(error) from None
        finally:
            connection.close()

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        sql, values = f"DELETE FROM {self._table(table.name + SPEED)} AS t", list[Any]()
        if below is not None:
            sql += " USING unnest(%s::bigint[], %s::bigint[]) AS cut (lane, start)"
            values = [[self._number(lane) for lane in below], list(below.values())]
        sql += " WHERE _epoch = %s" + (" AND _lane = cut.lane AND _start < cut.start" if below is not None else "")
        self._write(lambda connection: connection.execute(sql.encode(), [*values, epoch]))

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        # In pieces: one statement would keep whoever writes one of these rows waiting until all are gone.
        name, key = self._table(table.name), _quoted([*(c.name for c in table.key), "_slot"])
        row, old = f"({', '.join(['%s'] * (len(table.key) + 1))})", f"{_quoted([column])} < %s AND _gen <= %s"
        after: Row = ()
        while True:
            beyond = f" AND ({key}) > {row}" if after else ""
            last = self._read(
                f"SELECT {key} FROM {name} WHERE {old}{beyond} ORDER BY {key} OFFSET {PIECE - 1} LIMIT 1",
                [start, generation, *after],
            )
            upto = f" AND ({key}) <= {row}" if last else ""
            sql = f"DELETE FROM {name} WHERE {old}{beyond}{upto}".encode()
            values = [start, generation, *after, *(last[0] if last else ())]
            self._write(partial(Connection.execute, query=sql, params=values))
            if not last:
                return
            after = last[0]

    def hold(self) -> None:
        self.connected.hold()

    def release(self) -> None:
        self.connected.release()

    def close(self) -> None:
        """Closes this thread's connection; each other one is closed when its thread ends."""
        self.connected.close()

    # How it is asked

    def _read(self, sql: str | bytes, values: Sequence[Any] = ()) -> list[Row]:
        query = sql if isinstance(sql, bytes) else sql.encode()
        return self.connected.ask(lambda connection: connection.execute(query, values).fetchall())

    def _write(self, work: Callable[[Connection], Of]) -> Of:
        """What ``work`` gives, which must be one transaction, and one that may be repeated."""
        self._make()
        self.connected.release()  # what was held for reading
        return self.connected.ask(work)

    def _define(self, *statements: str) -> None:
        """Changes the schema, one after the other: two who do at once would meet in PostgreSQL's own tables."""

        def work(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(
                    b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"headrace {self.schema}"]
                )
                for sql in statements:
                    connection.execute(sql.encode())

        self.connected.release()
        self.connected.ask(work)

    def _make(self) -> None:
        """The schema and the tables of control rows and lanes, where they are missing."""
        if self._made:
            return
        if not self._has("control") or not self._has("lanes"):
            columns = {
                "control": f"name {TEXT} PRIMARY KEY, value {TEXT} NOT NULL",
                "lanes": f"number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name {TEXT} UNIQUE NOT NULL",
            }
            statements = [f"CREATE TABLE IF NOT EXISTS {self._table(n)} ({c})" for n, c in columns.items()]
            # Making what is there already would take the right to make it.
            if not self._read("SELECT FROM pg_namespace WHERE nspname = %s", [self.schema]):
                statements.insert(0, f"CREATE SCHEMA IF NOT EXISTS {_quoted([self.schema])}")
            self._define(*statements)
        self._made = True

    def _has(self, table: str) -> bool:
        return self._read("SELECT to_regclass(%s) IS NOT NULL", [self._table(table)])[0][0] is True

    def _table(self, table: str) -> str:
        return _quoted([self.schema]) + "." + _quoted([_cut(table)])

    def _number(self, lane: str) -> int:
        if lane not in self._lanes:
            lanes = self._table("lanes")
            sql = f"INSERT INTO {lanes} (name) VALUES (%s) ON CONFLICT DO NOTHING".encode()
            self._write(lambda connection: connection.execute(sql, [lane]))
            self._lanes[lane] = self._read(f"SELECT number FROM {lanes} WHERE name = %s", [lane])[0][0]
        return self._lanes[lane]

    def _lane_of(self, number: int) -> str:
        if number not in self._names:
            self._names[number] = self._read(f"SELECT name FROM {self._table('lanes')} WHERE number = %s", [number])[0][
                0
            ]
        return self._names[number]


def _columns(table: ServingTable) -> list[tuple[str, str]]:
    """Quoted names and types of the columns of a stored row."""
    types = [*(_type(c.type) for c in table.key), *(TEXT if p.by else _type(p.type) for p in table.parts), "bigint"]
    return [(_quoted([name]), type) for name, type in zip(table.columns, types, strict=True)]


def _type(type: Type) -> str:
    if type.name in INTEGERS or type.name == "BOOLEAN" or type.is_instant:
        return "bigint"
    return "float8" if type.name == "DOUBLE" else TEXT


def _bounded(table: ServingTable, bounds: Bounds) -> list[str]:
    """Conditions for one partition, and a range of its first clustering column."""
    low, low_in, high, high_in = bounds
    tests = [f"{_quoted([c.name])} = %s" for c in table.partition]
    if low is not None:
        tests.append(f"{_quoted([table.clustering[0].name])} {'>=' if low_in else '>'} %s")
    if high is not None:
        tests.append(f"{_quoted([table.clustering[0].name])} {'<=' if high_in else '<'} %s")
    return tests


def _where(tests: list[str]) -> str:
    return f" WHERE {' AND '.join(tests)}" if tests else ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def _cut(table: str) -> str:
    """The name of a table in the schema: its own, cut before the digest where it would be too long."""
    name, ending = (table.removesuffix(SPEED), SPEED) if table.endswith(SPEED) else (table, "")
    return shortened(name, LONGEST - len(ending)) + ending
