"""Serving tables and queries, as derived from a query's SQL."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.model.mart import Part
from headrace.model.types import Column, Type


@dataclass(frozen=True, slots=True)
class ServingTable:
    """A query-first table: rows of ``origin`` (a mart, or the rows of a dataset) rolled up to the key.

    Key and parts are *stored values*: text for VARCHAR, DATE (ISO) and DECIMAL (at its scale), int for integers,
    BOOLEAN and instants (microseconds since 1970 UTC), float for DOUBLE, JSON text for sets. ``name`` ends in a hash
    of the definition, so that a changed query gets another table.
    """

    name: str
    origin: str
    of_mart: bool
    partition: tuple[Column, ...]
    clustering: tuple[Column, ...]
    parts: tuple[Part, ...]
    where: str = ""

    @property
    def key(self) -> tuple[Column, ...]:
        return (*self.partition, *self.clustering)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of key, parts and the count of records, in the order of a stored row."""
        return (*(c.name for c in self.key), *(p.name for p in self.parts), "_records")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A typed parameter; ``default`` and ``maximum`` are stored values, ``many`` takes a list."""

    name: str
    type: Type
    required: bool = True
    many: bool = False
    default: object = None
    maximum: int | None = None
