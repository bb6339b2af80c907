"""Windows that are not kept any more: what answers show and what the store holds, whatever is run, streamed, killed, rolled
back or declared anew in between. What must be answered is worked out from the raw records, in plain Python."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from headrace.app import App
from headrace.errors import ConflictError, OutsideError
from headrace.flow import answer
from headrace.flow import run as run_module
from headrace.flow.answer import View
from headrace.flow.control import generation_of, reached
from headrace.flow.retention import floors_of
from headrace.flow.run import Batch
from headrace.flow.stream import Worker
from headrace.model.retention import EPOCH, Floor, spelled
from headrace.model.run import Run
from headrace.model.serving import ServingTable
from headrace.seam.epoch import progress_name
from headrace.seam.floor import floor_of, least, risen, uncovered
from headrace.sql.windows import TimeWindow
from tests.flow import shop
from tests.kit import Opened, ProjectFolder, Quiet

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", lateness="1 day",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount BIGINT NOT NULL")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/hourly.sql": "SELECT date_trunc('hour', sold_at) AS hour, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/of_shop.sql": "SELECT day, revenue FROM daily WHERE shop = $shop ORDER BY day LIMIT $limit",
    "queries/newest.sql": "SELECT day, revenue FROM daily WHERE shop = $shop ORDER BY day DESC LIMIT $limit",
    "queries/between.sql": "SELECT measure(revenue) AS revenue FROM daily WHERE shop = $shop AND day BETWEEN $from AND $to",
    "queries/on_day.sql": "SELECT shop, revenue FROM daily WHERE day = $day ORDER BY shop",
    "queries/every.sql": "SELECT shop, day, revenue FROM daily ORDER BY shop, day LIMIT $limit",
    "queries/total.sql": "SELECT measure(revenue) AS revenue FROM daily",
    "queries/hours.sql": "SELECT hour, receipts FROM hourly WHERE hour >= $from ORDER BY hour",
}
SHOPS = ("a", "b", "c")
FIRST = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SEED = int(os.environ.get("HEADRACE_TEST_SEED", "0"))
"""First seed; a failure names its own."""


@dataclass(frozen=True)
class Sale:
    number: int
    at: dt.datetime
    shop: str
    amount: int

    @property
    def day(self) -> str:
        return self.at.date().isoformat()


class World:
    """A shop whose days are kept for so many days (None: for good), and what it must answer."""

    def __init__(self, folder: Path, days: int | None) -> None:
        self.project = ProjectFolder(folder, DECLARATIONS, FILES)
        self.project.write("headrace.toml", "[inbox]\nquiet = 0.0\n[engine]\nmemory = '256MB'\nthreads = 1\n")
        self.days = days
        self.declare(days)
        self.sold: list[Sale] = []
        """In order of their offsets."""
        self.names = itertools.count(1)
        self.floors: dict[int, tuple[int | None, str]] = {0: (None, "")}
        """Of each generation that was begun, the days that were declared, and the first day that it keeps."""

    @property
    def app(self) -> App:
        return Opened(self.project.folder, {"stream.range": 7})

    # What happens

    def declare(self, days: int | None) -> None:
        self.days = days
        kept = f'project.keep("daily", "{days} days")\n' if days is not None else ""
        imports = "from headrace import Project, csv\n"
        self.project.write("project.py", imports + DECLARATIONS + kept)

    def sell(self, *sales: tuple[float, str, int]) -> None:
        """Lands a file of sales: days after the first one, shop, amount."""
        first = len(self.sold)
        self.sold += [Sale(first + i, FIRST + day * DAY, shop, n) for i, (day, shop, n) in enumerate(sales)]
        rows = "".join(f"{s.number},{s.at:%Y-%m-%dT%H:%M:%SZ},{s.shop},{s.amount}\n" for s in self.sold[first:])
        self.project.land(f"sales_{next(self.names):04}.csv", "sale_id,sold_at,shop,amount\n" + rows)
        self.app.land(Quiet())

    def run(self, dies_after: int | None = None, *, take_over: bool = False) -> Run:
        app = self.app
        batch = app.batch(Quiet())
        if dies_after is not None:
            batch.store = Mortal(app.store, dies_after)  # type: ignore[assignment]
        before = shop.pointer(app)
        run = Run("")
        try:
            run = batch.run(take_over=take_over)
        except OutsideError:
            assert dies_after is not None
        now = shop.pointer(app)
        if now.generation != before.generation:
            self.note(before.generation, now.generation)
        return run

    def note(self, base: int, number: int) -> None:
        """What a generation keeps: by the rules, from the sales that it counts."""
        declared, floor = self.floors[base]
        counted = [sale.at for sale in self.sold[: self.cut(number)]]
        found = ""
        if self.days is not None and counted:
            found = (max(counted) - DAY - self.days * DAY).date().isoformat()
            if declared == self.days:
                found = max(found, floor)
        self.floors[number] = self.days, found

    def stream(self, dies_after: int | None = None) -> None:
        app = self.app
        if not shop.pointer(app).generation:
            return  # whoever streams first publishes
        store = app.store if dies_after is None else Mortal(app.store, dies_after)
        worker = Worker(app.project, app.log, app.lake, app.engine, store, Quiet(), f"w{next(self.names)}")
        try:
            # It would wait for a run that was killed.
            worker.run(lambda: None, until_caught_up=True, stopped=lambda: shop.pointer(app).opens)
        except OutsideError:
            assert dies_after is not None
            self.stream()  # what it wrote last may be read or not, until another has written it

    def roll_back(self) -> None:
        with suppress(ConflictError):
            if shop.pointer(self.app).predecessor:
                self.app.rollback()

    # What must be answered

    def cut(self, number: int) -> int:
        return generation_of(self.app.store, number).cut.get("sales", 0)

    @property
    def floor(self) -> str:
        return self.floors[shop.pointer(self.app).generation][1]

    def counted(self) -> list[Sale]:
        """Those that the batch has counted, or the stream."""
        pointer, store = shop.pointer(self.app), self.app.store
        epoch = generation_of(store, pointer.generation).epoch
        streamed = reached(store, progress_name(epoch, "sales"))[0] if epoch in pointer.streamed else 0
        return self.sold[: max(self.cut(pointer.generation), streamed)]

    def wanted(self) -> dict[tuple[str, str], int]:
        found: Counter[tuple[str, str]] = Counter()
        for sale in self.counted():
            if sale.day >= self.floor:
                found[sale.shop, sale.day] += sale.amount
        return dict(found)

    def judge(self) -> None:
        if not shop.pointer(self.app).generation:
            return
        wanted, reader = self.wanted(), self.app.reader

        def pages(query: str, limit: int, **given: str) -> list[tuple[Any, ...]]:
            rows: list[tuple[Any, ...]] = []
            cursor = None
            while True:
                found = reader.answer(query, {**given, "limit": str(limit)}, cursor)
                rows += found.rows
                cursor = found.cursor
                assert len(found.rows) <= limit
                if cursor is None:
                    return rows
                assert len(found.rows) == limit, "only the last page is a shorter one"

        def sums(rows: list[tuple[Any, ...]]) -> dict[Any, int]:
            assert len({row[:-1] for row in rows}) == len(rows)
            return {row[:-1]: int(row[-1]) for row in rows}

        assert sums(pages("every", 3)) == wanted
        for name in SHOPS:
            days = [(day, revenue) for (of, day), revenue in sorted(wanted.items()) if of == name]
            assert [(d, int(n)) for d, n in pages("of_shop", 2, shop=name)] == days
            assert [(d, int(n)) for d, n in pages("newest", 2, shop=name)] == days[::-1]
            for first in ("2000-01-01", "2024-01-10"):
                rows = reader.answer("between", {"shop": name, "from": first, "to": "2030-01-01"}).rows
                assert int(rows[0][0] or 0) == sum(n for day, n in days if day >= first), (name, first)
        for day in {sale.day for sale in self.sold}:
            rows = reader.answer("on_day", {"day": day}).rows
            assert sums(rows) == {(of,): n for (of, d), n in wanted.items() if d == day}, day
        total = sum(sale.amount for sale in self.counted())
        assert int(reader.answer("total", {}).rows[0][0] or 0) == total, "which has no window in its key"

    # What is in the store

    def tables(self) -> list[ServingTable]:
        """Those of the days, with the day in their key."""
        project = self.app.project
        found = {t.name: t for q in project.queries.values() for t in q.tables if t.origin == "daily" and t.key}
        return list(found.values())

    def days_in_store(self) -> set[str]:
        store = self.app.store
        return {
            row[[c.name for c in t.key].index("day")] for t in self.tables() for rows in store.walk(t) for row in rows
        }


class Mortal:
    """A store that is killed at its ``after``-th write."""

    def __init__(self, store: Any, after: int) -> None:
        self._store, self._left = store, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not name.startswith(("put", "raise", "set", "compare", "clear")):
            return found

        def call(*given: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise OutsideError("HR0407", "killed")
            return found(*given, **named)

        return call


def tell(folder: Path, seed: int, events: int = 16) -> None:
    """A story, judged after everything that happens in it."""
    rnd = random.Random(seed)
    world = World(folder, rnd.choice([3, 8, None]))
    today = 0.0
    for number in range(events):
        if number % 2 == 0:
            today += rnd.choice([0, 1, 2, 5])
            late = [today - rnd.choice([0, 0, 1, 3, 10, 20]) for _ in range(rnd.randint(1, 5))]
            world.sell(*((day, rnd.choice(SHOPS), rnd.randint(1, 9)) for day in late))
        steps: list[Callable[[], object]] = [
            world.run,
            lambda: world.run(take_over=True),
            lambda: world.run(rnd.randint(0, 14), take_over=True),
            world.stream,
            lambda: world.stream(rnd.randint(1, 9)),
            world.roll_back,
            lambda: world.declare(rnd.choice([3, 8, 15, None])),
        ]
        rnd.choices(steps, [5, 2, 2, 3, 1, 2, 2])[0]()
        world.judge()
    world.run(take_over=True)
    world.stream()
    world.judge()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_a_story_shows_the_windows_that_are_kept_and_no_others(tmp_path: Path, seed: int) -> None:
    tell(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(4))
def test_so_does_any_of_many_stories(tmp_path: Path, block: int) -> None:
    for seed in range(SEED + 100 + block * 8, SEED + 108 + block * 8):
        tell(tmp_path / str(seed), seed)


# Each rule is needed


def sweeps_below_its_own_floor() -> AbstractContextManager[Any]:
    """What a rollback would show again is gone."""
    true = Batch.forget_windows
    return patch.object(
        Batch, "forget_windows", lambda batch, now, last, before, tables: true(batch, now, now, None, tables)
    )


def sweeps_what_it_keeps_itself() -> AbstractContextManager[Any]:
    """Below the predecessor's floor, also where that was higher."""
    return patch.object(run_module, "least", lambda one, other: one)


