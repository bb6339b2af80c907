"""Waiting for another machine without keeping others waiting: synchronous code on an event loop.

``meanwhile`` runs a call in a greenlet of its own. Where that call has to wait, ``waited`` gives the event loop back until
the answer is there: the code between stays as it is for threads, and a request costs neither a thread nor a lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

try:
    from greenlet import getcurrent, greenlet
except ImportError:  # it comes with the extras that have a use for it
    greenlet = None

Of = TypeVar("Of")
Start = Callable[[Callable[[Any], None], Callable[[Exception], None]], object]
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
