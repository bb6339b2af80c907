"""stream: records that arrive become speed rows within moments. The batch over micro-batches: the same judge, the same mart
SQL, the same serving tables; only that parts are kept for a range of the lane at a time (seam: Worker)."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.errors import ConflictError, OutOfReachError
from headrace.flow.control import POINTER, epoch_of, generation_of, made_pointer, pointer_of, reached
from headrace.flow.refine import judging
from headrace.flow.relations import VERDICTS, Relations, fact_lanes
from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source
from headrace.ports import Engine, Lake, Observer, Store
from headrace.seam import epoch as epochs
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.generation import EMPTY, Generation
from headrace.seam.pointer import Pointer
from headrace.sql.gold import merged_sql, parts_columns, rollup_sql
from headrace.sql.judge import bronze_columns, judge_sql, repeats_sql, silver_columns

MICRO_BATCH = 20_000
"""Records that are aggregated and written at a time, at most."""
ENDLESS = 1 << 62


def streamable(project: LoadedProject) -> list[Mart]:
    """The marts that the speed path serves."""
    return [mart for mart in project.marts.values() if mart.is_streamed]


def lanes_of(project: LoadedProject) -> set[str]:
    """The lanes that feed a mart of the speed path."""
    return {lane for mart in streamable(project) for lane in fact_lanes(project, mart.name)}


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

    source: Source
    start: int
    position: int
    acknowledged: int
    """Up to here an earlier worker had written everything: what is counted again need not be written again."""
    as_of: str = ""


@dataclass(slots=True)
class Worker:
    """One worker for all lanes of a project, whose log is its bronze tables."""

    project: LoadedProject
    lake: Lake
    engine: Engine
    store: Store
    observer: Observer
    name: str
    epoch: Epoch | None = None
    generation: Generation = EMPTY
    lanes: dict[str, Lane] = field(default_factory=dict)
    marts: dict[str, list[Mart]] = field(default_factory=dict)
    """By lane, the marts that its records count in."""

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
                    self.observer.alarm(
                        str(error)
                    )  # what has landed is counted all the same, and then it is asked again
                self.follow()
                new = sum(self.advance(lane) for lane in list(self.lanes.values()))
                counted += new
                if not new and until_caught_up:
                    break
                if not new:
                    time.sleep(pause)
        finally:
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
        """Makes the epoch's relations readable, and every lane ready at its checkpoint."""
        ends = dict.fromkeys(self.project.sources, ENDLESS)
        files: dict[str, tuple[str, ...]] = {}
        for name, version in epoch.references.items():
            snapshot = self.lake.snapshot(f"silver/{name}", version)
            files[name] = snapshot.files if snapshot is not None else ()
        facts = [s for s in self.project.sources.values() if s.role == "fact"]
        for source in facts:
            self.engine.keep(_micro(source), self.nothing(silver_columns(source)))
        judged = {source.name: _micro(source) for source in facts}
        relations = Relations(self.project, self.lake, self.engine, ends, {}, files, judged)
        relations.define(first={})  # references are joined; their own rows the batch has counted
        for name in self.project.pins:
            fitted = self.lake.snapshot(f"gold/{name}", self.generation.marts[name].version)
            relations.define_mart(self.project.marts[name], fitted.files if fitted is not None else ())
        # Views over a table that has rows of one lane at a time, so that parts are of that lane only.
        self.marts = {}
        for mart in streamable(self.project):
            if any(relations.counts_reference(name) for name in mart.rows_from if name != VERDICTS):
                continue
            for lane in relations.lanes(mart.name):
                self.marts.setdefault(lane, []).append(mart)
        self.lanes = {}
        for source in facts:
            if source.name in self.marts:
                checkpoint, _ = reached(self.store, epochs.checkpoint_name(epoch.number, source.name))
                written, as_of = reached(self.store, epochs.progress_name(epoch.number, source.name))
                start = max(checkpoint, epoch.origin(source.name))
                self.lanes[source.name] = Lane(source, start, start, max(written, start), as_of)
                self.open_range(source.name)

    def open_range(self, lane: str) -> None:
        for mart in self.marts[lane]:
            self.engine.keep(_range(mart, lane), self.nothing(parts_columns(mart)))

    def nothing(self, columns: list[tuple[str, str]]) -> str:
        return f"SELECT * FROM {self.engine.scan([], columns)}"

    # A micro-batch

    def advance(self, lane: Lane) -> int:
        """Counts the next records of a lane; gives how many there were."""
        assert self.epoch is not None
        bronze = self.lake.snapshot(f"bronze/{lane.source.name}")
        landed = (bronze.transaction(lane.source.name) or 0) if bronze is not None else 0
        end = min(landed, lane.position + MICRO_BATCH, lane.start + self.epoch.size)
        if bronze is None or end <= lane.position:
            return 0
        self.judge(lane, self.engine.scan(bronze.files, bronze_columns(lane.source), grown=True), end)
        for mart in self.marts[lane.source.name]:
            self.count(lane, mart, end)
        self.engine.keep(_micro(lane.source), self.nothing(silver_columns(lane.source)))
        count, lane.position = end - lane.position, end
        if end > lane.acknowledged:
            progress = epochs.progress_name(self.epoch.number, lane.source.name)
            self.store.raise_control(progress, end, lane.as_of)
        if end == lane.start + self.epoch.size:
            self.store.raise_control(epochs.checkpoint_name(self.epoch.number, lane.source.name), end)
            lane.start = end
            self.open_range(lane.source.name)
        return count

    def judge(self, lane: Lane, scan: str, end: int) -> None:
        """Judges records [position, end) by contract, rules, and the ids of the horizon before them."""
        source = lane.source
        assert self.epoch is not None
        voids = [(first, last) for first, last in self.epoch.voids.get(source.name, ())]
        self.engine.keep(_micro(source), judging(source, scan, lane.position, end, voids, self.engine))
        if source.event_time is not None:
            newest = f"SELECT max(CAST({source.event_time} AS TIMESTAMP)) FROM {source.name}"
            value = self.engine.rows(
                f"SELECT CAST(greatest(({newest}), CAST(? AS TIMESTAMP)) AS VARCHAR)", [lane.as_of or None]
            )[0][0]
            lane.as_of = str(value).replace(" ", "T") + "Z" if value is not None else ""

    def count(self, lane: Lane, mart: Mart, end: int) -> None:
        """Adds the micro-batch to the range's parts, and writes the rows that it touches."""
        assert self.epoch is not None
        so_far, batch = _range(mart, lane.source.name), f"{mart.name}__batch"
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
            self.store.put_speed(table, self.epoch.number, lane.source.name, lane.start, end, rows)


def _micro(source: Source) -> str:
    return f"{source.name}__micro"


def _range(mart: Mart, lane: str) -> str:
    return f"{mart.name}__{lane}__range"
