"""Which records of a table: those of some lanes, between two offsets of each."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.model.source import source_of
from headrace.sql.judge import literal


def within(ranges: Mapping[str, tuple[int, int]]) -> str:
    """A condition on ``_lane`` and ``_offset``: the records [first, end) of each lane.

    ``ranges`` names every lane of the table that may be there: where that is the source's own, it is not compared.
    """
    if len(ranges) == 1 and all(lane == source_of(lane) for lane in ranges):
        return _between(*next(iter(ranges.values())))
    each = (f"(_lane = {literal(lane)} AND {_between(first, end)})" for lane, (first, end) in ranges.items())
    return f"({' OR '.join(each)})" if ranges else "false"


def _between(first: int, end: int) -> str:
    return f"_offset >= {first} AND _offset < {end}" if first else f"_offset < {end}"
