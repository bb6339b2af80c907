"""What a chart draws, as data: the browser adds only looks."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.flow.answer import Answer
from headrace.http import words
from headrace.model.page import Tile
from headrace.model.types import INTEGERS

MOST_STACKED = 100_000
"""Points of bars stacked over time, gaps included; more stand side by side."""
_encode = msgspec.json.Encoder().encode


def chart(tile: Tile, answer: Answer) -> dict[str, Any]:
    """Series of ``[x, y]``; one a value of ``by``, by name: the same names have the same colours. ``y`` stays text where
    it is exact. Times and a line's numbers go upwards, other ``x`` stand in the query's order."""
    names = [column.name for column in answer.columns]
    x, y = names.index(tile.x or names[0]), names.index(tile.y or names[-1])
    by = names.index(tile.by) if tile.by else None
    series: dict[str, list[list[Any]]] = {}
    for row in answer.rows:
        name = words.label(names[y]) if by is None else ("–" if row[by] is None else str(row[by]))  # noqa: RUF001
        series.setdefault(name, []).append([row[x], row[y]])
    kind = answer.columns[x].type
    time = kind.name == "DATE" or kind.is_instant
    places = {str(row[x]): row[x] for row in answer.rows}
    if time:
        places = dict(sorted(places.items(), key=lambda place: place[0].removesuffix("Z")))
    elif tile.kind == "line" and kind.is_number:
        places = dict(sorted(places.items(), key=lambda place: float("-inf" if place[1] is None else place[1])))
    order = {place: n for n, place in enumerate(places)}
    few = not time or len(series) * len(places) <= MOST_STACKED
    stacked = tile.kind == "bar" and by is not None and few
    for points in series.values():
        if stacked and time:  # on such an axis the browser stacks the n-th point of a series on the n-th of the others
            points += [[places[place], None] for place in order.keys() - {str(point[0]) for point in points}]
        points.sort(key=lambda point: order[str(point[0])])
    return {
        "kind": tile.kind,
        "time": time,
        "days": kind.name == "DATE",
        "x": words.label(names[x]),
        "y": words.label(names[y]),
        "unit": tile.unit,
        "whole": answer.columns[y].type.name in INTEGERS,
        "split": by is not None,
        "stacked": stacked,
        "places": [] if time else list(places.values()),
        "series": [{"name": name, "points": points} for name, points in sorted(series.items())],
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