def reader_does_not_look_at_the_floor() -> AbstractContextManager[Any]:
    return patch.object(answer, "floor_of", lambda floors, table: None)


def rows_further_back_are_not_filtered() -> AbstractContextManager[Any]:
    return patch.object(View, "kept", lambda view, table, rows: rows)


def partitions_are_not_left_out() -> AbstractContextManager[Any]:
    true = View.above

    def above(view: View, table: ServingTable, partition: Any, bounds: Any) -> Any:
        return bounds if "day" in [c.name for c in table.partition] else true(view, table, partition, bounds)

    return patch.object(View, "above", above)


def what_was_not_kept_is_believed_to_be_there() -> AbstractContextManager[Any]:
    return patch.object(run_module, "uncovered", lambda before, now: None)


@contextmanager
def floor_is_that_of_the_newest_declaration() -> Iterator[None]:
    """A reader that takes its floor from another generation than the one that answers: here, the last one begun."""
    newest: dict[str, Any] = {}

    def noted(*given: Any) -> Any:
        newest["floors"] = floors_of(*given)
        return newest["floors"]

    def newest_of(floors: Any, table: ServingTable) -> Floor | None:
        return floor_of(newest.get("floors", floors), table)

    with patch.object(run_module, "floors_of", noted), patch.object(answer, "floor_of", newest_of):
        yield


