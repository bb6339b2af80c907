"""why: where an answer comes from. The parts, the generation, the records behind them by file, what was repaired or
flagged among them, and what quarantine kept out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from headrace.flow.answer import Reader, View
from headrace.flow.control import reached
from headrace.flow.export import Gold, edited_since
from headrace.model.source import Source
from headrace.model.types import Column
from headrace.ports import Engine, Lake
from headrace.seam.epoch import progress_name
from headrace.seam.floor import floor_of
from headrace.seam.generation import Generation
from headrace.sql.judge import bronze_columns, literal, quote, silver_columns
from headrace.sql.parameters import parameters_of
from headrace.sql.query import Plan, Query
from headrace.sql.trace import trace_sql

KEYS = 2000
"""Serving keys whose records are looked up one by one; a broader question is traced by its bounds alone."""


@dataclass(slots=True)
class Why:
    """Traces answers of one project."""

    gold: Gold
    reader: Reader
    lake: Lake
    engine: Engine

    def why(self, name: str, given: Mapping[str, Any], whole: int) -> dict[str, Any]:
        """The trace of an answer; ``whole`` records of each source are shown as they were sent.

        Raises what ``Reader.answer`` raises, and NotReadyError HR0403 where what it reads was edited since the last run.
        """
        query = self.reader.query(name)
        values = parameters_of(query, given)
        answer = self.reader.read(query, values)
        pointer = self.reader.pointer()
        generation = self.reader.generation(answer.generation)
        plan = query.plan(values)
        view = View(pointer, generation)
        rows = [
            row
            for partition in plan.partitions(values)
            for row in self.reader.rows(plan.table, partition, plan.bounds(values), view)
        ]
        if query.origin in self.gold.define():
            raise edited_since(query.origin)
        # Where nothing was counted, what was asked for tells what may have been kept out of it.
        asked = None if rows else (plan.table.partition, plan.partitions(values))
        sources = [self._source(source, query, plan, rows, asked, whole) for source in self._feeding(query)]
        parts = [dict(zip(plan.table.columns, row, strict=True)) for row in rows[:50]]
        return {
            "query": name,
            "parameters": {k: v for k, v in values.items() if k != "now" and v is not None},
            "rows": [dict(zip([c.name for c in answer.columns], row, strict=True)) for row in answer.rows],
            "generation": answer.generation,
            "published_at": generation.published_at,
            "as_of": answer.as_of,
            "cut": {s["source"]: generation.cut.get(s["source"], 0) for s in sources},
            "streamed": {s["source"]: upto for s in sources if (upto := self._streamed(s["source"], plan, view))},
            "table": plan.table.name,
            "kept_from": self._kept_from(plan, generation),
            "reads": query.origin,
            "definition": self._definition(query),
            "parts": parts,
            "parts_in_all": len(rows),
            "sources": sources,
        }

    def _streamed(self, lane: str, plan: Plan, view: View) -> int | None:
        """Up to which offset the stream has added to an answer what is above the cut; None where it has not."""
        mart = self.reader.project.marts.get(plan.table.origin)
        if not view.streamed or mart is None or not mart.is_streamed:
            return None
        upto, _ = reached(self.reader.store, progress_name(view.generation.epoch, lane))
        return upto if upto > view.generation.cut.get(lane, 0) else None

    @staticmethod
    def _kept_from(plan: Plan, generation: Generation) -> dict[str, str] | None:
        """The column of the windows that are not all kept, and where the first one begins that is; None where all are."""
        floor = floor_of(generation.floors, plan.table)
        return {"column": floor.column, "start": floor.text} if floor is not None else None

    def _definition(self, query: Query) -> str:
        project = self.reader.project
        return project.marts[query.origin].sql if query.origin in project.marts else f"rows of {query.origin}"

    def _feeding(self, query: Query) -> list[Source]:
        """The sources whose records an answer counts, through datasets and marts."""
        project = self.reader.project
        found: dict[str, Source] = {}

        def visit(name: str) -> None:
            if name in project.marts:
                # What a mart joins or reads from other marts are yardsticks: only its own rows are counted records.
                for inner in project.marts[name].rows_from:
                    visit(inner)
            elif name in project.datasets:
                for inner in project.datasets[name].rows_from:
                    visit(inner)
            else:
                source = project.sources.get(name) or project.sources.get(name.removesuffix("_judged"))
                for one in [source] if source else project.sources.values():
                    found[one.name] = one

        visit(query.origin)
        return list(found.values())

    def _source(
        self,
        source: Source,
        query: Query,
        plan: Plan,
        rows: list[tuple[Any, ...]],
        asked: tuple[tuple[Column, ...], list[tuple[Any, ...]]] | None,
        whole: int,
    ) -> dict[str, Any]:
        table = plan.table
        key: tuple[Column, ...] = table.key
        width = len(key)
        keys = [row[:width] for row in rows]
        project = self.reader.project
        mart = project.marts.get(query.origin)
        found: dict[str, Any] = {"source": source.name}
        silver, bronze = self.lake.snapshot(f"silver/{source.name}"), self.lake.snapshot(f"bronze/{source.name}")
        if silver is None or bronze is None:
            return {**found, "records": 0, "files": []}
        self._keep_keys(key, keys)
        origins = trace_sql(mart, table)
        own = f"_lane = {literal(source.name)} OR starts_with(_lane, {literal(source.name + '#')})"
        self.engine.keep("_origins", f"SELECT DISTINCT _lane, _offset FROM ({origins}) WHERE {own}")
        scan = self.engine.scan(silver.files, silver_columns(source))
        joined = f"{scan} AS s SEMI JOIN _origins AS o ON s._lane = o._lane AND s._offset = o._offset"
        files = self.engine.rows(
            f"SELECT _file, count(*), min(_row), max(_row) FROM {joined} GROUP BY 1 ORDER BY 2 DESC, 1"
        )
        marks = self.engine.rows(
            f"SELECT kind, reason, count(*) FROM (SELECT unnest(list_concat(coalesce(list_transform(_repairs, lambda _item: {{'kind': 'repaired', 'reason': _item.reason}}), []), "
            f"coalesce(list_transform(_flags, lambda _item: {{'kind': 'flagged', 'reason': _item}}), [])), recursive := true) FROM {joined}) GROUP BY ALL ORDER BY ALL"
        )
        sent = ", ".join(f"b.{quote(source.sent(c.name))}" for c in source.columns)
        first = self.engine.rows(
            f"SELECT b._file, b._row, b._lane, b._offset, {sent} FROM {self.engine.scan(bronze.files, bronze_columns(source), grown=True)} AS b "
            f"SEMI JOIN _origins AS o ON b._lane = o._lane AND b._offset = o._offset ORDER BY b._lane, b._offset LIMIT {whole}"
        )
        names = [source.sent(c.name) for c in source.columns]
        return {
            **found,
            "records": sum(count for _, count, _, _ in files),
            "files": [{"file": f, "records": n, "rows": f"{low}-{high}"} for f, n, low, high in files],
            "marks": [{"kind": kind, "reason": reason, "records": n} for kind, reason, n in marks],
            "first": [
                {"file": f, "row": r, "lane": lane, "offset": o, "record": dict(zip(names, values, strict=True))}
                for f, r, lane, o, *values in first
            ],
            "kept_out": self._kept_out(source, mart is not None, *(asked or (key, keys)), scan),
        }

    def _keep_keys(self, key: tuple[Column, ...], keys: list[tuple[Any, ...]]) -> None:
        """The answer's serving keys as the engine's table ``asked``; empty-keyed tables ask for everything."""
        columns = {c.name: pa.array([k[i] for k in keys]) for i, c in enumerate(key)} or {"_all": pa.array([1])}
        self.engine.offer("_asked_rows", pa.table(columns))
        self.engine.keep("_asked", "SELECT * FROM _asked_rows")

    def _kept_out(
        self, source: Source, of_mart: bool, key: tuple[Column, ...], keys: list[tuple[Any, ...]], scan: str
    ) -> list[dict[str, Any]]:
        """Quarantined records that share the answer's key columns, as far as the record itself tells them."""
        shared = [c for c in key if source.column(c.name) is not None]
        tests = []
        for column in shared:
            position = [c.name for c in key].index(column.name)
            values = sorted({str(k[position]) for k in keys})
            if values and len(values) <= KEYS:
                tests.append(f"CAST({column.name} AS VARCHAR) IN ({', '.join(literal(v) for v in values)})")
        days = next((i for i, c in enumerate(key) if c.type.name == "DATE"), None)
        if source.event_time and days is not None and key[days] not in shared and keys:
            low, high = min(k[days] for k in keys), max(k[days] for k in keys)
            tests.append(f"CAST({source.event_time} AS DATE) BETWEEN DATE {literal(low)} AND DATE {literal(high)}")
        where = "".join(f" AND {t}" for t in tests)
        rows = self.engine.rows(
            f"SELECT list_aggregate(_reasons, 'string_agg', '; '), count(*), min(_file), min(_row) FROM {scan} WHERE _verdict = 'quarantined'{where} GROUP BY 1 ORDER BY 2 DESC"
        )
        return [{"reason": reason, "records": n, "first": f"{file} row {row}"} for reason, n, file, row in rows]
