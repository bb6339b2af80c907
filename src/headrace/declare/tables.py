"""``tables.toml``: what the partitions of serving tables are cut into. `headrace apply` writes it; people read and commit it."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from headrace.errors import DeclarationError, Place
from headrace.model.serving import Bucket, ServingTable, bucket_of
from headrace.sql.query import Query

NAME = "tables.toml"
Key = tuple[str, tuple[str, ...], tuple[str, ...]]
"""What an entry is for: a mart or dataset, and the partition and clustering columns that its tables have."""
HEAD = """\
# What the partitions of serving tables are cut into, so that none of them grows too large (docs/cassandra.md).
# `headrace apply` writes this file; every process reads it: commit it. bucket: "month", "day", or "salt 2" to "salt 256".
"""


def key_of(table: ServingTable) -> Key:
    return table.origin, tuple(c.name for c in table.partition), tuple(c.name for c in table.clustering)


def read(folder: Path) -> dict[Key, Bucket]:
    """The entries of a project's file, if it has one; raises DeclarationError HR0109."""
    file = folder / NAME
    try:
        tree = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"it cannot be read: {error}") from None
    entries = tree.pop("table", [])
    if tree or not isinstance(entries, list):
        raise _wrong(f"it has '{next(iter(tree), 'table')}'")
    found: dict[Key, Bucket] = {}
    for number, entry in enumerate(entries, 1):
        try:
            bucket = bucket_of(entry["bucket"])
            partition, clustering = (tuple(map(str, entry[name])) for name in ("partition", "clustering"))
            key = str(entry["of"]), partition, clustering
            if bucket is None or set(entry) != {"of", "partition", "clustering", "bucket"} or key in found:
                raise ValueError(entry)
        except (KeyError, TypeError, ValueError):
            raise _wrong(f"its entry {number} cannot be read") from None
        found[key] = bucket
    return found


def write(folder: Path, entries: Mapping[Key, Bucket]) -> None:
    """Replaces the file, whole; one without entries goes."""
    file = folder / NAME
    if not entries:
        file.unlink(missing_ok=True)
        return
    text = HEAD
    for (of, partition, clustering), bucket in sorted(entries.items()):
        lists = f"partition = {json.dumps(partition)}\nclustering = {json.dumps(clustering)}"
        text += f'\n[[table]]\nof = "{of}"\n{lists}\nbucket = "{bucket.text}"\n'
    beside = file.with_name(f".{NAME}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.replace(file)


def buckets(entries: Mapping[Key, Bucket], queries: Iterable[Query]) -> dict[str, Bucket]:
    """By the names of serving tables, what they are cut into; raises DeclarationError HR0109 where a table cannot be cut so."""
    found: dict[str, Bucket] = {}
    for name, (table, bounded) in used(queries).items():
        bucket = entries.get(key_of(table))
        if bucket is None:
            continue
        if bucket.of_time and not bounded:
            first = table.clustering[0].name if table.clustering else "no column"
            raise _wrong(
                f"{table.origin} by {', '.join(c.name for c in table.key)} is cut by {bucket.kind}, and not every query "
                f"that reads it limits '{first}' on both sides, as a date or time"
            )
        if table.clustering:
            found[name] = bucket
    return found


def used(queries: Iterable[Query]) -> dict[str, tuple[ServingTable, bool]]:
    """Every serving table by its name, and whether each read of it limits its first clustering column, a date or time, on
    both sides."""
    found: dict[str, tuple[ServingTable, bool]] = {}
    for query in queries:
        for plan in query.plans.values():
            reads = [(plan.table, plan.bounded), *((look.table, False) for look in plan.lookups)]
            for table, bounded in (*reads, *((other.table, other.bounded) for other in plan.others)):
                first = table.clustering[0].type if table.clustering else None
                timed = first is not None and (first.name == "DATE" or first.is_instant)
                found[table.name] = table, bounded and timed and found.get(table.name, (table, True))[1]
    return found


def _wrong(what: str) -> DeclarationError:
    help = f'{NAME} has entries [[table]] with of, partition, clustering, and bucket = "month", "day" or "salt 8"'
    return DeclarationError("HR0109", what, place=Place(NAME), help=help)
