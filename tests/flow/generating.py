"""What runs in the process that is killed: sample data made for some targets, with SIGKILL at a moment that is named."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from headrace.app import App
from headrace.flow import generate, samples
from headrace.model.source import Source
from headrace.ports import Filed, Record
from tests.kit import Quiet


def moments(note: Callable[[], None]) -> None:
    """Calls ``note`` before and after each step of a delivery, and between the records of a topic."""

    def around(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            note()
            result = inner(*given, **named)
            note()
            return result

        setattr(owner, name, call)

    around(samples.Folder, "take")
    around(generate.Server, "take")
    around(generate.Topics, "take")
    around(generate.Noted, "take")
    around(os, "fsync")
    if "kafka" in sys.argv:
        from headrace.adapters.kafka_log import KafkaLog

        append = KafkaLog.append

        def call(log: KafkaLog, source: Source, files: Iterable[Filed]) -> Iterator[int]:
            return append(log, source, ((file, digest, noting(records)) for file, digest, records in files))

        def noting(records: Iterable[Record]) -> Iterator[Record]:
            for record in records:
                note()
                yield record

        KafkaLog.append = call  # type: ignore[method-assign, assignment]


def main(folder: str, at: int, *targets: str) -> None:
    left = at

    def note() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    moments(note)
    App(Path(folder)).deliver(Quiet(), targets, 1.0, 7)
    print(at - left)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
