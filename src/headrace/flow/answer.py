"""answer: a named query from the serving tables of one generation, finished exactly."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import NotFoundError, NotReadyError, OutsideError, ParameterError, nearest
from headrace.model.project import LoadedProject
from headrace.model.serving import Parameter, ServingTable
from headrace.model.types import Column
from headrace.ports import Store
from headrace.seam import generation as generations
from headrace.seam import pointer as pointers
from headrace.seam.generation import Generation
from headrace.seam.pointer import Pointer
from headrace.seam.reader import live
from headrace.sql.query import MOST, Fetch, Plan, Query

Row = tuple[Any, ...]
TRIES = 20
"""Reads that publications may overtake before the reader gives up."""
POINTER = "pointer"


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of a query. Values are JSON values: DECIMAL is text at its scale, DATE and instants are ISO 8601 text.

    ``as_of`` is the newest event time that is counted, the least over the lanes that feed the query (None: no event
    time is known). ``complete`` is false where a lane stands still; ``cursor`` continues where ``limit`` cut the rows.
    """

    query: str
    columns: tuple[Column, ...]
    rows: list[Row]
    generation: int
    as_of: str | None
    complete: bool
    cursor: str | None = None


@dataclass(slots=True)
class Reader:
    """Answers queries of one project from one store. Safe to use from several threads."""

    project: LoadedProject
    store: Store
    _generations: dict[int, Generation] = field(default_factory=dict)
    _pointer: tuple[str, Pointer] = ("", pointers.FIRST)
    _spread: dict[str, int] = field(default_factory=dict)
    """Rows a key that a page of a table had to be fetched for: 1 until keys with both slots were met, then 2."""

    def answer(self, name: str, given: Mapping[str, Any], cursor: str | None = None) -> Answer:
        """Answers a query. ``given`` are parameters as text (or lists of text).

        Raises NotFoundError HR0501, ParameterError HR0502 and HR0503, NotReadyError HR0402, HR0403 and HR0408.
        """
        query = self.query(name)
        values = parameters_of(query, given)
        return self.read(query, values, cursor)

    def query(self, name: str) -> Query:
        query = self.project.queries.get(name)
        if query is None:
            raise NotFoundError("HR0501", f"no query '{name}'", help=nearest(name, self.project.queries))
        return query

    def pointer(self) -> Pointer:
        """The pointer as it is now; raises NotReadyError HR0402 before the first publication."""
        text = self.store.control(POINTER)
        seen, pointer = self._pointer
        if text != seen:
            pointer = pointers.read(text) if text is not None else pointers.FIRST
            self._pointer = text or "", pointer
        if pointer.generation == 0:
            raise NotReadyError("HR0402", "nothing has been published yet", help="headrace run", retry_after=10)
        return pointer

    def generation(self, number: int) -> Generation:
        found = self._generations.get(number)
        if found is None:
            text = self.store.control(generations.control_name(number))
            if text is None:
                raise NotReadyError("HR0402", f"generation {number} is not recorded in the store", help="headrace run")
            found = self._generations[number] = generations.read(text)
        return found

    def read(self, query: Query, values: dict[str, Any], cursor: str | None = None) -> Answer:
        """The reader's three steps (seam: Reader): pointer, rows, pointer again."""
        plan = query.plan(values)
        limit = values.get(query.limit) if query.limit else query.fixed_limit
        after = self._after(query, values, cursor) if cursor else None
        for _ in range(TRIES):
            with self.store.moment():
                pointer = self.pointer()
                generation = self.generation(pointer.generation)
                for table in plan.tables:
                    if table.name not in generation.tables:
                        raise NotReadyError(
                            "HR0403",
                            f"query '{query.name}' is new or changed since the last run",
                            help="headrace run",
                            retry_after=10,
                        )
                try:
                    rows, looked, others, more = self._fetch(plan, values, pointer, limit, after)
                except OutsideError:
                    # A table that no generation names any more may have been dropped under this read.
                    if pointers.still_valid(pointer.generation, self.pointer()):
                        raise
                    continue
                valid = pointers.still_valid(pointer.generation, self.pointer())
            if valid:
                break
        else:
            raise NotReadyError("HR0408", "publications kept overtaking this read")
        done = plan.finish(rows, values, looked, *others)
        following = None
        if plan.in_key_order and limit is not None:
            if more and rows:
                following = self._cursor(query, values, rows[-1][len(plan.table.partition) : len(plan.table.key)])
        elif limit is not None:
            done = done[:limit]
        return Answer(
            query.name,
            query.columns,
            done,
            pointer.generation,
            self._as_of(query, generation),
            complete=True,
            cursor=following,
        )

    def _fetch(self, plan: Plan, values: Mapping[str, Any], pointer: Pointer, limit: int | None, after: Row | None) -> tuple[list[Row], list[dict[Row, list[Row]]], list[list[Row]], bool]:  # fmt: skip
        rows: list[Row] = []
        more = False
        bounds = plan.bounds(values)
        for partition in plan.partitions(values):
            if plan.in_key_order and limit is not None:
                rows, more = self._page(plan, partition, bounds, pointer, limit, after)
            else:
                rows += self._live(
                    plan.table, self.store.fetch(plan.table, partition, bounds, reverse=plan.reverse), pointer
                )
        looked = []
        for look in plan.lookups:
            found = {
                key: self._live(look.table, self.store.fetch(look.table, key), pointer)
                for key in look.keys(rows, values)
                if None not in key
            }
            looked.append(found)
        others = [self._whole(fetch, values, pointer) for fetch in plan.others]
        return rows, looked, others, more

    def _whole(self, fetch: Fetch, values: Mapping[str, Any], pointer: Pointer) -> list[Row]:
        bounds = fetch.bounds(values)
        return [
            row
            for partition in fetch.partitions(values)
            for row in self._live(fetch.table, self.store.fetch(fetch.table, partition, bounds), pointer)
        ]

    def _page(self, plan: Plan, partition: Row, bounds: tuple[Any, bool, Any, bool], pointer: Pointer, limit: int, after: Row | None) -> tuple[list[Row], bool]:  # fmt: skip
        """Up to ``limit`` live rows after a key, and whether there are more; a key may have two slots, or be emptied."""
        rows: list[Row] = []
        size = self._spread.get(plan.table.name, 1) * (limit + 1) + 1
        start, end = len(plan.table.partition), len(plan.table.key)
        while True:
            fetched = list(
                self.store.fetch(plan.table, partition, bounds, reverse=plan.reverse, after=after, limit=size)
            )
            last = len(fetched) < size
            if not last:
                # The second slot of the last key may lie beyond the page: leave that key to the next one.
                key = fetched[-1][:end]
                whole = [row for row in fetched if row[:end] != key]
                if whole:
                    fetched = whole
            rows += self._live(plan.table, fetched, pointer)
            if len(rows) > limit:
                return rows[:limit], True
            if last or not fetched:
                return rows, False
            self._spread[plan.table.name] = 2
            size = 2 * (limit + 1) + 1
            after = tuple(fetched[-1][start:end])

    def _live(self, table: ServingTable, rows: Sequence[Row], pointer: Pointer) -> list[Row]:
        return live(rows, len(table.key), pointer.generation, pointer.abandoned)

    def _as_of(self, query: Query, generation: Generation) -> str | None:
        table = generation.tables.get(query.tables[0].name)
        lanes = table.lanes if table is not None else {}
        known = [generation.as_of[lane] for lane in lanes if lane in generation.as_of]
        return min(known) if known else None

    def _cursor(self, query: Query, values: Mapping[str, Any], key: Row) -> str:
        return base64.urlsafe_b64encode(json.dumps([_fingerprint(query, values), *key]).encode()).decode().rstrip("=")

    def _after(self, query: Query, values: Mapping[str, Any], cursor: str) -> Row:
        try:
            fingerprint, *key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (ValueError, TypeError, binascii.Error):
            raise ParameterError(
                "HR0503", "the cursor cannot be read", parameter="cursor", help="start again without it"
            ) from None
        table = query.plan(values).table
        if (
            fingerprint != _fingerprint(query, values)
            or len(key) != len(table.clustering)
            or not query.plan(values).in_key_order
        ):
            raise ParameterError(
                "HR0503", "the cursor belongs to another question", parameter="cursor", help="start again without it"
            )
        return tuple(key)


