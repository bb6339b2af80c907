"""Up to which event time nothing more is expected, and whether an answer's windows end below that (seam: Reader, 4)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.flow.control import progress_of
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.model.source import source_of
from headrace.ports import Store
from headrace.seam.generation import Generation, instant, moment_order
from headrace.sql.query import Plan
from headrace.sql.windows import Declared, TimeWindow, window_of

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Watermark:
    """``until``: no record of an earlier event time is expected (None: nothing can be said). ``idle`` are the lanes that
    hold it back: they have no event yet, or none that is near the newest one's by their own lateness."""

    until: dt.datetime | None = None
    idle: tuple[str, ...] = ()

    @property
    def text(self) -> str | None:
        return instant(str(self.until)) if self.until is not None else None


UNKNOWN = Watermark()


def watermark(project: LoadedProject, newest: Mapping[str, str], sources: Iterable[str]) -> Watermark:
    """That of what these sources feed; ``newest`` gives the highest event time that is counted of each lane."""
    lanes: dict[str, int] = {}
    for name in sources:
        late = project.sources[name].lateness
        if late is None:
            return UNKNOWN
        own = [lane for lane in newest if source_of(lane) == name]
        # Of a source with a topic its own lane has replayed records only: they say nothing of what is still to come.
        lanes |= dict.fromkeys([lane for lane in own if lane != name] or own or [name], late)
    moments = {lane: dt.datetime.fromisoformat(moment_order(newest[lane])) for lane in lanes if newest.get(lane)}
    if not lanes:
        return UNKNOWN
    front = max(moments.values(), default=None)
    idle = [
        lane
        for lane, late in lanes.items()
        if lane not in moments or (front is not None and front - moments[lane] > dt.timedelta(seconds=late))
    ]
    if len(moments) < len(lanes):
        return Watermark(None, tuple(sorted(idle)))
    try:
        until = min(moments[lane] - dt.timedelta(seconds=late) for lane, late in lanes.items())
    except OverflowError:
        return Watermark(None, tuple(sorted(idle)))
    return Watermark(until, tuple(sorted(idle)))


def newest_of(generation: Generation, store: Store | None, lanes: Iterable[str]) -> dict[str, str]:
    """The highest event time of each lane that the batch, and with ``store`` the stream, has counted; empty: none."""
    found = {lane: generation.as_of.get(lane, "") for lane in lanes}
    if store is not None:
        for lane, (_, streamed, _) in progress_of(store, generation.epoch, found).items():
            found[lane] = max(found[lane], streamed, key=moment_order)
    return found


@dataclass(slots=True)
class Finality:
    """Says of answers whether they are final."""

    project: LoadedProject
    _windows: dict[str, TimeWindow | None] = field(default_factory=dict)
    _feeding: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def sources(self, plan: Plan) -> frozenset[str] | None:
        """The facts that feed an answer; None where one of them declares no lateness, as then nothing is ever final."""
        names = (plan.table.origin, *(other.table.origin for other in plan.others))
        found: set[str] = set()
        for name in names:
            if name not in self._feeding:
                facts = frozenset(self.project.facts_of(name))
                none = not facts or any(self.project.sources[fact].lateness is None for fact in facts)
                self._feeding[name] = None if none else facts
            facts_of = self._feeding[name]
            if facts_of is None:
                return None
            found |= facts_of
        return frozenset(found)

    def window(self, table: ServingTable) -> TimeWindow | None:
        """The window column of a table's mart, where it is part of the table's key."""
        if table.name not in self._windows:
            mart = self.project.marts.get(table.origin)
            found = (
                window_of(mart, Declared(self.project.sources, self.project.datasets, self.project.marts))
                if mart
                else None
            )
            self._windows[table.name] = found if found and found.column in [c.name for c in table.key] else None
        return self._windows[table.name]

    def is_final(self, plan: Plan, values: Mapping[str, Any], rows: Sequence[Row], until: dt.datetime) -> bool:
        """Whether every window that an answer shows, or that its question asks for, ends at the watermark or before."""
        fetches = [(plan.table, plan.partitions(values), plan.bounds(values))]
        fetches += [(other.table, other.partitions(values), other.bounds(values)) for other in plan.others]
        for table, partitions, bounds in fetches:
            window = self.window(table)
            if window is None:
                return False
            place = [c.name for c in table.key].index(window.column)
            if plan.in_key_order and rows:
                starts = {row[place] for row in rows}
            elif place < len(table.partition):
                starts = {partition[place] for partition in partitions}
            elif place == len(table.partition) and bounds[2] is not None:
                starts = {bounds[2]}
            else:
                return False  # the question has no end: more windows may come
            ends = [window.end(start) for start in starts if start is not None]
            if not ends or any(end is None or end > until for end in ends):
                return False
        return True
