"""A page's filters: the parameters that its tiles share, with first values and choices found in the project itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.errors import HeadraceError
from headrace.http import words
from headrace.http.answers import Answers
from headrace.http.openapi import ranges
from headrace.model.page import Page
from headrace.model.serving import Parameter
from headrace.model.types import Type
from headrace.seam.generation import Generation
from headrace.sql.query import Query

SPAN = dt.timedelta(days=30)
"""How far back a range starts unless the page says otherwise."""
MOST_CHOICES = 500
MOST_OPTIONS = 200
"""Up to so many choices are a list to pick from; more are suggestions beside a text field."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that a filter can have, and what people call it."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Filter:
    """One field of the form. ``kind`` is select, suggest, text, number, date, datetime-local or yes-no."""

    name: str
    label: str
    kind: str
    value: str
    required: bool
    hint: str = ""
    choices: tuple[Choice, ...] = field(default=())


async def filters(
    page: Page, answers: Answers, given: Mapping[str, str], generation: Generation | None
) -> list[Filter]:
    """The page's filters with their values: from the URL, else the page, else the newest data or the first choice."""
    found: dict[str, Filter] = {}
    for query, parameter in _shared(page, answers):
        if parameter.name not in found:
            found[parameter.name] = await _filter(page, answers, query, parameter, given, generation)
        elif parameter.required and not found[parameter.name].required:
            found[parameter.name] = replace(found[parameter.name], required=True)
    return list(found.values())


def _shared(page: Page, answers: Answers) -> Iterator[tuple[Query, Parameter]]:
    """Parameters that no tile presets. A limit is the tile's own affair unless the page names it."""
    preset = {name for tile in page.tiles for name in tile.given}
    for tile in page.tiles:
        if tile.kind == "status":
            continue
        query = answers.project.queries[tile.query]
        for parameter in query.parameters:
            if parameter.name not in preset and (parameter.name != query.limit or parameter.name in page.filters):
                yield query, parameter


async def _filter(
    page: Page,
    answers: Answers,
    query: Query,
    parameter: Parameter,
    given: Mapping[str, str],
    generation: Generation | None,
) -> Filter:
    choices = await _choices(answers, query, parameter)
    value = given.get(parameter.name)
    if value is None:
        value = page.filters.get(parameter.name) or _newest(query, parameter, generation)
        if not value and parameter.required and choices:
            dated = parameter.type.name == "DATE" or parameter.type.is_instant
            value = max(c.value for c in choices) if dated else choices[0].value
    if choices and value and value not in {c.value for c in choices}:
        choices = (Choice(value, value), *choices)
    kind, hint = _kind(parameter), ""
    if parameter.many:
        kind, hint = "text", "several, with commas"
    elif choices:
        kind = "select" if len(choices) <= MOST_OPTIONS else "suggest"
    elif parameter.name in ranges(query.sql) and not ranges(query.sql)[parameter.name][1]:
        hint = "not included"
    return Filter(parameter.name, words.label(parameter.name), kind, value or "", parameter.required, hint, choices)


def _kind(parameter: Parameter) -> str:
    if parameter.type.name == "DATE":
        return "date"
    if parameter.type.is_instant:
        return "datetime-local"
    if parameter.type.name == "BOOLEAN":
        return "yes-no"
    return "number" if parameter.type.is_number else "text"


def _newest(query: Query, parameter: Parameter, generation: Generation | None) -> str:
    """The end of a range at the newest data, or its start some time before."""
    if generation is None or not (parameter.type.name == "DATE" or parameter.type.is_instant):
        return ""
    bound = ranges(query.sql).get(parameter.name)
    state = generation.tables.get(query.tables[0].name)
    known = [
        generation.as_of[lane] for lane in (state.lanes if state else generation.as_of) if lane in generation.as_of
    ]
    if bound is None or not known:
        return ""
    side, included = bound
    newest = dt.datetime.fromisoformat(max(known))
    shift = dt.timedelta(days=1) - SPAN if side == "low" else dt.timedelta(days=0 if included else 1)
    try:
        return _text(newest + shift, parameter.type)
    except OverflowError:  # at either end of the calendar
        return _text(newest, parameter.type)


def _text(moment: dt.datetime, type: Type) -> str:
    return (
        moment.date().isoformat()
        if type.name == "DATE"
        else moment.replace(tzinfo=None, second=0, microsecond=0).isoformat(timespec="minutes")
    )


async def _choices(answers: Answers, query: Query, parameter: Parameter) -> tuple[Choice, ...]:
    """Values from a query that lists them: one that needs no parameters and starts with the column compared with."""
    column = _compared_with(query, parameter)
    lists = [
        q
        for q in answers.project.queries.values()
        if q.columns[0].name == column and not any(p.required for p in q.parameters)
    ]
    lists.sort(key=lambda q: (q.tables[0].of_mart, q.name))
    if not lists:
        return ()
    listing = lists[0]
    try:
        answer = await answers.ask(
            listing.name, {listing.limit: str(min(MOST_CHOICES, answers.max_rows))} if listing.limit else {}
        )
    except HeadraceError:
        return ()  # the tiles will say what is wrong
    values = [str(row[0]) for row in answer.rows if row[0] is not None]
    # A second column is a name only where each value stands once; else it is something that the value has several of.
    named = len(listing.columns) > 1 and listing.columns[1].type.name == "VARCHAR" and len(set(values)) == len(values)
    unique = {
        str(row[0]): f"{row[1]} ({row[0]})" if named and row[1] else str(row[0])
        for row in answer.rows
        if row[0] is not None
    }
    return tuple(sorted((Choice(v, t) for v, t in unique.items()), key=lambda c: c.label.casefold()))


def _compared_with(query: Query, parameter: Parameter) -> str | None:
    """The key column that a parameter picks the value of, seen by giving it a value to be recognised by."""
    marker = object()
    values: dict[str, Any] = {p.name: [None] if p.many else None for p in query.parameters}
    values[parameter.name] = [marker] if parameter.many else marker
    for plan in query.plans.values():
        try:
            keys = plan.partitions(values)
        except (TypeError, ValueError, AttributeError):
            continue  # a key that is computed from the parameter
        for column, value in zip(plan.table.partition, keys[0] if keys else (), strict=False):
            if value is marker:
                return column.name
    return None
