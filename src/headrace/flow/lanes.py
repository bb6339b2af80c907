"""The lanes of a source: its own bronze table, and every partition of its topic that was ever seen.

A partition has its place in the lake from its first sight on, as the log may forget it: its name, which has the topic's id
in it, and its first retained offset, before which nothing is missing.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from headrace.model.source import Source, source_of
from headrace.ports import Engine, Lake, Snapshot

TABLE = "lanes"
GAPS = "gaps"
COLUMNS = [("lane", "VARCHAR"), ("start", "BIGINT")]


def lanes_of(source: Source, lake: Lake, engine: Engine) -> dict[str, int]:
    """Every lane of a source, with its start."""
    return {source.name: 0} | {lane: start for lane, start in _seen(lake, engine) if source_of(lane) == source.name}


def streamed(lanes: Mapping[str, int]) -> dict[str, int]:
    """Those of a source's lanes that stream workers count: its topic's, where it has one; else its own."""
    partitions = {lane: start for lane, start in lanes.items() if lane != source_of(lane)}
    return partitions or dict(lanes)


def ends(snapshot: Snapshot | None, lanes: Mapping[str, int]) -> dict[str, int]:
    """Of the lanes that a version of a table has records of, where each ends."""
    found = {lane: snapshot.transaction(lane) for lane in lanes} if snapshot is not None else {}
    return {lane: end for lane, end in found.items() if end is not None}


def marked(lane: str, mark: str) -> dict[str, int]:
    """A log's mark of a lane's last record, as transactions of the commit that has that record."""
    offset, _, digest = mark.partition(".")
    return {f"{lane} mark": int(offset), f"{lane} digest": int(digest)} if mark else {}


def mark_in(snapshot: Snapshot | None, lane: str) -> str:
    """The inverse of ``marked``; empty where there is none."""
    numbers = (
        [snapshot.transaction(f"{lane} {what}") for what in ("mark", "digest")] if snapshot is not None else [None]
    )
    return "" if None in numbers else ".".join(map(str, numbers))


def note(lanes: Mapping[str, int], lake: Lake, engine: Engine) -> None:
    """Keeps the lanes that were not seen before."""
    known = dict(_seen(lake, engine))
    new = {lane: start for lane, start in lanes.items() if lane not in known}
    if new:
        engine.offer("_new_lanes", pa.table({"lane": list(new), "start": list(new.values())}))
        path = lake.new_file(TABLE)
        rows = engine.write("SELECT * FROM _new_lanes", path)
        lake.commit(TABLE, [(path, rows)], keep=None, base=lake.snapshot(TABLE))


def note_gaps(gaps: Mapping[str, tuple[int, int]], lake: Lake, engine: Engine) -> None:
    """Keeps that offsets [first, end) of lanes were gone from the log before they were copied to bronze."""
    if gaps:
        columns = {"lane": list(gaps), "first": [g[0] for g in gaps.values()], "next": [g[1] for g in gaps.values()]}
        engine.offer("_new_gaps", pa.table(columns))
        path = lake.new_file(GAPS)
        rows = engine.write("SELECT * FROM _new_gaps", path)
        lake.commit(GAPS, [(path, rows)], keep=None, base=lake.snapshot(GAPS))


def gaps_of(lake: Lake, engine: Engine) -> list[tuple[str, int, int]]:
    """(lane, first, end) of records that are missing for good."""
    found = lake.snapshot(GAPS)
    columns = [("lane", "VARCHAR"), ("first", "BIGINT"), ("next", "BIGINT")]
    scan = engine.scan(found.files, columns) if found is not None else None
    sql = f'SELECT DISTINCT lane, "first", "next" FROM {scan} ORDER BY ALL'
    return [(lane, first, end) for lane, first, end in engine.rows(sql)] if scan else []


def _seen(lake: Lake, engine: Engine) -> list[tuple[str, int]]:
    found = lake.snapshot(TABLE)
    if found is None:
        return []
    return [
        (lane, start) for lane, start in engine.rows(f"SELECT lane, start FROM {engine.scan(found.files, COLUMNS)}")
    ]
