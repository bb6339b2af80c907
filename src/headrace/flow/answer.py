"""answer: a named query from the serving tables of one generation, finished exactly."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import NotFoundError, NotReadyError, OutsideError, ParameterError, nearest
from headrace.flow.control import POINTER
from headrace.flow.watermark import UNKNOWN, Finality, newest_of, watermark
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import source_of
from headrace.model.types import Column, Type
from headrace.ports import Store
from headrace.seam import generation as generations
from headrace.seam import pointer as pointers
from headrace.seam.floor import floor_of
from headrace.seam.generation import Generation, moment_order, stored
from headrace.seam.pointer import Pointer
from headrace.seam.reader import live
from headrace.sql.gold import stored_type
from headrace.sql.merging import merging
from headrace.sql.parameters import parameters_of
from headrace.sql.query import Plan, Query

Row = tuple[Any, ...]
Bounds = tuple[Any, bool, Any, bool]
OPEN: Bounds = (None, True, None, True)
BUCKETS = 400
"""Buckets of time that one read may ask for: a year of days, thirty of months."""
TRIES = 20
"""Reads that publications may overtake before the reader gives up."""


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
    streamed: bool = False
    """Whether the same generation may answer otherwise a moment later."""
    watermark: str | None = None
    """No record of an earlier event time is expected; None where a source that feeds the query declares no lateness."""
    final: bool = False
    """Whether every window of the answer ends at the watermark or before it."""
    idle: tuple[str, ...] = ()
    """The lanes that hold the watermark back."""


@dataclass(frozen=True, slots=True)
class View:
    """What one look at the pointer lets a reader see."""

    pointer: Pointer
    generation: Generation
    met: Mapping[str, int] = field(default_factory=dict)
    """By lane of the epoch, the latest range of which a row was met in an earlier read."""
    new: dict[str, int] = field(default_factory=dict)
    """The same, where this read met a later one."""

    @property
    def streamed(self) -> bool:
        """Whether there may be speed rows to add."""
        return self.generation.epoch in self.pointer.streamed

    def stored(self, table: ServingTable) -> ServingTable:
        """A table as the generation keeps it in the store."""
        return stored(table, self.generation.tables.get(table.name))

    def live(self, table: ServingTable, rows: Sequence[Row]) -> list[Row]:
        return live(rows, len(table.key), self.pointer.generation, self.pointer.abandoned)

    def above(self, table: ServingTable, partition: Row, bounds: Bounds) -> Bounds | None:
        """Bounds without the windows that are not kept, as far as bounds can say it; None where none is left."""
        floor = floor_of(self.generation.floors, table)
        if floor is None:
            return bounds
        place, (low, _, high, high_in) = floor.place(table), bounds
        if place < len(table.partition):
            return bounds if partition[place] >= floor.start else None
        if place > len(table.partition) or (low is not None and low >= floor.start):
            return bounds
        return (floor.start, True, high, high_in) if high is None or high >= floor.start else None

    def kept(self, table: ServingTable, rows: list[Row]) -> list[Row]:
        """Rows without those of windows that are not kept: where the window is further back in the key, bounds have them."""
        floor = floor_of(self.generation.floors, table)
        place = floor.place(table) if floor is not None else 0
        if floor is None or place <= len(table.partition):
            return rows
        return [row for row in rows if row[place] >= floor.start]

    def meet(self, speed: Sequence[Row]) -> None:
        """Notes ranges that are met for the first time. A range begins when all rows of the one before it were
        acknowledged, but a read that had begun by then may lack them; the next one does not (Reader, 2)."""
        for row in speed:
            lane, start = row[-2:]
            if start > self.new.get(lane, self.met.get(lane, 0)) and start > self.generation.cut.get(lane, 0):
                self.new[lane] = start

    def added(self, table: ServingTable, rows: list[Row], speed: Sequence[Row], *, reverse: bool) -> list[Row]:
        """Batch rows with the speed rows of ranges that begin at the cut or after it, in order of key."""
        new = [row[:-2] for row in speed if row[-1] >= self.generation.cut.get(row[-2], 0)]
        if not new:
            return rows
        width = len(table.key)
        merge = merging(width, table.parts)
        found = {row[:width]: row for row in rows}
        for row in new:
            known = found.get(row[:width])
            found[row[:width]] = row if known is None else merge(known, row)
        return [found[key] for key in sorted(found, reverse=reverse)]


@dataclass(slots=True)
class Reader:
    """Answers queries of one project from one store. Safe to use from several threads."""

    project: LoadedProject
    store: Store
    _generations: dict[int, Generation] = field(default_factory=dict)
    _pointer: tuple[str, Pointer] = ("", pointers.FIRST)
    _met: tuple[int, Mapping[str, int]] = (0, {})
    """An epoch, and by lane the latest range of it that was met."""
    _spread: dict[str, int] = field(default_factory=dict)
    """Rows a key that a page of a table had to be fetched for: 1 until keys with both slots were met, then 2."""
    _finality: Finality = field(init=False)

    def __post_init__(self) -> None:
        self._finality = Finality(self.project)

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

    def read(
        self,
        query: Query,
        values: dict[str, Any],
        cursor: str | None = None,
        keys: Mapping[str, Any] | None = None,
    ) -> Answer:
        """The reader's three steps (seam: Reader): pointer, rows, pointer again.

        ``keys`` are the values that say which partitions are fetched, where those are not the ones that were asked for:
        all else, the cursor too, is that of the question as it was put.
        """
        try:
            return self._read(query, values, cursor, values if keys is None else keys)
        except OverflowError:
            # Reckoning with the parameters left the years that there are.
            name = next((p.name for p in query.parameters if p.type.name == "DATE" or p.type.is_instant), "")
            what = f"'{values.get(name)}' leads beyond the years 1 to 9999"
            raise ParameterError("HR0502", what, parameter=name, help="a date nearer to the present") from None

    def _read(self, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any]) -> Answer:
        plan = query.plan(values)
        sources = self._finality.sources(plan)
        limit = values.get(query.limit) if query.limit else query.fixed_limit
        after = self._after(query, values, cursor) if cursor else None
        pointer = self._pointer[1]  # as it was when last looked at, which nearly always is as it is
        fresh = pointer.generation == 0
        if fresh:
            pointer = self.pointer()
        for _ in range(TRIES):
            try:
                generation = self._naming(plan, query, pointer)
                epoch, met = self._met
                view = View(pointer, generation, met if epoch == generation.epoch else {})
                # Before the rows: what the stream counts meanwhile must not make them look newer than they are.
                as_of = self._as_of(query, view)
                newest = {} if sources is None else self._newest(plan, view, sources)
                rows, looked, others, more = self._fetch(plan, values, keys, view, limit, after)
            except (NotReadyError, OutsideError):
                # A table that no generation names any more may have been dropped under this read.
                if self._stands(pointer, fresh):
                    raise
            else:
                if self._stands(pointer, fresh) and not view.new:
                    break
                self._met = generation.epoch, {**view.met, **view.new}
            pointer, fresh = self._pointer[1], True
        else:
            raise NotReadyError("HR0408", "publications kept overtaking this read")
        done = plan.finish(rows, values, looked, *others)
        following = None
        if plan.in_key_order and limit is not None:
            if more and rows:
                following = self._cursor(query, values, rows[-1][len(plan.table.partition) : len(plan.table.key)])
        elif limit is not None:
            done = done[:limit]
        mark = UNKNOWN if sources is None else watermark(self.project, newest, sources)
        final = mark.until is not None and self._finality.is_final(plan, values, rows, mark.until)
        return Answer(
            query.name,
            query.columns,
            done,
            pointer.generation,
            as_of,
            complete=True,
            cursor=following,
            streamed=view.streamed,
            watermark=mark.text,
            final=final,
            idle=mark.idle,
        )

    def _newest(self, plan: Plan, view: View, sources: Collection[str]) -> dict[str, str]:
        """The highest event time that is counted of each lane of the sources, by the stream where it is part of the answer."""
        fetched = (plan.table, *(other.table for other in plan.others))
        marts = [self.project.marts.get(table.origin) for table in fetched]
        streamed = view.streamed and all(mart is not None and mart.is_streamed for mart in marts)
        lanes = {lane for t in fetched for lane in view.generation.tables[t.name].lanes if source_of(lane) in sources}
        return newest_of(view.generation, self.store if streamed else None, lanes)

    def _stands(self, seen: Pointer, fresh: bool) -> bool:
        """The second look. Where the first one was not ``fresh``, only the generation that is current will do, and only
        if no stream began to add to it since: or the answer would lack what was counted before the question."""
        now = self.pointer()
        if fresh:
            return pointers.still_valid(seen.generation, now)
        return (now.generation, now.streamed) == (seen.generation, seen.streamed)

    def _naming(self, plan: Plan, query: Query, pointer: Pointer) -> Generation:
        """The generation that answers; raises NotReadyError HR0403 where it does not have the plan's tables."""
        generation = self.generation(pointer.generation)
        for table in plan.tables:
            if table.name not in generation.tables:
                raise NotReadyError(
                    "HR0403",
                    f"query '{query.name}' is new or changed since the last run",
                    help="headrace run",
                    retry_after=10,
                )
        return generation

    def _fetch(self, plan: Plan, values: Mapping[str, Any], keys: Mapping[str, Any], view: View, limit: int | None, after: Row | None) -> tuple[list[Row], list[dict[Row, list[Row]]], list[list[Row]], bool]:  # fmt: skip
        rows: list[Row] = []
        more = False
        bounds = plan.bounds(values)
        for partition in plan.partitions(keys):
            if plan.in_key_order and limit is not None:
                rows, more = self._page(plan, partition, bounds, view, limit, after)
            else:
                rows += self.rows(plan.table, partition, bounds, view, reverse=plan.reverse)
        looked = []
        for look in plan.lookups:
            found = [key for key in look.keys(rows, values) if None not in key]
            looked.append({key: self.rows(look.table, key, OPEN, view) for key in found})
        others = [
            [
                row
                for partition in fetch.partitions(keys)
                for row in self.rows(fetch.table, partition, fetch.bounds(values), view)
            ]
            for fetch in plan.others
        ]
        return rows, looked, others, more

    def rows(self, table: ServingTable, partition: Row, bounds: Bounds, view: View, *, reverse: bool = False) -> list[Row]:  # fmt: skip
        """What the batch counted of one partition, and what the stream counted since (Reader, 2)."""
        above = view.above(table, partition, bounds)
        if above is None:
            return []
        table = view.stored(table)
        _limited(table, above)
        rows = view.live(table, self.store.fetch(table, partition, above, reverse=reverse))
        return view.kept(table, view.added(table, rows, self._speed(table, partition, above, view), reverse=reverse))

    def _speed(self, table: ServingTable, partition: Row, bounds: Bounds, view: View) -> Sequence[Row]:
        if not view.streamed or not table.of_mart:
            return ()
        rows = self.store.fetch_speed(table, partition, bounds, epoch=view.generation.epoch)
        view.meet(rows)
        return rows

    def _page(self, plan: Plan, partition: Row, bounds: Bounds, view: View, limit: int, after: Row | None) -> tuple[list[Row], bool]:  # fmt: skip
        """Up to ``limit`` rows after a key, and whether there are more; a key may have two slots, or be emptied."""
        rows: list[Row] = []
        above = view.above(plan.table, partition, bounds)
        if above is None:
            return rows, False
        table = view.stored(plan.table)
        _limited(table, above)
        size = self._spread.get(plan.table.name, 1) * (limit + 1) + 1
        start, end = len(plan.table.partition), len(plan.table.key)
        speed = self._speed(table, partition, above, view)
        while True:
            fetched = list(self.store.fetch(table, partition, above, reverse=plan.reverse, after=after, limit=size))
            last = len(fetched) < size
            if not last:
                # The second slot of the last key may lie beyond the page: leave that key to the next one.
                key, whole = fetched[-1][:end], len(fetched) - 1
                while whole and fetched[whole - 1][:end] == key:
                    whole -= 1
                if whole:
                    del fetched[whole:]
            upto = None if last else fetched[-1][start:end]
            between = [row for row in speed if _is_between(row[start:end], after, upto, plan.reverse)]
            added = view.added(plan.table, view.live(plan.table, fetched), between, reverse=plan.reverse)
            rows += view.kept(plan.table, added)
            if len(rows) > limit:
                return rows[:limit], True
            if last or not fetched:
                return rows, False
            self._spread[plan.table.name] = 2
            size = 2 * (limit + 1) + 1
            after = tuple(fetched[-1][start:end])

    def _as_of(self, query: Query, view: View) -> str | None:
        table = view.generation.tables.get(query.tables[0].name)
        mart = self.project.marts.get(query.tables[0].origin)
        streamed = view.streamed and mart is not None and mart.is_streamed
        lanes = table.lanes if table is not None else ()
        known = [
            moment for moment in newest_of(view.generation, self.store if streamed else None, lanes).values() if moment
        ]
        return min(known, key=moment_order) if known else None

    def _cursor(self, query: Query, values: Mapping[str, Any], key: Row) -> str:
        return base64.urlsafe_b64encode(json.dumps([_fingerprint(query, values), *key]).encode()).decode().rstrip("=")

    def _after(self, query: Query, values: Mapping[str, Any], cursor: str) -> Row:
        try:
            fingerprint, *key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise ParameterError(
                "HR0503", "the cursor cannot be read", parameter="cursor", help="start again without it"
            ) from None
        table = query.plan(values).table
        if (
            fingerprint != _fingerprint(query, values)
            or len(key) != len(table.clustering)
            or not all(_could_be(value, column.type) for value, column in zip(key, table.clustering, strict=True))
            or not query.plan(values).in_key_order
        ):
            raise ParameterError(
                "HR0503", "the cursor belongs to another question", parameter="cursor", help="start again without it"
            )
        return tuple(key)


