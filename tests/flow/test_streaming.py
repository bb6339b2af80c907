"""The stream of the seam, simulated by the thousand; and that each of its rules is needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from headrace import wiring
from headrace.declare.folder import load
from headrace.model.project import LoadedProject
from headrace.testing.streaming import Schedule, load_simulated, simulate
from tests.flow.mutants import MUTANTS, SELDOM

FIRST = int(os.environ.get("HEADRACE_TEST_SEED", "0"))
"""First seed; a failure names its own, and `./dev simulate --seed` tells its story."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LoadedProject:
    return load_simulated(tmp_path_factory.mktemp("streaming"), lambda folder: load(folder, wiring.binder()))


def judge(seeds: range, project: LoadedProject) -> Counter[str]:
    wrong, counts = simulate(seeds, project, wiring.silence())
    assert not wrong, f"{len(wrong)} of {len(seeds)} wrong; ./dev simulate --seed {min(wrong)}: {wrong[min(wrong)]}"
    return counts


def test_no_schedule_gives_a_wrong_answer(project: LoadedProject) -> None:
    counts = judge(range(FIRST, FIRST + 1000), project)
    # A simulation in which nothing happens proves nothing.
    for happened in ("run", "run HR0404", "rolled back", "runs killed", "zombie runs", "workers killed", "workers stopped",
                     "zombie workers", "worker waits", "caught up", "epochs followed", "pages"):  # fmt: skip
        assert counts[happened] >= 100, (happened, counts)
    assert counts["streamed answers"] > 10_000
    assert counts["reader HR0408"] < counts["answers"] / 50, "readers come through"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("block", range(3))
def test_no_schedule_of_many_gives_a_wrong_answer(block: int, project: LoadedProject) -> None:
    judge(range(FIRST + 1000 + block * 3000, FIRST + 1000 + (block + 1) * 3000), project)


def test_a_seed_always_tells_the_same_story(project: LoadedProject) -> None:
    def story() -> list[str]:
        told: list[str] = []
        Schedule(3, project, wiring.silence(), told.append).run()
        return [line for line in told if "published_at" not in line]

    assert story() == story()
    assert len(story()) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.__name__) for m in MUTANTS])
def test_a_broken_rule_is_caught(mutant: Callable[[], Any], project: LoadedProject) -> None:
    most, first = 3000, SELDOM.get(mutant, 0)
    with mutant():
        for seed in range(first, first + most):
            if simulate([seed], project, wiring.silence())[0]:
                return
    pytest.fail(f"{most} schedules, and nobody noticed: {mutant.__name__}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_how_often_each_broken_rule_is_caught(project: LoadedProject, capsys: pytest.CaptureFixture[str]) -> None:
    with nullcontext():
        judge(range(100), project)
    rates = {}
    for mutant in MUTANTS:
        with mutant():
            rates[mutant.__name__] = len(simulate(range(100), project, wiring.silence())[0])
    with capsys.disabled():
        print("\nwrong schedules of 100:", *(f"{count:4} {name}" for name, count in rates.items()), sep="\n")
    assert sum(count > 0 for count in rates.values()) > len(rates) * 3 / 4
