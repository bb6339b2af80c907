"""`./dev soak`: the tests of faults, each at many fresh seeds, one after another on one broker, or on three nodes."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import random
import time
from collections import defaultdict

import pytest

FILES = [f"tests/flow/test_{name}.py" for name in ("kafka", "faults", "store_faults", "nodes")]


class Soak:
    """Gives each test of a fault so many seeds, and tells what came of each."""

    def __init__(self, faults: set[str], seeds: int) -> None:
        self.faults = faults
        self.seeds = seeds
        self.began = time.monotonic()
        self.found: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.names: dict[str, tuple[str, int]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if metafunc.definition.get_closest_marker("fault"):
            given = os.environ.get("HEADRACE_TEST_SEED")
            first = [int(given)] if given else []
            fresh = [random.SystemRandom().randrange(10**6) for _ in range(self.seeds - len(first))]
            metafunc.parametrize("seed", [*first, *fresh])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = []
        for item in items:
            mark = item.get_closest_marker("fault")
            if mark is not None and (not self.faults or mark.args[0] in self.faults):
                self.names[item.nodeid] = (mark.args[0], item.callspec.params["seed"])  # type: ignore[attr-defined]
                chosen.append(item)
        # Several tests may be of one fault; those of one fault follow one another.
        items[:] = sorted(chosen, key=lambda item: fault_order(self.names[item.nodeid][0]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        fault, seed = self.names[report.nodeid]
        self.seconds[fault] += report.duration
        outcomes = self.found[fault]
        if report.outcome != "passed":
            outcomes[seed] = report.outcome
            print(f"\n{report.longreprtext}", flush=True)
        elif report.when == "call":
            outcomes.setdefault(seed, "passed")
        if report.when == "teardown":
            now = dt.datetime.now(dt.UTC).strftime("%H:%M:%S")
            print(f"\n{now}  {fault:6} seed {seed:6}  {outcomes[seed]}", flush=True)

    @property
    def is_good(self) -> bool:
        return bool(self.found) and all(o == "passed" for by_seed in self.found.values() for o in by_seed.values())

    def table(self) -> str:
        lines = ["| fault | seeds | passed | seconds a seed | seeds that failed |", "|---|---|---|---|---|"]
        for fault, outcomes in self.found.items():
            passed = sum(o == "passed" for o in outcomes.values())
            failed = " ".join(str(seed) for seed, o in outcomes.items() if o != "passed") or "–"
            each = self.seconds[fault] / len(outcomes)
            lines.append(f"| {fault} | {len(outcomes)} | {passed} | {each:.0f} | {failed} |")
        return "\n".join(lines)


def fault_order(name: str) -> tuple[int, str]:
    """F2 before F10."""
    number = "".join(c for c in name[1:].split("x", maxsplit=1)[0] if c.isdigit())
    return int(number), name


def main() -> int:
    options = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    options.add_argument("--faults", default="", metavar="F1,F4", help="which; all of them without")
    options.add_argument(
        "--seeds", type=int, default=50, metavar="N", help="of each (50); HEADRACE_TEST_SEED is the first"
    )
    given = options.parse_args()
    soak = Soak({name for name in given.faults.split(",") if name}, given.seeds)
    pytest.main(["-q", *FILES], [soak])
    unknown = soak.faults - set(soak.found)
    print(f"\n{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - soak.began:.0f} s")
    print(soak.table())
    if unknown:
        print(f"no test of {', '.join(sorted(unknown))}")
    return 0 if soak.is_good and not unknown else 1


if __name__ == "__main__":
    raise SystemExit(main())
