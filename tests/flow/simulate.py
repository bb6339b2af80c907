"""`./dev simulate`: schedules of the seam by the thousand, one of them step by step, or each rule broken in turn."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from headrace import wiring
from headrace.declare.folder import load
from headrace.model.project import LoadedProject
from headrace.testing.streaming import Schedule, load_simulated, simulate
from tests.flow.mutants import MUTANTS

PIECE = 50


def main() -> int:
    options = argparse.ArgumentParser(prog="./dev simulate", description=__doc__)
    options.add_argument("--schedules", type=int, metavar="N", help="how many (1,000; of each mutant 300)")
    options.add_argument("--seed", type=int, metavar="S", help="the first one; without --schedules, that one's story")
    options.add_argument("--mutants", nargs="*", metavar="NAME", help="break rules: all, or those that are named")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = load_simulated(Path(folder), lambda place: load(place, wiring.binder()))
        if given.mutants is not None:
            return mutants(project, range(given.seed or 0, (given.seed or 0) + (given.schedules or 300)), given.mutants)
        if given.seed is not None and given.schedules is None:
            return story(project, given.seed)
        first = given.seed or 0
        return schedules(project, range(first, first + (given.schedules or 1000)))


def schedules(project: LoadedProject, seeds: range) -> int:
    began = time.monotonic()
    wrong: dict[int, BaseException] = {}
    counts: Counter[str] = Counter()
    for at in range(0, len(seeds), PIECE):
        found, happened = simulate(seeds[at : at + PIECE], project, wiring.silence())
        wrong |= found
        counts += happened
        for seed, error in found.items():
            print(f"\r{seed}: {error}", flush=True)
        done = min(at + PIECE, len(seeds))
        print(f"\r{done:,} of {len(seeds):,} schedules, {len(wrong)} wrong, {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)  # fmt: skip
    print(file=sys.stderr)
    print(", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))
    if wrong:
        print(f"./dev simulate --seed {min(wrong)}   tells the first of these step by step")
    return bool(wrong)


def story(project: LoadedProject, seed: int) -> int:
    try:
        Schedule(seed, project, wiring.silence(), print).run()
    except Exception as error:  # noqa: BLE001 - whatever ends a story is its end
        print(f"WRONG: {type(error).__name__}: {error}")
        return 1
    print("nothing went wrong")
    return 0


def mutants(project: LoadedProject, seeds: range, names: list[str]) -> int:
    unknown = set(names) - {mutant.__name__ for mutant in MUTANTS}
    if unknown:
        print(f"no mutant {', '.join(sorted(unknown))}; there are: {', '.join(m.__name__ for m in MUTANTS)}")
        return 2
    missed = 0
    print(f"wrong schedules of {len(seeds)}:")
    for mutant in MUTANTS:
        if names and mutant.__name__ not in names:
            continue
        with mutant():
            wrong, _ = simulate(seeds, project, wiring.silence())
        print(f"{len(wrong):6} {100 * len(wrong) / len(seeds):5.1f} %  {mutant.__name__}", flush=True)
        missed += not wrong
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
