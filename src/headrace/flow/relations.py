"""The relations that SQL files read, over silver and gold of one moment; and what each of them rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from headrace.model.mart import Mart
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Lake
from headrace.seam.generation import Generation
from headrace.sql.gold import finished_sql, merged_sql, parts_columns
from headrace.sql.judge import silver_columns
from headrace.sql.lanes import within

VERDICTS = "verdicts"
JUDGED = "_judged"
FOREVER = "TIMESTAMP '9999-12-31'"


def feeding(project: LoadedProject, names: Sequence[str]) -> tuple[set[str], set[str]]:
    """The sources and the marts that relations rest on, themselves included. A pinned mart rests on nothing."""
    sources: set[str] = set()
    marts: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in project.marts:
            if name not in marts:
                marts.add(name)
                waiting += () if name in project.pins else project.marts[name].inputs
        elif name in project.datasets:
            waiting += project.datasets[name].inputs
        elif name == VERDICTS:
            sources |= set(project.sources)
        else:
            sources.add(name if name in project.sources else name.removesuffix(JUDGED))
    return sources, marts


def is_fitted(project: LoadedProject, generation: Generation, mart: Mart) -> bool:
    """Whether a mart is pinned, and was in ``generation`` as it is written now."""
    return mart.name in project.pins and generation.pins.get(mart.name) == mart.hash


def resting_on(project: LoadedProject, marts: set[str]) -> set[str]:
    """These marts and those that read them, pinned ones aside."""
    return {name for name in project.marts if name not in project.pins and feeding(project, [name])[1] & marts}


class Relations:
    """Defines the engine's views. ``end`` gives the end of each lane; ``contracts`` what its silver was judged by;
    ``silver`` its files where the caller read all three from one version (None: those of the newest); ``judged`` the
    engine's tables that stand for the silver of some sources, as while they are streamed."""

    def __init__(
        self,
        project: LoadedProject,
        lake: Lake,
        engine: Engine,
        end: Mapping[str, int],
        contracts: Mapping[str, int],
        silver: Mapping[str, tuple[str, ...]] | None = None,
        judged: Mapping[str, str] | None = None,
    ) -> None:
        self.project = project
        self.lake = lake
        self.engine = engine
        self.end = end
        self.contracts = contracts
        self.gold: dict[str, tuple[str, ...]] = {}
        self._datasets: set[str] = set()
        if silver is None:
            found = {name: lake.snapshot(f"silver/{name}") for name in project.sources}
            silver = {name: snapshot.files for name, snapshot in found.items() if snapshot is not None}
        self._scans = {
            source.name: engine.scan(silver.get(source.name, ()), silver_columns(source))
            for source in project.sources.values()
        } | dict(judged or {})

    def define(self, first: Mapping[str, int] | None = None) -> None:
        """Makes every source, dataset and mart readable. With ``first``, facts begin at that offset of their lane, and
        references, which are whole where they are joined, have nothing to count."""
        facts = {name for name, source in self.project.sources.items() if source.role == "fact"}
        wanted = None if first is None else {lane: offset for lane, offset in first.items() if source_of(lane) in facts}
        for source in self.project.sources.values():
            self.engine.define(source.name, self._clean(source, wanted))
            self.engine.define(source.name + JUDGED, self._judged(source, wanted))
        if self.project.sources:
            counted = (self._counted(s, wanted) for s in self.project.sources.values())
            self.engine.define(VERDICTS, " UNION ALL ".join(counted))
        # Datasets are views over these, and follow them by name.
        self._define_datasets()

    def check(self, names: Iterable[str]) -> None:
        """Raises DeclarationError HR0204 where the lake has other columns than relations declare, as those were edited since:
        an engine may look at what is defined only when it is read."""
        for name in names:
            self.engine.describe(f'SELECT * FROM "{name}"')

    def define_mart(self, mart: Mart, files: tuple[str, ...]) -> None:
        """Makes a mart's finished values readable by its name, and its merged parts as ``<name>__parts``."""
        self.gold[mart.name] = files
        scan = self.engine.scan(files, parts_columns(mart))
        self.engine.define(f"{mart.name}__parts", merged_sql(mart, scan))
        self.engine.define(mart.name, finished_sql(mart, f"{mart.name}__parts"))
        self._define_datasets()

    def _define_datasets(self) -> None:
        """Makes those datasets readable whose marts, if they read any, are."""
        ready = {
            *self.project.sources,
            *(s + JUDGED for s in self.project.sources),
            VERDICTS,
            *self.gold,
            *self._datasets,
        }
        for dataset in self.project.datasets.values():
            if dataset.name not in self._datasets and ready.issuperset(dataset.inputs):
                self.engine.define(dataset.name, dataset.sql)
                self._datasets.add(dataset.name)
                ready.add(dataset.name)

    def _silver(self, source: Source, first: Mapping[str, int] | None) -> str:
        lanes = {lane: end for lane, end in self.end.items() if source_of(lane) == source.name}
        ranges = {lane: ((first or {}).get(lane, 0), end) for lane, end in lanes.items()}
        return f"{self._scans[source.name]} WHERE {within(ranges)}"

    def _clean(self, source: Source, first: Mapping[str, int] | None) -> str:
        columns = ", ".join(c.name for c in source.columns)
        if source.role == "reference":
            first = None  # a reference is joined: all of it, whatever part of the facts is read
        clean = f"SELECT {columns}, _lane, _offset FROM {self._silver(source, first)} AND _verdict = 'clean'"
        if source.valid_from is None:
            return clean
        started = source.column(source.valid_from)
        kind = started.type if started else "TIMESTAMP"
        following = (
            f"lead({source.valid_from}) OVER (PARTITION BY {', '.join(source.identity)} ORDER BY {source.valid_from})"
        )
        return f"SELECT *, coalesce({following}, CAST({FOREVER} AS {kind})) AS valid_to FROM ({clean})"

    def _judged(self, source: Source, first: Mapping[str, int] | None) -> str:
        # A quarantined record without a required value has no place on a spine; `verdicts` counts it all the same.
        required = "".join(f" AND {c.name} IS NOT NULL" for c in source.columns if not c.nullable)
        columns = ", ".join(c.name for c in source.columns)
        return (
            f"SELECT {columns}, _verdict = 'quarantined' AS quarantined, _reasons AS reasons, _lane, _offset "
            f"FROM {self._silver(source, first)} AND _verdict IN ('clean', 'quarantined'){required}"
        )

    def _counted(self, source: Source, first: Mapping[str, int] | None) -> str:
        if first is not None and source.role == "reference":
            first = self.end
        return self._verdicts(source, self._silver(source, first))

    def _verdicts(self, source: Source, silver: str) -> str:
        """One row for each thing that was found of each record: landed, its verdict, repairs, flags."""
        day = (
            f"coalesce(CAST({source.event_time} AS DATE), DATE '1970-01-01')"
            if source.event_time
            else "DATE '1970-01-01'"
        )
        joined = "list_aggregate(_reasons, 'string_agg', '; ')"
        verdict = "CASE _verdict WHEN 'unreadable' THEN 'quarantined' ELSE _verdict END"

        def rows(kind: str, reason: str, only: str = "") -> str:
            # Each kind reads its own columns; taking one list of everything apart, record by record, is five times slower.
            return f"SELECT '{source.name}' AS source, {day} AS day, {kind} AS kind, {reason} AS reason, _lane, _offset FROM {silver}{only}"

        return " UNION ALL ".join(
            (
                rows("'landed'", "''"),
                rows(verdict, f"CASE WHEN _reasons IS NULL THEN '' ELSE {joined} END"),
                rows(
                    "'repaired'",
                    "unnest(list_transform(_repairs, lambda _item: _item.reason))",
                    " AND _repairs IS NOT NULL",
                ),
                rows("'flagged'", "unnest(_flags)", " AND _flags IS NOT NULL"),
            )
        )

    # What a relation rests on

    def definition(self, name: str, marts: Mapping[str, str]) -> str:
        """A hash of everything that decides a relation's rows, the ends of its fact lanes aside. ``marts`` gives the
        content hash of each mart."""
        return _hash(self._definition(name, marts))

    def mart_definition(self, mart: Mart, marts: Mapping[str, str]) -> str:
        """A hash of a mart's SQL and of everything that it reads, the ends of its fact lanes aside."""
        return _hash(mart.parts_sql + "".join(self.definition(i, marts) for i in mart.inputs))

    def mart_content(self, mart: Mart, definition: str, lanes: Mapping[str, int]) -> str:
        """What decides a mart's rows as others read them: how they are finished, too."""
        finished = [(m.name, m.finisher) for m in mart.measures]
        return _hash(repr((definition, sorted(lanes.items()), finished, mart.having)))

    def edited(self, generation: Generation) -> set[str]:
        """The marts that are not what ``generation`` computed: new since, edited, or resting on what was. A pinned one is
        what it was fitted to be."""
        known: dict[str, str] = {}
        found = set()
        for mart in self.project.marts.values():
            state = generation.marts.get(mart.name)
            fitted = is_fitted(self.project, generation, mart)
            if state is None or not (fitted or state.definition == self.mart_definition(mart, known)):
                found.add(mart.name)
                known[mart.name] = "edited"  # as nothing was defined, so that those which read it are edited, too
            else:
                known[mart.name] = self.mart_content(mart, state.definition, state.lanes)
        return found

    def table_definition(self, table: ServingTable, marts: Mapping[str, str]) -> str:
        """The same for a serving table of a dataset's or reference's rows."""
        return _hash(repr((table.base, table.where)) + self.definition(table.origin, marts))

    def _definition(self, name: str, marts: Mapping[str, str]) -> str:
        project = self.project
        if name in project.marts:
            return marts[name]
        if name in project.datasets:
            dataset = project.datasets[name]
            return dataset.sql + "".join(self._definition(i, marts) for i in dataset.inputs)
        if name == VERDICTS:
            return "".join(self._verdicts(s, "") + self._source_definition(s) for s in project.sources.values())
        return self._source_definition(
            project.sources[name.removesuffix(JUDGED) if name not in project.sources else name]
        )

    def _source_definition(self, source: Source) -> str:
        ended = f"@{self.end.get(source.name, 0)}" if source.role == "reference" else ""
        return f"{source.name}:{self.contracts.get(source.name, 0)}{ended};"

    def lanes(self, name: str) -> dict[str, int]:
        """The fact lanes that a relation counts, with their ends."""
        facts = self.project.facts_of(name)
        return {lane: end for lane, end in self.end.items() if source_of(lane) in facts}

    def counts_reference(self, name: str) -> bool:
        """Whether a relation's own rows come, in part, from a reference."""
        project = self.project
        if name in project.datasets or name in project.marts:
            read = project.datasets.get(name) or project.marts[name]
            return any(self.counts_reference(i) for i in read.rows_from)
        source = project.sources.get(name) or project.sources.get(name.removesuffix(JUDGED))
        return source is not None and source.role == "reference"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
