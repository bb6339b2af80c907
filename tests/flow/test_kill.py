"""Killed with SIGKILL at any moment, a project still answers as before, and the next run ends with the same rows."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from tests.flow import shop
from tests.flow.killing import calls_of, choose, run_and_die
from tests.kit import Opened, ProjectFolder, Quiet

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "tests.flow.killing",
        "headrace.adapters.delta_lake",
        "headrace.adapters.duckdb_engine",
        "headrace.adapters.sqlite_store",
    ]
)


class Stage:
    """A project before a run, and what it answers and holds before and after that run if nobody kills it."""

    def __init__(self, folder: Path, landed: int) -> None:
        self.folder = folder / "before"
        project = shop.make(self.folder)
        for wave in shop.waves()[:landed]:
            self._land(project, wave)
            project.run()
        self.earlier = shop.answers(project.app)
        for wave in shop.waves()[landed : landed + 1]:
            self._land(project, wave)
        reference = self.copy(folder / "reference")
        self.moments = calls_of(reference)
        self.later = shop.answers(Opened(reference))
        self.everything = shop.everything(Opened(reference))
        assert self.earlier != self.later

    @staticmethod
    def _land(project: ProjectFolder, wave: dict[str, str]) -> None:
        for name, text in wave.items():
            project.land(name, text)

    def copy(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder)
        return folder


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[Stage]:
    return [Stage(tmp_path_factory.mktemp("first"), 0), Stage(tmp_path_factory.mktemp("second"), 1)]


def judge(stage: Stage, folder: Path, story: str) -> None:
    """Answers are those of one generation; a clean run then ends with what an undisturbed one ends with."""
    app = Opened(folder)
    published = shop.answers(app) == stage.later
    if not published:
        assert not shop.differences(shop.answers(app), stage.earlier), story
    connection = apsw.Connection(str(folder / app.settings["store.path"]))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], story
    connection.close()
    run = app.run(Quiet())
    assert published == (run.generation is None), f"{story}: what was published is not done again"
    assert not shop.differences(shop.everything(Opened(folder)), stage.everything), story
    assert Opened(folder).run(Quiet()).generation is None, f"{story}: then there is nothing to do"


def kill_at(stage: Stage, place: Path, moments: list[int]) -> None:
    for n, moment in enumerate(moments):
        story = f"HEADRACE_TEST_SEED={SEED}: killed at moment {moment}, {stage.moments[moment]}"
        folder = stage.copy(place / str(n))
        process = PROCESSES.Process(target=run_and_die, args=(folder, moment))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, story
        judge(stage, folder, story)
        shutil.rmtree(folder)


def test_a_run_has_every_kind_of_moment(stages: list[Stage]) -> None:
    """What is killed below is what a run does: each port, and each write of it."""
    kinds = {moment for stage in stages for moment in stage.moments}
    for call in (
        "lake.commit",
        "store.put",
        "store.create",
        "store.compare_and_set",
        "store.set_control",
        "engine.write",
        "engine.keep",
        "inbox.read",
    ):
        assert {f"{call} before", f"{call} after"} <= kinds
    assert {"store.put middle", "engine.write middle"} <= kinds
    assert min(len(stage.moments) for stage in stages) > 300


@pytest.mark.parametrize("number", [0, 1], ids=["first run", "incremental run"])
def test_killed_at_a_few_moments(number: int, stages: list[Stage], tmp_path: Path) -> None:
    stage = stages[number]
    rnd = random.Random(f"{SEED} few {number}")
    writes = [
        i
        for i, moment in enumerate(stage.moments)
        if moment.startswith(("lake.commit", "store.")) and "control before" not in moment
    ]
    kill_at(stage, tmp_path, rnd.sample(writes, 3))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_about_the_move_of_the_pointer(when: str, stages: list[Stage], tmp_path: Path) -> None:
    stage = stages[1]
    kill_at(
        stage, tmp_path, [max(i for i, moment in enumerate(stage.moments) if moment == f"store.compare_and_set {when}")]
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [0, 1], ids=["first run", "incremental run"])
def test_killed_at_fifty_moments_over_all_steps(number: int, stages: list[Stage], tmp_path: Path) -> None:
    stage = stages[number]
    kill_at(stage, tmp_path, choose(stage.moments, 15 if number == 0 else 35, random.Random(f"{SEED} fifty {number}")))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_again_and_again(stages: list[Stage], tmp_path: Path) -> None:
    """No clean run in between: each run finds what the killed ones before it left."""
    stage, rnd = stages[1], random.Random(f"{SEED} again")
    folder = stage.copy(tmp_path / "project")
    for n in range(8):
        process = PROCESSES.Process(
            target=run_and_die, args=(folder, rnd.choice([rnd.randrange(60, 400), rnd.randrange(250, 400)]))
        )
        process.start()
        process.join(60)
        assert process.exitcode in (-signal.SIGKILL, 99)
        found = shop.answers(Opened(folder))
        assert found in (stage.earlier, stage.later), f"HEADRACE_TEST_SEED={SEED}: {n}"
    judge(stage, folder, f"HEADRACE_TEST_SEED={SEED}: again and again")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_line_killed_by_the_clock(stages: list[Stage], tmp_path: Path) -> None:
    stage, rnd = stages[1], random.Random(f"{SEED} clock")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "headrace", "--project", str(folder), "run", "--quiet"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    began = time.monotonic()
    whole = start(stage.copy(tmp_path / "whole"))
    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, said
    seconds = time.monotonic() - began
    died = 0
    for n in range(10):
        moment = rnd.uniform(0.3, 1.0) * seconds
        folder = stage.copy(tmp_path / str(n))
        process = start(folder)
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            died += 1
        judge(stage, folder, f"HEADRACE_TEST_SEED={SEED}: {moment:.3f} s of {seconds:.3f} s")
        shutil.rmtree(folder)
    assert died >= 3, "too slow, or too fast, to be killed"
