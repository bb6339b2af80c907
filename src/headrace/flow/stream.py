"""stream: records that arrive become speed rows within moments. The batch over micro-batches: the same judge, the same mart
SQL, the same serving tables; only that parts are kept for a range of the lane at a time (seam: Worker)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.errors import ConflictError, OutOfReachError
from headrace.flow.control import POINTER, epoch_of, generation_of, made_pointer, pointer_of, reached
from headrace.flow.lanes import lanes_of
from headrace.flow.refine import kept
from headrace.flow.relations import VERDICTS, Relations, fact_sources
from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source, source_of
from headrace.ports import Arrival, Engine, Feed, Lake, Log, Observer, Store
from headrace.seam import epoch as epochs
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.generation import EMPTY, Generation, instant
from headrace.seam.pointer import Pointer
from headrace.seam.ranges import start_of
from headrace.sql.gold import merged_sql, parts_columns, rollup_sql
from headrace.sql.judge import bronze_columns, judge_sql, literal, repeats_sql, silver_columns

MICRO_BATCH = 20_000
"""Records that are aggregated and written at a time, at most."""
ENDLESS = 1 << 62


def streamable(project: LoadedProject) -> list[Mart]:
    """The marts that the speed path serves."""
    return [mart for mart in project.marts.values() if mart.is_streamed]


def streamed_sources(project: LoadedProject) -> set[str]:
    """The facts that feed a mart of the speed path."""
    return {fact for mart in streamable(project) for fact in fact_sources(project, mart.name)}


def tables_of(project: LoadedProject, mart: Mart) -> list[ServingTable]:
    """The serving tables that a mart's rows are written to."""
    tables = {table.name: table for query in project.queries.values() for table in query.tables}
    return [table for table in tables.values() if table.of_mart and table.origin == mart.name]


@functools.lru_cache(8)
def code_of(project: LoadedProject) -> str:
    """A hash of all that decides speed rows, the records themselves aside: two who have the same one count alike."""
    said = [mart.parts_sql for mart in streamable(project)] + [project.marts[name].hash for name in project.pins]
    # A table that is new has no rows of the ranges that were counted without it.
    said += sorted(table.name for mart in streamable(project) for table in tables_of(project, mart))
    said += [dataset.sql for dataset in project.datasets.values()]
    for source in project.sources.values():
        said += [judge_sql(source, "bronze", "repeats"), repeats_sql(source, "judged"), str(source.horizon)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:20]


@dataclass(slots=True)
class Lane:
    """Where a worker is in a lane: the open range begins at ``start``; all before ``position`` is counted."""

    name: str
    source: Source
    start: int
    position: int
    acknowledged: int
    """Up to here an earlier worker had written everything: what is counted again need not be written again."""
    as_of: str = ""

    @property
    def ids(self) -> str:
        """The engine's table of the ids of the records that a later one may be a duplicate of."""
        return f"ids__{_short(self.name)}"

    def range(self, mart: Mart) -> str:
        """The engine's table of a mart's parts, as the open range has counted them so far."""
        return f"{mart.name}__range__{_short(self.name)}"


