"""stream: records that arrive become speed rows within moments. The batch over micro-batches: the same judge, the same mart
SQL, the same serving tables; only that parts are kept for a range of the lane at a time (seam: Worker)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.flow.refine import judging
from headrace.flow.relations import VERDICTS, Relations, fact_lanes
from headrace.flow.worker import Lane, Row, Steps
from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source
from headrace.ports import Engine, Lake, Observer, Store
from headrace.seam.epoch import Epoch
from headrace.seam.generation import EMPTY, Generation
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
class Worker(Steps):
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

    def code(self) -> str:
        return code_of(self.project)

    # An epoch

    def prepare(self, epoch: Epoch) -> list[str]:
        """Makes the epoch's relations readable."""
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
        return [source.name for source in facts if source.name in self.marts]

    def open_range(self, lane: str) -> None:
        for mart in self.marts[lane]:
            self.engine.keep(_range(mart, lane), self.nothing(parts_columns(mart)))

    def nothing(self, columns: list[tuple[str, str]]) -> str:
        return f"SELECT * FROM {self.engine.scan([], columns)}"

    # A micro-batch

    def ready(self, lane: Lane) -> int:
        bronze = self.lake.snapshot(f"bronze/{lane.name}")
        landed = (bronze.transaction(lane.name) or 0) if bronze is not None else 0
        return min(landed, lane.position + MICRO_BATCH)

    def count(self, lane: Lane, end: int) -> None:
        source = self.project.sources[lane.name]
        self.judge(lane, source, end)
        for mart in self.marts[lane.name]:
            so_far, batch = _range(mart, lane.name), _batch(mart)
            self.engine.keep(batch, mart.parts_sql)
            self.engine.define(f"{mart.name}__parts", f"SELECT * FROM {batch}")  # for marts that merge this one's
            both = f"(SELECT * FROM {so_far} UNION ALL BY NAME SELECT * FROM {batch})"
            self.engine.keep(so_far, merged_sql(mart, both))
        self.engine.keep(_micro(source), self.nothing(silver_columns(source)))

    def judge(self, lane: Lane, source: Source, end: int) -> None:
        """Judges records [position, end) by contract, rules, and the ids of the horizon before them."""
        bronze = self.lake.snapshot(f"bronze/{lane.name}")
        assert self.epoch is not None
        assert bronze is not None
        scan = self.engine.scan(bronze.files, bronze_columns(source), grown=True)
        voids = [(first, last) for first, last in self.epoch.voids.get(source.name, ())]
        self.engine.keep(_micro(source), judging(source, scan, lane.position, end, voids, self.engine))
        if source.event_time is not None:
            newest = f"SELECT max(CAST({source.event_time} AS TIMESTAMP)) FROM {source.name}"
            value = self.engine.rows(
                f"SELECT CAST(greatest(({newest}), CAST(? AS TIMESTAMP)) AS VARCHAR)", [lane.as_of or None]
            )[0][0]
            lane.as_of = str(value).replace(" ", "T") + "Z" if value is not None else ""

    def touched(self, lane: Lane) -> Iterator[tuple[ServingTable, list[Row]]]:
        for mart in self.marts[lane.name]:
            so_far, batch = _range(mart, lane.name), _batch(mart)
            for table in tables_of(self.project, mart):
                key = ", ".join(c.name for c in table.key)
                touched = (
                    f"SELECT r.* FROM {so_far} AS r SEMI JOIN {batch} USING ({key})"
                    if key
                    else f"SELECT * FROM {so_far}"
                )
                yield table, self.engine.rows(rollup_sql(table, f"({touched})"))


def _micro(source: Source) -> str:
    return f"{source.name}__micro"


def _batch(mart: Mart) -> str:
    return f"{mart.name}__batch"


def _range(mart: Mart, lane: str) -> str:
    return f"{mart.name}__{lane}__range"
