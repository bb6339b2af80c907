"""Which of the rows that a store holds for a key is the one that answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

Row = tuple[Any, ...]


def live(rows: Iterable[Row], width: int, generation: int, abandoned: Collection[int]) -> list[Row]:
    """The newest row of each key with a generation up to ``generation`` and not abandoned, without emptied ones.

    ``rows`` are in key order and end in records, slot, generation; the first ``width`` values are the key (Reader, 2).
    The rows that come back end in records.
    """
    given_up = frozenset(abandoned)
    out: list[Row] = []
    best: Row | None = None
    at: Row | None = None
    for row in rows:
        gen = row[-1]
        if gen > generation or gen in given_up:
            continue
        key = row[:width]
        if best is None or key != at:
            if best is not None and best[-3]:
                out.append(best[:-2])
            best, at = row, key
        elif gen > best[-1]:
            best = row
    if best is not None and best[-3]:
        out.append(best[:-2])
    return out
