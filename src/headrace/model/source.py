"""What a project declares about where records come from and what they must look like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headrace.errors import Place
from headrace.model.types import Column

META = ("_file", "_row", "_lane", "_offset", "_landed_at")
"""Columns that every bronze and silver row carries: its origin."""
OCCURRENCE = "_occurrence"
"""Where equal records of one file are events of their own: the how many-th of them in its file a record is."""


@dataclass(frozen=True, slots=True)
class Format:
    """How the bytes of a source's files are read; never sniffed."""

    kind: Literal["csv", "jsonl", "parquet"]
    pattern: str
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Repair:
    """A new value for one column, from the record as sent; the value before and the reason are kept."""

    column: str
    expression: str
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition; a record for which it is false goes to quarantine with the reason."""

    condition: str
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Flag:
    """A condition; a record for which it is true is kept and marked with the reason."""

    condition: str
    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of records and its contract. A *fact* has an ``id``; a *reference* has a ``key``."""

    name: str
    role: Literal["fact", "reference"]
    format: Format
    columns: tuple[Column, ...]
    identity: tuple[str, ...]
    event_time: str | None
    sent_as: dict[str, str] = field(default_factory=dict)
    horizon: int = 1_000_000
    changed_file: Literal["new version", "reject"] = "new version"
    topic: str = ""
    """Its topic in the log, where the project has one."""
    twins: bool = False
    """Whether records of one file that have the same id are events of their own."""
    lane_by: tuple[str, ...] = ()
    """Columns that decide the lane of a record that is produced into the topic."""
    valid_from: str | None = None
    repairs: tuple[Repair, ...] = ()
    rules: tuple[Rule, ...] = ()
    flags: tuple[Flag, ...] = ()
    place: Place = field(default_factory=lambda: Place("project.py"))
    doc: str = ""
    lateness: int | None = None
    """Seconds by which a record may come after one of later event time; None: by any time, so that nothing is final."""

    @property
    def meta(self) -> tuple[str, ...]:
        """What its bronze and silver rows carry beside the contract's columns."""
        return (*META, OCCURRENCE) if self.twins else META

    @property
    def event_id(self) -> tuple[str, ...]:
        """The columns by which a record is recognised when it comes again."""
        return (*self.identity, OCCURRENCE) if self.twins else self.identity

    def column(self, name: str) -> Column | None:
        return next((c for c in self.columns if c.name == name), None)

    def sent(self, name: str) -> str:
        """The name of a column in the source's own files."""
        return self.sent_as.get(name, name)


def source_of(lane: str) -> str:
    """The source whose records a lane holds: ``sales`` is its bronze table, ``sales#<topic id>/3`` a partition of its topic."""
    return lane.partition("#")[0]