MUTANTS = [
    sweeps_below_its_own_floor, sweeps_what_it_keeps_itself, reader_does_not_look_at_the_floor,
    rows_further_back_are_not_filtered, partitions_are_not_left_out, what_was_not_kept_is_believed_to_be_there,
    floor_is_that_of_the_newest_declaration,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.__name__) for m in MUTANTS])
def test_a_broken_rule_is_noticed(tmp_path: Path, mutant: Callable[[], AbstractContextManager[Any]]) -> None:
    with mutant():
        for seed in range(60):
            try:
                tell(tmp_path / str(seed), seed)
            except AssertionError:
                return
    pytest.fail(f"60 stories, and nobody noticed: {mutant.__name__}")


# One thing at a time


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Days 0 to 9 are published: days 0 to 3 are below the floor."""
    world = World(tmp_path, 4)
    world.sell(*((day, shop, 1) for day in range(10) for shop in "ab"))
    world.run()
    assert world.floor == "2024-01-05"
    return world


def rows_published(run: Run) -> int:
    return sum(step.counts["rows"] for step in run.steps if step.verb == "publish" and step.subject.startswith("daily"))


def test_what_is_not_kept_is_not_written_and_its_end_neither(world: World) -> None:
    world.judge()
    assert min(world.days_in_store()) == "2024-01-05"
    world.sell((12, "a", 1))
    run = world.run()
    world.judge()
    # Three days have ended for both shops: one row for the new day in each of three tables, and the total.
    assert rows_published(run) == 4
    assert world.run().generation is None, "and nothing is due then"
    again = world.app.run(Quiet(), full=True)
    assert (again.generation, rows_published(again)) == (3, 0), "computed whole they have not ended either"


@pytest.mark.slow
def test_rows_are_removed_once_for_each_day_that_ends(world: World) -> None:
    removed = []
    true = type(world.app.store).clear_below

    def clear_below(store: Any, table: ServingTable, column: str, start: Any, generation: int) -> None:
        removed.append(start)
        true(store, table, column, start, generation)

    with patch.object(type(world.app.store), "clear_below", clear_below):
        for day in (12, 12.1, 12.2, 13, 13.1, 13.2):
            world.sell((day, "a", 1))
            world.run()
    assert removed == ["2024-01-05"] * 3 + ["2024-01-08"] * 3 + ["2024-01-09"] * 3


def test_rows_go_when_the_predecessor_does_not_keep_them_either(world: World) -> None:
    world.sell((12, "a", 1))
    world.run()
    assert (world.floor, min(world.days_in_store())) == ("2024-01-08", "2024-01-05")
    world.app.rollback()
    assert world.floor == "2024-01-05"
    world.judge()
    world.run()
    world.sell((13, "a", 1))
    world.run()
    assert (world.floor, min(world.days_in_store())) == ("2024-01-09", "2024-01-08")
    world.judge()


def test_late_records_are_counted_in_gold_and_not_answered(world: World) -> None:
    world.sell((1, "a", 50), (9, "a", 7))
    world.stream()
    world.judge()
    store, table = world.app.store, world.tables()[0]
    epoch = generation_of(store, shop.pointer(world.app).generation).epoch
    days = {row[[c.name for c in table.key].index("day")] for rows in store.walk_speed(table, epoch) for row in rows}
    assert "2024-01-02" in days, "the stream has written it"
    for day in (10, 11):
        world.sell((day, "b", 1))
        world.run(take_over=True)
        world.judge()
    assert min(world.days_in_store()) >= "2024-01-05"
    left = [row for epoch in range(9) for rows in world.app.store.walk_speed(table, epoch) for row in rows]
    assert not left, "its range is counted by both generations"
    app = world.app
    app.gold.define()
    assert app.engine.rows("SELECT revenue FROM daily WHERE shop = 'a' AND day = DATE '2024-01-02'") == [(51,)]


@pytest.mark.parametrize("days", [8, None])
def test_what_is_kept_longer_is_there_again(world: World, days: int | None) -> None:
    for day in (12, 15):
        world.sell((day, "a", 1))
        world.run()
    assert min(world.days_in_store()) == "2024-01-08"
    world.declare(days)
    world.judge()  # nothing is published yet
    assert world.run().generation is not None
    assert world.floor == ("2024-01-07" if days else "")
    world.judge()
    world.sell((16, "a", 1))
    world.run()
    world.judge()
    world.app.rollback()
    world.judge()


def test_what_ended_while_it_was_not_kept_does_not_come_back(world: World) -> None:
    with patch.object(type(world.app.store), "clear_below", lambda *_: None):  # it was killed before
        world.declare(None)
        world.run()
        world.judge()
        world.declare(4)
        world.run()
        gone = [sale for sale in world.sold if sale.day >= "2024-01-03"]
        rows = "".join(f"{s.number},{s.at:%Y-%m-%dT%H:%M:%SZ},{s.shop},{s.amount}\n" for s in gone)
        world.project.land("sales_0001.csv", "sale_id,sold_at,shop,amount\n" + rows)
        world.app.land(Quiet())
        world.run()
        assert "2024-01-01" in world.days_in_store()
        world.declare(None)
        world.run()
    assert {row["day"] for row in world.project.ask("every", limit=100)} == {sale.day for sale in gone}


def test_a_shorter_retention_takes_effect_with_the_next_run(world: World) -> None:
    world.declare(1)
    run = world.run()
    assert (world.floor, rows_published(run)) == ("2024-01-08", 0)
    world.judge()
    world.app.rollback()
    assert world.floor == "2024-01-05"
    world.judge()


class Spy:
    """Notes what is fetched of a store."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.fetched: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not name.startswith("fetch"):
            return found

        def call(table: ServingTable, partition: Any, bounds: Any = None, **named: Any) -> Any:
            self.fetched.append((partition, bounds[0]))
            return found(table, partition, bounds, **named)

        return call


