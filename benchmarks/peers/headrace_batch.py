"""A run of Headrace in this process, with the seconds of each step.

``python -m benchmarks.peers.headrace_batch PROJECT LANDING [full]``
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path


class Watch:
    """An observer that adds up the seconds of each verb."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def begin(self, verb: str, subject: str, total: int | None = None) -> None: ...

    def advance(self, count: int) -> None: ...

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None:
        self.seconds[verb] += seconds

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None: ...

    def alarm(self, text: str) -> None:
        print(text, file=sys.stderr)


def main(folder: Path, landing: Path, *options: str) -> None:
    os.environ["HEADRACE_INBOX__PATH"] = str(landing.resolve())
    os.environ["HEADRACE_INBOX__QUIET"] = "0"
    started = time.perf_counter()
    from headrace.app import App

    app = App(folder)
    _ = app.project
    loaded = time.perf_counter()
    watch = Watch()
    run = app.run(watch, full="full" in options)
    done = time.perf_counter()
    report = {
        "load": loaded - started,
        "run": done - loaded,
        "seconds": dict(watch.seconds),
        "generation": run.generation,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
