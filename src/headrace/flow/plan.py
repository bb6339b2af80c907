"""plan: what each serving table is to be in the store, how large its partitions become, and what differs from that now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.declare import tables as declared
from headrace.errors import HeadraceError, NotReadyError
from headrace.flow.control import generation_of, pointer_of
from headrace.flow.export import Gold
from headrace.model.cluster import LiveTable
from headrace.model.project import LoadedProject
from headrace.model.retention import spelled
from headrace.model.serving import Bucket, ServingTable
from headrace.model.types import Column
from headrace.ports import Engine, Inspect, Store
from headrace.seam.floor import floor_of
from headrace.seam.generation import EMPTY, Generation, stored
from headrace.sql import cql
from headrace.sql.gold import kept_sql, rollup_sql
from headrace.sql.sizes import days_sql, sizes_sql
from headrace.sql.windows import MONTHS, SECONDS, Declared, window_of

SLOTS = 2
"""Rows that a key has in a table of batch rows."""
YEAR = 365
"""Days ahead that are planned for where no retention is declared."""
UNEVEN = 1.25
"""By how much a salted bucket may be larger than the mean."""
SALTS = (2, 4, 8, 16, 32, 64, 128, 256)
SPREAD = 10
"""Partitions a node that a large table has at least."""
LARGE = 10
"""Times what one partition may have: from there on a table is large."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a partition may have: rows, both slots of a key counted, and bytes."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Keys of the largest partition of a table (``whole``), and of its largest month and day (0 without a date or time to
    cut by); ``keys`` of all of it, in ``partitions``; speed rows of the largest partition between two sweeps; bytes a row."""

    whole: int
    month: int
    day: int
    keys: int
    partitions: int
    speed: int
    row: int
    source: str
    distinct: Mapping[str, int] = field(default_factory=dict)
    """How many values columns of the clustering key have, as far as it is known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a table cut so: rows and bytes of its largest partition, how many there are, and all rows."""

    rows: int
    bytes: int
    partitions: int
    total: int
    source: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A serving table as it is to be: ``bucket`` is what is right, ``declared`` what tables.toml has. ``now`` is the table
    of the store that answers, None where none does."""

    table: ServingTable
    queries: tuple[str, ...]
    bucket: Bucket | None
    declared: Bucket | None
    estimate: Estimate | None
    retention: str
    now: ServingTable | None
    why: str = ""
    refused: str = ""
    help: str = ""

    @property
    def kept(self) -> ServingTable:
        """The table of the store that it is to be."""
        return self.table.kept(self.bucket, self.now.copy if self.now is not None else 0)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that `headrace apply` does. ``lost`` says what is gone by it, or was before it; empty where nothing is."""

    kind: str
    table: str
    what: str
    lost: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is, and what is to be done so that all is as declared."""

    keyspace: str
    live: bool
    nodes: int
    generation: int
    limits: Limits
    tables: tuple[Planned, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    option: cql.Option

    @property
    def refused(self) -> list[Planned]:
        return [table for table in self.tables if table.refused]

    @property
    def entries(self) -> dict[declared.Key, Bucket]:
        """What tables.toml is to have."""
        return {declared.key_of(p.table): p.bucket for p in self.tables if p.bucket is not None}

    def create(self, planned: Planned) -> list[str]:
        """The CQL that makes a table."""
        kept = planned.kept
        return [
            cql.create_sql(self.keyspace, kept, self.option, speed=speed)
            for speed in ((False, True) if kept.of_mart else (False,))
        ]


@dataclass(slots=True)
class Planner:
    """Plans the tables of one project. ``inspect`` is None where the store is not a cluster: then it plans offline."""

    project: LoadedProject
    engine: Engine
    store: Store
    gold: Gold
    inspect: Inspect | None
    keyspace: str
    replicas: int
    range_size: int
    limits: Limits

    def plan(self) -> Plan:
        changes: list[Change] = []
        notes: list[str] = []
        option = cql.SCYLLA if self.inspect is not None and self.inspect.is_scylla else cql.CASSANDRA
        schema: Mapping[str, LiveTable] = {}
        nodes = self.replicas
        if self.inspect is not None:
            nodes = len(self.inspect.nodes())
            schema = self.inspect.schema()
            replication = self.inspect.keyspace()
            if replication is None:
                changes.append(Change("make", self.keyspace, f"keyspace, {self.replicas} replica(s)"))
            else:
                notes += replicated(self.keyspace, replication)
        generation = EMPTY
        if self.inspect is None or cql.CONTROL in schema:
            pointer = pointer_of(self.store)
            generation = generation_of(self.store, pointer.generation)
            notes += self.unused([generation, generation_of(self.store, pointer.predecessor or 0)], schema)
        used = declared.used(self.project.queries.values())
        growths = self.measured(generation, [table for table, _ in used.values()])
        tables = tuple(
            self.planned(table, bounded, generation, growths.get(name), nodes)
            for name, (table, bounded) in sorted(used.items())
        )
        for planned in tables:
            changes += self.changed(planned, option, schema)
        if self.inspect is not None:
            changes += self.altered("", cql.CONTROL, cql.control_options(option), schema)
            now = [planned.now for planned in tables if planned.now is not None]
            there = [t for t in now if cql.physical_name(t.name) in schema]
            changes += [
                Change("rebuild", name, f"HR0427: {what}", what) for name, what in self.inspect.damaged(there).items()
            ]
        stale = set(declared.read(self.project.folder)) - {declared.key_of(table) for table, _ in used.values()}
        notes += [
            f"{declared.NAME}: no query has a table of {of} by {', '.join((*p, *c))} any more"
            for of, p, c in sorted(stale)
        ]
        return Plan(
            self.keyspace, self.inspect is not None, nodes, generation.number, self.limits, tables,
            tuple(changes), tuple(notes), option,
        )  # fmt: skip

    # How large it becomes

    def measured(self, generation: Generation, tables: Sequence[ServingTable]) -> dict[str, Growth]:
        """What each table's rows come to in gold, by the names of their definitions; those of what was edited since the
        last run are left out."""
        if not generation.number:
            return {}
        try:
            edited = self.gold.define()
        except NotReadyError:
            return {}
        return {table.name: self.measure(table, generation) for table in tables if table.origin not in edited}

    def measure(self, table: ServingTable, generation: Generation) -> Growth:
        rows = rollup_sql(table, f'"{table.origin}__parts"' if table.of_mart else f'"{table.origin}"')
        rows = kept_sql(rows, floor_of(generation.floors, table))
        # A partition of one date or time does not grow with the days that come.
        timed = timed_column(table.clustering) if timed_column(table.partition) is None else None
        self.engine.keep("_days", days_sql(table, rows, timed))
        retention = self.project.retention.get(table.origin)
        span = -(-retention.span // 86_400) if retention is not None else None
        facts = self.project.facts_of(table.origin)
        lanes = sum(lane.partition("/")[0] in facts for lane in generation.cut) or 1
        numbers = self.engine.rows(sizes_sql(table, timed is not None, span, YEAR, lanes, self.range_size))[0]
        whole, month, day, keys, partitions, speed, row, days = (int(number or 0) for number in numbers)
        ahead = "" if timed is None else f", for {f'the {span} days that are kept' if span else 'a year from now'}"
        source = f"measured in generation {generation.number} ({days:,} days of data){ahead}"
        names = [c.name for c in table.clustering if c is not timed]
        counts = ", ".join(f"approx_count_distinct({name})" for name in names)
        distinct = dict(zip(names, self.engine.rows(f"SELECT {counts} FROM ({rows})")[0], strict=True)) if names else {}
        return Growth(whole, month, day, keys, partitions, speed if table.of_mart else 0, row, source, distinct)

    def declared_growth(self, table: ServingTable) -> Growth | None:
        """What `project.expect` comes to; None where it says too little."""
        values = self.project.expected.get(table.origin)
        if values is None:
            return None
        mart = self.project.marts[table.origin]
        window = window_of(mart, Declared(self.project.sources, self.project.datasets, self.project.marts))
        retention = self.project.retention.get(table.origin)
        span = retention.span / 86_400 if retention is not None else YEAR
        a_day = 0.0
        if window is not None:
            a_day = 1 / (30 * MONTHS[window.unit]) if window.unit in MONTHS else 86_400 / SECONDS.get(window.unit, 1)

        def product(columns: Iterable[Column]) -> tuple[float, bool] | None:
            found, has_window = 1.0, False
            for column in columns:
                if column.name in values:
                    found *= values[column.name]
                elif window is not None and column.name == window.column:
                    has_window = True
                else:
                    return None
            return found, has_window

        inner, outer = product(table.clustering), product(table.partition)
        if inner is None or outer is None:
            return None
        keys, timed = inner
        windows = math.ceil(a_day * span)
        whole = keys * windows if timed else keys
        partitions = outer[0] * (windows if outer[1] else 1)
        row = 40 + 10 * len(table.parts) + 12 * len(table.clustering)
        month, day = (math.ceil(keys * max(a_day * days, 1)) if timed else 0 for days in (31, 1))
        source = f"declared by expect(), for {'what is kept' if retention is not None else 'a year'}"
        return Growth(
            math.ceil(whole), month, day, math.ceil(whole * partitions), math.ceil(partitions), 0, row, source,
            {c.name: values[c.name] for c in table.clustering if c.name in values},
        )  # fmt: skip

    def estimate(self, growth: Growth, bucket: Bucket | None) -> Estimate:
        """Of a table that grows so, cut by a bucket."""
        speed, partitions = growth.speed, growth.partitions
        if bucket is None:
            keys = growth.whole
        elif bucket.kind == "salt":
            keys = math.ceil(growth.whole / bucket.count * UNEVEN)
            speed = math.ceil(speed / bucket.count * UNEVEN)
            partitions *= bucket.count
        else:
            keys = growth.month if bucket.kind == "month" else growth.day
            partitions = max(partitions, math.ceil(growth.keys / keys)) if keys else partitions
        rows = max(SLOTS * keys, speed)
        return Estimate(rows, rows * growth.row, partitions, SLOTS * growth.keys, growth.source)

    def planned(
        self, table: ServingTable, bounded: bool, generation: Generation, measured: Growth | None, nodes: int
    ) -> Planned:
        own = self.project.buckets.get(table.name)
        queries = tuple(n for n, q in self.project.queries.items() if any(t.name == table.name for t in q.tables))
        state = generation.tables.get(table.name)
        retention = self.project.retention.get(table.origin)
        kept = f"{spelled(retention.span)} of '{retention.column}'" if retention is not None else ""
        growths = [growth for growth in (measured, self.declared_growth(table)) if growth is not None]
        now = stored(table, state) if state is not None else None
        planned = Planned(table, queries, own, own, None, kept, now)
        if not growths:
            return planned
        growth = max(growths, key=lambda g: (self.estimate(g, own).rows, self.estimate(g, own).bytes))
        ladder = [Bucket("month"), Bucket("day")] if bounded and growth.day else []
        ladder += [Bucket("salt", count) for count in SALTS] if table.clustering else []
        for bucket in (own, *ladder):
            found = self.estimate(growth, bucket)
            if self.fits(found):
                break
        else:
            found = self.estimate(growth, own)
            what = f"one partition would have {found.rows:,} rows, {found.bytes / 1e6:,.0f} MB, and no bucket makes it small enough"
            return replace(planned, estimate=found, refused=what, help=self.instead(table, growth, nodes, salt=False))
        whole = self.estimate(growth, None)
        why = (
            ""
            if bucket is None
            else f"uncut, one partition would have {whole.rows:,} rows, {whole.bytes / 1e6:,.1f} MB"
        )
        planned = replace(planned, bucket=bucket, estimate=found, why=why)
        large = found.total > LARGE * self.limits.rows or found.total * growth.row > LARGE * self.limits.bytes
        spread = growth.partitions * (bucket.count if bucket is not None else 1)
        if large and spread < SPREAD * nodes:
            by = ", ".join(c.name for c in table.partition) or "nothing"
            what = f"{found.total:,} rows in {growth.partitions:,} partition(s) by {by}: {nodes} node(s) take {SPREAD * nodes} or more"
            return replace(planned, refused=what, help=self.instead(table, growth, nodes, salt=True))
        return planned

    def fits(self, estimate: Estimate) -> bool:
        return estimate.rows <= self.limits.rows and estimate.bytes <= self.limits.bytes

    def instead(self, table: ServingTable, growth: Growth, nodes: int, *, salt: bool) -> str:
        """What to write instead of a partition key that is refused."""
        wanted = SPREAD * nodes
        better = [name for name, count in growth.distinct.items() if count * growth.partitions >= wanted]
        said = [f"a parameter for {' or '.join(better)} in the query's WHERE"] if better else []
        count = next((n for n in SALTS if n * growth.partitions >= wanted), SALTS[-1])
        if salt and table.clustering:
            said.append(f'bucket = "salt {count}" in {declared.NAME}, and {count} reads for each answer')
        return "; or ".join(said) or "a parameter for a column with more values in the query's WHERE"

    # What differs

    def changed(self, planned: Planned, option: cql.Option, schema: Mapping[str, LiveTable]) -> list[Change]:
        kept, now = planned.kept, planned.now
        found = []
        if planned.bucket != planned.declared:
            names = [b.text if b is not None else "none" for b in (planned.declared, planned.bucket)]
            found.append(Change("file", kept.name, f"bucket in {declared.NAME}: {names[0]} -> {names[1]}"))
        if now is None or now.name != kept.name:
            what = "make it and fill it by a run" + (f", beside {now.name}, which is kept" if now is not None else "")
            found.append(Change("fill", kept.name, what))
        if self.inspect is None or now is None:
            return found
        for speed in (False, True) if now.of_mart else (False,):
            name = cql.physical_name(now.name) + (cql.SPEED if speed else "")
            live = schema.get(name)
            if live is None:
                found.append(Change("rebuild", now.name, f"table {name} is gone", "its rows"))
                continue
            differs = columns_differ(now, live, speed=speed)
            if differs:
                found.append(Change("rebuild", now.name, f"{name}: {differs}", "what those columns had"))
            found += self.altered(now.name, name, cql.options(option, speed=speed), schema)
        return found

    def altered(
        self, table: str, name: str, wanted: Mapping[str, str], schema: Mapping[str, LiveTable]
    ) -> list[Change]:
        live = schema.get(name)
        if live is None:
            return []
        found = []
        for key, value in wanted.items():
            have = live.options.get(key, "")
            if (value.partition(": ")[2].strip("'}") not in have) if key == "compaction" else have != value:
                lost = LOST.get(key, "") if key != "default_time_to_live" or have != "0" else ""
                found.append(Change("alter", name, f"{key} is {have}, not {value}", lost, {key: value}))
        return found

    def unused(self, kept: Sequence[Generation], schema: Mapping[str, LiveTable]) -> list[str]:
        """Tables of ours that none of these generations names."""
        named = {state.name(base) for generation in kept for base, state in generation.tables.items()}
        ours = {t.comment.removeprefix(cql.MARK) for t in schema.values() if t.comment.startswith(cql.MARK)}
        return [f"{name}: no generation answers from it" for name in sorted(ours - named)]


LOST = {
    "default_time_to_live": "rows written while it was set expire: `headrace reconcile` brings them back",
    "read_repair": "what a reader saw may have been unseen by the next one",
}


def columns_differ(table: ServingTable, live: LiveTable, *, speed: bool) -> str:
    """What is other about a table's columns than it is to be; empty where nothing is."""
    wanted = dict(cql.speed_columns(table) if speed else cql.batch_columns(table))
    partition, clustering = cql.primary_key(table, speed=speed)
    for name, type in wanted.items():
        have = live.columns.get(name)
        if have is None:
            return f"column {name} is missing"
        if have.type != type:
            return f"column {name} is {have.type}, not {type}"
        kind = "partition_key" if name in partition else "clustering" if name in clustering else "regular"
        place = partition.index(name) if name in partition else clustering.index(name) if name in clustering else -1
        if (have.kind, have.place) != (kind, place):
            return f"column {name} has another place in the key"
    return ""  # columns of others do no harm


def replicated(keyspace: str, replication: Mapping[str, str]) -> list[str]:
    """What to know of how a keyspace is replicated."""
    kind = replication.get("class", "").rpartition(".")[2]
    counts = [int(v) for k, v in replication.items() if k != "class" and v.isdigit()]
    found = []
    if kind == "SimpleStrategy":
        found.append(
            f"keyspace {keyspace} has SimpleStrategy, which knows no racks and datacenters: NetworkTopologyStrategy"
        )
    if counts and min(counts) < 3:
        found.append(f"keyspace {keyspace} has {min(counts)} replica(s): with 3, answers go on while a node is down")
    return found


def timed_column(columns: Sequence[Column]) -> Column | None:
    """The first column that is a date or time."""
    return next((c for c in columns if c.type.name == "DATE" or c.type.is_instant), None)


def raise_refused(plan: Plan) -> None:
    """Raises PlanError HR0429 where a table would not spread."""
    for planned in plan.refused:
        raise RefusedError("HR0429", f"{planned.table.name}: {planned.refused}", help=planned.help)


class RefusedError(HeadraceError):
    """A table cannot be what its query makes of it."""

    exit_code = 2
