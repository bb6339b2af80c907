"""Who writes what was computed: the caller at once, or a thread of its own while the caller computes what comes next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, Self


class Writer(Protocol):
    """Writes in the order in which it is told to; leaving it waits for all of that. What failed is raised by whichever
    comes next, and nothing after it was written."""

    def __call__(self, write: Callable[[], object]) -> None:
        """Writes, perhaps later."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...  # fmt: skip


class AtOnce:
    """Writes before it returns."""

    def __call__(self, write: Callable[[], object]) -> None:
        write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...  # fmt: skip


class Behind:
    """Writes in one thread, in order."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "headrace-writer")
        self._pending: deque[Future[object]] = deque()
        self._failed = False

    def __call__(self, write: Callable[[], object]) -> None:
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, write))

    def _write(self, write: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            write()
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # fmt: skip
        self._thread.shutdown()
        while kind is None and self._pending:
            self._pending.popleft().result()
