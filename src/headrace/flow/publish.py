"""publish: a generation's rows into the store, each into the slot that nobody reads; then the pointer moves."""

from __future__ import annotations

import time
from collections.abc import Mapping

from headrace.flow.aggregate import Aggregated
from headrace.flow.relations import Relations
from headrace.model.run import Step
from headrace.model.serving import ServingTable
from headrace.ports import Engine, Lake, Observer, Snapshot, Store
from headrace.seam.generation import TableState
from headrace.sql.gold import changes_sql, live_sql, rollup_sql, state_columns

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
    before: TableState | None,
    marts: Mapping[str, Aggregated],
    known: Mapping[str, str],
) -> tuple[Step, TableState]:
    """Writes one serving table's changed rows. ``before`` is its state in the generation that answers (None: new table)."""
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
    if before is not None and change == "nothing" and before.definition == definition:
        return step, before
    observer.begin("publish", table.name)
    store.create(table)
    added = before is not None and change == "added" and before.definition == definition
    parts = f"{table.origin}__parts" if table.of_mart else table.origin
    fresh = rollup_sql(table, f'"{parts}"')
    if added:
        # Only keys that the added piece touches can have changed: roll those up again, from all parts.
        piece = engine.scan([marts[table.origin].piece or ""], [])
        grain = [c.name for c in table.key]
        engine.keep("touched", f"SELECT DISTINCT {', '.join(grain) or '1'} FROM {piece}{f' WHERE {table.where}' if table.where else ''}")
        some = f'SELECT p.* FROM "{parts}" AS p SEMI JOIN touched USING ({", ".join(grain)})' if grain else f'SELECT * FROM "{parts}"'
        fresh = rollup_sql(table, f"({some})")
    engine.keep("fresh", fresh)
    folder = f"serving/{table.name}"
    newest = lake.snapshot(folder)
    base = lake.snapshot(folder, before.version) if before is not None else None
    files = base.files if base is not None else ()
    engine.define("live", live_sql(table, engine.scan(files, state_columns(table)), len(files)))
    path = lake.new_file(folder)
    rows = engine.write(changes_sql(table, "fresh", "live", generation, whole=not added), path)
    names = ", ".join(f'"{n}"' for n in (*table.columns, "_slot", "_gen"))
    for batch in engine.batches(f"SELECT {names} FROM {engine.scan([path], state_columns(table))}"):
        store.put(table, batch)
        observer.advance(len(batch))
    version = _commit_state(table, folder, lake, engine, files, path, rows, base=newest)
    step.counts = {"rows": rows}
    step.note = "added" if added else ("" if before is None else "whole")
    step.seconds = time.monotonic() - started
    observer.end("publish", table.name, step.counts, step.seconds, step.note)
    return step, TableState(version, definition, lanes)


def _commit_state(table: ServingTable, folder: str, lake: Lake, engine: Engine, files: tuple[str, ...], path: str, rows: int, *, base: Snapshot | None) -> int:
    if len(files) < PIECES:
        return lake.commit(folder, [(path, rows)], keep=files, base=base)
    merged = lake.new_file(folder)
    pieces = engine.scan((*files, path), state_columns(table))
    count = engine.write(live_sql(table, pieces, len(files) + 1), merged)
    return lake.commit(folder, [(merged, count)], keep=(), base=base)