def test_what_is_not_kept_is_not_fetched(world: World) -> None:
    app = world.app
    reader = app.reader
    reader.store = spy = Spy(app.store)  # type: ignore[assignment]
    reader.answer("on_day", {"day": "2024-01-04"})
    assert spy.fetched == []
    reader.answer("on_day", {"day": "2024-01-05"})
    reader.answer("of_shop", {"shop": "a"})
    reader.answer("between", {"shop": "a", "from": "2024-01-01", "to": "2024-01-07"})
    reader.answer("between", {"shop": "a", "from": "2024-01-06", "to": "2024-01-07"})
    assert spy.fetched == [
        (("2024-01-05",), None),
        (("a",), "2024-01-05"),
        (("a",), "2024-01-05"),
        (("a",), "2024-01-06"),
    ]
    assert reader.answer("between", {"shop": "a", "from": "2024-01-01", "to": "2024-01-04"}).rows == [(None,)]
    assert len(spy.fetched) == 4


def test_windows_of_less_than_a_day_end_one_by_one(world: World) -> None:
    text = (world.project.folder / "project.py").read_text()
    world.project.write("project.py", text + 'project.keep("hourly", "36 hours")\n')
    world.sell((9.5, "a", 1))  # at midnight; the watermark is a day before that
    world.run()
    hours = [row["hour"] for row in world.project.ask("hours", **{"from": "2024-01-01T00:00:00Z"})]
    assert hours == ["2024-01-08T12:00:00Z", "2024-01-09T12:00:00Z", "2024-01-10T12:00:00Z", "2024-01-11T00:00:00Z"]
    assert [f["start"] for f in world.app.status()["floors"]] == ["2024-01-06", "2024-01-08T12:00:00Z"]


