"""A record that kills whoever counts it: found by counting ever fewer records at a time, then left out, by both paths.

A process that is killed cannot say so. So it notes in the store, before it counts, where it begins and how often that was
tried, and the next one finds the note. What is isolated stands in the lake and is void from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from headrace.flow.control import reached
from headrace.ports import Engine, Lake, Store

TABLE = "isolated"
SIZES = (100_000, 256, 1)
"""Records of a micro-batch at most, after no, one and two tries that did not end."""
CLOSED = 5


@dataclass(slots=True)
class Tries:
    """The tries at one place of a lane, in a control row that only rises: offset * 1000 + number of the try * 10 + how
    many of them did not end, and 5 more where the last one did."""

    store: Store
    name: str
    at: int = -1
    number: int = 0
    died: int = 0
    """Tries in a row that did not end. Records that come after those take this along, until ``careful_to``."""
    careful_to: int = 0
    is_open: bool = False

    def begin(self, at: int) -> bool:
        """Looks at what was tried at an offset; whether that record has killed whoever counted it alone."""
        value, _ = reached(self.store, self.name)
        place, number, said = value // 1000, value // 10 % 100, value % 10
        self.at, self.number, self.died = at, 0, 0
        if value and place == at:
            self.number = number
            self.died = said - CLOSED if said >= CLOSED else said + 1
        is_deadly = self.died >= len(SIZES)
        if is_deadly:
            self.died = 0  # what comes behind it is tried like any other
        self.careful_to = at + SIZES[0] if self.died else 0
        return is_deadly

    def size(self, position: int) -> int:
        """How many records to count at once from here."""
        return SIZES[self.died] if position < self.careful_to else SIZES[0]

    def note(self, position: int) -> None:
        """Before records from ``position`` on are counted for the first time."""
        if position >= self.careful_to and self.at != position:
            return
        self.number = min(self.number + 1, 99) if self.at == position else 1
        self.at, self.is_open = position, True
        self.store.raise_control(self.name, position * 1000 + self.number * 10 + self.died)

    def close(self) -> None:
        """The records are counted, or an error was told: they killed nobody."""
        if self.is_open:
            self.is_open = False
            self.store.raise_control(self.name, self.at * 1000 + self.number * 10 + self.died + CLOSED)


def tries_name(epoch: int, lane: str) -> str:
    return f"tries/{epoch}/{lane}"


def isolate(lane: str, offset: int, lake: Lake, engine: Engine) -> None:
    """Keeps that a record is not to be counted."""
    engine.offer("_new_isolated", pa.table({"lane": [lane], "offset": [offset]}))
    path = lake.new_file(TABLE)
    rows = engine.write("SELECT * FROM _new_isolated", path)
    lake.commit(TABLE, [(path, rows)], keep=None, base=lake.snapshot(TABLE))


def isolated(lake: Lake, engine: Engine) -> dict[str, list[int]]:
    """By lane, the offsets of records that are isolated."""
    found = lake.snapshot(TABLE)
    if found is None:
        return {}
    scan = engine.scan(found.files, [("lane", "VARCHAR"), ("offset", "BIGINT")])
    lanes: dict[str, list[int]] = {}
    for lane, offset in engine.rows(f'SELECT DISTINCT lane, "offset" FROM {scan} ORDER BY ALL'):
        lanes.setdefault(lane, []).append(offset)
    return lanes
