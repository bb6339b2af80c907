"""What a chart draws, as data: the browser adds only looks."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.flow.answer import Answer
from headrace.http import words
from headrace.model.page import Tile
from headrace.model.types import INTEGERS

_encode = msgspec.json.Encoder().encode


def chart(tile: Tile, answer: Answer) -> dict[str, Any]:
    """Series of ``[x, y]``; one a value of ``by``, in order of first appearance. ``y`` stays text where it is exact."""
    names = [column.name for column in answer.columns]
    x, y = names.index(tile.x or names[0]), names.index(tile.y or names[-1])
    by = names.index(tile.by) if tile.by else None
    series: dict[str, list[list[Any]]] = {}
    for row in answer.rows:
        name = words.label(names[y]) if by is None else ("–" if row[by] is None else str(row[by]))  # noqa: RUF001
        series.setdefault(name, []).append([row[x], row[y]])
    kind = answer.columns[x].type
    return {
        "kind": tile.kind,
        "time": kind.name == "DATE" or kind.is_instant,
        "days": kind.name == "DATE",
        "x": words.label(names[x]),
        "y": words.label(names[y]),
        "unit": tile.unit,
        "whole": answer.columns[y].type.name in INTEGERS,
        "split": tile.by is not None,
        "series": [{"name": name, "points": points} for name, points in series.items()],
    }


def summary(tile: Tile, answer: Answer) -> str:
    """What a chart shows, for those who cannot see it; the table below it has the values."""
    drawn = chart(tile, answer)
    kind = "Line" if tile.kind == "line" else "Bar"
    split = (
        f", one {'line' if tile.kind == 'line' else 'colour'} for each of {len(drawn['series'])} {words.label(tile.by).lower()}s"
        if tile.by
        else ""
    )
    return (
        f"{kind} chart of {drawn['y']} by {drawn['x']}{split}. {len(answer.rows)} values; the same as a table follows."
    )


def embedded(data: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: nothing in it can end that element, or start another."""
    text = _encode(data).decode()
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
