"""Which windows a generation keeps, given those that were kept before; pure rules, no clock (seam: Values)."""

from __future__ import annotations

from headrace.model.retention import Floor, Floors
from headrace.model.serving import ServingTable


def floor_of(floors: Floors, table: ServingTable) -> Floor | None:
    """The floor of a table's rows; None where all are kept, as where its key does not have the window."""
    floor = floors.get(table.origin)
    if floor is None or floor.start is None or floor.column not in [c.name for c in table.key]:
        return None
    return floor


def risen(before: Floor | None, now: Floor) -> Floor:
    """A floor never goes down, unless something else is declared."""
    if before is None or before.start is None or before.declared != now.declared:
        return now
    return before if now.start is None or now.start < before.start else now


def uncovered(before: Floor | None, now: Floor | None) -> Floor | None:
    """The floor ``before``, where rows below it are kept now: the store may have none of them, or old ones."""
    if before is None:
        return None
    covers = now is not None and now.column == before.column and now.start >= before.start
    return None if covers else before


def least(one: Floor | None, other: Floor | None) -> Floor | None:
    """The floor below which neither of two generations reads."""
    if one is None or other is None or one.column != other.column:
        return None
    return one if one.start <= other.start else other