@dataclass(slots=True)
class Worker:
    """One worker of a project's stream, for the lanes that the log gives it."""

    project: LoadedProject
    log: Log
    lake: Lake
    engine: Engine
    store: Store
    observer: Observer
    name: str
    epoch: Epoch | None = None
    generation: Generation = EMPTY
    feed: Feed | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)
    marts: dict[str, list[Mart]] = field(default_factory=dict)
    """By source, the marts that its records count in."""

    def run(self, arrivals: Callable[[], object], *, until_caught_up: bool, stopped: Callable[[], bool], pause: float = 0.2) -> int:  # fmt: skip
        """Counts what is there and what comes, until ``stopped``; gives the number of records that were counted.

        ``arrivals`` lands what has arrived. Raises ConflictError HR0410 where the epoch belongs to other code, and
        HR0409 where a run is opening an epoch just now.
        """
        counted = 0
        self.register()
        try:
            while not stopped():
                try:
                    arrivals()
                except OutOfReachError as error:
                    if until_caught_up:
                        raise
                    # What has landed is counted all the same; then it is asked again.
                    self.observer.alarm(str(error))
                self.follow()
                new = self.step(0.0 if until_caught_up else pause)
                counted += new
                if until_caught_up and not new and self.feed is not None and self.feed.is_caught_up:
                    break
        finally:
            if self.feed is not None:
                self.feed.close()
            self.move(lambda pointer: pointers.deregister(pointer, self.name))
        return counted

    # The pointer

    def move(self, change: Callable[[Pointer], Pointer]) -> None:
        while True:
            old = made_pointer(self.store)
            new = change(old)
            if new == old or self.store.compare_and_set(POINTER, old.text(), new.text()):
                return

    def register(self) -> None:
        self.move(
            lambda pointer: pointers.register(pointer, self.name, generation_of(self.store, pointer.generation).epoch)
        )

    def follow(self) -> None:
        """Goes where the pointer's epoch is, to its checkpoints, else to its origins (Worker, 1 and 2)."""
        pointer = pointer_of(self.store)
        if self.epoch is not None and pointer.generation == self.generation.number:
            return
        self.generation = generation_of(self.store, pointer.generation)
        if self.epoch is not None and self.epoch.number == self.generation.epoch:
            return
        epoch = epoch_of(self.store, self.generation.epoch)
        if epoch.code != code_of(self.project):
            raise ConflictError(
                "HR0410", "what is published was computed by other code than this worker's", help="headrace run"
            )
        self.epoch = epoch
        if epoch.number not in pointer.streamed or self.name not in pointer.workers:
            self.move(lambda p: pointers.register(p, self.name, epoch.number))
        self.open(epoch)

    # An epoch

    def open(self, epoch: Epoch) -> None:
        """Makes the epoch's relations readable, and takes part in the group that counts its lanes."""
        if self.feed is not None:
            self.feed.close()
        files: dict[str, tuple[str, ...]] = {}
        for name, version in epoch.references.items():
            snapshot = self.lake.snapshot(f"silver/{name}", version)
            files[name] = snapshot.files if snapshot is not None else ()
        facts = [s for s in self.project.sources.values() if s.role == "fact"]
        for source in facts:
            self.engine.keep(_micro(source), self.nothing(silver_columns(source)))
        ends = dict.fromkeys(self.project.sources, ENDLESS)
        judged = {source.name: _micro(source) for source in facts}
        relations = Relations(self.project, self.lake, self.engine, ends, {}, files, judged)
        relations.define(first={})  # references are joined; their own rows the batch has counted
        for name in self.project.pins:
            fitted = self.lake.snapshot(f"gold/{name}", self.generation.marts[name].version)
            relations.define_mart(self.project.marts[name], fitted.files if fitted is not None else ())
        # Views over tables that have rows of one lane at a time, so that parts are of that lane only.
        self.marts = {}
        for mart in streamable(self.project):
            if any(relations.counts_reference(name) for name in mart.rows_from if name != VERDICTS):
                continue
            for source_name in fact_sources(self.project, mart.name):
                self.marts.setdefault(source_name, []).append(mart)
        self.lanes = {}
        group = f"headrace.{self.project.name}.{epoch.number}"
        self.feed = self.log.feed(group, [s for s in facts if s.name in self.marts], self.take)

    def take(self, name: str, retained: int) -> int:
        """Makes a lane ready that the log gives to this worker, and has from offset ``retained`` on; gives the offset
        that it goes on from: its checkpoint, else its origin, which of a lane that is new is where it begins."""
        assert self.epoch is not None
        source = self.project.sources[source_of(name)]
        checkpoint, _ = reached(self.store, epochs.checkpoint_name(self.epoch.number, name))
        written, as_of = reached(self.store, epochs.progress_name(self.epoch.number, name))
        position = max(checkpoint, self.epoch.origin(name), 0 if name in self.epoch.origins else retained)
        start = start_of(position, self.epoch.origin(name), self.epoch.size)
        lane = Lane(name, source, start, position, max(written, position), as_of)
        self.lanes[name] = lane
        self.open_range(lane)
        ids = ", ".join(source.identity)
        self.engine.keep(lane.ids, f"SELECT _offset, {ids} FROM {_micro(source)} WHERE false")
        before = max(position - source.horizon, lanes_of(source, self.lake, self.engine).get(name, retained))
        while before < position:
            arrival = self.earlier(lane, before, position)
            if arrival.end <= before:
                break
            self.judge(lane, arrival.relation, before, arrival.end)
            before = arrival.end
        self.engine.keep(_micro(source), self.nothing(silver_columns(source)))
        return position

    def earlier(self, lane: Lane, first: int, end: int) -> Arrival:
        """Records that are counted already: from bronze as far as they were landed, as the log may have forgotten them."""
        table = f"bronze/{lane.source.name}"
        bronze = self.lake.snapshot(table)
        landed = (bronze.transaction(lane.name) or 0) if bronze is not None else 0
        if bronze is None or landed <= first:
            return self.log.read(lane.source, lane.name, first, end)
        scan = self.engine.scan(bronze.files, bronze_columns(lane.source), grown=True)
        return Arrival(lane.name, f"(SELECT * FROM {scan} WHERE _lane = {literal(lane.name)})", min(landed, end))

    def open_range(self, lane: Lane) -> None:
        for mart in self.marts[lane.source.name]:
            self.engine.keep(lane.range(mart), self.nothing(parts_columns(mart)))

    def nothing(self, columns: list[tuple[str, str]]) -> str:
        return f"SELECT * FROM {self.engine.scan([], columns)}"

    # A micro-batch

    def step(self, wait: float = 0.0) -> int:
        """Counts what has come; gives how many records of the lanes' offsets that is."""
        assert self.feed is not None
        arrivals = self.feed.poll(wait)
        return sum(self.advance(arrival) for arrival in arrivals if arrival.lane in self.feed.lanes)

    def advance(self, arrival: Arrival) -> int:
        """Counts what has arrived in a lane, a micro-batch at a time, none of which goes beyond the end of its range."""
        assert self.epoch is not None
        assert self.feed is not None
        lane = self.lanes[arrival.lane]
        came = arrival.end - lane.position
        while lane.position < arrival.end:
            end = min(arrival.end, lane.position + MICRO_BATCH, lane.start + self.epoch.size)
            self.judge(lane, arrival.relation, lane.position, end)
            for mart in self.marts[lane.source.name]:
                self.count(lane, mart, end)
            self.engine.keep(_micro(lane.source), self.nothing(silver_columns(lane.source)))
            lane.position = end
            if end > lane.acknowledged:
                self.store.raise_control(epochs.progress_name(self.epoch.number, lane.name), end, lane.as_of)
            if end == lane.start + self.epoch.size:
                self.store.raise_control(epochs.checkpoint_name(self.epoch.number, lane.name), end)
                self.feed.commit(lane.name, end)
                lane.start = end
                self.open_range(lane)
                past = f"SELECT * FROM {lane.ids} WHERE _offset >= {end - lane.source.horizon}"
                self.engine.keep(lane.ids, past)
        return came

    def judge(self, lane: Lane, relation: str, first: int, end: int) -> None:
        """Judges records [first, end) by contract, rules, and the ids of the horizon before them, and keeps their ids."""
        source = lane.source
        assert self.epoch is not None
        voids = {name: ranges for name, ranges in self.epoch.voids.items() if name == lane.name}
        arrived = f"(SELECT * FROM {relation} WHERE _offset >= {first} AND _offset < {end})"
        self.engine.keep("_judged", judge_sql(source, f"(SELECT * FROM {kept(self.engine, arrived, voids)})", None))
        ids, known = ", ".join(source.identity), " AND ".join(f"{name} IS NOT NULL" for name in source.identity)
        self.engine.keep("_passing", f"SELECT _offset, {ids} FROM _judged WHERE _reasons IS NULL AND {known}")
        alike = f"SELECT * FROM {lane.ids} SEMI JOIN _passing USING ({ids}) UNION ALL SELECT * FROM _passing"
        before = f"lag(_offset) OVER (PARTITION BY {ids} ORDER BY _offset)"
        self.engine.keep("_again", f"SELECT _offset FROM (SELECT _offset, {before} AS _before FROM ({alike})) "
                                   f"WHERE _offset >= {first} AND _offset - _before <= {source.horizon}")  # fmt: skip
        verdict = "CASE WHEN _offset IN (SELECT _offset FROM _again) THEN 'duplicate' ELSE _verdict END AS _verdict"
        self.engine.keep(_micro(source), f"SELECT * REPLACE ({verdict}) FROM _judged")
        self.engine.add(lane.ids, "SELECT * FROM _passing")
        if source.event_time is not None:
            newest = f"SELECT max(CAST({source.event_time} AS TIMESTAMP)) FROM {source.name}"
            value = self.engine.rows(
                f"SELECT CAST(greatest(({newest}), CAST(? AS TIMESTAMP)) AS VARCHAR)", [lane.as_of or None]
            )[0][0]
            lane.as_of = instant(value) if value is not None else ""

    def count(self, lane: Lane, mart: Mart, end: int) -> None:
        """Adds the micro-batch to the range's parts, and writes the rows that it touches."""
        assert self.epoch is not None
        so_far, batch = lane.range(mart), f"{mart.name}__batch"
        self.engine.keep(batch, mart.parts_sql)
        self.engine.define(f"{mart.name}__parts", f"SELECT * FROM {batch}")  # for marts that merge this one's
        self.engine.keep(so_far, merged_sql(mart, f"(SELECT * FROM {so_far} UNION ALL BY NAME SELECT * FROM {batch})"))
        if end <= lane.acknowledged:
            return
        for table in tables_of(self.project, mart):
            key = ", ".join(c.name for c in table.key)
            touched = (
                f"SELECT r.* FROM {so_far} AS r SEMI JOIN {batch} USING ({key})" if key else f"SELECT * FROM {so_far}"
            )
            rows = self.engine.rows(rollup_sql(table, f"({touched})"))
            self.store.put_speed(table, self.epoch.number, lane.name, lane.start, end, rows)


def _micro(source: Source) -> str:
    return f"{source.name}__micro"


def _short(lane: str) -> str:
    """A name for a lane's tables in the engine."""
    return hashlib.sha256(lane.encode()).hexdigest()[:12]
