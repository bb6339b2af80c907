"""What lake and store say of a project's state, for whoever watches it: freshness, lag, quarantine, lopsided partitions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.errors import HeadraceError
from headrace.flow.control import generation_of, pointer_of, reached
from headrace.flow.lanes import ends, lanes_of
from headrace.flow.quarantine import REJECTED
from headrace.flow.stream import streamed_sources
from headrace.flow.watermark import newest_of, watermark
from headrace.model.project import LoadedProject
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Lake, Log, Store
from headrace.seam import epoch as epochs
from headrace.seam.generation import Generation, moment_order
from headrace.seam.pointer import Pointer
from headrace.sql.gold import live_sql, state_columns
from headrace.sql.judge import reasons_of, silver_columns
from headrace.sql.mart import RECORDS

UNREADABLE = "unreadable"
"""Instead of a rule, of records that could not be parsed: their reasons are many."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh a mart's answers are. ``as_of`` is the newest event time that is counted (RFC 3339; of several sources the
    least), ``goal`` the seconds that it may be behind the clock; each None where there is none."""

    mart: str
    as_of: str | None
    watermark: str | None
    goal: int | None

    def behind(self, now: dt.datetime) -> float | None:
        """Seconds since the newest event; a time without a zone is taken for UTC."""
        return None if self.as_of is None else (now - dt.datetime.fromisoformat(self.as_of)).total_seconds()


@dataclass(frozen=True, slots=True)
class State:
    """A project at one moment. ``lag`` has, by lane, how many records have arrived and are not counted; ``late``, by source,
    how many that runs have counted came below the watermark."""

    generation: int
    published_at: str
    workers: int
    marts: tuple[Freshness, ...]
    lag: Mapping[str, int]
    late: Mapping[str, int]


def state(project: LoadedProject, lake: Lake, engine: Engine, store: Store, log: Log | None = None) -> State:
    """Read from the store's control rows and the ends of lanes: no record is looked at. What has arrived is what bronze has,
    and where a ``log`` is given and answers, what that has."""
    pointer = pointer_of(store)
    generation = generation_of(store, pointer.generation)
    streamed = streamed_sources(project) if generation.epoch in pointer.streamed else set()
    lag: dict[str, int] = {}
    for source in project.sources.values():
        if source.role == "fact":
            starts = lanes_of(source, lake, engine)
            arrived = _arrived(source, lake, starts, log)
            for lane, end in arrived.items():
                counted = generation.cut.get(lane, starts.get(lane, 0))
                if source.name in streamed:
                    counted = max(counted, reached(store, epochs.progress_name(generation.epoch, lane))[0])
                lag[lane] = max(end - counted, 0)
    late = {
        source.name: sum(n for lane, n in generation.late.items() if source_of(lane) == source.name)
        for source in project.sources.values()
        if source.lateness is not None
    }
    marts = freshness(project, pointer, generation, store)
    return State(pointer.generation, generation.published_at, len(pointer.workers), marts, lag, late)


def _arrived(source: Source, lake: Lake, starts: Mapping[str, int], log: Log | None) -> dict[str, int]:
    """By lane of a source, where it ends."""
    found = ends(lake.snapshot(f"bronze/{source.name}"), starts)
    if log is not None and not log.is_bronze:
        try:
            for lane, (_, end) in log.lanes(source).items():
                found[lane] = max(end, found.get(lane, 0))
        except HeadraceError:
            pass  # a log that does not answer makes itself heard elsewhere: the rest is worth telling all the same
    return found


def freshness(
    project: LoadedProject, pointer: Pointer, generation: Generation, store: Store
) -> tuple[Freshness, ...]:  # fmt: skip
    """Of each mart that counts facts. A source is as fresh as its freshest lane: one without records holds nobody back."""
    found = []
    for mart in project.marts.values():
        facts = project.facts_of(mart.name)
        if not facts:
            continue
        by = store if mart.is_streamed and generation.epoch in pointer.streamed else None
        lanes = {lane for lane in generation.cut if source_of(lane) in facts}
        newest = newest_of(generation, by, lanes)
        of_facts = [
            max((newest[lane] for lane in lanes if source_of(lane) == fact), key=moment_order, default="")
            for fact in facts
        ]
        as_of = min(of_facts, key=moment_order) if generation.number else ""
        mark = watermark(project, newest, facts) if generation.number else None
        found.append(
            Freshness(mart.name, as_of or None, mark.text if mark is not None else None, project.goals.get(mart.name))
        )
    return tuple(found)


@dataclass(slots=True)
class Weights:
    """What takes a look at rows: how many records each rule keeps in quarantine, and how large partitions are. What has not
    changed since the last look is not looked at again."""

    project: LoadedProject
    quarantine: dict[tuple[str, str], int] = field(default_factory=dict)
    """By source and rule; a record that fails two is in both. Rules that are declared are there, whatever they keep."""
    partitions: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By serving table: rows of its largest partition, and of the mean one. Those of a single partition are left out."""
    _seen: dict[str, int] = field(default_factory=dict)

    def look(self, lake: Lake, engine: Engine, store: Store) -> None:
        for source in self.project.sources.values():
            found = lake.snapshot(f"silver/{source.name}")
            if self._is_new(f"silver/{source.name}", -1 if found is None else found.version):
                files = found.files if found is not None else ()
                self._count_rejected(source, engine, engine.scan(files, silver_columns(source)))
        generation = generation_of(store, pointer_of(store).generation)
        tables = {table.name: table for query in self.project.queries.values() for table in query.tables}
        for name, table in tables.items():
            known = generation.tables.get(name)
            if known is None or not table.partition or not self._is_new(f"serving/{name}", known.version):
                continue
            kept = lake.snapshot(f"serving/{name}", known.version)
            if kept is None:
                continue
            live = live_sql(table, engine.scan(kept.files, state_columns(table)), len(kept.files))
            by = ", ".join(column.name for column in table.partition)
            each = f"SELECT count(*) AS rows FROM ({live}) WHERE {RECORDS} > 0 GROUP BY {by}"
            largest, mean, count = engine.rows(f"SELECT max(rows), avg(rows), count(*) FROM ({each})")[0]
            if count > 1:
                self.partitions[name] = largest, mean
            else:
                self.partitions.pop(name, None)

    def _count_rejected(self, source: Source, engine: Engine, silver: str) -> None:
        rules = reasons_of(source)
        self.quarantine |= {(source.name, rule.reason): 0 for rule in source.rules}
        self.quarantine |= {key: 0 for key in self.quarantine if key[0] == source.name}
        reasons = f"SELECT unnest(_reasons) AS reason FROM {silver} WHERE {REJECTED}"
        for reason, count in engine.rows(f"SELECT reason, count(*) FROM ({reasons}) GROUP BY ALL"):
            key = source.name, reason if reason in rules else UNREADABLE
            self.quarantine[key] = self.quarantine.get(key, 0) + count

    def _is_new(self, what: str, version: int) -> bool:
        if self._seen.get(what) == version:
            return False
        self._seen[what] = version
        return True
