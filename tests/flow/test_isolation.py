"""A record that kills whoever counts it is isolated after three tries; all others are counted (F36)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.errors import OutsideError
from headrace.flow.isolation import SIZES, Tries
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.kit import ProjectFolder, Quiet

DECLARATIONS = """
project = Project("till")
sales = project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", horizon=50,
    columns="sale_id VARCHAR, sold_at TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "negative amount")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/daily.sql": "SELECT revenue, receipts FROM daily WHERE shop = $shop",
}
POISON = 777
KILLER = """
import os, sys
from pathlib import Path
from headrace.app import App
from headrace.flow.stream import Worker
from tests.kit import Quiet

true = Worker.judge

def judge(self, lane, source, relation, first, end):
    if self.engine.rows(f"SELECT count(*) FROM {relation} WHERE _offset >= {first} AND _offset < {end} AND sale_id = '777'")[0][0]:
        if (lane.name, int(self.engine.rows(f"SELECT _offset FROM {relation} WHERE sale_id = '777'")[0][0])) not in {
            (name, offset) for name, spans in self.voids.items() for offset, _ in spans
        }:
            os._exit(137)
    true(self, lane, source, relation, first, end)

Worker.judge = judge
App(Path(sys.argv[1]), {"stream.range": 400}).stream(Quiet(), until_caught_up=True, stopped=lambda: False)
"""


def _file(first: int, end: int) -> str:
    return "sale_id,sold_at,shop,amount\n" + "".join(
        f"{i},2026-01-01 00:00:00,{'ab'[i % 2]},{i % 10}\n" for i in range(first, end)
    )


@pytest.fixture
def till(tmp_path: Path) -> ProjectFolder:
    project = ProjectFolder(tmp_path, DECLARATIONS, FILES)
    project.land("sales_1.csv", _file(0, 100))
    App(project.folder).run(Quiet())
    return project


class _Away:
    """A store that is away from the first row on."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._is_away = False

    def __getattr__(self, name: str) -> Any:
        if self._is_away:
            raise OutsideError("HR0407", "the store is away")
        return getattr(self._store, name)

    def put_speed(self, *_: Any) -> int:
        self._is_away = True
        raise OutsideError("HR0407", "the store is away")


def _start(till: ProjectFolder) -> int:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(root / "src")))}
    command = [sys.executable, "-c", KILLER, str(till.folder)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def _answers(app: App) -> list[Any]:
    reader = type(app.reader)(app.project, app.store)
    return [reader.answer("daily", {"shop": s}).rows for s in "ab"]


def _expected(end: int) -> list[Any]:
    found = []
    for shop in (0, 1):
        amounts = [i % 10 for i in range(end) if i % 2 == shop and i != POISON]
        found.append([(f"{sum(amounts)}.00", len(amounts))])
    return found


@pytest.mark.slow
def test_a_record_that_kills_is_isolated_and_the_rest_is_counted_by_both_paths(till: ProjectFolder) -> None:
    till.land("sales_2.csv", _file(100, 1500))
    codes = [_start(till)]
    while codes[-1] and len(codes) < 10:
        codes.append(_start(till))
    assert codes == [137] * 3 + [0], "of many, of a few, alone; then without it"
    app = App(till.folder, {"stream.range": 400})
    assert _answers(app) == _expected(1500)
    assert app.status()["isolated"] == [{"lane": "sales", "offset": POISON}]
    app.run(Quiet(), take_over=True)
    assert _answers(App(till.folder)) == _expected(1500), "the batch leaves it out as well"
    till.land("sales_3.csv", _file(1500, 1600))
    assert _start(till) == 0
    assert _answers(App(till.folder)) == _expected(1600)
    assert App(till.folder).reconcile(Quiet(), repair=False).drifted == 0


def test_a_store_that_is_away_isolates_nothing(till: ProjectFolder) -> None:
    """A worker that fails, and says so, was not killed by a record."""
    till.land("sales_2.csv", _file(100, 300))
    app = App(till.folder)
    app.batch(Quiet()).land(Run(""))
    for number in range(6):
        worker = Worker(app.project, app.log, app.lake, app.engine, _Away(app.store), Quiet(), f"w{number}")  # type: ignore[arg-type]
        with pytest.raises(OutsideError, match="away"):
            worker.run(lambda: None, until_caught_up=True, stopped=lambda: False)
    assert app.status()["isolated"] == []
    assert _start(till) == 0
    assert _answers(App(till.folder)) == _expected(300)


def test_idle_workers_that_are_killed_isolate_nothing(till: ProjectFolder) -> None:
    store = App(till.folder).store
    new = Tries(store, "new")
    assert not new.begin(0)
    assert new.size(0) == SIZES[0], "nothing was ever tried here"
    for _ in range(10):
        tries = Tries(store, "tries")
        assert not tries.begin(40), "nobody has noted that it counts there"
    tries.note(40)
    again = Tries(store, "tries")
    assert not again.begin(40)
    assert again.size(40) == SIZES[1]
    again.note(40)
    again.note(200)  # records before that were counted
    third = Tries(store, "tries")
    assert not third.begin(200)
    assert (third.died, third.size(200)) == (2, 1)
