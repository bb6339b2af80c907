"""stream: records that arrive become speed rows within moments. The batch over micro-batches: the same judge, the same mart
SQL, the same serving tables; only that parts are kept for a range of the lane at a time (seam: Worker)."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.flow.control import reached
from headrace.flow.isolation import SIZES, Tries, isolate, isolated, tries_name
from headrace.flow.land import refuse_rewritten
from headrace.flow.lanes import lanes_of
from headrace.flow.refine import kept
from headrace.flow.relations import Relations
from headrace.flow.worker import Lane, Row, Steps
from headrace.flow.writing import AtOnce, Writer
from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source, source_of
from headrace.ports import Arrival, Engine, Feed, Lake, Log, Observer, Store
from headrace.seam.epoch import Epoch, progress_name
from headrace.seam.generation import EMPTY, Generation, instant, stored
from headrace.sql.gold import merged_sql, parts_columns, rollup_sql
from headrace.sql.judge import bronze_columns, judge_sql, literal, repeats_sql, silver_columns

MICRO_BATCH = SIZES[0]
ENDLESS = 1 << 62


def streamable(project: LoadedProject) -> list[Mart]:
    """The marts that the speed path serves."""
    return [mart for mart in project.marts.values() if mart.is_streamed]


def streamed_sources(project: LoadedProject) -> set[str]:
    """The facts that feed a mart of the speed path."""
    return {fact for mart in streamable(project) for fact in project.facts_of(mart.name)}


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
    """One worker of a project's stream, for the lanes that the log gives it."""

    project: LoadedProject
    log: Log
    lake: Lake
    engine: Engine
    store: Store
    observer: Observer
    name: str
    writer: Writer = field(default_factory=AtOnce)
    epoch: Epoch | None = None
    generation: Generation = EMPTY
    patience: int = 300
    feed: Feed | None = None
    lanes: dict[str, Lane] = field(default_factory=dict)
    arrived: dict[str, Arrival] = field(default_factory=dict)
    """By lane, what the feed gave last."""
    marts: dict[str, list[Mart]] = field(default_factory=dict)
    """By source, the marts that its records count in."""
    tries: dict[str, Tries] = field(default_factory=dict)
    voids: dict[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    """By lane, the records that count no more, or never did."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """By verdict, the records that were judged last."""
    newest: str = ""
    """Their newest event time."""
    begun: float = 0.0

    def code(self) -> str:
        return code_of(self.project)

    @property
    def is_caught_up(self) -> bool:
        """Of lanes that are another's, or nobody's while one that was killed is not missed yet, the store knows."""
        assert self.epoch is not None
        if self.feed is None or not self.feed.is_caught_up:
            return False
        number, cut, mine = self.epoch.number, self.generation.cut, set(self.feed.lanes)
        return all(
            lane in mine or max(reached(self.store, progress_name(number, lane))[0], cut.get(lane, 0)) >= end
            for source in self.marts
            for lane, (_, end) in self.log.lanes(self.project.sources[source]).items()
        )

    def wait(self, tries: int) -> None:
        if tries == 1:
            self.observer.alarm("waiting for a run that opens an epoch; if it was killed: headrace run")
        time.sleep(0.2)

    def leave(self) -> None:
        self.writer.close()
        for tries in self.tries.values():
            tries.close()
        if self.feed is not None:
            self.feed.close()
        Steps.leave(self)

    # An epoch

    def enter(self, epoch: Epoch, generation: Generation) -> None:
        Steps.enter(self, epoch, generation)
        if self.feed is not None:
            self.feed.close()
        group = f"headrace.{self.project.name}.{epoch.number}"
        self.feed = self.log.feed(group, [self.project.sources[name] for name in self.marts], self.begin)

    def prepare(self, epoch: Epoch) -> list[str]:
        """Makes the epoch's relations readable; which lanes are counted here the feed will say."""
        files: dict[str, tuple[str, ...]] = {}
        for name, version in epoch.references.items():
            snapshot = self.lake.snapshot(f"silver/{name}", version)
            files[name] = snapshot.files if snapshot is not None else ()
        facts = [s for s in self.project.sources.values() if s.role == "fact"]
        for source in facts:
            self.engine.define(_micro(source), self.nothing(silver_columns(source)))
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
            for source_name in sorted(self.project.facts_of(mart.name)):
                self.marts.setdefault(source_name, []).append(mart)
        return []

    # A lane

    def begin(self, name: str, retained: int) -> int:
        """Makes a lane ready that the log gives to this worker, and has from offset ``retained`` on; gives the offset
        that it goes on from."""
        lane = self.lanes[name] = self.take(name, retained)
        source = self.project.sources[source_of(name)]
        refuse_rewritten(source, name, lane.mark, self.log)
        self.voids[name] = self.void_in(lane)
        self.engine.keep(_ids(name), f"SELECT _offset, {', '.join(source.event_id)} FROM {_micro(source)} WHERE false")
        before = max(lane.position - source.horizon, lanes_of(source, self.lake, self.engine).get(name, retained))
        while before < lane.position:
            arrival = self.earlier(source, name, before, lane.position)
            if arrival.end <= before:
                break
            self.judge(lane, source, arrival.relation, before, arrival.end)
            before = arrival.end
        self.engine.define(_micro(source), self.nothing(silver_columns(source)))
        return lane.position

    def void_in(self, lane: Lane) -> Sequence[Sequence[int]]:
        """What is void in the epoch, and what kills whoever counts it: that is found out here (``flow/isolation.py``)."""
        assert self.epoch is not None
        tries = self.tries[lane.name] = Tries(self.store, tries_name(self.epoch.number, lane.name))
        known = isolated(self.lake, self.engine).get(lane.name, [])
        if tries.begin(lane.acknowledged) and lane.acknowledged not in known:
            self.observer.alarm(f"HR0418: {lane.name} {lane.acknowledged} killed whoever counted it, and is isolated")
            isolate(lane.name, lane.acknowledged, self.lake, self.engine)
            known.append(lane.acknowledged)
        return [*self.epoch.voids.get(lane.name, []), *((offset, offset + 1) for offset in known)]

    def earlier(self, source: Source, lane: str, first: int, end: int) -> Arrival:
        """Records that are counted already: from bronze as far as they were landed, as the log may have forgotten them."""
        bronze = self.lake.snapshot(f"bronze/{source.name}")
        landed = (bronze.transaction(lane) or 0) if bronze is not None else 0
        if bronze is None or landed <= first:
            return self.log.read(source, lane, first, end)
        scan = self.engine.scan(bronze.files, bronze_columns(source), grown=True)
        return Arrival(lane, f"(SELECT * FROM {scan} WHERE _lane = {literal(lane)})", min(landed, end))

    def open_range(self, lane: str) -> None:
        for mart in self.marts[source_of(lane)]:
            self.engine.keep(_range(mart, lane), self.nothing(parts_columns(mart)))

    def nothing(self, columns: list[tuple[str, str]]) -> str:
        return f"SELECT * FROM {self.engine.scan([], columns)}"

    # A micro-batch

    def step(self, wait: float = 0.0) -> int:
        assert self.feed is not None
        self.arrived = {arrival.lane: arrival for arrival in self.feed.poll(wait)}
        counted = 0
        for name in self.arrived:
            while name in self.feed.lanes and (new := self.advance(self.lanes[name])):
                counted += new
                lane = self.lanes[name]
                if lane.position == lane.start:
                    oldest = lane.position - self.project.sources[source_of(name)].horizon
                    self.engine.keep(_ids(name), f"SELECT * FROM {_ids(name)} WHERE _offset >= {oldest}")
        return counted

    def checkpointed(self, lane: str, offset: int) -> None:
        if self.feed is not None:
            self.feed.commit(lane, offset)

    def overtaken(self, lane: str) -> None:
        self.observer.alarm(f"HR0419: another worker counts {lane}, too")

    def ready(self, lane: Lane) -> int:
        tries = self.tries[lane.name]
        end = min(self.arrived[lane.name].end, lane.position + min(MICRO_BATCH, tries.size(lane.position)))
        return min(end, lane.acknowledged) if lane.position < lane.acknowledged else end

    def count(self, lane: Lane, end: int) -> None:
        self.begun = time.monotonic()
        source = self.project.sources[source_of(lane.name)]
        assert self.feed is not None
        if end > lane.acknowledged:
            if self.tries[lane.name].died:
                self.writer.settle()  # so that whoever comes after begins at these very records
            self.tries[lane.name].note(lane.position)
        self.judge(lane, source, self.arrived[lane.name].relation, lane.position, end)
        lane.mark = self.feed.mark(lane.name, end) or lane.mark
        for mart in self.marts[source.name]:
            so_far, batch = _range(mart, lane.name), _batch(mart)
            self.engine.keep(batch, mart.parts_sql)
            self.engine.define(f"{mart.name}__parts", f"SELECT * FROM {batch}")  # for marts that merge this one's
            both = f"(SELECT * FROM {so_far} UNION ALL BY NAME SELECT * FROM {batch})"
            self.engine.keep(so_far, merged_sql(mart, both))
        self.engine.define(_micro(source), self.nothing(silver_columns(source)))
        self.tries[lane.name].close()  # before rows are written: what fails from here on is no record's doing

    def judge(self, lane: Lane, source: Source, relation: str, first: int, end: int) -> None:
        """Judges records [first, end) by contract, rules, and the ids of the horizon before them, and keeps their ids."""
        assert self.epoch is not None
        voids = {lane.name: self.voids[lane.name]} if self.voids[lane.name] else {}
        arrived = f"(SELECT * FROM {relation} WHERE _offset >= {first} AND _offset < {end})"
        self.engine.keep("_judged", judge_sql(source, f"(SELECT * FROM {kept(self.engine, arrived, voids)})", None))
        ids, known = ", ".join(source.event_id), " AND ".join(f"{name} IS NOT NULL" for name in source.event_id)
        self.engine.keep("_passing", f"SELECT _offset, {ids} FROM _judged WHERE _reasons IS NULL AND {known}")
        alike = f"SELECT * FROM {_ids(lane.name)} SEMI JOIN _passing USING ({ids}) UNION ALL SELECT * FROM _passing"
        before = f"lag(_offset) OVER (PARTITION BY {ids} ORDER BY _offset)"
        self.engine.keep("_again", f"SELECT _offset FROM (SELECT _offset, {before} AS _before FROM ({alike})) "
                                   f"WHERE _offset >= {first} AND _offset - _before <= {source.horizon}")  # fmt: skip
        verdict = "CASE WHEN _offset IN (SELECT _offset FROM _again) THEN 'duplicate' ELSE _verdict END AS _verdict"
        counts = self.engine.rows(
            "SELECT _verdict, count(*), count(_again._offset) FROM _judged LEFT JOIN _again USING (_offset) GROUP BY ALL"
        )
        again = sum(twice for _, _, twice in counts)
        self.outcomes = {verdict: count - twice for verdict, count, twice in counts} | {"duplicate": again}
        self.engine.define(_micro(source), f"SELECT *{f' REPLACE ({verdict})' if again else ''} FROM _judged")
        self.engine.add(_ids(lane.name), "SELECT * FROM _passing")
        if source.event_time is not None:
            newest = f"SELECT max(CAST({source.event_time} AS TIMESTAMP)) FROM {source.name}"
            own, value = self.engine.rows(
                f"SELECT CAST(n AS VARCHAR), CAST(greatest(n, CAST(? AS TIMESTAMP)) AS VARCHAR) FROM (SELECT ({newest}) AS n)",
                [lane.as_of or None],
            )[0]
            self.newest = instant(own) if own is not None else ""
            lane.as_of = instant(value) if value is not None else ""

    def told(self, lane: Lane) -> Callable[[], None]:
        source, outcomes, newest, begun = source_of(lane.name), self.outcomes, self.newest, self.begun
        return lambda: self.observer.counted(source, outcomes, time.monotonic() - begun, newest)

    def touched(self, lane: Lane) -> Iterator[tuple[ServingTable, list[Row]]]:
        for mart in self.marts[source_of(lane.name)]:
            so_far, batch = _range(mart, lane.name), _batch(mart)
            for table in tables_of(self.project, mart):
                key = ", ".join(c.name for c in table.key)
                touched = (
                    f"SELECT r.* FROM {so_far} AS r SEMI JOIN {batch} USING ({key})"
                    if key
                    else f"SELECT * FROM {so_far}"
                )
                rows = f"SELECT * FROM ({rollup_sql(table, f'({touched})')})"
                # In the order of the key a store takes them fastest.
                yield (
                    stored(table, self.generation.tables.get(table.name)),
                    self.engine.rows(f"{rows} ORDER BY {key}" if key else rows),
                )


def _micro(source: Source) -> str:
    """The view of a source's judged records, of one lane at a time."""
    return f"{source.name}__micro"


def _batch(mart: Mart) -> str:
    return f"{mart.name}__batch"


def _range(mart: Mart, lane: str) -> str:
    """The table of a mart's parts, as the open range of a lane has counted them so far."""
    return f"{mart.name}__range__{_short(lane)}"


def _ids(lane: str) -> str:
    """The table of the ids of a lane's records that a later one may be a duplicate of."""
    return f"ids__{_short(lane)}"


def _short(lane: str) -> str:
    return hashlib.sha256(lane.encode()).hexdigest()[:12]
