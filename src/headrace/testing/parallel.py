"""Doing one thing from many threads, or many processes, at once."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(0)`` to ``work(count - 1)`` gave, started together in a thread each; raises the first error."""
    together = threading.Barrier(count)

    def start(number: int) -> Any:
        together.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


def in_processes(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What ``work`` gave for each list of arguments, in a new process each."""
    with multiprocessing.get_context("spawn").Pool(len(arguments)) as pool:
        return pool.starmap(work, arguments, chunksize=1)


def error_of(work: Callable[[], Any]) -> BaseException | None:
    """What ``work`` raised, or None."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is handed on, not swallowed
        return error
    return None
