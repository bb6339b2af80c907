"""``./dev bench [--peers] SUITE``: what Headrace's speed is, as ratios to others in the same run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Result


def main() -> int:
    options = _parser().parse_args()
    work = Path(options.work or Path(tempfile.gettempdir()) / "headrace-benchmarks")
    work.mkdir(parents=True, exist_ok=True)
    results = [
        _suite(name, work, options)
        for name in (("batch", "scale", "rest", "start") if options.suite == "all" else (options.suite,))
    ]
    if options.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"machine": machine, "suites": [r.as_json() for r in results]}, indent=2))
    else:
        print("\n\n".join(r.as_markdown() for r in results))
    missed = [f.name for r in results for f in r.figures if f.met is False]
    for name in missed:
        print(f"goal missed: {name}", file=sys.stderr)
    return 1 if missed else 0


def _suite(name: str, work: Path, options: argparse.Namespace) -> Result:
    if name == "batch":
        from benchmarks import batch

        return batch.suite(work, options.data, options.rounds)
    if name == "scale":
        from benchmarks import scale

        return scale.suite(work, options.rounds, tuple(options.scales), spark=not options.no_spark)
    if name == "start":
        from benchmarks import start

        return start.suite(work, options.rounds)
    if name == "sftp":
        from benchmarks import sftp

        return sftp.suite(work, options.rounds)
    if name == "postgres":
        from benchmarks import postgres

        return postgres.suite(work, options.rounds)
    if name == "gen":
        from benchmarks import gen

        return gen.suite(work, options.rounds)
    if name == "stream":
        from benchmarks import stream

        return stream.suite(work, options.rounds, peers=options.peers)
    if name == "cassandra":
        from benchmarks import cassandra

        return cassandra.suite(work, options.rounds, peers=options.peers)
    if name == "latency":
        from benchmarks import latency

        return latency.suite(work, options.rounds)
    if name == "live":
        from benchmarks import live

        return live.suite(work)
    from benchmarks import rest

    return rest.suite(work, options.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--peers", action="store_true", help="compare with what has to be installed for it, too")
    parser.add_argument(
        "suite",
        choices=(
            *(
                "batch",
                "scale",
                "rest",
                "start",
                "sftp",
                "stream",
                "live",
                "latency",
                "gen",
                "cassandra",
                "postgres",
                "all",
            ),
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown tables")
    parser.add_argument("--rounds", type=int, default=3, help="how often each program runs, in turns (default 3)")
    parser.add_argument(
        "--data", type=Path, help="batch: the real landing folder, whose golden totals are then checked too"
    )
    parser.add_argument(
        "--scales", type=int, nargs="+", default=[10, 100], help="scale: multiples of 43,200 events (default 10 100)"
    )
    parser.add_argument("--no-spark", action="store_true", help="scale: leave PySpark out")
    parser.add_argument(
        "--work", help="folder for data and projects (default: headrace-benchmarks in the temporary folder)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
