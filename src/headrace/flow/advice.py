"""Looking at serving tables as they are: which there are, the stored rows of one partition, and what to do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import NotFoundError, nearest
from headrace.flow.answer import Reader, View
from headrace.flow.plan import Plan, Planned
from headrace.model.serving import ServingTable
from headrace.ports import Inspect, Store
from headrace.sql import cql
from headrace.sql.parameters import parameters_of

TOMBSTONES = 1_000
"""Deleted rows that a read may meet before it is advised about; nodes warn from there on."""
FAN_OUT = 16
"""Partitions that a read may ask before it is advised about."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What was found of a table (or of the keyspace), and what to do."""

    rule: str
    table: str
    found: str
    do: str


def named(plan: Plan, name: str) -> Planned:
    """The table that a name is of: its own here or in the store, or that of a query that has one; raises NotFoundError
    HR0501."""
    for planned in plan.tables:
        names = {planned.table.name, planned.kept.name, cql.physical_name(planned.kept.name)}
        if planned.now is not None:
            names |= {planned.now.name, cql.physical_name(planned.now.name)}
        if name in names:
            return planned
    asked = [planned for planned in plan.tables if name in planned.queries or name == planned.table.origin]
    if len(asked) == 1:
        return asked[0]
    known = [planned.table.name for planned in asked or plan.tables]
    what = f"'{name}' has {len(asked)} tables" if asked else f"no table '{name}'"
    raise NotFoundError("HR0501", what, help=", ".join(known) if asked else nearest(name, known))


def rows_of(reader: Reader, inspect: Inspect | None, name: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the store has of the partitions that a query would read, as it is stored: by table and partition the rows of
    both slots and every epoch, with what the store tells of each besides.

    Raises what ``Reader.answer`` raises.
    """
    query = reader.query(name)
    values = parameters_of(query, given)
    plan = query.plan(values)
    pointer = reader.pointer()
    view = View(pointer, reader.generation(pointer.generation))
    reads: list[tuple[ServingTable, Any]] = [(plan.table, plan), *((other.table, other) for other in plan.others)]
    found = []
    for table, fetch in reads:
        kept = view.stored(table)
        for partition in fetch.partitions(values):
            bounds = fetch.bounds(values)
            stored = (
                inspect.partition(kept, partition, bounds)
                if inspect is not None
                else fetched(reader.store, kept, partition, bounds, view)
            )
            found.append(
                {
                    "table": kept.name,
                    "partition": dict(zip((c.name for c in kept.partition), partition, strict=True)),
                    "answers": {"generation": pointer.generation, "abandoned": list(pointer.abandoned)},
                    **stored,
                }
            )
    return found


def fetched(
    store: Store, table: ServingTable, partition: Any, bounds: Any, view: View
) -> dict[str, list[dict[str, Any]]]:
    """As ``Inspect.partition``, by the port alone: speed rows of the epoch that answers."""
    batch = [
        dict(zip((*table.columns, "_slot", "_gen"), row, strict=True)) for row in store.fetch(table, partition, bounds)
    ]
    speed = []
    if table.of_mart:
        rows = store.fetch_speed(table, partition, bounds, epoch=view.generation.epoch)
        speed = [dict(zip((*table.columns, "_lane", "_start"), row, strict=True)) for row in rows]
    return {"batch": batch, "speed": speed}


def advise(plan: Plan, inspect: Inspect | None, consistency: str) -> list[Advice]:
    """What is not as it should be about the tables, the worst first, each with what to do."""
    found = [Advice("few partitions", p.table.name, p.refused, p.help) for p in plan.refused]
    found += [
        Advice("damaged" if c.kind == "rebuild" else "option", c.table, c.what, "headrace apply")
        for c in plan.changes
        if c.kind in ("rebuild", "alter")
    ]
    found += [Advice("large partitions", c.table, c.what, "headrace apply") for c in plan.changes if c.kind == "file"]
    for planned in plan.tables:
        bucket = planned.bucket
        if bucket is not None and bucket.kind == "salt" and bucket.count > FAN_OUT:
            what = f"each answer reads {bucket.count} partitions: {planned.why}"
            by = planned.table.clustering[0].name
            found.append(
                Advice(
                    "fan-out",
                    planned.kept.name,
                    what,
                    f"limit '{by}' on both sides in the query, or ask by one more column",
                )
            )
    if inspect is not None:
        found += measured(plan, inspect)
        found += [
            Advice(
                "foreign", name, f"{what}, which Headrace did not make", "a keyspace of its own: DROP it, or move it"
            )
            for name, what in sorted(inspect.others().items())
        ]
    if consistency in ("ALL", "EACH_QUORUM"):
        what = f"cassandra.consistency is {consistency}: writing stops while one {'node' if consistency == 'ALL' else 'datacenter'} is away"
        found.append(Advice("consistency", plan.keyspace, what, "LOCAL_QUORUM"))
    rest = [note for note in plan.notes if ": no generation" not in note]
    found += [Advice("replication", plan.keyspace, note, "headrace doctor") for note in rest if "keyspace" in note]
    found += [
        Advice("unused", note.partition(":")[0], "no generation answers from it", "headrace lake vacuum, or DROP TABLE")
        for note in plan.notes
        if ": no generation" in note
    ]
    return found


def measured(plan: Plan, inspect: Inspect) -> Sequence[Advice]:
    """What the nodes themselves have met."""
    found: dict[tuple[str, str], Advice] = {}
    for size in inspect.sizes():
        if size.largest is not None and size.largest > plan.limits.bytes:
            what = f"a partition of {size.largest / 1e6:,.0f} MB on {size.node}"
            do = "headrace plan: a bucket; where it plans none, cassandra.partition_size is set higher"
            found["size", size.table] = Advice("large partitions", size.table, what, do)
        if size.tombstones is not None and size.tombstones > TOMBSTONES:
            what = f"a read met {size.tombstones:,.0f} deleted rows on {size.node}"
            do = "run more often beside a stream, so that fewer speed rows are swept at a time; look for deletions by others"
            found["tombstones", size.table] = Advice("tombstones", size.table, what, do)
    return list(found.values())
