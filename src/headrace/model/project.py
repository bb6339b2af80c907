"""A whole project, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.model.mart import Dataset, Mart
from headrace.model.page import Page
from headrace.model.retention import Retention
from headrace.model.route import Route
from headrace.model.serving import Bucket
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
    retention: Mapping[str, Retention] = field(default_factory=dict)
    """By mart; one that is not named keeps all windows."""
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    """By the name of a serving table, what its partitions are to be cut into; one that is not named is not cut."""
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By mart, how many values columns of its grain are expected to have."""
    goals: Mapping[str, int] = field(default_factory=dict)
    """By mart with a goal of freshness, how many seconds old its newest event may be."""

    def facts_of(self, name: str) -> set[str]:
        """The facts whose records a relation counts. A pinned mart that is read stays as it was fitted, whatever comes."""
        read = self.datasets.get(name) or self.marts.get(name)
        if read is not None:
            return {fact for i in read.inputs if i not in self.pins for fact in self.facts_of(i)}
        source = self.sources.get(name) or self.sources.get(name.removesuffix("_judged"))
        found = self.sources.values() if source is None else (source,)  # verdicts are of all of them
        return {source.name for source in found if source.role == "fact"}
