"""What ``routes.py`` is written with: queries under paths, parameters and answers that their callers know."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Union

from headrace.errors import DeclarationError, Place
from headrace.model.route import RESERVED, Field, Route, RouteParameter, Rows, Shape

Given = Union[Field, Rows, Mapping[str, "Given"], str, int, float, bool, None]  # noqa: UP007  a type that names itself
"""An answer as it is written: what ``column``, ``given``, ``now`` and ``rows`` give, objects of those, or fixed values."""
PATH = re.compile(r"(/([A-Za-z0-9._~-]+|\{[a-z][a-z0-9_]*\}))+\Z")
PACK = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")


def parameter(
    name: str,
    *,
    time: str = "",
    plus: str = "",
    pattern: str = "",
    choices: tuple[str, ...] = (),
    default: str | None = None,
    newest: bool = False,
    example: str = "",
    doc: str = "",
) -> RouteParameter:
    """The query's parameter ``name``, as callers of a route give it.

    ``time`` is how they write a date or time, as for ``strptime``: ``%Y%m%d%H%M%S``. ``plus`` is added to it (``1 day``),
    where their range includes its end and the query's does not. A text must match the whole of ``pattern``, or be one of
    ``choices``. ``default`` stands where nothing is given, in the caller's writing; with ``newest`` that is the newest
    day that is counted.
    """
    seconds = _seconds(plus) if plus else 0
    return RouteParameter(name, time, -1 if seconds is None else seconds, pattern, tuple(choices), default, newest,
                          example, doc)  # fmt: skip


def column(
    name: str, *, time: str = "", words: Mapping[str, str] | None = None, number: bool = False, optional: bool = False
) -> Field:
    """A column's value: in ``rows`` of each row, elsewhere of the first one.

    ``time`` is how a date or time is written, as for ``strftime``; ``words`` what is said instead of some values. A
    DECIMAL is a text, or with ``number`` a JSON number of all its digits. What is ``optional`` is left out where NULL.
    """
    return Field("column", name, time, dict(words or {}), number, optional)


def given(name: str, *, time: str = "") -> Field:
    """A parameter as the caller gave it, null if not; ``time`` is how a date or time is written."""
    return Field("given", name, time)


def now(time: str = "%Y-%m-%dT%H:%M:%S") -> Field:
    """The time of asking, in UTC."""
    return Field("now", time=time)


def rows(each: Given) -> Rows:
    """A list with one ``each`` of every row."""
    return Rows(_shape(each))


class Pack:
    """Routes below one ``prefix``. One with a name is served only where ``serve.routes`` names it."""

    def __init__(self, name: str, prefix: str, error: str, routes: Routes) -> None:
        self._name = name
        self._prefix = prefix
        self._error = error
        self._routes = routes

    def get(
        self,
        path: str,
        query: str,
        *,
        parameters: Mapping[str, RouteParameter],
        answer: Given,
        between: tuple[str, str] | None = None,
        longest: str = "",
        pages: str = "",
        doc: str = "",
        **preset: str,
    ) -> None:
        """Answers ``GET path`` with what ``query`` answers, in the shape of ``answer``.

        ``parameters`` are by the names that callers know; one in braces stands in the path: ``/usage/{msisdn}``.
        ``between`` names those that bound a range, which must not end before it begins, nor be longer than ``longest``
        (``31 days``). ``pages`` names a column in whose order the rows come: with it, callers may say ``limit``, the
        answer ends between two of its values, and ``Link: rel="next"`` is the same question from the next value on.
        Any other keyword presets a parameter of the query.
        """
        place = _here()
        most = _seconds(longest) if longest else None
        if longest and most is None:
            self._routes.wrong(f"longest is {longest!r}", place, "a number and a unit, as 31 days")
        if longest and between is None:
            self._routes.wrong("longest needs between", place, 'between=("from", "to")')
        for name, one in parameters.items():
            if one.plus < 0:
                self._routes.wrong(f"plus of '{name}' is no span", place, "a number and a unit, as 1 day")
                parameters = {**parameters, name: replace(one, plus=0)}
        route = Route(self._prefix + path, query, dict(parameters), _shape(answer), place, doc, between, most, pages,
                      {name: str(value) for name, value in preset.items()}, self._error, self._name)  # fmt: skip
        self._routes.add(route)

    def health(self, path: str, *, ready: Given, unready: Given, doc: str = "") -> None:
        """Answers ``GET path``, to anybody, with 200 and ``ready`` where answers can be given, else with 503 and ``unready``."""
        route = Route(self._prefix + path, "", {}, _shape(ready), _here(), doc, error=self._error, pack=self._name,
                      unready=_shape(unready))  # fmt: skip
        self._routes.add(route)


class Routes(Pack):
    """The routes of a project. ``routes.py`` makes one and names it ``routes``."""

    def __init__(self) -> None:
        super().__init__("", "", "", self)
        self.routes: list[Route] = []
        self.errors: list[DeclarationError] = []

    def pack(self, name: str, *, prefix: str = "", error: str = "") -> Pack:
        """Routes that are off unless the setting ``serve.routes`` names them, all below ``prefix``. ``error`` is the
        one member that an error has, for callers that know no problem documents."""
        if not PACK.match(name):
            self.wrong(f"'{name}' is not a pack's name", _here(), "lower-case letters, digits and _")
        return Pack(name, prefix, error, self)

    def add(self, route: Route) -> None:
        """Takes a route, and notes what is wrong with its path."""
        if not PATH.match(route.path):
            self.wrong(f"'{route.path}' is not a path", route.place, "as /usage or /usage/{name}, without / at the end")
        elif route.segments[0] in RESERVED:
            self.wrong(f"'{route.path}' is below /{route.segments[0]}, which every project has", route.place,
                       "another path")  # fmt: skip
        for other in self.routes:
            if len(route.segments) == len(other.segments) and all(
                a == b or "{" in (a[0], b[0]) for a, b in zip(route.segments, other.segments, strict=True)
            ):
                what = f"'{route.path}' and '{other.path}' can be the same path"
                self.wrong(what, route.place, f"the other is in line {other.place.line}")
        self.routes.append(route)

    def wrong(self, what: str, place: Place, help: str) -> None:
        """Notes an error; all of them are raised together when the project is loaded."""
        self.errors.append(DeclarationError("HR0107", what, place=place, help=help))


def _shape(written: Given) -> Shape:
    if isinstance(written, (Field, Rows)):
        return written
    if isinstance(written, Mapping):
        return {name: _shape(part) for name, part in written.items()}
    return Field("fixed", value=written)


def _seconds(text: str) -> int | None:
    found = re.fullmatch(r"(\d{1,9}) (second|minute|hour|day)s?", text)
    return int(found[1]) * {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[found[2]] if found else None


def _here() -> Place:
    """The line of ``routes.py`` that called into this file."""
    frame = sys._getframe(1)  # noqa: SLF001  as the logging module does
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
