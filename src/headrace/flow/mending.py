"""What a run does besides what is new: parts that are computed whole though nothing says so, rows that are written again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Window:
    """The windows of a mart from ``first`` to ``last`` (dates, both included), by its grain column."""

    mart: str
    column: str
    first: str
    last: str

    @property
    def condition(self) -> str:
        return f"CAST({self.column} AS DATE) BETWEEN DATE '{self.first}' AND DATE '{self.last}'"


@dataclass(frozen=True, slots=True)
class Mending:
    """``marts`` are computed whole; of ``tables``, by the names of their definitions, the keys in the engine's named
    tables are written, whatever the lake believes; ``sources`` are judged anew; ``opens`` says that an epoch has to open. Of a ``window``'s mart those windows
    are computed anew, and no others. ``rebuilt`` are tables, by the names of their definitions, that get a new table of the
    store, as rows of theirs can not be written any more."""

    marts: frozenset[str] = frozenset()
    tables: Mapping[str, str] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()
    opens: bool = False
    window: Window | None = None
    rebuilt: frozenset[str] = frozenset()


NOTHING = Mending()
