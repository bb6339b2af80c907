"""The declared pages of a project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.errors import Place

FIGURES = ("rate", "lag", "counted", "workers", "as_of", "watermark")
"""What a status tile can show."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of one query. ``x``, ``y`` and ``by`` are columns of its answer; ``given`` presets parameters. A status
    tile has no query: ``y`` is one of ``FIGURES``."""

    kind: Literal["number", "line", "bar", "table", "status"]
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
    with ``filters`` as their first values. Where ``refresh`` is not 0, it is shown anew after so many seconds."""

    title: str
    tiles: tuple[Tile, ...]
    filters: dict[str, str]
    place: Place
    refresh: int = 0