def test_a_record_from_a_far_future_does_not_end_all_windows(tmp_path: Path) -> None:
    world = World(tmp_path, 365 * 100)
    world.sell((0, "a", 1), (365 * 900, "b", 2))
    world.run()
    rows = world.project.ask("every", limit=100)
    assert [(row["shop"], row["revenue"]) for row in rows] == [("a", 1), ("b", 2)]
    # By the watermark alone it would be eight hundred years from now.
    assert "1900-01-01" < world.app.status()["floors"][0]["start"] < "2024-01-01"


# The rules alone


def test_a_floor_is_counted_from_the_watermark_and_at_most_from_now(world: World) -> None:
    project, now = world.app.project, dt.datetime(2025, 1, 1)

    def start(newest: str, now: dt.datetime = now, before: Floor | None = None) -> Any:
        known = {"daily": before} if before is not None else {}
        return floors_of(project, known, {"sales": newest}, now)["daily"].start

    assert start("2024-06-10T00:00:00Z") == "2024-06-05"
    assert start("2024-06-09T23:59:59Z") == "2024-06-04"
    assert start("2924-06-10T00:00:00Z") == "2024-12-28"
    assert start("") is None
    assert start("0001-01-03T00:00:00Z") is None, "there is no day so old"
    before = Floor("day", "DAY", 4 * 86_400, "2024-07-01")
    assert start("2024-06-10T00:00:00Z", before=before) == "2024-07-01", "it never goes down"
    assert start("", before=before) == "2024-07-01"
    assert start("2024-07-20T00:00:00Z", before=before) == "2024-07-15"
    assert start("2024-06-10T00:00:00Z", before=Floor("day", "DAY", 86_400, "2024-07-01")) == "2024-06-05"


