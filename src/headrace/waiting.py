"""Waiting for another machine without keeping others waiting: synchronous code on an event loop.

``meanwhile`` runs a call in a greenlet of its own. Where that call has to wait, ``waited`` gives the event loop back until
the answer is there: the code between stays as it is for threads, and a request costs neither a thread nor a lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # it comes with the extras that have a use for it
    greenlet = None

Of = TypeVar("Of")
Done = Callable[[Any], None]
Failed = Callable[[Exception], None]
Start = Callable[[Done, Failed], object]
"""Begins something that calls the one with what it gives, or the other with why it does not, perhaps in another thread."""
is_possible = greenlet is not None


class WouldBlockError(Exception):
    """On an event loop, a call came to something that can only be waited for by blocking; try again in a thread."""


class _Call(greenlet if is_possible else object):  # type: ignore[misc]
    """A call that runs on an event loop."""


def on_loop() -> bool:
    """Whether this is code that ``meanwhile`` runs."""
    return is_possible and isinstance(getcurrent(), _Call)


def must_not_block() -> None:
    """Comes before what blocks; raises WouldBlockError on an event loop."""
    if on_loop():
        raise WouldBlockError


def waited(start: Start) -> Any:
    """What ``start`` gives; only where ``on_loop``."""
    return getcurrent().parent.switch(start)


async def meanwhile(call: Callable[..., Of], *given: Any) -> Of:
    """What a call gives, the event loop going on while it waits; raises what it raises."""
    running = _Call(call)
    found = running.switch(*given)
    while not running.dead:
        try:
            value = await _Answer(found).future
        except BaseException as error:  # noqa: BLE001  # it belongs to the call
            found = running.throw(error)
        else:
            found = running.switch(value)
    result: Of = found
    return result


class Sharing:
    """Questions that many ask at once on event loops, and that are asked once for all of them. Who comes while one is under
    way shares the next, which begins when that one has come back: what anybody is told was asked after they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[Hashable, list[tuple[Done, Failed]]] = {}
        """By question that is under way, those who came meanwhile."""

    def ask(self, question: Hashable, start: Start) -> Any:
        """What ``start`` gives, begun by whoever comes first; only where ``on_loop``."""
        return waited(partial(self._join, question, start))

    def _join(self, question: Hashable, start: Start, done: Done, failed: Failed) -> None:
        with self._lock:
            if question in self._next:
                self._next[question].append((done, failed))
                return
            self._next[question] = []
        self._begin(question, start, [(done, failed)])

    def _begin(self, question: Hashable, start: Start, askers: Sequence[tuple[Done, Failed]]) -> None:
        def came() -> None:
            with self._lock:
                waiting = self._next.pop(question)
                if waiting:
                    self._next[question] = []
            if waiting:
                self._begin(question, start, waiting)

        def done(value: Any) -> None:
            came()
            for tell, _ in askers:
                tell(value)

        def failed(error: Exception) -> None:
            came()
            for _, tell in askers:
                tell(error)

        try:
            start(done, failed)
        except Exception as error:  # noqa: BLE001  # it belongs to those who ask
            failed(error)


class _Answer:
    """What was begun, as a future of the event loop."""

    def __init__(self, start: Start) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        start(self._done, self._failed)

    def _done(self, value: Any) -> None:
        self._loop.call_soon_threadsafe(self._settle, self.future.set_result, value)

    def _failed(self, error: Exception) -> None:
        self._loop.call_soon_threadsafe(self._settle, self.future.set_exception, error)

    def _settle(self, settle: Callable[[Any], None], value: Any) -> None:
        if not self.future.done():  # whoever asked may be gone
            settle(value)
