"""Moves of a control row that can always be told from others, also where the answer to one was lost.

A row that is moved has, behind its value, the marks of its last moves, and a move is made on the whole of it. So it is known
whether a move was made where others have moved on from it, or made the same value of the same one; and one that comes late
finds nothing any more that it could be made on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

MARKS = "\x1e"
"""What the marks come after: no value of ours has it."""
KEPT = 64
"""Marks that are kept: more moves than others make while one waits for an answer."""


def value_of(stored: str | None) -> str | None:
    """A row's value, without marks; None where there is no row."""
    return None if stored is None else stored.partition(MARKS)[0]


def marks_of(stored: str | None) -> list[str]:
    return (stored or "").partition(MARKS)[2].split()


@dataclass(frozen=True, slots=True)
class Move:
    """One move from what is stored ``before``."""

    before: str | None
    value: str
    mark: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def after(self) -> str:
        """What is stored once it is made."""
        return f"{self.value}{MARKS}{' '.join([*marks_of(self.before), self.mark][-KEPT:])}"

    def is_made(self, now: str | None) -> bool | None:
        """Whether it was, told from what is stored now; None where that does not tell, and it may be tried again where
        ``now`` is as it was before."""
        made, before = marks_of(now), marks_of(self.before)
        if self.mark in made:
            return True
        is_remembered = len(made) < KEPT or not before or before[-1] in made
        return False if now != self.before and is_remembered else None