def _fingerprint(query: Query, values: Mapping[str, Any]) -> str:
    asked = {k: v for k, v in values.items() if k not in ("now", query.limit)}
    return hashlib.blake2b(f"{query.sql}{sorted(asked.items())}".encode(), digest_size=6).hexdigest()


def parameters_of(query: Query, given: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values of a query's parameters from their texts; raises ParameterError HR0502 naming the first that is wrong."""
    known = {p.name: p for p in query.parameters}
    for name in given:
        if name not in known:
            raise ParameterError(
                "HR0502",
                f"query '{query.name}' has no parameter '{name}'",
                parameter=name,
                help=nearest(name, known) if known else "it has none",
            )
    values: dict[str, Any] = {"now": int(time.time() * 1_000_000)}
    for parameter in query.parameters:
        text = given.get(parameter.name)
        if text is None or text == "" or text == []:
            if parameter.required:
                raise ParameterError(
                    "HR0502",
                    f"parameter '{parameter.name}' is missing",
                    parameter=parameter.name,
                    help=f"{parameter.name}={example(parameter)}",
                )
            values[parameter.name] = parameter.default
        elif parameter.many:
            items = text if isinstance(text, list) else str(text).split(",")
            values[parameter.name] = list(dict.fromkeys(_value(parameter, item) for item in items))
        else:
            if isinstance(text, list):
                raise ParameterError(
                    "HR0502",
                    f"parameter '{parameter.name}' is given twice",
                    parameter=parameter.name,
                    help="give it once",
                )
            values[parameter.name] = _value(parameter, str(text))
    for sql, holds in query.validations:
        if holds(values) is False:
            raise ParameterError("HR0502", f"the parameters do not satisfy: {sql}", parameter=next(iter(known), ""))
    return values


def _value(parameter: Parameter, text: str) -> Any:
    kind = parameter.type
    try:
        if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
            raise ValueError("not text")
        if kind.name == "DATE":
            if len(text) != 10:
                raise ValueError(text)
            return dt.date.fromisoformat(text).isoformat()
        if kind.is_instant:
            moment = dt.datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            return (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        if kind.name == "BOOLEAN":
            return {"true": 1, "false": 0}[text.lower()]
        if kind.name == "DOUBLE":
            return float(text)
        if kind.is_exact:
            if not text.lstrip("-").isdigit() or not text.isascii() or len(text) > 19:
                raise ValueError(text)
            number = int(text)
            if not -(2**63) <= number < 2**63 or (
                parameter.maximum is not None and not 1 <= number <= parameter.maximum
            ):
                raise ValueError(text)
            return number
    except (ValueError, KeyError, OverflowError):
        wanted = (
            f"a whole number from 1 to {parameter.maximum}" if parameter.maximum else f"{kind}, as {example(parameter)}"
        )
        raise ParameterError(
            "HR0502", f"parameter '{parameter.name}' is '{text[:80]}'", parameter=parameter.name, help=wanted
        ) from None
    return text


def example(parameter: Parameter) -> str:
    """A value that the parameter could have."""
    if parameter.default is not None:
        return str(parameter.default)
    return {"DATE": "2025-08-01", "TIMESTAMP": "2025-08-01T00:00:00Z", "TIMESTAMPTZ": "2025-08-01T00:00:00Z", "BOOLEAN": "true",
            "VARCHAR": f"<{parameter.name}>"}.get(parameter.type.name, "1")  # fmt: skip


__all__ = ["MOST", "Answer", "Reader", "example", "parameters_of"]
