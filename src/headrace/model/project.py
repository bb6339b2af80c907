"""A whole project, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.model.mart import Dataset, Mart
from headrace.model.page import Page
from headrace.model.route import Route
from headrace.model.source import Source

if TYPE_CHECKING:
    from headrace.sql.query import Query  # boundary: a type only; a query carries its compiled plan


@dataclass(frozen=True, eq=False)
class LoadedProject:
    """The nouns of one folder; two are never the same one. ``marts`` are in an order in which each comes after what it reads."""

    name: str
    folder: Path
    sources: Mapping[str, Source]
    datasets: Mapping[str, Dataset]
    marts: Mapping[str, Mart]
    queries: Mapping[str, Query]
    pages: tuple[Page, ...]
    pins: tuple[str, ...]
    routes: tuple[Route, ...] = ()
