"""What the store answers is what bronze says; where somebody damaged it, it is found, named and mended."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from headrace.app import App
from headrace.errors import NotFoundError, NotReadyError
from headrace.flow import reconcile
from headrace.flow.reconcile import Found
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.flow import shop
from tests.kit import Opened, ProjectFolder, Quiet

SETTINGS = {"stream.range": 37}


class Shop:
    """A project with a batch, and a stream beside where a test wants one."""

    def __init__(self, project: ProjectFolder) -> None:
        self.project = project
        self.names = itertools.count()

    @property
    def app(self) -> App:
        return Opened(self.project.folder, SETTINGS)

    def stream(self, name: str, text: str) -> Worker:
        """What lands is counted by a worker, which stays registered."""
        self.project.land(name, text)
        app = self.app
        worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), f"w{next(self.names)}")
        app.batch(Quiet()).land(Run(""))
        worker.follow()
        while worker.step():
            pass
        return worker

    def reconcile(self, *names: str, **options: Any) -> Found:
        return self.app.reconcile(Quiet(), names, **options)

    def table(self, query: str) -> str:
        return self.app.project.queries[query].tables[0].name

    def damage(self, sql: str) -> None:
        connection = apsw.Connection(str(self.project.folder / self.app.settings["store.path"]))
        connection.execute(sql)
        assert connection.total_changes() > 0, sql
        connection.close()


@pytest.fixture
def built(run_once: Callable[[Path], ProjectFolder], tmp_path: Path) -> Shop:
    return Shop(run_once(tmp_path / "shop"))


def _counts(found: Found) -> dict[tuple[str, bool], tuple[int, int, int, int]]:
    """What drifted: differing, missing, surplus, repaired."""
    return {(d.table, d.speed): (d.differing, d.missing, d.surplus, d.repaired) for d in found.tables if d.drifted}


@pytest.mark.slow
def test_a_store_that_nobody_damaged_is_found_so_in_every_state(built: Shop) -> None:
    found = built.reconcile()
    assert (found.drifted, found.mended_by) == (0, None)
    assert sum(d.keys for d in found.tables) > 100
    for name, text in shop.waves()[1].items():  # among them another version of a file, and a reference
        built.project.land(name, text)
    built.app.batch(Quiet()).land(Run(""))
    assert built.reconcile().drifted == 0, "what has landed since is no drift"
    built.app.run(Quiet())
    assert built.reconcile().drifted == 0
    built.stream("sales_8.csv", shop.sales_file(random.Random(7), 300, 90))
    found = built.reconcile()
    assert found.drifted == 0
    assert sum(d.keys for d in found.tables if d.speed) > 20, "the stream's rows are looked at, too"
    built.app.run(Quiet())
    assert built.reconcile().drifted == 0, "a run beside the stream"
    built.app.rollback()
    assert built.reconcile().drifted == 0, "rolled back"


def test_damaged_batch_rows_are_found_named_and_mended(built: Shop) -> None:
    wanted = shop.answers(built.app)
    sales, receipts, total = built.table("sales"), built.table("receipts"), built.table("total")
    part = built.app.project.queries["sales"].tables[0].parts[0].name
    built.damage(f"UPDATE \"{sales}\" SET \"{part}\" = '1.00' WHERE shop = 'a' AND day = '2024-01-02'")
    built.damage(f"DELETE FROM \"{sales}\" WHERE shop = 'b' AND day = '2024-01-03'")
    columns = ", ".join(f'"{c}"' for c in built.app.project.queries["sales"].tables[0].columns[1:])
    ghost = f"SELECT 'ghost', {columns}, _slot, _gen FROM \"{sales}\" WHERE shop = 'a' AND day = '2024-01-01'"
    built.damage(f'INSERT INTO "{sales}" (shop, {columns}, _slot, _gen) {ghost}')
    built.damage(f"DELETE FROM \"{receipts}\" WHERE shop = 'c'")
    built.damage(f'UPDATE "{total}" SET _records = _records + 1')
    found = built.reconcile(repair=False)
    kinds = _counts(found)
    assert kinds[sales, False] == (1, 1, 1, 0)
    assert kinds[receipts, False][1] > 5
    assert kinds[total, False] == (1, 0, 0, 0)
    assert len(kinds) == 3
    shown = next(d for d in found.tables if d.table == sales).shown
    assert {(key["kind"], key["shop"]) for key in shown} == {("differing", "a"), ("missing", "b"), ("surplus", "ghost")}
    found = built.reconcile()
    assert found.mended_by == shop.pointer(built.app).generation
    assert [d.repaired for d in found.tables if d.drifted] == [d.drifted for d in found.tables if d.drifted]
    assert shop.answers(built.app) == wanted
    again = built.reconcile()
    assert (again.drifted, again.mended_by) == (0, None)
    assert shop.serving_rows(built.app)[sales] == [
        row for row in shop.serving_rows(built.app)[sales] if row[0] != "ghost"
    ]


def test_what_the_lake_has_wrong_is_mended_there_too(built: Shop) -> None:
    """A gold table and the store agree, and both are wrong."""
    app = built.app
    app.gold.define()
    before = app.lake.snapshot("gold/daily")
    assert before is not None
    path = app.lake.new_file("gold/daily")
    app.engine.write(f"SELECT * REPLACE (_records + 1 AS _records) FROM {app.engine.scan(before.files, [])}", path)
    Path(before.files[0]).write_bytes(Path(path).read_bytes())
    built.damage(f'UPDATE "{built.table("sales")}" SET _records = _records + 1')
    assert built.reconcile("daily").drifted > 10
    assert built.reconcile().drifted == 0
    built.project.land("sales_9.csv", shop.sales_file(random.Random(7), 400, 50))
    built.app.run(Quiet())
    assert built.reconcile().drifted == 0


@pytest.mark.slow
def test_damaged_speed_rows_are_mended_by_a_new_epoch(built: Shop) -> None:
    worker = built.stream("sales_8.csv", shop.sales_file(random.Random(7), 300, 90))
    wanted = shop.answers(built.app)
    table = built.table("all_sales")
    first = "(SELECT _start FROM \"{0}_speed\" WHERE shop = '{1}' LIMIT 1)"
    built.damage(
        f"UPDATE \"{table}_speed\" SET _records = _records + 5 WHERE shop = 'a' AND _start = {first.format(table, 'a')}"
    )
    built.damage(f"DELETE FROM \"{table}_speed\" WHERE shop = 'b' AND _start = {first.format(table, 'b')}")
    built.damage(
        f"UPDATE \"{table}_speed\" SET shop = 'ghost' WHERE shop = 'c' AND _start = {first.format(table, 'c')}"
    )
    assert _counts(built.reconcile(repair=False)) == {(table, True): (1, 2, 1, 0)}
    with shop.following(worker):
        found = built.reconcile()
    assert _counts(found) == {(table, True): (1, 2, 1, 4)}
    assert shop.answers(built.app) == {**wanted, **_not_streamed(built.app)}
    built.project.land("sales_9.csv", shop.sales_file(random.Random(7), 400, 50))
    built.app.batch(Quiet()).land(Run(""))
    worker.follow()
    assert shop.pointer(built.app).workers == (worker.name,)
    while worker.step():
        pass
    assert built.reconcile().drifted == 0, "the worker follows"


def _not_streamed(app: App) -> dict[str, Any]:
    """The answers that only a run brings forward."""
    streamed = {name for name, mart in app.project.marts.items() if mart.is_streamed}
    found = shop.answers(app)
    return {q: a for q, a in found.items() if app.project.queries[q.split(" ")[0]].origin not in streamed}


@pytest.mark.slow
def test_a_row_that_the_stream_has_written_since_is_no_drift(built: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = built.stream("sales_8.csv", shop.sales_file(random.Random(7), 300, 20))
    app = built.app
    walk = app.store.walk_speed

    def later(*given: Any) -> Iterator[Any]:
        # The comparison has read how far the stream is; now it goes on.
        built.project.land("sales_9.csv", shop.sales_file(random.Random(7), 400, 60))
        built.app.batch(Quiet()).land(Run(""))
        while worker.step():
            pass
        return walk(*given)

    monkeypatch.setattr(app.store, "walk_speed", later)
    assert app.reconcile(Quiet()).drifted == 0
    assert built.reconcile().drifted == 0


def test_a_sample_looks_up_some_keys(built: Shop) -> None:
    assert {d.keys for d in built.reconcile(sample=3).tables if not d.speed} == {1, 3}
    built.damage(f'UPDATE "{built.table("sales")}" SET _records = _records + 1')
    found = built.reconcile("daily", sample=4, repair=False)
    assert _counts(found)[built.table("sales"), False] == (4, 0, 0, 0)


def test_a_batch_of_the_walk_may_end_between_the_slots_of_a_key(built: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    built.project.land("sales_9.csv", shop.sales_file(random.Random(7), 400, 90))
    built.app.run(Quiet())
    monkeypatch.setattr("headrace.adapters.sqlite_store.BATCH", 3)
    assert built.reconcile().drifted == 0


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    project = shop.make(tmp_path)
    with pytest.raises(NotReadyError, match="HR0402"):
        project.app.reconcile(Quiet())
    for name, text in shop.waves()[0].items():
        project.land(name, text)
    project.run()
    with pytest.raises(NotFoundError, match="HR0501"):
        project.app.reconcile(Quiet(), ["dayly"])
    mart = project.folder / "marts/daily.sql"
    mart.write_text(mart.read_text().replace("min(amount) AS least", "min(amount + 1) AS least"))
    with pytest.raises(NotReadyError, match="HR0403"):
        project.app.reconcile(Quiet())


def test_a_row_that_says_it_is_newer_than_any_run_is_not_called_mended(built: Shop) -> None:
    """No run can write over it, and one day it would answer."""
    built.damage(f'UPDATE "{built.table("total")}" SET _gen = 99')
    ended = built.project.command("reconcile", "daily")
    assert ended.returncode == 1
    assert "1 keys were written, but" in ended.stdout
    last = reconcile.last(built.app.store)
    assert last is not None
    assert [t["repaired"] for t in last["tables"] if t["table"] == built.table("total") and not t["speed"]] == [0]


def test_status_remembers_the_last_one(built: Shop) -> None:
    assert built.app.status()["reconcile"] is None
    built.damage(f'UPDATE "{built.table("total")}" SET _records = _records + 1')
    built.reconcile("daily")
    told = built.app.status()["reconcile"]
    assert told["drifted"] == 1
    assert 0 < told["ratio"] < 1
    last = reconcile.last(built.app.store)
    assert last is not None
    assert {t["table"]: t["ratio"] for t in last["tables"]}[built.table("total")] == 1
    built.reconcile("daily")
    assert built.app.status()["reconcile"]["drifted"] == 0


@pytest.mark.slow
def test_the_command_line_exits_with_1_where_something_differed(built: Shop) -> None:
    built.damage(f'UPDATE "{built.table("total")}" SET _records = _records + 1')
    ended = built.project.command("reconcile", "daily", "--dry-run", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["drifted"]) == (1, 1)
    ended = built.project.command("reconcile", "daily")
    assert ended.returncode == 1
    assert "differing" in ended.stdout
    assert "its only row" in ended.stdout
    ended = built.project.command("reconcile")
    assert ended.returncode == 0
    assert "answers what bronze says" in ended.stdout
