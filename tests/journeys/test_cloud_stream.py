"""The cloud project's usage as a stream: files that each span the whole period, in any order, embedded and through Kafka,
come to the goldens of its specification."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from headrace.app import App
from headrace.flow.check import report
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.data import landing as landing_of
from tests.flow.test_properties import tables
from tests.journeys import test_cloud as goldens
from tests.journeys.cloud_tables import PROJECT, opened
from tests.kit import Opened, Quiet
from tests.oracle import cloud as oracle
from tools.services import Broker

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
REFERENCES = ("customers_orgs.csv", "users.csv", "resources.csv")
ROWS: tuple[Callable[[App, Path, list[str]], None], ...] = (
    goldens.test_every_row_of_usage_as_answered, goldens.test_every_row_of_revenue_as_answered,
    goldens.test_every_row_of_tickets_as_answered, goldens.test_every_row_of_genai_as_answered,
)  # fmt: skip
FIGURES: tuple[Callable[[App], None], ...] = (
    goldens.test_q1_usage, goldens.test_q2_top_services_of_14_days, goldens.test_q3_critical_tickets_of_30_days,
    goldens.test_q4_revenue, goldens.test_q5_genai, goldens.test_totals, goldens.test_cost_by_service,
    goldens.test_top_organisations, goldens.test_revenue_totals,
)  # fmt: skip


@pytest.fixture(scope="module")
def landing() -> Path:
    return landing_of("cloud")


@pytest.fixture(scope="module")
def ran(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> App:
    """The project that never streams."""
    app = opened(tmp_path_factory.mktemp("ran"), landing)
    app.run(Quiet())
    return app


def make(folder: Path, landing: Path, settings: str, declared: Callable[[str], str]) -> None:
    """The project, where nothing but its references has been landed."""
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".headrace"))
    file = folder / "project.py"
    text = file.read_text()
    file.write_text(declared(text))
    assert file.read_text() != text
    (folder / "headrace.toml").write_text("[inbox]\nquiet = 0.0\n[stream]\nrange = 5000\n" + settings)
    (folder / "landing/usage_events_stream").mkdir(parents=True)
    for name in REFERENCES:
        shutil.copy(landing / name, folder / "landing")
    Opened(folder).run(Quiet())


def arrivals(landing: Path, most: int) -> list[list[Path]]:
    """The files of all facts, a few at a time, in any order."""
    rnd = random.Random(SEED)
    files = [f.relative_to(landing) for f in sorted(landing.rglob("*")) if f.is_file() and f.name not in REFERENCES]
    assert len(files) == 120 + 4
    rnd.shuffle(files)
    groups = []
    while files:
        count = rnd.randint(most // 2, most)
        groups.append(files[:count])
        files = files[count:]
    return groups


def stream(folder: Path, landing: Path, most: int) -> App:
    """Streams all of it, by several workers one after the other, with a run in between."""
    print(f"HEADRACE_TEST_SEED={SEED}")
    groups = arrivals(landing, most)
    for number, files in enumerate(groups):
        for file in files:
            shutil.copy(landing / file, folder / "landing" / file)
        app = Opened(folder)
        worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), f"w{number}")
        worker.run(partial(app.batch(Quiet()).land, Run("")), until_caught_up=True, stopped=lambda: False)
        if number == len(groups) // 2:
            Opened(folder).run(Quiet())
    return Opened(folder)


def judge(app: App, ran: App, landing: Path) -> None:
    wanted = tables(ran)
    assert len(wanted) > 10
    for name, rows in tables(app).items():
        assert rows == wanted[name], (SEED, name)
    orgs = [org for (org,) in oracle.connect(landing).execute("select org_id from orgs order by 1").fetchall()]
    for rows_of in ROWS:
        rows_of(app, landing, orgs)
    for figures in FIGURES:
        figures(app)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_files_in_any_order_stream_to_the_goldens_and_none_is_late(landing: Path, ran: App, tmp_path: Path) -> None:
    """Usage declares a lateness that nearly every record misses: that says what is final, and drops nothing."""

    def declared(text: str) -> str:
        return text.replace('event_time="happened_at",', 'event_time="happened_at", lateness="1 hour",')

    make(tmp_path, landing, "", declared)
    app = stream(tmp_path, landing, 16)
    judge(app, ran, landing)
    assert app.reader.answer("summary", {}).streamed
    app.run(Quiet())
    judge(Opened(tmp_path), ran, landing)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_topic_streams_to_the_goldens(landing: Path, ran: App, tmp_path: Path, kafka: Broker) -> None:
    tag = f"cloud_stream.{SEED}.{time.time_ns()}"

    def declared(text: str) -> str:
        return re.sub(
            r'(project\.source\(\s*"(\w+)".*?event_time="\w+")', rf'\1, topic="\2.{tag}"', text, flags=re.DOTALL
        )

    make(tmp_path, landing, f'[kafka]\nbrokers = "{kafka.address}"\npartitions = 3\n', declared)
    app = stream(tmp_path, landing, 50)
    judge(app, ran, landing)
    app.run(Quiet())
    judge(Opened(tmp_path), ran, landing)


def test_what_rests_on_the_whole_history_is_batch_only_unless_its_yardsticks_are_pinned(tmp_path: Path) -> None:
    shutil.copytree(PROJECT, tmp_path / "cloud", ignore=shutil.ignore_patterns("__pycache__", ".headrace"))
    told = {mart["name"]: mart for mart in report(Opened(tmp_path / "cloud").project)["marts"]}
    assert told["cost_spikes"]["path"] == "batch only"
    assert "needs all records at once" in told["cost_spikes"]["why"]
    file = tmp_path / "cloud/project.py"
    pins = "".join(f'project.pin("{name}")\n' for name in ("unit_rates", "service_rates", "overall_costs"))
    file.write_text(file.read_text() + pins)
    told = {mart["name"]: mart for mart in report(Opened(tmp_path / "cloud").project)["marts"]}
    assert told["cost_spikes"]["path"] == "batch and speed"
