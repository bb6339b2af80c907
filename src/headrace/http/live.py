"""What is being counted just now, as this server sees it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import HeadraceError
from headrace.flow.status import Progress

FRESH = 1.0
"""Seconds for which a look is good for all who ask."""
WINDOW = 20.0
"""Seconds over which a rate is taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A look at the progress; ``rate`` is in records a second, None until there was an earlier look."""

    progress: Progress
    rate: float | None


class Live:
    """Looks when it is asked, and at most once a second. For one event loop."""

    def __init__(self, look: Callable[[], Progress], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()
        self._figures: tuple[float, Figures | None] | None = None
        self._turn = asyncio.Lock()

    async def figures(self) -> Figures | None:
        """None where the lake or the store do not answer, or nothing is published."""
        async with self._turn:
            now = self._clock()
            if self._figures is None or now - self._figures[0] >= FRESH:
                try:
                    found = Figures(progress := await asyncio.to_thread(self._look), self._rate(now, progress.counted))
                except HeadraceError:  # answers need neither: they go on
                    self._figures = now, None
                else:
                    self._figures = now, found
            return self._figures[1]

    def _rate(self, now: float, counted: int) -> float | None:
        if self._looks and counted < self._looks[-1][1]:
            self._looks.clear()  # a rollback, or files that were replaced
        while self._looks and now - self._looks[0][0] > WINDOW:
            self._looks.popleft()
        self._looks.append((now, counted))
        since, before = self._looks[0]
        return (counted - before) / (now - since) if now > since else None
