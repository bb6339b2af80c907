"""run: the batch path once. Land, refine, aggregate, publish, and the pointer moves last."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.errors import ConflictError, HeadraceError, OutsideError
from headrace.flow import manifest
from headrace.flow.aggregate import Aggregated, aggregate, replace_windows
from headrace.flow.answer import View
from headrace.flow.control import POINTER, change_pointer, epoch_of, generation_of, made_pointer, pointer_of, reached
from headrace.flow.land import copy, land, recover
from headrace.flow.lanes import ends, lanes_of
from headrace.flow.lanes import streamed as stream_lanes
from headrace.flow.mending import NOTHING, Mending
from headrace.flow.publish import publish
from headrace.flow.reconcile import Reconcile
from headrace.flow.refine import CONTRACT, refine, voids_of
from headrace.flow.relations import Relations, is_fitted
from headrace.flow.retention import floors_of
from headrace.flow.status import record
from headrace.flow.stream import Worker, code_of, streamed_sources
from headrace.flow.worker import Steps
from headrace.flow.writing import AtOnce, Writer
from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.retention import Floors
from headrace.model.run import Run, Step
from headrace.model.serving import ServingTable, next_copy
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Inbox, Inspect, Lake, Log, Observer, Store
from headrace.seam import epoch as epochs
from headrace.seam import generation as generations
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.floor import floor_of, least, uncovered
from headrace.seam.generation import EMPTY, Generation, MartState, TableState, instant, moment_order, stored
from headrace.seam.pointer import Pointer
from headrace.seam.ranges import aligned_cut
from headrace.sql.judge import literal
from headrace.sql.lanes import within


@dataclass(slots=True)
class Batch:
    """What a run works with."""

    project: LoadedProject
    inbox: Inbox
    log: Log
    lake: Lake
    engine: Engine
    store: Store
    observer: Observer
    range_size: int = 100_000
    """Records of a range, for epochs that this run opens."""
    landing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """What is held while files land."""
    mending: Mending = NOTHING
    """What it does besides what is new."""
    writer: Callable[[], Writer] = AtOnce
    """Who writes marts and rows, all before the pointer moves."""
    patience: int = 600
    """How often it looks whether all workers have given way, before it does not wait any longer: half a minute."""
    inspect: Inspect | None = None
    """What looks at the store's tables before rows are added to them; None where nothing but ours can harm them."""
    compares: bool = False
    """Whether it holds the tables that it builds anew against gold before the pointer moves."""
    wrote: bool = False
    """Whether the run that is going on may have rows in the store."""
    copies: dict[str, int] = field(default_factory=dict)
    """By the name of its definition, the copy of a table that the run that is going on builds in place of a damaged one."""

    def run(self, *, full: bool = False, refit: bool = False, take_over: bool = False) -> Run:
        """One run; its record says what was done, and has no generation where there was nothing to do. ``take_over``
        does without stream workers that are registered.

        Raises ConflictError HR0410 where a stream counts with other code than this project's.
        """
        started = time.monotonic()
        run = Run(dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        landed = self.land(run)
        self.copy(run)
        for source in self.project.sources.values():
            again = source.name in self.mending.sources
            _note(run, refine(source, self.lake, self.engine, self.observer, landed, again=again))
        self.generate(run, full=full, refit=refit, take_over=take_over)
        run.seconds = time.monotonic() - started
        if run.generation is not None:
            record(run, self.lake, self.engine)
        return run

    def land(self, run: Run) -> list[manifest.Landed]:
        """Lands every source and keeps the manifest; gives all versions ever landed."""
        with self.landing():
            return self._land(run)

    def copy(self, run: Run, *, accept_gaps: bool = False) -> None:
        """Brings to bronze what is in the log, where that is not bronze itself."""
        if self.log.is_bronze:
            return
        with self.landing():
            for source in self.project.sources.values():
                if source.role == "fact":
                    step = copy(source, self.log, self.lake, self.engine, self.observer, accept_gaps=accept_gaps)
                    _note(run, step)

    def _land(self, run: Run) -> list[manifest.Landed]:
        known = manifest.load(self.lake, self.engine)
        new: list[manifest.Landed] = []
        try:
            for source in self.project.sources.values():
                new += recover(source, self.lake, self.engine, known)
                step, landed = land(source, self.inbox, self.log, self.lake, self.engine, self.observer, [*known, *new])
                new += landed
                _note(run, step)
        finally:
            # One commit for all sources: where the manifest lags, it is rebuilt from bronze.
            if new:
                manifest.append(self.lake, self.engine, new)
        return [*known, *new]

    def generate(self, run: Run, *, full: bool, refit: bool, take_over: bool = False) -> None:
        """Builds and publishes a generation, unless everything is as the current one left it."""
        pointer = made_pointer(self.store)
        if take_over and pointer.workers:
            pointer = change_pointer(self.store, pointers.take_over)
        current = generation_of(self.store, pointer.generation)
        tables = serving_tables(self.project)
        self.copies = self.replaced(current, tables)
        # While workers count as this run does, it cuts between two of their ranges and stays in their epoch (Batch run, 2).
        stays = bool(pointer.workers) and not refit and self.counts_alike(current)
        streamed = epoch_of(self.store, current.epoch) if stays else None
        versions = dict(streamed.references) if streamed is not None else self.references()
        relations = Relations(self.project, self.lake, self.engine, *self.silver(current, streamed, versions))
        if not full and not refit and self.mending == NOTHING and self.is_current(current, relations, tables):
            if pointer.next is not None:
                # One that was killed, and workers may wait for it.
                given_up = pointers.give_up(pointer, pointer.next, wrote=True)
                self.store.compare_and_set(POINTER, pointer.text(), given_up.text())
            return
        begun = pointers.begin(pointer, opens=not stays)
        if not self.store.compare_and_set(POINTER, pointer.text(), begun.text()):
            now = made_pointer(self.store)
            if (now.generation, now.next) != (pointer.generation, pointer.next):
                raise ConflictError("HR0404", "the pointer moved: another run is going on", help="headrace status")
            # A worker has come or gone, and what it is decides where this run cuts.
            self.generate(run, full=full, refit=refit, take_over=take_over)
            return
        pointer = begun
        self.wrote = False
        try:
            self.build(run, pointer, current, relations, tables, versions, full=full, refit=refit, take_over=take_over)
        except BaseException:
            # Given up at once, so that rollback is possible where no row was written; a killed run, or one that cannot
            # even do this, is given up by the next one.
            with contextlib.suppress(HeadraceError):
                change_pointer(self.store, lambda p: pointers.give_up(p, pointer.highest, wrote=self.wrote))
            raise

    def counts_alike(self, current: Generation) -> bool:
        """Whether workers of the epoch that answers count what this run would: the same code, and nothing void since.
        Before the first publication there is nothing to stream into: who is registered there came back by a rollback."""
        if not current.number or self.mending.opens:
            return False
        # Workers write to the tables that the generation names, and so to the same ones throughout an epoch.
        if any(self.kept(t, current) != stored(t, current.tables.get(t.name)) for t in serving_tables(self.project)):
            return False
        epoch = epoch_of(self.store, current.epoch)
        facts = [source for source in self.project.sources.values() if source.role == "fact"]
        return epoch.code == code_of(self.project) and epoch.voids == self.voids(facts)

    def replaced(self, current: Generation, tables: Iterable[ServingTable]) -> dict[str, int]:
        """By the name of its definition, the next copy of each table of the store that was damaged, or is to be rebuilt."""
        kept = {state.name(name): name for name, state in current.tables.items()}
        standing = [table for t in tables if (table := stored(t, current.tables.get(t.name))).name in kept]
        damaged = self.inspect.damaged(standing) if self.inspect is not None else {}
        for name, what in damaged.items():
            self.observer.alarm(f"HR0427: {name}: {what}; it is built anew")
        names = self.store.physical() if damaged or self.mending.rebuilt else ()
        return {base: next_copy(base, names) for base in {kept[name] for name in damaged} | self.mending.rebuilt}

    def kept(self, table: ServingTable, current: Generation) -> ServingTable:
        """A serving table as the generation that this run builds keeps it in the store."""
        state = current.tables.get(table.name)
        copy = self.copies.get(table.name, state.copy if state is not None else 0)
        return table.kept(self.project.buckets.get(table.name), copy)

    def streamed_to(self, epoch: int) -> dict[str, int]:
        """By lane, up to where the stream has counted in an epoch, or may have."""
        names = (epochs.progress_name, epochs.attempted_name)
        return {
            lane: max(reached(self.store, name(epoch, lane))[0] for name in names) for lane in self.streamed_lanes()
        }

    def catch_up(self, pointer: Pointer, current: Generation, generation: Generation, *, take_over: bool) -> None:
        """Counts ahead, in the epoch that is about to open, what the stream has counted in the one that answers, so that
        no answer goes back when the pointer moves (Batch run, 4). Workers are held for the last bit of it.

        Raises ConflictError HR0413 where one of them does not answer, or where the log does not have that any more.
        """
        number = generation.number
        if current.epoch not in pointer.streamed:
            return
        if not pointer.workers and all(
            offset <= generation.cut.get(lane, 0) for lane, offset in self.streamed_to(current.epoch).items()
        ):
            return
        host = self.host(f"run {number}")
        try:
            change_pointer(self.store, lambda p: pointers.count_ahead(p, number))
            host.enter(epoch_of(self.store, number), generation)
            host.catch_up(self.streamed_to(current.epoch))
            change_pointer(self.store, lambda p: pointers.hold(p, number))
            self.await_workers()
            if not host.catch_up(self.streamed_to(current.epoch)) and not take_over:
                raise ConflictError(
                    "HR0413", "the log does not have what the stream has counted", help="headrace run --take-over"
                )
        finally:
            host.leave()

    def host(self, name: str) -> Steps:
        """A worker of this run's own."""
        return Worker(self.project, self.log, self.lake, self.engine, self.store, self.observer, name)

    def await_workers(self) -> None:
        for _ in range(self.patience):
            if not pointer_of(self.store).workers:
                return
            self.pause()
        silent = ", ".join(pointer_of(self.store).workers)
        raise ConflictError("HR0413", f"no answer from {silent}", help="if they are dead: headrace run --take-over")

    def pause(self) -> None:
        time.sleep(0.05)

    def streamed_lanes(self) -> set[str]:
        """The lanes that stream workers count."""
        sources = (self.project.sources[name] for name in streamed_sources(self.project))
        return {lane for s in sources for lane in stream_lanes(lanes_of(s, self.lake, self.engine))}

    def build(
        self,
        run: Run,
        pointer: Pointer,
        current: Generation,
        relations: Relations,
        tables: list[ServingTable],
        references: Mapping[str, int],
        *,
        full: bool,
        refit: bool,
        take_over: bool,
    ) -> None:
        """Computes and writes the generation that the pointer calls next, then moves the pointer to it. ``references``
        are the versions of their silver that the relations read."""
        number = pointer.highest
        now = dt.datetime.now(dt.UTC)
        writer = self.writer()
        try:
            relations.define()
            as_of = self.as_of(relations, current)
            newest = {lane: as_of.get(lane, "") for lane in relations.end}
            floors = floors_of(self.project, current.floors, newest, now.replace(tzinfo=None))
            marts, states = self.fill(run, number, current, relations, tables, writer, floors, full=full, refit=refit)
            late = self.late(relations, current)
            writer.settle()
        finally:
            writer.close()
        epoch = self.open_epoch(number, relations, references) if pointer.opens else current.epoch
        pins = {name: self.project.marts[name].hash for name in self.project.pins}
        published_at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        generation = Generation(
            number,
            dict(relations.end),
            marts,
            states,
            as_of,
            dict(relations.contracts),
            pins,
            published_at,
            epoch,
            late,
            floors,
        )
        self.store.set_control(generations.control_name(number), generation.text())
        if self.compares:
            self.compare(pointer, current, generation, tables)
        if pointer.opens:
            self.catch_up(pointer, current, generation, take_over=take_over)
        before = pointer.predecessor
        pointer = change_pointer(self.store, lambda p: pointers.publish(p, number))
        run.generation = number
        self.sweep(pointer, current, tables)
        self.forget_windows(generation, current, before, tables)

    def compare(
        self, pointer: Pointer, current: Generation, generation: Generation, tables: Iterable[ServingTable]
    ) -> None:
        """Holds the tables that are new in the store against gold, key by key, before anybody reads them.

        Raises OutsideError HR0428 where they differ.
        """
        view = View(replace(pointer, generation=generation.number), generation)
        work = Reconcile(self.project, self.lake, self.engine, self.store, self.observer)
        for one in tables:
            table, before = view.stored(one), current.tables.get(one.name)
            if before is not None and stored(one, before) == table:
                continue
            drift = work.batch(table, view, None)
            if drift.drifted:
                what = f"{drift.drifted:,} of {drift.keys:,} keys of {table.name} are not what gold says"
                raise OutsideError("HR0428", what, help="headrace doctor; the tables before it go on answering")

    def fill(
        self,
        run: Run,
        number: int,
        current: Generation,
        relations: Relations,
        tables: list[ServingTable],
        writer: Writer,
        floors: Floors,
        *,
        full: bool,
        refit: bool,
    ) -> tuple[dict[str, MartState], dict[str, TableState]]:
        """Computes the marts and the rows of a generation, on what the one that answers has recorded."""
        relations.define()
        marts: dict[str, Aggregated] = {}
        known: dict[str, str] = {}
        for mart in self.project.marts.values():
            pinned = None if refit else self.pinned(mart, current)
            if pinned is not None:
                step, result = Step("aggregate", mart.name), pinned
            else:
                step, result = aggregate(
                    mart,
                    relations,
                    self.lake,
                    self.engine,
                    self.observer,
                    writer,
                    current.marts.get(mart.name),
                    current.cut,
                    known,
                    full=full or mart.name in self.mending.marts,
                )
                window = self.mending.window
                if window is not None and window.mart == mart.name:
                    result = replace_windows(mart, window, result, relations, self.lake, self.engine, writer)
            relations.define_mart(mart, result.files)
            marts[mart.name] = result
            known[mart.name] = relations.mart_content(mart, result.state.definition, result.state.lanes)
            _note(run, step)
        relations.define()
        self.wrote = True
        states: dict[str, TableState] = {}
        for one in tables:
            table, floor = self.kept(one, current), floor_of(floors, one)
            before = current.tables.get(one.name)
            if before is not None and before.name(one.name) != table.name:
                before = None  # a new table of the store, which nobody reads yet
            step, states[one.name] = publish(
                table, number, relations, self.lake, self.engine, self.store, self.observer, writer, before, marts, known,
                self.mending.tables.get(one.name) if before is not None else None, floor,
                uncovered(floor_of(current.floors, one), floor),
            )  # fmt: skip
            _note(run, step)
        return {name: mart.state for name, mart in marts.items()}, states

    def pinned(self, mart: Mart, current: Generation) -> Aggregated | None:
        """A pinned yardstick as it was fitted; None where it is to be fitted (anew): not pinned, never was, or edited."""
        state = current.marts.get(mart.name)
        if state is None or not is_fitted(self.project, current, mart):
            return None
        found = self.lake.snapshot(f"gold/{mart.name}", state.version)
        return Aggregated(state, found.files, "nothing") if found is not None else None

    def references(self) -> dict[str, int]:
        """The newest version of each reference's silver."""
        found = {}
        for source in self.project.sources.values():
            silver = self.lake.snapshot(f"silver/{source.name}") if source.role == "reference" else None
            if silver is not None:
                found[source.name] = silver.version
        return found

    def open_epoch(self, number: int, relations: Relations, references: Mapping[str, int]) -> int:
        """Records the epoch that begins with this generation, at its cut."""
        facts = {name: source for name, source in self.project.sources.items() if source.role == "fact"}
        origins = {lane: end for lane, end in relations.end.items() if source_of(lane) in facts}
        voids = self.voids(facts.values())
        epoch = Epoch(number, self.range_size, code_of(self.project), origins, references, voids)
        self.store.set_control(epochs.control_name(number), epoch.text())
        return number

    def voids(self, facts: Iterable[Source]) -> dict[str, Sequence[Sequence[int]]]:
        """By lane, the records that count no more."""
        landed = manifest.load(self.lake, self.engine)
        found: dict[str, Sequence[Sequence[int]]] = {}
        for source in facts:
            voids = voids_of(source, self.lake, self.engine, landed)
            found |= {lane: [list(span) for span in spans] for lane, spans in voids.items()}
        return found

    def sweep(self, pointer: Pointer, predecessor: Generation, tables: Iterable[ServingTable]) -> None:
        """Removes the speed rows that neither this generation nor its predecessor adds to (Batch run, 5)."""
        past = [epoch for epoch in pointer.streamed if epoch < predecessor.epoch]
        for one in tables:
            if not one.of_mart or one.name not in predecessor.tables:
                continue
            table = stored(one, predecessor.tables[one.name])
            for epoch in past:
                self.store.clear_speed(table, epoch, None)
            if predecessor.epoch in pointer.streamed:
                self.store.clear_speed(table, predecessor.epoch, predecessor.cut)
        if past:
            # Somebody may have registered meanwhile: then the next run says it.
            self.store.compare_and_set(POINTER, pointer.text(), pointers.forget(pointer, past).text())

    def forget_windows(
        self, generation: Generation, predecessor: Generation, before: int | None, tables: Iterable[ServingTable]
    ) -> None:
        """Removes the batch rows of windows that neither this generation nor its predecessor keeps (Batch run, 5), unless
        those went already when ``before`` was the predecessor's. Speed rows go with their ranges."""
        limited = [
            (stored(table, predecessor.tables[table.name]), floor)
            for table in tables
            if table.name in predecessor.tables
            and (floor := least(floor_of(predecessor.floors, table), floor_of(generation.floors, table)))
        ]
        earlier = generation_of(self.store, before or 0) if limited else EMPTY
        for table, floor in limited:
            if floor != least(floor_of(earlier.floors, table), floor_of(predecessor.floors, table)):
                self.store.clear_below(table, floor.column, floor.start, generation.number)

    def silver(
        self, current: Generation, streamed: Epoch | None, references: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, int], dict[str, tuple[str, ...]]]:
        """Of each source's silver, as of one version: where it is cut, the contract that it was judged by, its files.

        While an epoch is ``streamed``, lanes are cut at the start of a range, and references are those of the epoch.
        """
        end: dict[str, int] = {}
        contracts, files = {}, {}
        counted = streamed_sources(self.project)
        for name, source in self.project.sources.items():
            if streamed is not None and source.role == "reference" and name not in references:
                continue  # it came after the epoch had begun, and the workers do not see it either
            silver = self.lake.snapshot(f"silver/{name}", references.get(name))
            lanes = lanes_of(source, self.lake, self.engine)
            end |= ends(silver, lanes)
            if silver is not None:
                contracts[name] = silver.transaction(CONTRACT) or 0
                files[name] = silver.files
            if streamed is not None and name in counted:
                for lane in stream_lanes(lanes):
                    before = current.cut.get(lane, 0)
                    end[lane] = aligned_cut(end.get(lane, 0), streamed.origin(lane), streamed.size, before)
        return end, contracts, files

    def is_current(self, current: Generation, relations: Relations, tables: Iterable[ServingTable]) -> bool:
        """Whether a new generation would be equal to the current one."""
        if not current.number or current.cut != relations.end or current.contracts != relations.contracts:
            return False
        if {name: floor.declared for name, floor in current.floors.items()} != self.project.retention:
            return False
        if {t.name for t in tables} != set(current.tables) or set(self.project.marts) != set(current.marts):
            return False
        if any(self.kept(t, current) != stored(t, current.tables[t.name]) for t in tables):
            return False
        known: dict[str, str] = {}
        for mart in self.project.marts.values():
            pinned = self.pinned(mart, current)
            definition = pinned.state.definition if pinned else relations.mart_definition(mart, known)
            if current.marts[mart.name].definition != definition:
                return False
            lanes = pinned.state.lanes if pinned else relations.lanes(mart.name)
            known[mart.name] = relations.mart_content(mart, definition, lanes)
        return all(
            t.of_mart or current.tables[t.name].definition == relations.table_definition(t, known) for t in tables
        )

    def as_of(self, relations: Relations, current: Generation) -> dict[str, str]:
        """The newest event time of each lane's clean records; of facts, only those that are new are read for it."""
        found: dict[str, str] = {}
        for source in self.project.sources.values():
            name = source.name
            lanes = {lane: end for lane, end in relations.end.items() if source_of(lane) == name}
            if source.event_time is None or not lanes:
                continue
            same = source.role == "fact" and current.contracts.get(name) == relations.contracts.get(name)
            new = within({lane: (current.cut.get(lane, 0) if same else 0, end) for lane, end in lanes.items()})
            newest = f"CAST(max(CAST({source.event_time} AS TIMESTAMP)) AS VARCHAR)"
            rows = self.engine.rows(f"SELECT _lane, {newest} FROM {name} WHERE {new} GROUP BY _lane")
            known = {lane: current.as_of[lane] for lane in lanes if same and lane in current.as_of}
            for lane, moment in (*known.items(), *((lane, instant(text)) for lane, text in rows if text is not None)):
                found[lane] = max(found.get(lane, moment), moment, key=moment_order)
        return found

    def late(self, relations: Relations, current: Generation) -> dict[str, int]:
        """How many clean records of each lane were below the watermark when they came; only those that are new are read."""
        found: dict[str, int] = {}
        for source in self.project.sources.values():
            name = source.name
            lanes = {lane: end for lane, end in relations.end.items() if source_of(lane) == name}
            if source.lateness is None or not lanes:
                continue
            same = current.contracts.get(name) == relations.contracts.get(name)
            new = within({lane: (current.cut.get(lane, 0) if same else 0, end) for lane, end in lanes.items()})
            known = {lane: current.as_of[lane] for lane in lanes if same and lane in current.as_of}
            whens = "".join(
                f" WHEN {literal(lane)} THEN TIMESTAMP {literal(moment_order(m))}" for lane, m in known.items()
            )
            before = f"CASE _lane{whens} END" if whens else "CAST(NULL AS TIMESTAMP)"
            over = "OVER (PARTITION BY _lane ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
            moments = (
                f"SELECT _lane, _offset, CAST({source.event_time} AS TIMESTAMP) AS _moment FROM {name} WHERE {new}"
            )
            highest = f"SELECT _lane, _moment, greatest(max(_moment) {over}, {before}) AS _highest FROM ({moments})"
            late = f"_moment < _highest - INTERVAL {source.lateness} SECOND"
            rows = self.engine.rows(f"SELECT _lane, count(*) FROM ({highest}) WHERE {late} GROUP BY _lane")
            found |= {lane: current.late.get(lane, 0) if same else 0 for lane in lanes}
            for lane, count in rows:
                found[lane] += count
        return found


def serving_tables(project: LoadedProject) -> list[ServingTable]:
    """Every table that a query of the project needs, once."""
    return list({table.name: table for query in project.queries.values() for table in query.tables}.values())


def _note(run: Run, step: Step) -> None:
    if step.counts:
        run.steps.append(step)
