"""quarantine: what was rejected, why and from where; and corrected records put back, each once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from headrace.errors import ContractError, NotFoundError, nearest
from headrace.model.project import LoadedProject
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Lake
from headrace.sql.judge import bronze_columns, is_json_text, literal, quote, silver_columns

REJECTED = "_verdict IN ('quarantined', 'unreadable')"


@dataclass(slots=True)
class Quarantine:
    """Reads the rejected records of a project's lake."""

    project: LoadedProject
    lake: Lake
    engine: Engine

    def reasons(self, source: str | None = None) -> list[tuple[str, str, int, str]]:
        """(source, reasons, records, first origin), most records first."""
        found: list[tuple[str, str, int, str]] = []
        for one in [self.source(source)] if source else self.project.sources.values():
            silver = self.lake.snapshot(f"silver/{one.name}")
            if silver is None:
                continue
            rows = self.engine.rows(
                f"SELECT list_aggregate(_reasons, 'string_agg', '; '), count(*), min_by(_lane || ':' || _offset, (_lane, _offset)) FROM "
                f"{self.engine.scan(silver.files, silver_columns(one))} WHERE {REJECTED} GROUP BY 1"
            )
            found += [(one.name, reason, count, first) for reason, count, first in rows]
        return sorted(found, key=lambda row: (-row[2], row[0], row[1]))

    def records(self, name: str, reason: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """Rejected records of a source as they were sent, in order of offset."""
        source = self.source(name)
        silver, bronze = self.lake.snapshot(f"silver/{name}"), self.lake.snapshot(f"bronze/{name}")
        if silver is None or bronze is None:
            return []
        only = f" AND list_contains(_reasons, {literal(reason)})" if reason else ""
        rejected = f"SELECT _lane, _offset, _reasons FROM {self.engine.scan(silver.files, silver_columns(source))} WHERE {REJECTED}{only} ORDER BY _lane, _offset LIMIT {limit}"
        sent = ", ".join(f"b.{quote(source.sent(c.name))}" for c in source.columns)
        rows = self.engine.rows(
            f"SELECT b._file, b._row, b._lane || ':' || b._offset, s._reasons, b._bytes, {sent} FROM ({rejected}) AS s "
            f"JOIN {self.engine.scan(bronze.files, bronze_columns(source), grown=True)} AS b ON b._lane = s._lane AND b._offset = s._offset ORDER BY b._lane, b._offset"
        )
        return [self._record(source, row) for row in rows]

    def _record(self, source: Source, row: tuple[Any, ...]) -> dict[str, Any]:
        file, number, origin, reasons, raw, *values = row
        sent: Any = {source.sent(c.name): v for c, v in zip(source.columns, values, strict=True)}
        for column in source.columns:
            text = sent[source.sent(column.name)]
            if text is not None and is_json_text(source, column):
                sent[source.sent(column.name)] = json.loads(text, parse_float=str)
        if raw is not None:
            sent = bytes(raw).decode(errors="backslashreplace")
        return {
            "origin": origin,
            "file": file,
            "row": number,
            "reasons": list(reasons),
            "record": sent,
        }

    def source(self, name: str) -> Source:
        found = self.project.sources.get(name)
        if found is None:
            raise NotFoundError("HR0203", f"no source '{name}'", help=nearest(name, self.project.sources))
        return found


def corrected(source: Source, text: str) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """(origin's lane and offset, record) of each line of an exported and mended file; raises ContractError HR0305 naming the line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            # A number is text from here on, so that none of its digits is lost on the way.
            entry = json.loads(line, parse_float=str, parse_int=str)
            json.dumps(entry, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            lane, _, offset = str(entry["origin"]).rpartition(":")
            record = entry["record"]
            if (
                source_of(lane) != source.name
                or not (offset.isascii() and offset.isdigit())
                or not isinstance(record, dict)
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ContractError("HR0305", f"line {number} is not a corrected record of {source.name}",
                                help='{"origin": "source:offset", "record": {…}} as `headrace quarantine export` writes it') from None  # fmt: skip
        yield (lane, int(offset)), record
