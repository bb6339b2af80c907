"""aggregate: each mart's parts, incremental by cut where they merge and nothing but new records changed, whole otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.flow.mending import Window
from headrace.flow.relations import Relations
from headrace.flow.writing import Writer
from headrace.model.mart import Mart
from headrace.model.run import Step
from headrace.ports import Engine, Lake, Observer, next_version
from headrace.seam.generation import MartState
from headrace.sql.gold import parts_columns

PIECES = 8
"""Appended pieces of a mart before they are merged into one."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What became of a mart: its new state, its files, and the piece that holds what was added (None: all is new)."""

    state: MartState
    files: tuple[str, ...]
    change: str
    """nothing | added | whole"""
    piece: str | None = None


def aggregate(mart: Mart, relations: Relations, lake: Lake, engine: Engine, observer: Observer, writer: Writer,
              before: MartState | None, cut: Mapping[str, int], known: Mapping[str, str], *, full: bool,
              ) -> tuple[Step, Aggregated]:  # fmt: skip
    """Brings one mart to the relations' ends, and leaves the relations as it read them; the lake may learn of its files
    later. ``before`` is its state in the generation that answers, ``cut`` that generation's; ``known`` the content hash
    of every mart that comes before it."""
    started = time.monotonic()
    step = Step("aggregate", mart.name)
    definition = relations.mart_definition(mart, known)
    lanes = relations.lanes(mart.name)
    table = f"gold/{mart.name}"
    newest = lake.snapshot(table)
    base = None
    if before is not None and newest is not None and before.definition == definition and not full:
        base = newest if newest.version == before.version else lake.snapshot(table, before.version)
    if before is not None and base is not None and dict(before.lanes) == lanes:
        return step, Aggregated(before, base.files, "nothing")
    observer.begin("aggregate", mart.name)
    path = lake.new_file(table)
    added = base is not None and mart.mergeable and not mart.batch_only and not _reads_references(mart, relations)
    if before is not None and base is not None and added:
        relations.define(first={**cut, **before.lanes})
        rows = engine.write(mart.parts_sql, path)
        keep, new = base.files, [(path, rows)]
        if len(keep) >= PIECES:
            relations.define_mart(mart, (*keep, path))
            merged = lake.new_file(table)
            keep, new = (), [(merged, engine.write(f'SELECT * FROM "{mart.name}__parts"', merged))]
    else:
        relations.define()
        rows = engine.write(mart.parts_sql, path)
        keep, new = (), [(path, rows)]
    writer(lambda: lake.commit(table, new, keep=keep, base=newest))
    state = MartState(next_version(newest), definition, lanes)
    files = (*keep, *(file for file, _ in new))
    result = Aggregated(state, files, "added" if added else "whole", path if added else None)
    step.counts = {"groups": rows}
    step.note = "" if before is None else ("added" if added else "whole")
    step.seconds = time.monotonic() - started
    observer.end("aggregate", mart.name, step.counts, step.seconds, step.note)
    return step, result


def replace_windows(
    mart: Mart, window: Window, result: Aggregated, relations: Relations, lake: Lake, engine: Engine, writer: Writer
) -> Aggregated:
    """The same parts, but those of some windows computed whole; other windows stay as they are."""
    table = f"gold/{mart.name}"
    relations.define()
    relations.define_mart(mart, result.files)
    names = ", ".join(f'"{name}"' for name, _ in parts_columns(mart))
    path = lake.new_file(table)
    rows = engine.write(
        f'SELECT {names} FROM "{mart.name}__parts" WHERE NOT ({window.condition}) '
        f"UNION ALL SELECT {names} FROM ({mart.parts_sql}) WHERE {window.condition}",
        path,
    )
    newest = lake.snapshot(table) if result.change == "nothing" else None
    version = next_version(newest) if newest is not None else result.state.version + 1
    writer(lambda: lake.commit(table, [(path, rows)], keep=(), base=lake.snapshot(table)))
    return Aggregated(MartState(version, result.state.definition, result.state.lanes), (path,), "whole")


def _reads_references(mart: Mart, relations: Relations) -> bool:
    """Whether rows of a reference are counted themselves (not only joined): those cannot be read from an offset on."""
    return any(relations.counts_reference(name) for name in mart.rows_from)
