"""The declared pages of a project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.errors import Place


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of one query. ``x``, ``y`` and ``by`` are columns of its answer; ``given`` presets parameters."""

    kind: Literal["number", "line", "bar", "table"]
    query: str
    title: str = ""
    x: str | None = None
    y: str | None = None
    by: str | None = None
    unit: str = ""
    given: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A titled set of tiles. Parameters that tiles share and no tile presets become the page's filters,
    with ``filters`` as their first values."""

    title: str
    tiles: tuple[Tile, ...]
    filters: dict[str, str]
    place: Place
