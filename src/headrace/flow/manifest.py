"""The manifest: which versions of which files were landed. An index over bronze, rebuilt from it where it lags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from headrace.model.source import Source
from headrace.ports import Engine, Lake
from headrace.sql.judge import bronze_columns

TABLE = "manifest"
COLUMNS = [
    ("source", "VARCHAR"), ("file", "VARCHAR"), ("size", "BIGINT"), ("modified", "BIGINT"), ("sha256", "VARCHAR"),
    ("rows", "BIGINT"), ("first", "BIGINT"), ("next", "BIGINT"), ("rejected", "VARCHAR"), ("landed_at", "VARCHAR"),
]  # fmt: skip
_ARROW = {"VARCHAR": pa.string(), "BIGINT": pa.int64()}
REPLAY = "_replay/"
"""What the names of replayed files begin with, and those of an inbox cannot."""
PIECES = 16
"""Appended pieces before they are written as one."""

Version = tuple[str, str, int, int]


@dataclass(frozen=True, slots=True)
class Landed:
    """One version of one file: its rows are the records [first, next) of the source's lane.

    ``rejected`` is why the whole file was refused (its one record is then that refusal), empty where it was read.
    ``size`` and ``modified`` are those of the file that was last seen to hold these bytes.
    """

    source: str
    file: str
    size: int
    modified: int
    sha256: str
    rows: int
    first: int
    next: int
    rejected: str
    landed_at: str

    @property
    def version(self) -> Version:
        """What tells versions apart: the same bytes may come, go and come again."""
        return self.source, self.file, self.first, self.next


def load(lake: Lake, engine: Engine) -> list[Landed]:
    """All versions ever landed, oldest first."""
    found = lake.snapshot(TABLE)
    if found is None:
        return []
    names = ", ".join(f'"{name}"' for name, _ in COLUMNS)
    rows = engine.rows(f"SELECT {names} FROM {engine.scan(found.files, COLUMNS)}")
    return _in_order(Landed(*row) for row in rows)


def append(lake: Lake, engine: Engine, landed: Sequence[Landed]) -> None:
    """Adds versions, after their rows were committed to bronze or appended to the log. A version that is known was seen
    again: its entry is replaced, so that a file that is touched daily does not make the manifest grow."""
    base = lake.snapshot(TABLE)
    known = {entry.version: entry for entry in load(lake, engine)}
    new = {entry.version: entry for entry in landed if known.get(entry.version) != entry}
    if not new:
        return
    whole = base is not None and (not known.keys().isdisjoint(new) or len(base.files) >= PIECES)
    written = (known | new if whole else new).values()
    columns = {name: pa.array([getattr(entry, name) for entry in written], _ARROW[type]) for name, type in COLUMNS}
    engine.offer("_manifest_rows", pa.table(columns))
    path = lake.new_file(TABLE)
    rows = engine.write("SELECT * FROM _manifest_rows", path)
    lake.commit(TABLE, [(path, rows)], keep=() if whole else None, base=base)


def current(landed: Sequence[Landed]) -> dict[tuple[str, str], Landed]:
    """The version of each (source, file) that counts: the newest one that was read, else the newest."""
    newest: dict[tuple[str, str], Landed] = {}
    for entry in _in_order(landed):
        key = (entry.source, entry.file)
        if key not in newest or not entry.rejected or newest[key].rejected:
            newest[key] = entry
    return newest


def replaced(source: Source, lake: Lake, engine: Engine, landed: Sequence[Landed]) -> dict[str, set[int]]:
    """By lane, offsets of a source's records that corrected ones replace: bronze names them as the rows of replayed
    files, and their lane, where it is not the source's own, in the files' names."""
    replays = [e for e in landed if e.source == source.name and e.file.startswith(REPLAY)]
    bronze = lake.snapshot(f"bronze/{source.name}") if replays else None
    if bronze is None:
        return {}
    first = min(e.first for e in replays)
    scan = engine.scan(bronze.files, bronze_columns(source), grown=True)
    rows = engine.rows(f"SELECT _file, _row FROM {scan} WHERE _offset >= {first} AND starts_with(_file, '{REPLAY}')")
    found: dict[str, set[int]] = {}
    for file, row in rows:
        lane = file.removeprefix(REPLAY).partition("/")[2] or source.name
        found.setdefault(lane, set()).add(int(row))
    return found


def void_ranges(landed: Sequence[Landed], source: str) -> list[tuple[int, int]]:
    """Offsets [first, next) of a source's replaced file versions: neither counted nor in the duplicate window."""
    counts = current(landed)
    ranges: list[tuple[int, int]] = []
    for entry in _in_order(landed):
        if entry.source != source or entry.rejected or not entry.rows:
            continue
        if counts[(entry.source, entry.file)].version == entry.version:
            continue
        if ranges and ranges[-1][1] == entry.first:
            ranges[-1] = (ranges[-1][0], entry.next)
        else:
            ranges.append((entry.first, entry.next))
    return ranges


def _in_order(entries: Iterable[Landed]) -> list[Landed]:
    return sorted(entries, key=lambda e: (e.first, e.next, e.landed_at, e.file))
