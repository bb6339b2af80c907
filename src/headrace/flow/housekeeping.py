"""The lake's upkeep: what is there, merging small files, deleting what no generation uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.flow.answer import Reader
from headrace.flow.control import epoch_of
from headrace.model.project import LoadedProject
from headrace.ports import Engine, Lake, Observer
from headrace.seam.generation import Generation

SMALL = 64 << 20
"""Bytes below which files are merged."""


@dataclass(slots=True)
class Housekeeping:
    """Upkeep of one project's lake."""

    project: LoadedProject
    lake: Lake
    engine: Engine
    reader: Reader

    def tables(self) -> list[dict[str, Any]]:
        """Table, version, number of files, bytes."""
        found = []
        for name in self.lake.tables():
            snapshot = self.lake.snapshot(name)
            if snapshot is not None:
                size = sum(Path(f).stat().st_size for f in snapshot.files)
                found.append({"table": name, "version": snapshot.version, "files": len(snapshot.files), "bytes": size})
        return found

    def compact(self, observer: Observer) -> Iterator[tuple[str, int, int]]:
        """Merges small files of tables that only grow by appending, keeping the order of records and every offset.

        A generation names gold and serving state by version, and those merge by themselves; so they are left alone.
        """
        for name in self.lake.tables():
            if not name.startswith(("bronze/", "silver/", "manifest")):
                continue
            snapshot = self.lake.snapshot(name)
            small = [f for f in snapshot.files if Path(f).stat().st_size < SMALL] if snapshot else []
            if snapshot is None or len(small) < 2:
                continue
            observer.begin("compact", name, len(small))
            path = self.lake.new_file(name)
            order = " ORDER BY _lane, _offset" if name != "manifest" else ""
            rows = self.engine.write(f"SELECT * FROM {self.engine.scan(small, [])}{order}", path)
            keep = [f for f in snapshot.files if f not in small]
            self.lake.commit(name, [(path, rows)], keep=keep, base=snapshot)
            yield name, len(snapshot.files), len(keep) + 1

    def vacuum(self, older_than_hours: float) -> int:
        """Deletes files that neither the newest versions nor the answering generation or its predecessor use, once they
        are older than that: a run that is going on writes files that no version names yet."""
        kept = self._generations()
        self._drop_tables({state.name(table) for generation in kept for table, state in generation.tables.items()})
        named = [(f"gold/{n}", s.version) for g in kept for n, s in g.marts.items()]
        named += [(f"serving/{s.name(n)}", s.version) for g in kept for n, s in g.tables.items()]
        # The workers that may begin in an epoch join the references that it has pinned.
        epochs = [epoch_of(self.reader.store, generation.epoch) for generation in kept]
        named += [(f"silver/{n}", version) for epoch in epochs for n, version in epoch.references.items()]
        return sum(
            self.lake.forget(table, [version for name, version in named if name == table], older_than_hours)
            for table in self.lake.tables()
        )

    def _drop_tables(self, named: set[str]) -> None:
        """Drops the physical tables of queries that are gone. Only here: a run must not, as one that was paused could
        drop what a later one made again; an unfinished run may have made tables that no generation names yet."""
        if self.reader.pointer().next is None:
            ours = {table.removeprefix("serving/") for table in self.lake.tables() if table.startswith("serving/")}
            for table in self.reader.store.physical():
                if table in ours - named:
                    self.reader.store.drop(table)

    def _generations(self) -> list[Generation]:
        pointer = self.reader.pointer()
        numbers = [n for n in (pointer.generation, pointer.predecessor) if n]
        return [self.reader.generation(n) for n in numbers]
