"""Who writes what was computed: the caller at once, or a thread of its own while the caller computes what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

Write = Callable[[], object]


class Writer(Protocol):
    """Writes in the order in which it is told to. What fails is raised by whatever is called next, ``close`` aside, and
    nothing that comes after it is written."""

    def __call__(self, write: Write) -> None:
        """Writes, perhaps later."""
        ...

    def settle(self) -> None:
        """Returns when all is written."""
        ...

    def close(self) -> None:
        """Ends it, when all is written that can be."""
        ...


class AtOnce:
    """Writes before it returns."""

    def __call__(self, write: Write) -> None:
        write()

    def settle(self) -> None: ...

    def close(self) -> None: ...


class Behind:
    """Writes in one thread. Of what waits to be written there is never more than ``most``, so that memory has an end."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._thread = ThreadPoolExecutor(1, "headrace-writer")
        self._pending: deque[Future[object]] = deque()
        self._failed = False

    def __call__(self, write: Write) -> None:
        while self._pending and (len(self._pending) >= self._most or self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, write))

    def settle(self) -> None:
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        self._thread.shutdown()

    def _write(self, write: Write) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise
