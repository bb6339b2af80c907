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
    out: list[Row] = []
    best: Row | None = None
    last = max(width - 1, 0)
    for row in rows:
        gen = row[-1]
        if gen > generation or gen in abandoned:
            continue
        # Neighbours mostly differ in the last value of their keys: only where they do not, whole keys are compared.
        if best is None or (width and row[last] != best[last]) or row[:width] != best[:width]:
            if best is not None and best[-3]:
                out.append(best[:-2])
            best = row
        elif gen > best[-1]:
            best = row
    if best is not None and best[-3]:
        out.append(best[:-2])
    return out
