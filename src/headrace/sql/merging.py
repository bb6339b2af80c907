"""Adding stored rows of one key: what the batch counted, and what each range of the stream did."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from headrace.model.mart import Part
from headrace.sql.arithmetic import (
    decimal_text,
    exact,
    members,
    merge_max,
    merge_min,
    merge_set,
    merge_sum,
    ordered_value,
)

Value = Any
Row = tuple[Any, ...]


def merging(width: int, parts: Sequence[Part]) -> Callable[[Row, Row], Row]:
    """A function that merges two rows of key (``width`` values), parts and count of records, as ``sql.gold.merge_sql``
    merges them in the lake."""
    merges = [_merge(part) for part in parts]

    def merge(a: Row, b: Row) -> Row:
        values = [merge(x, y) for merge, x, y in zip(merges, a[width:-1], b[width:-1], strict=True)]
        return (*a[:width], *values, a[-1] + b[-1])

    return merge


def _merge(part: Part) -> Callable[[Value, Value], Value]:
    if part.merge == "set":
        return _sets
    plain = {"sum": merge_sum, "min": merge_min, "max": merge_max, "bool_or": merge_max, "bool_and": merge_min}
    order = exact if (part.by or part.type).name == "DECIMAL" else _as_it_is
    if part.by is not None:
        choose = merge_min if part.merge == "arg_min" else merge_max
        # The winner's own text, so that nothing is lost by writing it anew.
        return lambda a, b: (
            a if choose(ordered_value(a, order), ordered_value(b, order)) == ordered_value(a, order) else b
        )
    merge = plain[part.merge]  # a part that has no merge is of no streamable mart
    if part.type.name != "DECIMAL":
        return merge
    return lambda a, b: _decimal(merge(exact(a), exact(b)), part.type.scale)


def _sets(a: str | None, b: str | None) -> str | None:
    merged = merge_set(members(a), members(b))
    return None if merged is None else json.dumps(sorted(merged), separators=(",", ":"), ensure_ascii=False)


def _decimal(value: int | None, scale: int) -> str | None:
    return decimal_text(value, scale) if scale or value is None else str(value)


def _as_it_is(value: Value) -> Value:
    return value
