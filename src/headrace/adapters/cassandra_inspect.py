"""What Cassandra and ScyllaDB tell of themselves through CQL: tables, nodes, the ring, and what happened to rows."""

from __future__ import annotations

import copy
import datetime as dt
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.adapters.cassandra_session import NEVER, PERHAPS, told
from headrace.adapters.cassandra_store import Bounds, CassandraStore, Row
from headrace.errors import OutsideError
from headrace.model.cluster import LiveColumn, LiveNode, LiveSize, LiveTable
from headrace.model.ring import Node, Ring
from headrace.model.serving import ServingTable
from headrace.ports import Store
from headrace.sql import cql

SETTINGS = (
    "minimum_timestamp_fail_threshold",
    "minimum_timestamp_warn_threshold",
    "maximum_timestamp_fail_threshold",
    "maximum_timestamp_warn_threshold",
    "read_consistency_levels_disallowed",
    "write_consistency_levels_disallowed",
    "hinted_handoff_enabled",
)
"""Settings of a node that may refuse or change what is written."""
PROBE = "probe"
"""The control row that is written to see what becomes of a timestamp."""
AT = 7
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - without a zone, as the driver gives moments
TRIES = 10
"""Looks for a connection with a node, a tenth of a second apart: a session does not wait for all of them."""


