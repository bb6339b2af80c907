"""The manifest: which versions of which files were landed. An index over bronze, rebuilt from it where it lags."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from headrace.ports import Engine, Lake

TABLE = "manifest"
COLUMNS = [
    ("source", "VARCHAR"), ("file", "VARCHAR"), ("size", "BIGINT"), ("modified", "BIGINT"), ("sha256", "VARCHAR"),
    ("rows", "BIGINT"), ("first", "BIGINT"), ("next", "BIGINT"), ("rejected", "VARCHAR"), ("landed_at", "VARCHAR"),
]  # fmt: skip
_ARROW = {"VARCHAR": pa.string(), "BIGINT": pa.int64()}


@dataclass(frozen=True, slots=True)
class Landed:
    """One version of one file: its rows are the records [first, next) of the source's lane.

    ``rejected`` is why the whole file was refused (its one record is then that refusal), empty where it was read.
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


def load(lake: Lake, engine: Engine) -> list[Landed]:
    """All versions ever landed, oldest first."""
    found = lake.snapshot(TABLE)
    if found is None:
        return []
    names = ", ".join(f'"{name}"' for name, _ in COLUMNS)
    rows = engine.rows(f"SELECT DISTINCT {names} FROM {engine.scan(found.files, COLUMNS)} ORDER BY first, file")
    return [Landed(*row) for row in rows]


def append(lake: Lake, engine: Engine, landed: list[Landed]) -> None:
    """Adds versions, after their rows were committed to bronze."""
    columns = {name: pa.array([getattr(entry, name) for entry in landed], _ARROW[type]) for name, type in COLUMNS}
    engine.offer("manifest_rows", pa.table(columns))
    path = lake.new_file(TABLE)
    rows = engine.write("SELECT * FROM manifest_rows", path)
    lake.commit(TABLE, [(path, rows)], keep=None, base=lake.snapshot(TABLE))


def current(landed: list[Landed]) -> dict[tuple[str, str], Landed]:
    """The version of each (source, file) that counts: the newest one that was read, else the newest."""
    newest: dict[tuple[str, str], Landed] = {}
    for entry in landed:
        key = (entry.source, entry.file)
        if key not in newest or not entry.rejected or newest[key].rejected:
            newest[key] = entry
    return newest


def void_ranges(landed: list[Landed], source: str) -> list[tuple[int, int]]:
    """Offsets [first, next) of a source's replaced file versions: neither counted nor in the duplicate window."""
    counts = current(landed)
    return sorted(
        (e.first, e.next) for e in landed
        if e.source == source and not e.rejected and counts[(e.source, e.file)].first != e.first and e.rows
    )  # fmt: skip
