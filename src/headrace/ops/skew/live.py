"""What the cluster that a project answers from tells of itself: its ring, and what its nodes know of a table."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import NotReadyError
from headrace.flow.control import generation_of, pointer_of
from headrace.model.cluster import LiveSize
from headrace.model.project import LoadedProject
from headrace.model.ring import Ring
from headrace.ports import Inspect, Store
from headrace.seam.generation import stored
from headrace.sql import cql


def live(project: LoadedProject, store: Store, inspect: Inspect, name: str) -> tuple[Ring, Sequence[LiveSize]]:
    """The ring that the rows of ``name`` lie on, and where that is a serving table that is published, what each node knows
    of its batch and speed rows.

    Raises NotReadyError HR0403 where there is no keyspace yet, and OutsideError HR0424 where nodes do not tell.
    """
    if inspect.keyspace() is None:
        raise NotReadyError("HR0403", f"there is no keyspace {inspect.space} yet", help="headrace apply")
    table = {table.name: table for query in project.queries.values() for table in query.tables}.get(name)
    published = generation_of(store, pointer_of(store).generation)
    if table is None or table.name not in published.tables:
        return inspect.ring(), []
    kept = cql.physical_name(stored(table, published.tables[table.name]).name)
    return inspect.ring(kept), [size for size in inspect.sizes() if size.table in (kept, kept + cql.SPEED)]
