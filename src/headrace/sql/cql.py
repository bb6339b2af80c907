"""Serving tables as CQL: what their columns are, and the statements that make, write and read them (``docs/cassandra.md``).

A table of batch rows has the primary key ((partition, _bucket), clustering, _slot), one of speed rows ((partition,
_bucket), _epoch, clustering, _lane, _start). Rows are written whole, ``USING TIMESTAMP`` their generation or their fence,
so that the later of two writes to one row stands wherever and in whatever order they arrive. A part that is NULL is
written as its type's zero, and noted in ``_nulls``: a bound null would be a tombstone, and an unbound one would let an
older value shine through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.model.mart import Part
from headrace.model.serving import ServingTable, shortened
from headrace.model.types import INTEGERS, Type

LONGEST = 48
"""Characters that the name of a table may have."""
CONTROL = "control"
"""The table of control rows."""
SPEED = "_speed"
"""What the names of tables of speed rows end in."""
MARK = "headrace: "
"""What the comment of a table of ours begins with; the name that a generation knows it by follows."""
GRACE = 10_800
"""Seconds for which deleted speed rows are remembered. One that comes back lies below the cut, or in an epoch that is past:
no reader counts it. Three hours are as long as hints are kept."""


CANARY = -(2**63)
"""The bucket of one row in each table that is written when the table is made and never again. Rows have other buckets."""
CANARY_AT = 1
"""Its timestamp: below every other one of ours, so that whatever somebody else does there stands."""


@dataclass(frozen=True, slots=True)
class Option:
    """What differs between Cassandra and ScyllaDB in making a table."""

    compaction: str
    read_repair: bool


CASSANDRA = Option("{'class': 'UnifiedCompactionStrategy'}", read_repair=True)
SCYLLA = Option("{'class': 'IncrementalCompactionStrategy'}", read_repair=False)


def physical_name(table: str) -> str:
    """The name of a table in the keyspace: its own, cut where that and its ending would be too long."""
    return shortened(table, LONGEST - len(SPEED))


def cql_type(type: Type) -> str:
    """The CQL type of stored values of a type."""
    if type.name in INTEGERS or type.name == "BOOLEAN" or type.is_instant:
        return "bigint"
    return "double" if type.name == "DOUBLE" else "text"


def part_type(part: Part) -> str:
    return "text" if part.by else cql_type(part.type)


def quoted(*names: str) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def name_of(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    return f"{quoted(keyspace)}.{quoted(physical_name(table.name) + (SPEED if speed else ''))}"


def batch_columns(table: ServingTable) -> list[tuple[str, str]]:
    """Names and types of the columns of a row as it is written: key, parts, records, slot, generation, nulls, bucket."""
    return [
        *((c.name, cql_type(c.type)) for c in table.key),
        *((p.name, part_type(p)) for p in table.parts),
        ("_records", "bigint"),
        ("_slot", "tinyint"),
        ("_gen", "bigint"),
        ("_nulls", "bigint"),
        ("_bucket", "bigint"),
    ]


def speed_columns(table: ServingTable) -> list[tuple[str, str]]:
    """As ``batch_columns``: key, parts, records, lane, start, fence, nulls, epoch, bucket."""
    return [
        *((c.name, cql_type(c.type)) for c in table.key),
        *((p.name, part_type(p)) for p in table.parts),
        ("_records", "bigint"),
        ("_lane", "text"),
        ("_start", "bigint"),
        ("_fence", "bigint"),
        ("_nulls", "bigint"),
        ("_epoch", "bigint"),
        ("_bucket", "bigint"),
    ]


def primary_key(table: ServingTable, *, speed: bool = False) -> tuple[list[str], list[str]]:
    """The columns of the partition key and of the clustering key."""
    partition = [*(c.name for c in table.partition), "_bucket"]
    clustering = [c.name for c in table.clustering]
    return partition, ["_epoch", *clustering, "_lane", "_start"] if speed else [*clustering, "_slot"]


def options(option: Option, *, speed: bool = False) -> dict[str, str]:
    """The options that a table of rows must have."""
    found = {"compaction": option.compaction, **control_options(option)}
    return {**found, "gc_grace_seconds": str(GRACE)} if speed else found


def control_options(option: Option) -> dict[str, str]:
    """The options that every table must have."""
    found = {"default_time_to_live": "0"}
    return {**found, "read_repair": "'BLOCKING'"} if option.read_repair else found


def create_sql(keyspace: str, table: ServingTable, option: Option, *, speed: bool = False) -> str:
    """The statement that makes a table where it is missing."""
    columns = speed_columns(table) if speed else batch_columns(table)
    partition, clustering = primary_key(table, speed=speed)
    order = {name: at for at, name in enumerate([*partition, *clustering])}
    lines = [f"  {quoted(name)} {type}" for name, type in sorted(columns, key=lambda c: order.get(c[0], len(order)))]
    lines.append(f"  PRIMARY KEY (({quoted(*partition)}), {quoted(*clustering)})")
    said = {"comment": text(MARK + table.name), **options(option, speed=speed)}
    body, rest = ",\n".join(lines), "\n  AND ".join(f"{name} = {value}" for name, value in said.items())
    return f"CREATE TABLE IF NOT EXISTS {name_of(keyspace, table, speed=speed)} (\n{body}\n) WITH {rest}"


def control_sql(keyspace: str, option: Option) -> str:
    """The statement that makes the table of control rows where it is missing."""
    comment = text("the pointer, generations, epochs and progress of a Headrace project")
    said = " AND ".join(f"{name} = {value}" for name, value in {"comment": comment, **control_options(option)}.items())
    return f"CREATE TABLE IF NOT EXISTS {quoted(keyspace)}.{CONTROL} (name text PRIMARY KEY, value text) WITH {said}"


def roles_sql(keyspace: str, datacenter: str, replicas: int) -> str:
    """A script that makes the keyspace and two roles of the least rights: one that only answers, one that also writes and
    makes tables. Who runs it sets the passwords."""
    space = quoted(keyspace)
    serve, run = f'"{keyspace}_serve"', f'"{keyspace}_run"'
    place = f"{{'class': 'NetworkTopologyStrategy', {text(datacenter or 'datacenter1')}: {replicas}}}"
    lines = [
        "-- Run this once as an administrator: cqlsh -f; then cassandra.user and cassandra.password of each process.",
        f"CREATE KEYSPACE IF NOT EXISTS {space} WITH replication = {place};",
        f"CREATE ROLE IF NOT EXISTS {serve} WITH LOGIN = true AND PASSWORD = 'change me';",
        f"CREATE ROLE IF NOT EXISTS {run} WITH LOGIN = true AND PASSWORD = 'change me';",
        "-- serve, query, why, status: reading.",
        f"GRANT SELECT ON KEYSPACE {space} TO {serve};",
        "-- run, stream, apply, reconcile: writing, making tables and setting their options back; lake vacuum: dropping them.",
        *(f"GRANT {right} ON KEYSPACE {space} TO {run};" for right in ("SELECT", "MODIFY", "CREATE", "ALTER", "DROP")),
        "-- doctor, cluster status, table advise: what each node tells of itself (Cassandra).",
        *(f"GRANT SELECT ON KEYSPACE system_views TO {role};" for role in (serve, run)),
    ]
    return "\n".join(lines)


def insert_sql(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    """The statement that writes a row; it ends in the timestamp."""
    names = [name for name, _ in (speed_columns(table) if speed else batch_columns(table))]
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {name_of(keyspace, table, speed=speed)} ({quoted(*names)}) VALUES ({marks}) USING TIMESTAMP ?"


def select_sql(
    keyspace: str,
    table: ServingTable,
    *,
    low: str = "",
    high: str = "",
    after: bool = False,
    reverse: bool = False,
    limit: bool = False,
    speed: bool = False,
) -> str:
    """The statement that reads rows of one partition in clustering order; ``low`` and ``high`` are how the first clustering
    column compares with a bound, and ``after`` compares the whole clustering key with where the rows go on from."""
    names = [name for name, _ in (speed_columns(table) if speed else batch_columns(table))]
    names = names[: names.index("_nulls") + 1]
    tests = [f"{quoted(name)} = ?" for name in [*(c.name for c in table.partition), "_bucket"]]
    if speed:
        tests.append('"_epoch" = ?')
    first = [c.name for c in table.clustering[:1]]
    if low:
        tests.append(f"({quoted(*first)}) {low} (?)")
    if high:
        tests.append(f"({quoted(*first)}) {high} (?)")
    if after:
        key = [c.name for c in table.clustering]
        tests.append(f"({quoted(*key)}) {'<' if reverse else '>'} ({', '.join('?' * len(key))})")
    clustering = ["_epoch"] if speed else []
    clustering += [c.name for c in table.clustering] or ["_lane" if speed else "_slot"]
    order = f" ORDER BY {', '.join(f'{quoted(name)} DESC' for name in clustering[:1])}" if reverse else ""
    return (
        f"SELECT {quoted(*names)} FROM {name_of(keyspace, table, speed=speed)} WHERE {' AND '.join(tests)}{order}"
        f"{' LIMIT ?' if limit else ''}"
    )


def canary_row(table: ServingTable, *, speed: bool = False) -> tuple[object, ...]:
    """The values of ``insert_sql`` for a table's canary: nothing but zeros."""
    zeros = {"text": "", "double": 0.0}
    types = [type for _, type in (speed_columns(table) if speed else batch_columns(table))]
    return (*(zeros.get(type, 0) for type in types[:-1]), CANARY, CANARY_AT)