def _limited(table: ServingTable, bounds: Bounds) -> None:
    """Refuses a read of more buckets than one answer may ask for: each is a read of its own, and most of them of nothing.

    Raises ParameterError HR0504.
    """
    if table.bucket is None or not table.bucket.of_time:
        return
    name, kind = table.clustering[0].name, table.bucket.kind
    low, _, high, _ = bounds
    if low is not None and high is not None and len(table.buckets(low, high)) <= BUCKETS:
        return
    asked = f"{len(table.buckets(low, high)):,} {kind}s" if low is not None and high is not None else f"all {kind}s"
    what = f"the range of '{name}' spans {asked}, and one answer reads at most {BUCKETS}"
    raise ParameterError("HR0504", what, parameter=name, help="a narrower range")


def _could_be(value: object, type: Type) -> bool:
    """Whether a value out of a cursor is a stored value of a type."""
    if stored_type(type) == "BIGINT":
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if stored_type(type) == "DOUBLE":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def _is_between(key: Row, after: Row | None, upto: Row | None, reverse: bool) -> bool:
    """Whether a key lies on a page, in the direction in which it is read."""
    if reverse:
        return (after is None or key < after) and (upto is None or key >= upto)
    return (after is None or key > after) and (upto is None or key <= upto)


def _fingerprint(query: Query, values: Mapping[str, Any]) -> int:
    """Tells questions apart, so that a cursor is not used for another one by mistake."""
    asked = [value for name, value in values.items() if name != "now" and name != query.limit]
    return zlib.crc32(repr(asked).encode(), zlib.crc32(query.sql.encode()))
