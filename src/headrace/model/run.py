"""The record of a run and of its steps; what the command line shows and the lake keeps."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Step:
    """One step's work: what it worked on, counts by name, seconds."""

    verb: str
    subject: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""


@dataclass(slots=True)
class Run:
    """One run: its steps in order, the generation it published (None: nothing to do), alarms."""

    started_at: str
    steps: list[Step] = field(default_factory=list)
    generation: int | None = None
    seconds: float = 0.0
    alarms: list[str] = field(default_factory=list)

    def total(self, count: str, verb: str) -> int:
        return sum(s.counts.get(count, 0) for s in self.steps if s.verb == verb)