def canary_sql(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    """The statement that reads when a table's canary was written, and what is left of a time to live."""
    names = [*(c.name for c in table.partition), "_bucket"]
    tests = " AND ".join(f"{quoted(name)} = ?" for name in names)
    return f'SELECT WRITETIME("_nulls"), TTL("_nulls") FROM {name_of(keyspace, table, speed=speed)} WHERE {tests}'


def canary_key(table: ServingTable) -> tuple[object, ...]:
    """The values of ``canary_sql``."""
    return (*("" if cql_type(c.type) == "text" else 0 for c in table.partition), CANARY)


def walk_sql(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    """The statement that reads a whole table, page by page: columns as ``select_sql``, of speed rows the epoch too, and the
    bucket."""
    names = [name for name, _ in (speed_columns(table) if speed else batch_columns(table))]
    return f"SELECT {quoted(*names)} FROM {name_of(keyspace, table, speed=speed)}"


def stamps_sql(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    """The statement that reads of all rows bucket, time to live, what their timestamp is to be, and each value's timestamp."""
    stamp = "_fence" if speed else "_gen"
    values = [*(p.name for p in table.parts), "_records", stamp, "_nulls"]
    written = ", ".join(f"WRITETIME({quoted(name)})" for name in values)
    names = f'"_bucket", TTL("_nulls"), {quoted(stamp)}, {written}'
    return f"SELECT {names} FROM {name_of(keyspace, table, speed=speed)}"


def partitions_sql(keyspace: str, table: ServingTable, *, speed: bool = False) -> str:
    """The statement that reads which partitions there are."""
    names = [*(c.name for c in table.partition), "_bucket"]
    return f"SELECT DISTINCT {quoted(*names)} FROM {name_of(keyspace, table, speed=speed)}"


def delete_sql(keyspace: str, table: ServingTable, same: Sequence[str], below: str = "", *, speed: bool = False) -> str:
    """The statement that deletes what was written up to a timestamp, which it begins with: of the rows with the ``same``
    leading key columns those ``below`` a value of the next one."""
    tests = [f"{quoted(name)} = ?" for name in same] + ([f"{quoted(below)} < ?"] if below else [])
    return f"DELETE FROM {name_of(keyspace, table, speed=speed)} USING TIMESTAMP ? WHERE {' AND '.join(tests)}"
