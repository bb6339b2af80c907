"""publish: a generation's rows into the store, each into the slot that nobody reads; then the pointer moves."""

from __future__ import annotations

import time
from collections.abc import Mapping

from headrace.errors import OutsideError
from headrace.flow.aggregate import Aggregated
from headrace.flow.relations import Relations
from headrace.flow.writing import Writer
from headrace.model.retention import Floor
from headrace.model.run import Step
from headrace.model.serving import ServingTable
from headrace.ports import Engine, Lake, Observer, Snapshot, Store, next_version
from headrace.seam.generation import TableState
from headrace.sql.drift import mending_sql
from headrace.sql.gold import changes_sql, first_sql, kept_sql, live_sql, rollup_sql, state_columns, stored, unknown_sql
from headrace.sql.mart import RECORDS

PIECES = 8
"""Appended pieces of a table's state before they are merged into one."""


def publish(
    table: ServingTable,
    generation: int,
    relations: Relations,
    lake: Lake,
    engine: Engine,
    store: Store,
    observer: Observer,
    writer: Writer,
    before: TableState | None,
    marts: Mapping[str, Aggregated],
    known: Mapping[str, str],
    drift: str | None = None,
    floor: Floor | None = None,
    unknown: Floor | None = None,
) -> tuple[Step, TableState]:
    """Finds one serving table's changed rows, and has them written. ``before`` is its state in the generation that
    answers (None: that has no such table, so that nobody reads it); ``drift`` names keys that are written whatever that
    says. Windows below ``floor`` are neither written nor compared; of those below ``unknown``, which were not kept so far,
    all are written."""
    started = time.monotonic()
    step = Step("publish", table.name)
    if table.of_mart:
        mart = marts[table.origin]
        change, lanes = mart.change, dict(mart.state.lanes)
        definition = mart.state.definition
    else:
        definition = relations.table_definition(table, known)
        lanes = relations.lanes(table.origin)
        change = "nothing" if before and before.definition == definition and dict(before.lanes) == lanes else "whole"
    folder = f"serving/{table.name}"
    newest = lake.snapshot(folder)
    base = None
    if before is not None and newest is not None:
        base = newest if newest.version == before.version else lake.snapshot(folder, before.version)
    if before is not None and base is None:
        # Which slots are being read is known from there only.
        lost = f"{folder} is gone from the lake, and the store's answers rest on it"
        raise OutsideError("HR0407", lost, help="restore the lake, or remove lake and store together")
    again = drift is not None or unknown is not None
    if before is not None and change == "nothing" and before.definition == definition and not again:
        return step, before
    observer.begin("publish", table.name)
    store.create(table)
    added = before is not None and change == "added" and before.definition == definition and not again
    parts = f"{table.origin}__parts" if table.of_mart else table.origin
    fresh = rollup_sql(table, f'"{parts}"')
    if added:
        # Only keys that the added piece touches can have changed: roll those up again, from all parts. The piece alone
        # does not tell which rows satisfy the table's condition.
        piece = engine.scan([marts[table.origin].piece or ""], [])
        grain = [c.name for c in table.key]
        engine.keep("_touched", f"SELECT DISTINCT {', '.join(grain) or '1'} FROM {piece}")
        some = (
            f'SELECT p.* FROM "{parts}" AS p SEMI JOIN _touched USING ({", ".join(grain)})'
            if grain
            else f'SELECT * FROM "{parts}"'
        )
        fresh = rollup_sql(table, f"({some})")
    fresh = kept_sql(fresh, floor)
    files = base.files if base is not None else ()
    path = lake.new_file(folder)
    if newest is None:
        rows = engine.write(first_sql(fresh, generation), path)
    else:
        engine.keep("_fresh", fresh)
        live = _live(table, engine, newest, base, touched=added)
        # Without a base every key goes, whatever its window: else one could come back later that nobody knows of any more.
        engine.define("_live", live if base is None else kept_sql(unknown_sql(live, unknown), floor))
        rows = engine.write(
            changes_sql(table, "_fresh", "_live", generation, whole=not added or bool(table.where))
            if drift is None
            else mending_sql(table, "_fresh", "_live", drift, generation),
            path,
        )
    step.counts = {"rows": rows}
    step.note = "added" if added else ("" if before is None else "whole")
    state = [(path, rows)]
    if len(files) >= PIECES:
        merged = lake.new_file(folder)
        pieces = engine.scan((*files, path), state_columns(table))
        state = [(merged, engine.write(live_sql(table, pieces, len(files) + 1), merged))]

    def write() -> None:
        # In order of key: rows that lie together in the store are written together.
        names = ", ".join(f'"{n}"' for n in (*table.columns, "_slot", "_gen"))
        order = "".join(f'{", " if at else " ORDER BY "}"{c.name}"' for at, c in enumerate(table.key))
        for batch in engine.batches(f"SELECT {names} FROM {engine.scan([path], state_columns(table))}{order}"):
            store.put(table, batch)
            observer.advance(len(batch))
        lake.commit(folder, state, keep=files if len(files) < PIECES else (), base=newest)
        step.seconds = time.monotonic() - started
        observer.end("publish", table.name, step.counts, step.seconds, step.note)

    writer(write)
    bucket = table.bucket.text if table.bucket is not None else ""
    return step, TableState(next_version(newest), definition, lanes, bucket, table.copy)


def _live(table: ServingTable, engine: Engine, newest: Snapshot | None, base: Snapshot | None, *, touched: bool) -> str:
    """The rows to compare with: those of ``base``, or where only ``touched`` keys were rolled up again, those keys'.

    Without a base, nobody reads this table; but it may have rows from when somebody did. So that none of them answers
    again, every key that it ever had is written: changed, whatever it is now, and from here on in slot 0.
    """
    state = base or newest
    files = state.files if state is not None else ()
    rows = live_sql(table, engine.scan(files, state_columns(table)), len(files))
    if base is None:
        return f"SELECT * REPLACE (CAST(1 AS BIGINT) AS {RECORDS}, CAST(1 AS BIGINT) AS _slot, CAST(NULL AS BIGINT) AS _gen) FROM ({rows})"
    if touched and table.where and table.key:
        key = ", ".join(f"{stored(c.name, c.type)} AS {c.name}" for c in table.key)
        return f"SELECT * FROM ({rows}) SEMI JOIN (SELECT {key} FROM _touched) USING ({', '.join(c.name for c in table.key)})"
    return rows