def test_which_floor_covers_which() -> None:
    low, high = (Floor("day", "DAY", 60, day) for day in ("2024-01-01", "2024-02-01"))
    other = Floor("month", "MONTH", 60, "2024-02-01")
    assert (least(low, high), least(high, low), least(low, None), least(None, low)) == (low, low, None, None)
    assert least(low, other) is None
    assert (uncovered(low, high), uncovered(None, low), uncovered(low, low)) == (None, None, None)
    assert (uncovered(high, low), uncovered(high, None), uncovered(low, other)) == (high, high, low)
    unknown = Floor("day", "DAY", 60)
    assert (risen(high, low), risen(high, unknown), risen(low, high), risen(None, low)) == (high, high, high, low)
    assert risen(high, Floor("day", "DAY", 90, "2024-01-01")).start == "2024-01-01"


@pytest.mark.parametrize(
    ("unit", "moment", "begin"),
    [
        ("SECOND", "2024-02-29T10:11:12.5", "2024-02-29T10:11:12"),
        ("HOUR", "1969-12-31T23:30:00", "1969-12-31T23:00:00"),
        ("DAY", "2024-02-29T10:11:12", "2024-02-29T00:00:00"),
        ("WEEK", "2024-02-29T10:11:12", "2024-02-26T00:00:00"),
        ("WEEK", "2024-02-26T00:00:00", "2024-02-26T00:00:00"),
        ("MONTH", "2024-02-29T10:11:12", "2024-02-01T00:00:00"),
        ("QUARTER", "2024-06-30T10:11:12", "2024-04-01T00:00:00"),
        ("YEAR", "2024-12-31T10:11:12", "2024-01-01T00:00:00"),
        ("", "2024-02-29T10:11:12.5", "2024-02-29T10:11:12.500000"),
    ],
)
def test_where_a_window_begins(unit: str, moment: str, begin: str) -> None:
    found = TimeWindow("w", unit).begin(dt.datetime.fromisoformat(moment))
    assert found.isoformat() == begin
    assert found <= dt.datetime.fromisoformat(moment)
    assert EPOCH.tzinfo is found.tzinfo is None


def test_spans_as_they_are_declared() -> None:
    spans = [1, 90, 3600, 36 * 3600, 86_400, 90 * 86_400]
    assert [spelled(s) for s in spans] == ["1 second", "90 seconds", "1 hour", "36 hours", "1 day", "90 days"]


# Who else looks at the store


def test_reconcile_and_backfill_leave_what_is_not_kept(world: World) -> None:
    world.sell((12, "a", 1))
    world.run()
    world.sell((1, "a", 5), (12, "b", 1))
    world.stream()
    for sample, keys in ((None, 7), (100, 7), (5, 5)):
        found = world.app.reconcile(Quiet(), sample=sample)
        assert (found.drifted, found.mended_by) == (0, None)
        assert {drift.keys for drift in found.tables if not drift.speed and drift.origin == "daily"} == {1, keys}
    app = world.app
    table = next(t for t in world.tables() if t.partition and t.partition[0].name == "shop")
    app.store.put(table, [("a", "2024-01-02", "999", 1, 0, 1), ("a", "2024-01-08", 999, 1, 0, 2)])
    found = world.app.reconcile(Quiet())
    assert [d.shown for d in found.tables if d.drifted] == [[{"shop": "a", "day": "2024-01-08", "kind": "differing"}]]
    world.floors[shop.pointer(world.app).generation] = (4, world.floors[2][1])
    world.judge()
    app.backfill(Quiet(), "daily", dt.date(2024, 1, 1), dt.date(2024, 1, 31))
    world.floors[shop.pointer(world.app).generation] = (4, world.floors[2][1])
    world.judge()
    assert min(world.days_in_store()) >= "2024-01-02"


@pytest.mark.slow
def test_why_status_check_and_the_api_tell_how_long_windows_are_kept(world: World) -> None:
    from headrace.http.openapi import document

    traced = world.app.why("between", {"shop": "a", "from": "2024-01-01", "to": "2024-01-31"}, 0)
    assert traced["kept_from"] == {"column": "day", "start": "2024-01-05"}
    assert world.app.why("total", {}, 0)["kept_from"] is None
    said = world.project.command("why", "of_shop", "shop=a").stdout
    assert "windows from day = 2024-01-05 on; older ones are not" in said
    assert world.app.status()["floors"] == [{"mart": "daily", "kept": "4 days", "start": "2024-01-05"}]
    assert "daily: windows from 2024-01-05 on (4 days)" in world.project.command("status").stdout
    checked = world.project.command("check").stdout
    row = next(line for line in checked.splitlines() if "4 days" in line)
    assert "total" in row
    assert "every" not in row
    api = document(world.app.project, 100).decode()
    assert api.count("Windows of `daily` (`day`) are kept for 4 days") == 5
