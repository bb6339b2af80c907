"""Declared routes: queries of a project under paths, parameters and answers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Union

from headrace.errors import Place

RESERVED = ("v1", "docs", "openapi.json", "health", "metrics", "static", "pages")
"""First segments of the paths that every project has."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value of an answer: of a ``column``, of a parameter as it was ``given``, the moment ``now``, or ``fixed``."""

    kind: Literal["column", "given", "now", "fixed"]
    name: str = ""
    time: str = ""
    """How a date or time is written, as for ``strftime``."""
    words: Mapping[str, str] = field(default_factory=dict)
    """What is said instead of some values."""
    number: bool = False
    """Whether a DECIMAL is a JSON number, with all its digits, instead of a text."""
    optional: bool = False
    """Whether it is left out where it is NULL."""
    value: str | int | float | bool | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """A list with one ``each`` of every row."""

    each: Shape


Shape = Union[Field, Rows, Mapping[str, "Shape"]]  # noqa: UP007  a type that names itself


def fields(shape: Shape, *, in_rows: bool = False) -> Iterator[tuple[Field, bool]]:
    """Every value of a shape, and whether it stands in a list of rows."""
    if isinstance(shape, Field):
        yield shape, in_rows
    elif isinstance(shape, Rows):
        yield from fields(shape.each, in_rows=True)
    else:
        for part in shape.values():
            yield from fields(part, in_rows=in_rows)


@dataclass(frozen=True, slots=True)
class RouteParameter:
    """How a caller gives one parameter of the query, ``name``."""

    name: str
    time: str = ""
    plus: int = 0
    """Seconds that are added to a time, where a caller's range includes its end and the query's does not."""
    pattern: str = ""
    choices: tuple[str, ...] = ()
    default: str | None = None
    newest: bool = False
    """Whether the newest day that is counted is the default."""
    example: str = ""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A query under a path. ``parameters`` are by the names that callers know; those in ``path`` stand in braces.

    ``between`` names the two that bound a range, of ``longest`` seconds at most. Where ``pages`` names a column, whose
    values are in order, ``limit`` cuts the answer between two of its values, and the next page begins at the next one.
    A route without a ``query`` tells whether answers can be given: ``answer`` if so, else ``unready``.
    """

    path: str
    query: str
    parameters: Mapping[str, RouteParameter]
    answer: Shape
    place: Place
    doc: str = ""
    between: tuple[str, str] | None = None
    longest: int | None = None
    pages: str = ""
    preset: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the query that no caller gives, and their values."""
    error: str = ""
    """The one member that an error has, for callers that know no problem documents."""
    pack: str = ""
    """Named by ``serve.routes`` where it is to be served; empty: always."""
    unready: Shape | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.strip("/").split("/"))

    @property
    def in_path(self) -> tuple[str, ...]:
        """The parameters that stand in the path."""
        return tuple(s[1:-1] for s in self.segments if s.startswith("{"))

    def values_in(self, path: str) -> dict[str, str] | None:
        """The parameters that a path has; None where it is another route's."""
        parts = path[1:].split("/")
        if len(parts) != len(self.segments):
            return None
        found = {}
        for part, segment in zip(parts, self.segments, strict=True):
            if segment.startswith("{") and part:
                found[segment[1:-1]] = part
            elif part != segment:
                return None
        return found
