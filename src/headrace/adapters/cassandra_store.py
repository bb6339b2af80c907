"""The wide-column store: Cassandra or ScyllaDB. What its rows look like and why: ``sql/cql.py``.

Nothing here reads before it writes, adds to a value, or takes a clock for a timestamp; the pointer alone moves by a
lightweight transaction.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace.adapters.cassandra_session import ENCODERS, NEVER, PERHAPS, Address, Connected, Encoded, pause, told
from headrace.adapters.moves import Move, value_of
from headrace.errors import OutOfReachError, OutsideError, SettingError
from headrace.model.serving import ServingTable
from headrace.sql import cql

if TYPE_CHECKING:
    from headrace.adapters.cassandra_inspect import CassandraInspect

Row = tuple[Any, ...]
Bounds = tuple[Any, bool, Any, bool]
OPEN: Bounds = (None, True, None, True)
PIECE = 5_000
"""Rows that are sorted by their partitions at a time."""
TOGETHER = 40
"""Rows of one partition that go in one batch, which is then one write to its replicas and, at about 100 bytes a row, below
the 5 KiB from which on nodes warn."""
Shape = tuple[str, str, str, bool, bool, bool, bool]
"""What tells one SELECT from another: table, comparisons with the bounds, after, reverse, limit, and whether of speed rows."""
CONTROL = cql.CONTROL
PAST = 2**62
"""A timestamp beyond every fence: no worker writes in an epoch whose rows are deleted."""


class CassandraStore:
    """Serving tables and control rows in one keyspace. Safe to use from several threads."""

    is_remote = True

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connected = Connected(address)
        self._control = f"{cql.quoted(address.keyspace)}.{CONTROL}"
        self._value_of = f"SELECT value FROM {self._control} WHERE name = ?"
        self._selects: dict[Shape, str] = {}
        self.made = False
        """Whether keyspace and control rows are known to be there, and all tables to be sound."""

    def inspection(self) -> CassandraInspect:
        from headrace.adapters.cassandra_inspect import CassandraInspect

        return CassandraInspect(self)

    def insist(self) -> None:
        self.connected.patience = self.address.patience

    # Control rows

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        before = self._stored(name)
        if value_of(before) != old:
            return False
        move = Move(before, new)
        if before is None:
            statement = self._bound(
                f"INSERT INTO {self._control} (name, value) VALUES (?, ?) IF NOT EXISTS", name, move.after
            )
        else:
            sql = f"UPDATE {self._control} SET value = ? WHERE name = ? IF value = ?"
            statement = self._bound(sql, move.after, name, before)
        until = time.monotonic() + self.address.patience
        for attempt in itertools.count():
            try:
                if self.connected.session.execute(statement).one()[0]:
                    return True
            except NEVER as error:
                raise told(error) from None
            except PERHAPS:
                pass
            # A serial read ends what was begun.
            rows = self.connected.serially(self._value_of, (name,))
            now = rows[0][0] if rows else None
            made = move.is_made(now)
            if made is not None:
                return made
            if time.monotonic() > until or now != before:
                raise OutOfReachError("HR0424", f"Cassandra does not say whether the {name} was moved", retry=True)
            time.sleep(pause(attempt))
        raise AssertionError

    def control(self, name: str) -> str | None:
        return value_of(self._stored(name))

    def controls(self, names: Sequence[str]) -> list[str | None]:
        self._make()
        found = self.connected.rows_of_each(self._value_of, [(name,) for name in names])
        return [value_of(rows[0][0]) if rows else None for rows in found]

    def _stored(self, name: str) -> str | None:
        """A control row with its marks."""
        self._make()
        rows = self.connected.rows_now(self._value_of, (name,))
        return rows[0][0] if rows else None

    def set_control(self, name: str, value: str) -> None:
        self.raise_value(name, value, 1)

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        self.raise_value(name, f"{value} {text}", value)

    def raise_value(self, name: str, text: str, timestamp: int) -> None:
        sql = f"INSERT INTO {self._control} (name, value) VALUES (?, ?) USING TIMESTAMP ?"
        self.connected.write([self._bound(sql, name, text, timestamp)])

    # Tables

    def create(self, table: ServingTable) -> None:
        self._make()
        have = {name for name, _ in self._tables()}
        for speed in (False, True) if table.of_mart else (False,):
            if cql.physical_name(table.name) + (cql.SPEED if speed else "") not in have:
                self.connected.define(cql.create_sql(self.address.keyspace, table, self.option, speed=speed))
            insert = cql.insert_sql(self.address.keyspace, table, speed=speed)
            self.connected.usable(insert)
            self.connected.write([self.connected.prepared(insert).bind(cql.canary_row(table, speed=speed))])

    @functools.cached_property
    def option(self) -> cql.Option:
        """What is particular to the servers that answer."""
        return cql.SCYLLA if self.is_scylla else cql.CASSANDRA

    @functools.cached_property
    def is_scylla(self) -> bool:
        sql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'system' AND table_name = ?"
        return bool(self.connected.rows(sql, ("scylla_local",)))

    def drop(self, table: str) -> None:
        name = cql.physical_name(table)
        for one in (name, name + cql.SPEED):
            self.connected.define(f"DROP TABLE IF EXISTS {cql.quoted(self.address.keyspace)}.{cql.quoted(one)}")

    def physical(self) -> Sequence[str]:
        self._make()
        names = [comment.removeprefix(cql.MARK) for name, comment in self._tables() if not name.endswith(cql.SPEED)]
        return sorted(names)

    def _tables(self) -> list[tuple[str, str]]:
        """Our tables: their names here, and their comments."""
        sql = "SELECT table_name, comment FROM system_schema.tables WHERE keyspace_name = ?"
        return [
            (name, comment)
            for name, comment in self.connected.rows(sql, (self.address.keyspace,))
            if comment.startswith(cql.MARK)
        ]

    # Batch rows

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        parts = slice(len(table.key), len(table.columns) - 1)

        def written(row: Row) -> Row:
            values, nulls = whole(table, row[parts])
            bucket = table.bucket_of(row)
            return (*row[: parts.start], *values, *row[parts.stop :], nulls, bucket, row[-1])

        return self._put(table, map(written, rows), speed=False)

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
        # Of the two bounds on the side where the rows begin, the tighter one holds: CQL takes no two.
        if after is not None:
            if reverse:
                after, high = (after, None) if high is None or after[0] < high or (high_in and after[0] == high) else (None, high)  # fmt: skip
            else:
                after, low = (after, None) if low is None or after[0] > low or (low_in and after[0] == low) else (None, low)  # fmt: skip
        shape = (
            table.name,
            *compared(low, low_in, high, high_in),
            after is not None,
            reverse,
            limit is not None,
            False,
        )
        sql = self._selects.get(shape) or self._select(table, shape)
        values = [v for v in (low, high) if v is not None]
        values += [*(after or ()), *(() if limit is None else (limit,))]
        width = len(table.key)
        at = slice(len(table.partition), width)
        page = min(limit or 5000, 5000)

        def read(buckets: Sequence[int]) -> list[list[Row]]:
            return self.connected.rows_of_each(sql, [(*partition, bucket, *values) for bucket in buckets], page=page)

        merged: Iterable[Row]
        if table.bucket is not None and table.bucket.of_time:
            # Their order is that of their rows, so that a page need not read further than it is full.
            first, last = (bounds[0], after[0]) if reverse and after else (bounds[0], bounds[2])
            if after is not None and not reverse:
                first = after[0]
            buckets = table.buckets(first, last)
            rows: list[Row] = []
            step = len(buckets) if limit is None else 4
            for start in range(0, len(buckets), step or 1):
                some = (buckets[::-1] if reverse else buckets)[start : start + step]
                rows += itertools.chain.from_iterable(read(some))
                if limit is not None and len(rows) >= limit:
                    break
            merged = rows
        else:
            found = read(table.buckets(bounds[0], bounds[2]))
            merged = found[0] if len(found) == 1 else heapq.merge(*found, key=lambda r: (r[at], r[-3]), reverse=reverse)
        return [unpacked(row, width) for row in itertools.islice(merged, limit)]

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        self._make()
        width = len(table.key)
        for rows in self.connected.pages(cql.walk_sql(self.address.keyspace, table)):
            yield [unpacked(row[:-1], width) for row in rows if row[-1] != cql.CANARY]

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        # Deleting by a timestamp leaves what a later generation wrote: no row need be looked at.
        keyspace = self.address.keyspace
        names = [c.name for c in table.key]
        place, within = names.index(column), len(table.partition)
        partition = [*names[:within], "_bucket"]
        if place > within:  # not the first of its order: only rows tell where it is lower
            sql = self.connected.prepared(cql.delete_sql(keyspace, table, [*partition, *names[within:]]))
            for rows in self.walk(table):
                old = dict.fromkeys(r[: len(names)] for r in rows if r[place] < start and r[-1] <= generation)
                self.connected.write(
                    sql.bind((generation, *key[:within], table.bucket_of(key), *key[within:])) for key in old
                )
            return
        sql = self.connected.prepared(cql.delete_sql(keyspace, table, partition, column if place == within else ""))
        for rows in self._partitions(table):
            if place == within:
                self.connected.write(sql.bind((generation, *row, start)) for row in rows)
            else:
                self.connected.write(sql.bind((generation, *row)) for row in rows if row[place] < start)

    # Speed rows

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        parts = slice(len(table.key), len(table.columns) - 1)

        def written(row: Row) -> Row:
            values, nulls = whole(table, row[parts])
            bucket = table.bucket_of(row)
            return (*row[: parts.start], *values, row[-1], lane, start, fence, nulls, epoch, bucket, fence)

        return self._put(table, map(written, rows), speed=True)

    def fetch_speed(self, table: ServingTable, partition: Row, bounds: Bounds = OPEN, *, epoch: int) -> Sequence[Row]:
        low, low_in, high, high_in = bounds
        shape = (table.name, *compared(low, low_in, high, high_in), False, False, False, True)
        sql = self._selects.get(shape) or self._select(table, shape)
        values = [v for v in (low, high) if v is not None]
        width = len(table.key)
        buckets = table.buckets(bounds[0], bounds[2])
        found = self.connected.rows_of_each(sql, [(*partition, bucket, epoch, *values) for bucket in buckets])
        at = slice(len(table.partition), width)
        merged = (
            heapq.merge(*found, key=lambda r: (r[at], r[-4], r[-3])) if len(found) > 1 else found[0] if found else ()
        )
        return [unpacked(row, width)[:-1] for row in merged]

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        width = len(table.key)
        for rows in self.connected.pages(cql.walk_sql(self.address.keyspace, table, speed=True)):
            yield [unpacked(row[:-2], width) for row in rows if row[-2] == epoch and row[-1] != cql.CANARY]

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        keyspace, names = self.address.keyspace, [c.name for c in table.key]
        within = len(table.partition)
        partition = [*names[:within], "_bucket"]
        if below is None:
            sql = self.connected.prepared(cql.delete_sql(keyspace, table, [*partition, "_epoch"], speed=True))
            for rows in self._partitions(table, speed=True):
                self.connected.write(sql.bind((PAST, *row, epoch)) for row in rows)
            return
        # One deletion a key and lane: of the ranges below the cut, which all of them have counted up to at most.
        same = [*partition, "_epoch", *names[within:], "_lane"]
        sql = self.connected.prepared(cql.delete_sql(keyspace, table, same, "_start", speed=True))
        for page in self.walk_speed(table, epoch):
            gone = dict.fromkeys((*r[: len(names)], r[-3]) for r in page if r[-2] < below.get(r[-3], 0))
            self.connected.write(
                sql.bind((below[key[-1]], *key[:within], table.bucket_of(key), epoch, *key[within:], below[key[-1]]))
                for key in gone
            )

    def _partitions(self, table: ServingTable, *, speed: bool = False) -> Iterator[list[Row]]:
        for rows in self.connected.pages(cql.partitions_sql(self.address.keyspace, table, speed=speed)):
            yield [row for row in rows if row[-1] != cql.CANARY]

    def hold(self) -> None:
        """Nothing: reads of several nodes are of no one moment, and the reader does not need them to be."""

    def release(self) -> None:
        """Nothing."""

    def close(self) -> None:
        self.connected.close()

    def _put(self, table: ServingTable, rows: Iterator[Row], *, speed: bool) -> int:
        """Writes rows, those of one partition together."""
        statement = self.connected.prepared(cql.insert_sql(self.address.keyspace, table, speed=speed))
        columns = cql.speed_columns(table) if speed else cql.batch_columns(table)
        encoders = [ENCODERS[type] for _, type in (*columns, ("timestamp", "bigint"))]
        within = len(table.partition)
        counted = 0

        def statements() -> Iterator[Any]:
            nonlocal counted
            while piece := list(itertools.islice(rows, PIECE)):
                counted += len(piece)
                grouped: dict[Row, list[Encoded]] = {}
                for row in piece:
                    encoded = [encode(value) for encode, value in zip(encoders, row, strict=True)]
                    grouped.setdefault((row[-2], *row[:within]), []).append(encoded)
                for some in grouped.values():
                    for first in range(0, len(some), TOGETHER):
                        yield self.connected.together(statement, some[first : first + TOGETHER])

        self.connected.write(statements())
        return counted

    def _select(self, table: ServingTable, shape: Shape) -> str:
        _, low, high, after, reverse, limit, speed = shape
        sql = cql.select_sql(
            self.address.keyspace, table, low=low, high=high, after=after, reverse=reverse, limit=limit, speed=speed
        )
        self._selects[shape] = sql
        return sql

    def _bound(self, sql: str, *values: Any) -> Any:
        self._make()
        return self.connected.prepared(sql).bind(values)

    def _make(self) -> None:
        """The keyspace and the table of control rows, where they are missing; raises OutsideError HR0426 where a table of
        ours does not keep what it must."""
        if self.made:
            return
        keyspace = self.address.keyspace
        sql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"
        if not self.connected.rows(sql, (keyspace, CONTROL)):
            self._make_keyspace()
            self.connected.define(cql.control_sql(keyspace, self.option))
        self.connected.usable(self._value_of)
        self._refuse_unsound()
        self.made = True

    def _refuse_unsound(self) -> None:
        repairs = "" if self.is_scylla else ", read_repair"
        sql = f"SELECT table_name, comment, default_time_to_live{repairs} FROM system_schema.tables WHERE keyspace_name = ?"
        for name, comment, lives, *repair in self.connected.rows(sql, (self.address.keyspace,)):
            if name != CONTROL and not comment.startswith(cql.MARK):
                continue
            wrong = f"default_time_to_live is {lives}" if lives else ""
            if repair and repair[0] != "BLOCKING":
                wrong = f"read_repair is {repair[0]}"
            if wrong:
                what = f"table {self.address.keyspace}.{name}: {wrong}"
                raise OutsideError("HR0426", what, help="headrace apply sets it back")

    def _make_keyspace(self) -> None:
        a = self.address
        if self.connected.rows(
            "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", (a.keyspace,)
        ):
            return
        nodes = [
            h for h in self.connected.cluster.metadata.all_hosts() if not a.datacenter or h.datacenter == a.datacenter
        ]
        datacenter = a.datacenter or nodes[0].datacenter
        if len(nodes) < a.replicas:
            raise SettingError(
                "HR0601",
                f"cassandra.replicas is {a.replicas}, and datacenter {datacenter} has {len(nodes)} node(s)",
                help=f"cassandra.replicas = {len(nodes)}" if len(nodes) == 1 else "3 nodes or more",
            )
        self.connected.define(
            f"CREATE KEYSPACE IF NOT EXISTS {cql.quoted(a.keyspace)} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', {cql.text(datacenter)}: {a.replicas}}}"
        )


def compared(low: Any, low_in: bool, high: Any, high_in: bool) -> tuple[str, str]:
    """How the first clustering column compares with its bounds."""
    return "" if low is None else ">=" if low_in else ">", "" if high is None else "<=" if high_in else "<"


def whole(table: ServingTable, parts: Row) -> tuple[Sequence[Any], int]:
    """Parts as they are written, and which of them are NULL, as bits."""
    if None not in parts:
        return parts, 0
    nulls, values = 0, []
    for at, (value, part) in enumerate(zip(parts, table.parts, strict=True)):
        nulls |= (value is None) << at
        values.append(ZERO[cql.part_type(part)] if value is None else value)
    return values, nulls


ZERO: Mapping[str, Any] = {"bigint": 0, "double": 0.0, "text": ""}


def unpacked(row: Row, width: int) -> Row:
    """A row as the port has it: without its last value, which says what is NULL."""
    nulls = row[-1]
    if not nulls:
        return row[:-1]
    values = list(row[:-1])
    for at in range(nulls.bit_length()):
        if nulls >> at & 1:
            values[width + at] = None
    return tuple(values)
