"""How long serving tables keep windows, as it is declared, and what that comes to at a generation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.model.serving import ServingTable

EPOCH = dt.datetime.fromisoformat("1970-01-01")  # without a zone, as stored dates are


@dataclass(frozen=True, slots=True)
class Retention:
    """How many seconds the serving tables of a mart keep its windows: values of the grain column ``column``, at which
    windows begin that are a ``unit`` long."""

    column: str
    unit: str
    span: int


@dataclass(frozen=True, slots=True)
class Floor:
    """A mart's windows below ``start`` are not kept: a stored value of the grain column ``column``; None while nothing is
    known to be so old. ``unit`` and ``span`` are what was declared then."""

    column: str
    unit: str
    span: int
    start: Any = None

    @property
    def declared(self) -> Retention:
        return Retention(self.column, self.unit, self.span)

    @property
    def text(self) -> str:
        """The start of the first window that is kept, as people read it."""
        if isinstance(self.start, int):
            return (EPOCH + dt.timedelta(microseconds=self.start)).isoformat() + "Z"
        return str(self.start or "")

    def place(self, table: ServingTable) -> int:
        """Where in a table's key the window is."""
        return [c.name for c in table.key].index(self.column)


def spelled(span: int) -> str:
    """A number of seconds as it is declared."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, size = next((unit, size) for unit, size in units if span % size == 0)
    return f"{span // size} {unit}{'' if span == size else 's'}"


Floors = Mapping[str, Floor]
"""By mart."""
