"""Records that are put back, and files that are replaced, while a stream counts: right in both paths at every moment."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from headrace import wiring
from headrace.app import App
from headrace.errors import ContractError
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.flow import shop
from tests.kit import Opened, ProjectFolder, Quiet

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "too small")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/quality.sql": "SELECT kind, reason, count(*) AS records FROM verdicts GROUP BY ALL",
    "marts/spine.sql": "SELECT shop, count(*) AS records, count(*) FILTER (quarantined) AS bad FROM sales_judged GROUP BY ALL",
    "queries/daily.sql": "SELECT revenue, receipts FROM daily WHERE shop = $shop",
    "queries/quality.sql": "SELECT kind, reason, records FROM quality ORDER BY kind, reason",
    "queries/spine.sql": "SELECT records, bad FROM spine WHERE shop = $shop",
}


def _file(first: int, *amounts: int) -> str:
    rows = "".join(f"{first + i},2024-01-01T00:00:00Z,a,{amount}\n" for i, amount in enumerate(amounts))
    return "sale_id,sold_at,shop,amount\n" + rows


class Both:
    """Two projects that get the same files and replays: a worker counts in one, the other only runs."""

    def __init__(self, folder: Path) -> None:
        self.streamed = ProjectFolder(_made(folder / "streamed"), DECLARATIONS, FILES)
        self.batch = ProjectFolder(_made(folder / "batch"), DECLARATIONS, FILES)
        self.land("sales_1.csv", _file(0, 5, -1, 7, -2))
        self.batch.run()
        self.app.run(Quiet())
        app = self.app
        self.worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")
        self.stream()

    @property
    def app(self) -> App:
        return Opened(self.streamed.folder, {"stream.range": 5, "inbox.quiet": 0.0})

    def land(self, name: str, text: str) -> None:
        self.streamed.land(name, text)
        self.batch.land(name, text)

    def stream(self) -> None:
        self.app.batch(Quiet()).land(Run(""))
        self.worker.follow()
        while self.worker.step():
            pass

    def run(self) -> Run:
        with shop.following(self.worker):
            return self.app.run(Quiet())

    def replay(self, **amounts: int) -> tuple[int, list[str]]:
        lines = [
            json.dumps({"origin": f"sales:{n[1:]}", "record": {"sale_id": n[1:], "sold_at": "2024-01-01T00:00:00Z", "shop": "a", "amount": amount}})
            for n, amount in amounts.items()
        ]  # fmt: skip
        found = self.app.replay("sales", "\n".join(lines))
        assert self.batch.app.replay("sales", "\n".join(lines)) == found
        self.batch.run()
        return found

    def answers(self, app: App) -> dict[str, Any]:
        reader = type(app.reader)(app.project, app.store)
        asked = {"daily": {"shop": "a"}, "quality": {}, "spine": {"shop": "a"}}
        return {name: reader.answer(name, given).rows for name, given in asked.items()}

    def judge(self) -> dict[str, Any]:
        self.batch.run()
        found = self.answers(self.app)
        assert found == self.answers(self.batch.app)
        assert self.app.reconcile(Quiet(), repair=False).drifted == 0
        return found


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def _kinds(found: dict[str, Any]) -> dict[str, int]:
    return {kind: records for kind, _, records in found["quality"]}


@pytest.mark.slow
def test_a_replayed_record_is_counted_at_once_and_once_its_origin_until_the_next_run(both: Both) -> None:
    assert both.judge()["daily"] == [("12.00", 2)]
    assert both.replay(o1=10, o3=20) == (2, [])
    before = both.answers(both.app)
    assert _kinds(before) == {"clean": 2, "landed": 4, "quarantined": 2}, "it has landed, and is not counted yet"
    both.stream()
    streamed = both.answers(both.app)
    assert streamed["daily"] == both.answers(both.batch.app)["daily"] == [("42.00", 4)]
    assert _kinds(streamed) == {"clean": 4, "landed": 6, "quarantined": 2}, "the origins are void for the next run"
    assert streamed["spine"] == [(6, 2)]
    assert both.app.reconcile(Quiet(), repair=False).drifted == 0
    both.run()
    found = both.judge()
    assert (_kinds(found), found["spine"], found["daily"]) == ({"clean": 4, "landed": 4}, [(4, 0)], [("42.00", 4)])
    both.stream()
    both.judge()
    assert both.run().generation is None, "one run is enough"
    assert both.replay(o1=10, o3=20) == (0, ["sales:1", "sales:3"])
    both.stream()
    both.judge()


@pytest.mark.slow
def test_what_only_the_stream_has_judged_is_replayed_after_a_run(both: Both) -> None:
    both.land("sales_2.csv", _file(10, -5, 3, -6))
    both.stream()
    both.judge()
    with pytest.raises(ContractError, match="HR0305"):
        both.app.replay("sales", '{"origin": "sales:4", "record": {}}')
    both.run()
    both.judge()
    both.replay(o4=4, o6=6)  # of a range that the stream has counted
    both.stream()
    assert both.answers(both.app)["daily"] == both.answers(both.batch.app)["daily"]
    both.run()
    found = both.judge()
    assert found["daily"] == [("25.00", 5)]
    assert _kinds(found) == {"clean": 5, "landed": 7, "quarantined": 2}
    both.land("sales_3.csv", _file(20, 1, 1, 1, -1))
    both.stream()
    both.judge()
    both.run()
    both.judge()


def test_a_record_that_is_still_wrong_is_quarantined_by_the_stream_and_replayed_again(both: Both) -> None:
    both.replay(o1=-8)
    both.stream()
    assert both.answers(both.app)["daily"] == [("12.00", 2)]
    both.run()
    both.judge()
    both.replay(o4=8)
    both.stream()
    both.run()
    assert both.judge()["daily"] == [("20.00", 3)]


def test_a_file_that_is_replaced_beside_a_stream_is_neither_lost_nor_doubled(both: Both) -> None:
    """The stream takes the new version's records for duplicates of the old one's, until an epoch opens in which those
    are void; so the run that leaves the old ones out has to open it."""
    both.land("sales_1.csv", _file(0, 6, 1, 7))
    both.stream()
    assert both.answers(both.app)["daily"] == [("13.00", 3)], "the old version, and what was wrong in it"
    both.run()
    assert both.judge()["daily"] == [("14.00", 3)]
    both.stream()
    both.judge()
    both.land("sales_2.csv", _file(2, 7, 1))
    both.stream()
    assert both.judge()["daily"] == [("15.00", 4)]
    assert both.run().generation is None or both.judge()


def test_a_replay_lands_in_turn_with_the_stream(both: Both) -> None:
    """Both append to the lane: of two at once one would fail, and that may be the stream."""
    done = threading.Event()

    def replay() -> None:
        both.app.replay("sales", '{"origin": "sales:1", "record": {"sale_id": "1"}}')
        done.set()

    with wiring.land_lock(both.streamed.folder):
        thread = threading.Thread(target=replay)
        thread.start()
        assert not done.wait(1)
    thread.join(30)
    assert done.is_set()
