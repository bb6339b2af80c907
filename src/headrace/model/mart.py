"""Datasets and marts, as read from their SQL files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.model.types import Column, Type

Merge = Literal["sum", "min", "max", "bool_or", "bool_and", "arg_min", "arg_max", "set", "value"]
"""How two values of a part become one; ``value`` parts are never merged (rows, not aggregates)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stored, mergeable piece of one or more measures.

    An ``arg_min`` or ``arg_max`` part is a struct in the lake and JSON text in the store: the ordering value (of type
    ``by``), the lane and offset that break ties, and the value itself (of type ``type``).
    """

    name: str
    merge: Merge
    expression: str
    type: Type
    by: Type | None = None

    @property
    def lake_type(self) -> str:
        """The SQL type of its column in the lake."""
        if self.by is not None:
            return f'STRUCT(k {self.by}, lane VARCHAR, "offset" BIGINT, v {self.type})'
        return str(self.type)


@dataclass(frozen=True, slots=True)
class Measure:
    """An output of a mart: a scalar expression (the finisher) over part names."""

    name: str
    type: Type
    finisher: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A silver table of the project: a source's clean rows, a reference, or a file in ``silver/``."""

    name: str
    sql: str
    file: str
    columns: tuple[Column, ...]
    inputs: tuple[str, ...]
    rows_from: tuple[str, ...]
    """The inputs whose rows it passes on; the others are joined."""
    repeats: bool = False
    """Whether one record can become several rows."""
    batch_only: str = ""


@dataclass(frozen=True, slots=True)
class Mart:
    """A gold table: measures at one grain.

    ``parts_sql`` computes grain and parts from the inputs; ``batch_only`` says why the speed path cannot serve it
    (empty where it can); ``mergeable`` is false where the finished values are themselves the only parts.
    """

    name: str
    doc: str
    sql: str
    file: str
    inputs: tuple[str, ...]
    rows_from: tuple[str, ...]
    grain: tuple[Column, ...]
    parts: tuple[Part, ...]
    measures: tuple[Measure, ...]
    having: str
    parts_sql: str
    hash: str
    batch_only: str = ""
    mergeable: bool = True

    @property
    def is_streamed(self) -> bool:
        """Whether the speed path serves it."""
        return self.mergeable and not self.batch_only

    def measure(self, name: str) -> Measure | None:
        return next((m for m in self.measures if m.name == name), None)

    def grain_column(self, name: str) -> Column | None:
        return next((c for c in self.grain if c.name == name), None)
