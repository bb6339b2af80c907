"""canary: whether somebody wrote to the tables that answer by the clock, or dropped or emptied them (``sql/cql.py``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.errors import HeadraceError
from headrace.flow.control import generation_of, pointer_of
from headrace.model.project import LoadedProject
from headrace.ports import Inspect, Store
from headrace.seam.generation import Generation, stored

EVERY = 20.0
"""Seconds between two looks of who runs for long."""


def damaged(project: LoadedProject, generation: Generation, inspect: Inspect | None) -> Mapping[str, str]:
    """By the names of tables that answer, what somebody did to them by the clock: what their canaries tell."""
    tables = {t.name: t for query in project.queries.values() for t in query.tables if t.name in generation.tables}
    standing = [stored(table, generation.tables[name]) for name, table in tables.items()]
    return inspect.damaged(standing) if inspect is not None else {}


@dataclass(slots=True)
class Watch:
    """Looks at the canaries now and then, and says each finding once. For one thread at a time."""

    project: LoadedProject
    store: Store
    inspect: Inspect | None
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    found: Mapping[str, str] = field(default_factory=dict)
    """What the last look found."""
    _looked: float | None = None

    def look(self) -> None:
        """Nothing where the last look is not long ago; a store that is away is said by whoever asks it for more."""
        now = self.clock()
        if self.inspect is None or (self._looked is not None and now - self._looked < EVERY):
            return
        self._looked = now
        try:
            generation = generation_of(self.store, pointer_of(self.store).generation)
            found = damaged(self.project, generation, self.inspect)
        except HeadraceError:
            return
        for name, what in found.items():
            if self.found.get(name) != what:
                self.say(f"HR0427: {name}: {what}; `headrace run` builds it anew")
        self.found = found
