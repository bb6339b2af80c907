"""What runs in the process that is killed: a run whose ports count their calls, and send SIGKILL at the one that is named."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace.app import App
from headrace.flow.run import Batch
from headrace.flow.writing import AtOnce, Behind
from tests.kit import Quiet

PORTS = ("inbox", "lake", "engine", "store")


class Counting:
    """A port that reports every call of its methods to ``note``, before and after."""

    def __init__(self, name: str, port: Any, note: Callable[[str, str], None]) -> None:
        self._name, self._port, self._note = name, port, note

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not callable(found):
            return found
        label = f"{self._name}.{method}"

        def call(*given: Any, **named: Any) -> Any:
            self._note(label, "before")
            if label == "store.put":
                given = (given[0], self._noted(given[1], label))
            if label == "engine.write":
                self._torn(given[1], label)
            result = found(*given, **named)
            self._note(label, "after")
            return result

        return call

    def _noted(self, rows: Any, label: str) -> Iterator[Any]:
        for i, row in enumerate(rows):
            if i == 3:
                self._note(label, "middle")
            yield row

    def _torn(self, path: str, label: str) -> None:
        """Half a file, where the write dies in the middle."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(b"PAR1" + b"\0" * 100)
        self._note(label, "middle")
        os.unlink(path)


def batch_of(app: App, note: Callable[[str, str], None]) -> Batch:
    inbox, *others = (Counting(name, getattr(app, name), note) for name in PORTS)
    return Batch(app.project, inbox, app.log, *others, Quiet())  # type: ignore[arg-type]


def calls_of(folder: Path) -> list[str]:
    """All moments of a whole run of a project, in order, as ``port.method when``."""
    moments: list[str] = []
    batch_of(App(folder), lambda label, when: moments.append(f"{label} {when}")).run()
    return moments


def run_and_die(folder: Path, at: int) -> None:
    """A run that kills its process at its ``at``-th moment."""
    left = at

    def note(label: str, when: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    batch = batch_of(App(folder), note)
    batch.writer = (AtOnce, Behind)[at % 2]
    batch.run()
    sys.exit(99)  # it should have been dead by now


def choose(moments: list[str], count: int, rnd: random.Random) -> list[int]:
    """``count`` moments over all steps: each kind of call in turn, a random one of its kind."""
    kinds: dict[str, list[int]] = {}
    for i, moment in enumerate(moments):
        kinds.setdefault(moment, []).append(i)
    order = list(kinds)
    rnd.shuffle(order)
    return [rnd.choice(kinds[order[i % len(order)]]) for i in range(count)]


def stream_and_die(folder: Path, what: str, at: int) -> None:
    """A stream worker that kills its process where it is about to write its ``at``-th ``checkpoint``, all rows being
    acknowledged, or to ``commit`` an offset to the log for the ``at``-th time, the checkpoint being written."""
    from headrace.adapters.kafka_log import KafkaFeed
    from headrace.adapters.sqlite_store import SQLiteStore

    owner, method = {"checkpoint": (SQLiteStore, "raise_control"), "commit": (KafkaFeed, "commit")}[what]
    found, left = getattr(owner, method), at

    def call(self: object, name: str, *given: Any) -> Any:
        nonlocal left
        left -= what == "commit" or name.startswith("checkpoint/")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found(self, name, *given)

    setattr(owner, method, call)
    App(folder).stream(Quiet(), until_caught_up=False, stopped=lambda: False)
