"""Actors that run only while a schedule lets them, from one point to the next, so that a seed always gives one story."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

try:
    from greenlet import greenlet  # boundary: ten times as fast as threads, where it is installed
except ImportError:
    greenlet = None


class KilledError(BaseException):
    """Raised in an actor that is dead, at whatever it touches next."""


class _Course(Protocol):
    def enter(self) -> None: ...
    def leave(self) -> None: ...


class Actor:
    """Something that goes on only between ``step`` and the next ``point``."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self.name = name
        self.dead = self.done = False
        self.error: BaseException | None = None
        self._work = work
        self._course: _Course = _Greenlet(self._run) if greenlet is not None else _Thread(self._run)

    def _run(self) -> None:
        try:
            if not self.dead:
                self._work()
        except BaseException as error:  # noqa: BLE001 - judged by the schedule
            self.error = error
        self.done = True

    def step(self) -> None:
        """Lets the actor run to its next point, or its end."""
        if not self.done:
            before, _Now.actor = _Now.actor, self
            try:
                self._course.enter()
            finally:
                _Now.actor = before

    def finish(self, most: int = 100_000) -> None:
        for _ in range(most):
            if self.done:
                return
            self.step()

    def kill(self) -> None:
        self.dead = True
        self.finish()

    def point(self) -> None:
        if not self.dead:
            self._course.leave()
        if self.dead:
            raise KilledError


class _Now:
    actor: Actor | None = None


def acting() -> Actor | None:
    """Who is running now; None for the schedule itself."""
    return _Now.actor


def point() -> None:
    """Where the schedule may go on with somebody else; nothing outside of an actor."""
    if _Now.actor is not None:
        _Now.actor.point()


class _Greenlet:
    def __init__(self, run: Callable[[], None]) -> None:
        self._greenlet = greenlet(run)

    def enter(self) -> None:
        self._greenlet.switch()

    def leave(self) -> None:
        self._greenlet.parent.switch()


class _Thread:
    def __init__(self, run: Callable[[], None]) -> None:
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        threading.Thread(target=self._first, args=(run,), daemon=True).start()

    def _first(self, run: Callable[[], None]) -> None:
        self._go.acquire()
        run()
        self._back.release()

    def enter(self) -> None:
        self._go.release()
        self._back.acquire()

    def leave(self) -> None:
        self._back.release()
        self._go.acquire()