class CassandraInspect:
    """Looks at the cluster of a store, by its session. It goes by system tables alone, so it works where the store itself
    refuses to."""

    def __init__(self, store: CassandraStore) -> None:
        self.store = store
        self.connected = store.connected

    @property
    def space(self) -> str:
        return self.store.address.keyspace

    @property
    def is_scylla(self) -> bool:
        return self.store.is_scylla

    # Tables

    def damaged(self, tables: Sequence[ServingTable]) -> Mapping[str, str]:
        have = {
            name
            for (name,) in self.connected.rows(
                "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", (self.space,)
            )
        }
        found: dict[str, str] = {}
        for table in tables:
            for speed in (False, True) if table.of_mart else (False,):
                what = "speed rows" if speed else "batch rows"
                if cql.physical_name(table.name) + (cql.SPEED if speed else "") not in have:
                    found.setdefault(table.name, f"the table of its {what} is gone")
                    continue
                sql = cql.canary_sql(self.space, table, speed=speed)
                rows = self.connected.rows(sql, cql.canary_key(table))
                if not rows:
                    found.setdefault(table.name, f"{what} were deleted by the clock, or truncated")
                elif rows[0][0] != cql.CANARY_AT:
                    found.setdefault(table.name, f"{what} were written with the timestamp {rows[0][0]}, not ours")
                elif rows[0][1] is not None:
                    found.setdefault(table.name, f"{what} expire")
        return found

    def foreign(self, table: ServingTable) -> int:
        found = 0
        for speed in (False, True) if table.of_mart else (False,):
            for rows in self.connected.pages(cql.stamps_sql(self.space, table, speed=speed)):
                for bucket, expires, stamp, *written in rows:
                    found += bucket != cql.CANARY and (expires is not None or any(t != stamp for t in written))
        return found

    def unchecked(self) -> Store:
        found = copy.copy(self.store)
        found.made = True
        return found

    def keyspace(self) -> Mapping[str, str] | None:
        sql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?"
        rows = self.connected.rows(sql, (self.space,))
        return dict(rows[0][0]) if rows else None

    def schema(self) -> Mapping[str, LiveTable]:
        columns: dict[str, dict[str, LiveColumn]] = {}
        sql = "SELECT table_name, column_name, type, kind, position FROM system_schema.columns WHERE keyspace_name = ?"
        for table, name, type, kind, place in self.connected.rows(sql, (self.space,)):
            columns.setdefault(table, {})[name] = LiveColumn(type, kind, place)
        names = ["default_time_to_live", "gc_grace_seconds", "compaction"]
        names += [] if self.store.is_scylla else ["read_repair"]
        sql = f"SELECT table_name, comment, {', '.join(names)} FROM system_schema.tables WHERE keyspace_name = ?"
        return {
            table: LiveTable(table, columns.get(table, {}), dict(zip(names, map(option, values), strict=True)), comment)
            for table, comment, *values in self.connected.rows(sql, (self.space,))
        }

    def others(self) -> Mapping[str, str]:
        found = {
            name: "a table"
            for name, live in self.schema().items()
            if name != cql.CONTROL and not live.comment.startswith(cql.MARK)
        }
        sql = "SELECT index_name, table_name FROM system_schema.indexes WHERE keyspace_name = ?"
        found |= {name: f"an index on {table}" for name, table in self.connected.rows(sql, (self.space,))}
        sql = "SELECT view_name, base_table_name FROM system_schema.views WHERE keyspace_name = ?"
        found |= {name: f"a materialized view of {table}" for name, table in self.connected.rows(sql, (self.space,))}
        return found

    def alter(self, table: str, options: Mapping[str, str]) -> None:
        said = " AND ".join(f"{name} = {value}" for name, value in options.items())
        self.connected.define(f"ALTER TABLE {cql.quoted(self.space)}.{cql.quoted(table)} WITH {said}")

    def partition(
        self, table: ServingTable, partition: Row, bounds: Bounds
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for speed in (False, True) if table.of_mart else (False,):
            names = [name for name, _ in (cql.speed_columns(table) if speed else cql.batch_columns(table))]
            tests = " AND ".join(f"{cql.quoted(name)} = ?" for name in [*(c.name for c in table.partition), "_bucket"])
            first = [c.name for c in table.clustering[:1]]
            asked = [(">=", bounds[0]), ("<=", bounds[2])]
            limits = [(op, v) for op, v in asked if v is not None and first and not speed]
            tests += "".join(f" AND {cql.quoted(*first)} {op} ?" for op, _ in limits)
            sql = (
                f'SELECT {cql.quoted(*names)}, WRITETIME("_nulls"), TTL("_nulls") '
                f"FROM {cql.name_of(self.space, table, speed=speed)} WHERE {tests}"
            )
            values = [(*partition, b, *(v for _, v in limits)) for b in table.buckets(bounds[0], bounds[2])]
            rows = [row for some in self.connected.rows_of_each(sql, values) for row in some] if values else []
            found["speed" if speed else "batch"] = [
                dict(zip([*names, "writetime", "ttl"], row, strict=True)) for row in rows
            ]
        return found

    def probe(self) -> str:
        value = "what this is written with"
        try:
            self.store.raise_value(PROBE, value, AT)
            sql = (
                f"SELECT value, WRITETIME(value), TTL(value) FROM {cql.quoted(self.space)}.{cql.CONTROL} WHERE name = ?"
            )
            rows = self.connected.rows(sql, (PROBE,))
        except OutsideError as error:
            return str(error)
        if not rows:
            return "what was written is not there"
        if rows[0] != (value, AT, None):
            return f"written at timestamp {AT}, and now: timestamp {rows[0][1]}, time to live {rows[0][2]}"
        return ""

    # Nodes

    def nodes(self) -> Sequence[LiveNode]:
        assert self.connected.session is not None
        hosts = sorted(self.connected.cluster.metadata.all_hosts(), key=lambda h: (h.datacenter or "", h.address))
        return [self._node(host) for host in hosts]

    def _node(self, host: Any) -> LiveNode:
        place = (host.address, host.datacenter or "", host.rack or "")
        sql = "SELECT release_version, tokens, schema_version, toTimestamp(now()) FROM system.local"
        try:
            self._ask(host, sql)  # a first question opens what the second one need not wait for
            sent = time.time()
            version, tokens, schema, moment = self._ask(host, sql)[0]
            came = time.time()
        except OutsideError as error:
            return LiveNode(*place, up=False, said=str(error))
        mebibytes = self._told(host, "SELECT mebibytes FROM system_views.disk_usage")
        hints = self._told(host, "SELECT files FROM system_views.pending_hints")
        marks = ", ".join(cql.text(name) for name in SETTINGS)
        settings = self._told(host, f"SELECT name, value FROM system_views.settings WHERE name IN ({marks})")
        return LiveNode(
            *place,
            up=True,
            version=version,
            tokens=len(tokens or ()),
            schema=str(schema),
            skew=seconds(moment) - (sent + came) / 2,
            doubt=(came - sent) / 2 + 0.001,
            load=sum(int(m) for (m,) in mebibytes) << 20 if mebibytes is not None else None,
            hints=sum(int(n) for (n,) in hints) if hints is not None else None,
            settings={name: value for name, value in settings or () if value not in (None, "null", "[]")},
        )

    def ring(self, table: str = "") -> Ring:
        assert self.connected.session is not None
        metadata = self.connected.cluster.metadata
        hosts = sorted(metadata.all_hosts(), key=lambda host: host.address)
        shards = [self._sharding(host) for host in hosts]
        nodes = tuple(Node(host.address, count) for host, (count, _) in zip(hosts, shards, strict=True))
        if self.is_scylla and table and (tablets := self._tablets(table)):
            return tablet_ring(nodes, [host.host_id for host in hosts], tablets)
        numbers = {host: number for number, host in enumerate(hosts)}
        tokens = metadata.token_map.ring if metadata.token_map is not None else []
        owners = tuple(
            tuple(numbers[host] for host in metadata.token_map.get_replicas(self.space, token)) for token in tokens
        )
        return Ring(nodes, tuple(token.value for token in tokens), owners, max(ignored for _, ignored in shards))

    def _sharding(self, host: Any) -> tuple[int, int]:
        """Of a node its shards, and the bits of a token that sharding ignores: ScyllaDB's SUPPORTED says it, and its own
        driver keeps it."""
        found = getattr(host, "sharding_info", None)
        if found is not None:
            return found.shards_count, found.sharding_ignore_msb
        if self.is_scylla and host.is_up is not False:
            what = f"{host.address} has shards, which this driver does not tell of"
            raise OutsideError("HR0424", what, help="pip uninstall cassandra-driver; pip install 'headrace[scylla]'")
        return 1, 0

    def _tablets(self, table: str) -> Sequence[Row]:
        """The last token and the replicas (host, shard) of each tablet, by token; none where the table has none."""
        sql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"
        of = [id for (id,) in self.connected.rows(sql, (self.space, table))]
        sql = "SELECT last_token, replicas FROM system.tablets WHERE table_id = ?"
        return [row for id in of for row in self.connected.rows(sql, (id,))]

    def sizes(self) -> Sequence[LiveSize]:
        assert self.connected.session is not None
        space = cql.text(self.space)
        estimates = f"SELECT table_name, partitions_count, mean_partition_size FROM system.size_estimates WHERE keyspace_name = {space}"
        largest = "SELECT keyspace_name, table_name, mebibytes FROM system_views.max_partition_size"
        listed = "SELECT keyspace_name, table_name, partition_size FROM system.large_partitions"
        tombs = "SELECT keyspace_name, table_name, max FROM system_views.tombstones_per_read"
        found = []
        for host in self.connected.cluster.metadata.all_hosts():
            counts: Counter[str] = Counter()
            weights: Counter[str] = Counter()
            for table, count, mean in self._told(host, estimates) or ():
                counts[table] += count
                weights[table] += count * mean
            sizes = {t: int(m) << 20 for k, t, m in self._told(host, largest) or () if k == self.space}
            for keyspace, table, size in (self._told(host, listed) or ()) if self.is_scylla else ():
                if keyspace == self.space:
                    sizes[table] = max(size, sizes.get(table, 0))
            dead = {t: float(m) for k, t, m in self._told(host, tombs) or () if k == self.space}
            found += [
                LiveSize(
                    host.address,
                    table,
                    counts.get(table),
                    weights[table] // counts[table] if counts[table] else None,
                    sizes.get(table),
                    dead.get(table),
                )
                for table in sorted({*counts, *sizes, *dead})
            ]
        return found

    def _ask(self, host: Any, sql: str) -> list[Row]:
        """The rows that one node itself gives."""
        if host.is_up is False:
            raise OutsideError("HR0424", f"{host.address} is down", retry=True)
        for attempt in range(TRIES):
            try:
                return list(self.connected.session.execute(sql, host=host))
            except (*PERHAPS, *NEVER) as error:
                if attempt + 1 == TRIES or isinstance(error, NEVER):
                    raise told(error) from None
            time.sleep(0.1)
        raise AssertionError

    def _told(self, host: Any, sql: str) -> list[Row] | None:
        """As ``_ask``; None where the node has no such table, may not tell it, or does not answer."""
        try:
            return self._ask(host, sql)
        except OutsideError:
            return None


def tablet_ring(nodes: tuple[Node, ...], hosts: Sequence[Any], tablets: Sequence[Row]) -> Ring:
    """A ring of tablets as `system.tablets` has them; ``hosts`` are the ids of ``nodes``. A replica on a host that has left
    is none."""
    numbers = {host: number for number, host in enumerate(hosts)}
    held = [[(numbers[host], shard) for host, shard in replicas if host in numbers] for _, replicas in tablets]
    return Ring(
        nodes,
        tuple(last for last, _ in tablets),
        tuple(tuple(node for node, _ in places) for places in held),
        shards=tuple(tuple(shard for _, shard in places) for places in held),
    )


def option(value: Any) -> str:
    """An option as CQL writes it."""
    if isinstance(value, Mapping):
        inner = {str(k): str(v).rpartition(".")[2] if k == "class" else str(v) for k, v in value.items()}
        return "{" + ", ".join(f"{cql.text(k)}: {cql.text(v)}" for k, v in sorted(inner.items())) + "}"
    return str(value) if isinstance(value, int) else cql.text(str(value))


def seconds(moment: Any) -> float:
    """Seconds since 1970 of a moment without a zone."""
    return float((moment - EPOCH).total_seconds())
