"""reconcile: what the store answers, compared key by key with what bronze says; and mended where they differ (seam: Values).

Batch rows are mended by a new generation, speed rows by a new epoch; never by writing at an equal generation or fence.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from headrace.errors import NotFoundError, NotReadyError, nearest
from headrace.flow.answer import View
from headrace.flow.control import epoch_of, generation_of, pointer_of, reached
from headrace.flow.lanes import ends, lanes_of
from headrace.flow.lanes import streamed as stream_lanes
from headrace.flow.mending import Mending
from headrace.flow.recompute import Recomputed, judged
from headrace.flow.relations import Relations, feeding, resting_on
from headrace.flow.stream import code_of, streamable, streamed_sources, tables_of
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source
from headrace.ports import Engine, Inspect, Lake, Observer, Store
from headrace.seam import epoch as epochs
from headrace.seam.epoch import Epoch
from headrace.seam.floor import floor_of
from headrace.seam.generation import Generation, stored
from headrace.seam.pointer import Pointer
from headrace.seam.ranges import start_of
from headrace.sql.drift import RANGE, drift_sql, stored_columns
from headrace.sql.gold import kept_sql, merged_sql, rollup_sql, stored_type
from headrace.sql.judge import silver_columns

Row = tuple[Any, ...]
RECORD = "reconcile"
"""The control row that keeps what was found last: it only rises, so that of two the later one stands."""
TRIES = 3
"""Comparisons that a publication may overtake."""
SHOWN = 5
"""Keys of a table that are named."""
ARROW = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
PYTHON: Mapping[str, tuple[type, ...]] = {"VARCHAR": (str,), "BIGINT": (int,), "DOUBLE": (float, int)}


@dataclass(slots=True)
class Drift:
    """What was found of a serving table's batch rows, or of its ``speed`` rows. ``repaired`` of the keys that drifted
    were written anew and stand; ``unchecked`` are the ranges that bronze does not have whole yet."""

    table: str
    origin: str
    speed: bool
    keys: int = 0
    differing: int = 0
    missing: int = 0
    surplus: int = 0
    repaired: int = 0
    unchecked: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def drifted(self) -> int:
        return self.differing + self.missing + self.surplus

    @property
    def ratio(self) -> float:
        return self.drifted / self.keys if self.keys else 0.0


@dataclass(slots=True)
class Found:
    """One reconcile: of which generation, what it found, and the generation that mended it."""

    at: str
    generation: int
    tables: list[Drift]
    sampled: int | None = None
    mended_by: int | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    """Tables on which somebody wrote or deleted by the clock, or that are gone: what is wrong with each."""

    @property
    def drifted(self) -> int:
        return sum(drift.drifted for drift in self.tables)


@dataclass(slots=True)
class Reconcile:
    """Compares one project's store with its bronze."""

    project: LoadedProject
    lake: Lake
    engine: Engine
    store: Store
    observer: Observer
    inspect: Inspect | None = None
    """What tells of foreign timestamps, where the store goes by timestamps."""

    def compare(self, names: Sequence[str] = (), sample: int | None = None) -> Found:
        """Compares the tables of marts and datasets (all, where none is named), or about ``sample`` keys of each.

        The keys that drifted are kept in the engine, for ``mending``. Raises NotFoundError HR0501, and NotReadyError
        HR0402 before the first publication, HR0403 where the project was edited since the last one, HR0408 where
        publications follow one another too fast.
        """
        for _ in range(TRIES):
            pointer = pointer_of(self.store)
            if not pointer.generation:
                raise NotReadyError("HR0402", "nothing has been published yet", help="headrace run")
            generation = generation_of(self.store, pointer.generation)
            tables = self.tables(names, generation)
            at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            found = Found(at, generation.number, [], sample)
            with ExitStack() as stack:
                origins = sorted({table.origin for table in tables})
                Recomputed(self.project, self.lake, self.engine, self.observer, generation, origins, stack)
                for table in tables:
                    found.tables.append(self.batch(table, View(pointer, generation), sample))
                found.tables += self.streamed(tables, pointer, generation, stack)
            if self.inspect is not None:
                found.damaged = self.damaged(tables, sample, self.inspect)
            if pointer_of(self.store).generation == pointer.generation:
                return found
        raise NotReadyError("HR0408", "publications kept overtaking the comparison")

    def damaged(self, tables: Sequence[ServingTable], sample: int | None, inspect: Inspect) -> dict[str, str]:
        """What somebody did to tables by the clock: the rows that answers rest on may be right still, and later ones not."""
        wrong = inspect.damaged(tables)
        found = {table.base: wrong[table.name] for table in tables if table.name in wrong}
        for table in tables if sample is None else ():
            if table.base not in found and (count := inspect.foreign(table)):
                found[table.base] = f"{count:,} row(s) have a timestamp that is not ours"
        return found

    def tables(self, names: Sequence[str], generation: Generation) -> list[ServingTable]:
        every = {table.name: table for query in self.project.queries.values() for table in query.tables}
        origins = {table.origin for table in every.values()}
        for name in names:
            if name not in origins:
                raise NotFoundError("HR0501", f"no query reads '{name}'", help=nearest(name, origins))
        chosen = [table for table in every.values() if not names or table.origin in names]
        for table in chosen:
            if table.name not in generation.tables:
                what = f"a query of {table.origin} is new or changed since the last run"
                raise NotReadyError("HR0403", what, help="headrace run")
        return sorted(
            (stored(table, generation.tables[table.name]) for table in chosen), key=lambda t: (t.origin, t.name)
        )

    def batch(self, table: ServingTable, view: View, sample: int | None) -> Drift:
        """Compares the batch rows that are live at the generation that answers."""
        drift = Drift(table.base, table.origin, speed=False)
        self.observer.begin("compare", table.name)
        rows = rollup_sql(table, f'"{table.origin}__parts"' if table.of_mart else table.origin)
        self.engine.keep("_wanted", kept_sql(rows, floor_of(view.generation.floors, table)))
        if sample is not None:
            key = ", ".join(c.name for c in table.key)
            order = f" ORDER BY hash({key}, {view.generation.number})" if key else ""
            self.engine.keep("_wanted", f"SELECT * FROM _wanted{order} LIMIT {sample}")
            stored = self.fetched(table, view)
        else:
            stored = self.walked(table, view)
        self.collect("_stored", [*stored_columns(table), ("_slot", "BIGINT")], stored)
        self._without_past(table, view.generation)
        self.measure(drift, table, [c.name for c in table.key], kept(table.base))
        return drift

    def walked(self, table: ServingTable, view: View) -> Iterator[list[Row]]:
        """A table's live rows, each with its slot, a walk's batch at a time."""
        width = len(table.key)
        rest: list[Row] = []
        for rows in self.store.walk(table):
            together = [*rest, *map(tuple, rows)]
            last = together[-1][:width]
            # The other slot of the last key may be in the next batch.
            whole = len(together)
            while whole and together[whole - 1][:width] == last:
                whole -= 1
            rest = together[whole:]
            yield self.live(table, together[:whole], view)
        yield self.live(table, rest, view)

    def fetched(self, table: ServingTable, view: View) -> Iterator[list[Row]]:
        """The live rows of the keys that are wanted."""
        names, split = ", ".join(c.name for c in table.key), len(table.partition)
        for key in self.engine.rows(f"SELECT {names} FROM _wanted") if names else [()]:
            first = key[split] if len(key) > split else None
            rows = self.store.fetch(table, key[:split], (first, True, first, True))
            yield self.live(table, [tuple(row) for row in rows if tuple(row[: len(key)]) == key], view)

    def live(self, table: ServingTable, rows: list[Row], view: View) -> list[Row]:
        width = len(table.key)
        slots = {
            row[:width]: row
            for row in rows
            if row[-1] <= view.pointer.generation and row[-1] not in view.pointer.abandoned
        }
        for row in rows:
            known = slots.get(row[:width])
            if (
                known is not None
                and known[-1] < row[-1] <= view.pointer.generation
                and row[-1] not in view.pointer.abandoned
            ):
                slots[row[:width]] = row
        return [(*row, slots[row[:width]][-2]) for row in view.live(table, rows)]

    def collect(self, name: str, columns: Sequence[tuple[str, str]], batches: Iterable[Sequence[Row]]) -> None:
        """Keeps rows in the engine, which has room on disk for them."""
        self.engine.keep(name, f"SELECT * FROM {self.engine.scan([], columns)}")
        for rows in batches:
            if rows:
                arrays = {
                    column: pa.array([_typed(row[i], type) for row in rows], ARROW[type])
                    for i, (column, type) in enumerate(columns)
                }
                self.engine.offer("_batch", pa.table(arrays))
                self.engine.add(name, "SELECT * FROM _batch")

    def measure(self, drift: Drift, table: ServingTable, key: Sequence[str], name: str) -> None:
        """Counts where ``_wanted`` and ``_stored`` differ, and keeps those keys as ``name``."""
        self.engine.keep(name, drift_sql(table, "_wanted", "_stored", key))
        counts: dict[str, int] = dict(self.engine.rows(f"SELECT kind, count(*) FROM {name} GROUP BY kind"))
        drift.differing, drift.missing, drift.surplus = (counts.get(k, 0) for k in ("differing", "missing", "surplus"))
        drift.keys = self.engine.rows("SELECT count(*) FROM _wanted")[0][0] + drift.surplus
        if drift.drifted:
            order = f" ORDER BY {', '.join(key)}" if key else ""
            names = [*key, "kind"]
            shown = self.engine.rows(f"SELECT {', '.join(names)} FROM {name}{order} LIMIT {SHOWN}")
            drift.shown = [dict(zip(names, row, strict=True)) for row in shown]
        self.observer.end("compare", table.name, {"keys": drift.keys, "drifted": drift.drifted}, 0.0)

    # What the stream has counted since

    def streamed(
        self, tables: Sequence[ServingTable], pointer: Pointer, generation: Generation, stack: ExitStack
    ) -> list[Drift]:
        """Compares the speed rows that answers add with the ranges of bronze, as far as the stream says it has come: a
        row that it has written since is left to the next comparison."""
        epoch = epoch_of(self.store, generation.epoch)
        if generation.epoch not in pointer.streamed or epoch.code != code_of(self.project):
            return []
        marts = {mart.name for mart in streamable(self.project)}
        chosen = [table for table in tables if table.of_mart and table.origin in marts]
        if not chosen:
            return []
        ranges: dict[str, tuple[int, int]] = {}
        unchecked: dict[str, int] = {}
        for name in sorted(streamed_sources(self.project)):
            source = self.project.sources[name]
            lanes = stream_lanes(lanes_of(source, self.lake, self.engine))
            landed = ends(self.lake.snapshot(f"bronze/{name}"), lanes)
            for lane, retained in lanes.items():
                cut = generation.cut.get(lane, 0)
                counted = max(reached(self.store, epochs.progress_name(epoch.number, lane))[0], cut)
                upto = counted
                if landed.get(lane, 0) < counted:  # ranges that bronze does not have whole cannot be judged
                    upto = max(start_of(landed.get(lane, 0), epoch.origin(lane), epoch.size), cut)
                    unchecked[lane] = -(-(counted - upto) // epoch.size)
                ranges[lane] = (max(cut, retained), max(upto, cut))
        drifts = {table.base: Drift(table.base, table.origin, speed=True) for table in chosen}
        kept_rows = {table.base: f"_ranges_{i}" for i, table in enumerate(chosen)}
        for table in chosen:
            columns = [*stored_columns(table), *RANGE]
            self.engine.keep(kept_rows[table.base], f"SELECT * FROM {self.engine.scan([], columns)}")
        for source_name in sorted({source for mart in marts for source in self.project.facts_of(mart)}):
            source = self.project.sources[source_name]
            own = {lane: span for lane, span in ranges.items() if lane in lanes_of(source, self.lake, self.engine)}
            self.count_ranges(source, own, epoch, generation, chosen, kept_rows, stack)
        for table in chosen:
            drift = drifts[table.base]
            drift.unchecked = sum(unchecked.get(lane, 0) for lane in generation.tables[table.base].lanes)
            self.observer.begin("compare", table.name + " (speed)")
            self.engine.keep("_wanted", f"SELECT * FROM {kept_rows[table.base]}")
            columns = [*stored_columns(table), *RANGE, ("_slot", "BIGINT")]
            self.collect("_stored", columns, self.speed_rows(table, epoch, generation, ranges))
            self._without_past(table, generation)
            self._without_moving(table, epoch, ranges)
            self.measure(drift, table, [*(c.name for c in table.key), "_lane", "_start"], "_speed_drift")
        return list(drifts.values())

    def speed_rows(
        self, table: ServingTable, epoch: Epoch, generation: Generation, ranges: Mapping[str, tuple[int, int]]
    ) -> Iterator[list[Row]]:
        """The speed rows that an answer adds; the fence, where it is beyond what is checked, else NULL, as the slot."""
        for rows in self.store.walk_speed(table, epoch.number):
            yield [
                (*row[:-1], row[-1] if row[-1] > ranges.get(row[-3], (0, 0))[1] else None)
                for row in rows
                if row[-2] >= generation.cut.get(row[-3], 0)
            ]

    def _without_past(self, table: ServingTable, generation: Generation) -> None:
        """Leaves out the rows of windows that are not kept: nobody reads them."""
        floor = floor_of(generation.floors, table)
        if floor is not None:
            for name in ("_stored", "_wanted"):
                self.engine.keep(name, kept_sql(f"SELECT * FROM {name}", floor))

    def _without_moving(self, table: ServingTable, epoch: Epoch, ranges: Mapping[str, tuple[int, int]]) -> None:
        """Leaves out the rows of ranges that the stream has gone on with since, or that bronze does not have yet."""
        key = [*(c.name for c in table.key), "_lane", "_start"]
        lanes = [(lane, epoch.origin(lane)) for lane in ranges] or [("", 0)]
        columns = {"_lane": [lane for lane, _ in lanes], "_origin": [origin for _, origin in lanes]}
        self.engine.offer("_origins_of", pa.table(columns))
        legal = (
            f"(s._start - o._origin) % {epoch.size} = 0 AND s._slot <= s._start + {epoch.size} AND s._slot > s._start"
        )
        self.engine.keep(
            "_moving",
            f"SELECT s.* FROM _stored AS s JOIN _origins_of AS o USING (_lane) WHERE s._slot IS NOT NULL AND {legal}",
        )
        same = f"USING ({', '.join(key)})"
        self.engine.keep("_stored", f"SELECT * FROM _stored ANTI JOIN _moving {same}")
        self.engine.keep("_wanted", f"SELECT * FROM _wanted ANTI JOIN _moving {same}")

    def count_ranges(
        self, source: Source, ranges: Mapping[str, tuple[int, int]], epoch: Epoch, generation: Generation,
        tables: Sequence[ServingTable], kept_rows: Mapping[str, str], stack: ExitStack,
    ) -> None:  # fmt: skip
        """Adds what each range of a source's lanes should have counted, a range at a time as a worker does, but judged as
        the batch judges."""
        open_ranges = {lane: span for lane, span in ranges.items() if span[0] < span[1]}
        if not open_ranges:
            return
        voids = {lane: spans for lane, spans in epoch.voids.items() if lane in open_ranges}
        path = judged(source, self.lake, self.engine, self.observer, open_ranges, voids, stack)
        verdicts = self.engine.scan([path], silver_columns(source))
        files: dict[str, tuple[str, ...]] = {}
        for name, version in epoch.references.items():
            snapshot = self.lake.snapshot(f"silver/{name}", version)
            files[name] = snapshot.files if snapshot is not None else ()
        references = {name: 1 << 62 for name, other in self.project.sources.items() if other.role == "reference"}
        marts = [mart for mart in streamable(self.project) if source.name in self.project.facts_of(mart.name)]
        needed = feeding(self.project, [table.origin for table in tables])[1]
        for lane, (first, end) in open_ranges.items():
            start = first
            while start < end:
                following = min(start_of(start, epoch.origin(lane), epoch.size) + epoch.size, end)
                self.engine.keep(
                    "_range",
                    f"SELECT * FROM {verdicts} WHERE _lane = '{lane}' AND _offset >= {start} AND _offset < {following}",
                )
                spans = {**references, lane: following}
                relations = Relations(self.project, self.lake, self.engine, spans, {}, files, {source.name: "_range"})
                relations.define(first={})
                for name in self.project.pins:
                    fitted = self.lake.snapshot(f"gold/{name}", generation.marts[name].version)
                    relations.define_mart(self.project.marts[name], fitted.files if fitted is not None else ())
                for mart in marts:
                    if mart.name not in needed:
                        continue
                    self.engine.keep(f"{mart.name}__again", mart.parts_sql)
                    self.engine.define(f"{mart.name}__parts", merged_sql(mart, f"{mart.name}__again"))
                    for table in tables_of(self.project, mart):
                        if table.name in kept_rows:
                            rows = rollup_sql(table, f"{mart.name}__parts")
                            begin = start_of(start, epoch.origin(lane), epoch.size)
                            self.engine.add(kept_rows[table.name], f"SELECT *, '{lane}', {begin} FROM ({rows})")
                start = following

    # Mending

    def mending(self, found: Found) -> Mending | None:
        """What a run has to do so that nothing drifts any more; None where nothing does."""
        drifted = [drift for drift in found.tables if drift.drifted]
        if not drifted and not found.damaged:
            return None
        batch = {drift.table: kept(drift.table) for drift in drifted if not drift.speed}
        origins = {drift.origin for drift in drifted if not drift.speed}
        marts = resting_on(self.project, {name for name in origins if name in self.project.marts})
        sources = feeding(self.project, sorted(origins))[0] if origins else set()
        # A foreign timestamp over a speed row lies over those of every epoch.
        lost = {drift.table for drift in drifted if drift.speed and self.inspect is not None} | set(found.damaged)
        return Mending(
            frozenset(marts), batch, frozenset(sources), any(drift.speed for drift in drifted), rebuilt=frozenset(lost)
        )

    def lost(self, found: Found) -> frozenset[str]:
        """The tables of which a row could not be written, as something newer than any run is said to be there: a foreign
        timestamp, where the store goes by timestamps."""
        if self.inspect is None:
            return frozenset()
        return frozenset(drift.table for drift in found.tables if not drift.speed and drift.repaired < drift.drifted)

    def mended(self, found: Found, number: int) -> None:
        """Notes which of the keys that drifted stand now: written by the new generation, or in an epoch that is past."""
        found.mended_by = number
        pointer = pointer_of(self.store)
        view = View(pointer, generation_of(self.store, pointer.generation))
        before = generation_of(self.store, found.generation)
        tables = {table.name: view.stored(table) for query in self.project.queries.values() for table in query.tables}
        for drift in found.tables:
            if drift.speed:
                drift.repaired = drift.drifted if view.generation.epoch != before.epoch else 0
            elif drift.drifted:
                drift.repaired = self._standing(tables[drift.table], number)

    def _standing(self, table: ServingTable, number: int) -> int:
        """How many of the keys that drifted have a row of this generation, and none that is said to be newer."""
        key = [(c.name, stored_type(c.type)) for c in table.key]
        walked = ([(*row[: len(key)], row[-1]) for row in rows] for rows in self.store.walk(table))
        self.collect("_stands", [*key, ("_gen", "BIGINT")], walked)
        names = ", ".join(name for name, _ in key)
        newest = f"SELECT {names}{', ' if names else ''}max(_gen) AS _gen FROM _stands" + (
            f" GROUP BY {names}" if names else ""
        )
        drifted = f"SEMI JOIN {kept(table.base)} USING ({names})" if names else ""
        return int(self.engine.rows(f"SELECT count(*) FROM ({newest}) {drifted} WHERE _gen = {number}")[0][0])

    def note(self, found: Found) -> None:
        """Keeps what was found, for `status` and the metrics."""
        number, _ = reached(self.store, RECORD)
        document = {**asdict(found), "tables": [{**asdict(d), "ratio": d.ratio} for d in found.tables]}
        self.store.raise_control(RECORD, number + 1, json.dumps(document, separators=(",", ":"), default=str))


def kept(table: str) -> str:
    """The engine's table of the keys of a serving table that drifted."""
    return f"_drift_{table}"


def last(store: Store) -> dict[str, Any] | None:
    """What the last reconcile found; None where there was none."""
    _, text = reached(store, RECORD)
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def reconcile(
    work: Reconcile, names: Sequence[str], *, sample: int | None, repair: bool, run: Callable[[Mending], int | None]
) -> Found:
    """Compares, mends by ``run`` where that is wanted, and keeps what was found."""
    found = work.compare(names, sample)
    mending = work.mending(found)
    while mending is not None and repair:
        number = run(mending)
        if number is not None:
            work.mended(found, number)
        # What does not stand now never will in that table.
        lost = work.lost(found) - mending.rebuilt
        mending = Mending(rebuilt=lost, opens=True) if lost else None
    work.note(found)
    return found


def _typed(value: Any, type: str) -> Any:
    """A value as its column has it; what is not of that type, which no run ever writes, is none."""
    return value if isinstance(value, PYTHON[type]) and not isinstance(value, bool) else None
