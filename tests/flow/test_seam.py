"""The seam on the real store: who may run, what a reader sees while generations come and go, and full disks."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import wiring
from headrace.app import App
from headrace.errors import ConflictError, HeadraceError, NotReadyError, OutsideError
from headrace.flow.answer import Reader
from headrace.flow.control import POINTER
from headrace.flow.rollback import rollback
from headrace.flow.run import Batch
from headrace.model.run import Run
from headrace.seam import pointer as pointers
from tests.kit import ProjectFolder, Quiet

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales_*.csv"), id="id", event_time="sold", columns="id BIGINT, sold TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount BIGINT NOT NULL")
"""
FILES = {
    "headrace.toml": "[inbox]\nquiet = 0.0\n",
    "marts/by_shop.sql": "SELECT shop, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/detail.sql": "SELECT revenue, receipts FROM by_shop WHERE shop = $shop",
    "queries/shops.sql": "SELECT shop, revenue, receipts FROM by_shop ORDER BY shop",
    "queries/total.sql": "SELECT measure(revenue) AS revenue, measure(receipts) AS receipts FROM by_shop",
}


class Between:
    """A store that calls ``between`` at every fetch, so that the world can move on under a read."""

    def __init__(self, store: Any, between: Callable[[], None]) -> None:
        self._store, self._between = store, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def fetch(self, *given: Any, **named: Any) -> Any:
        self._between()
        return self._store.fetch(*given, **named)


class Failing:
    """A port whose method raises from its ``after``-th call on."""

    def __init__(self, port: Any, method: str, after: int = 0, error: BaseException | None = None) -> None:
        self._port, self._method, self._left = port, method, after
        self._error = error or OutsideError("HR0407", "it is away")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name != self._method:
            return found

        def call(*given: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise self._error
            return found(*given, **named)

        return call


class NoGold:
    """A lake that takes everything but gold."""

    def __init__(self, lake: Any) -> None:
        self._lake = lake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def commit(self, table: str, *given: Any, **named: Any) -> int:
        if table.startswith("gold/"):
            raise OutsideError("HR0407", "it is away")
        version: int = self._lake.commit(table, *given, **named)
        return version


class Shop(ProjectFolder):
    """The project, with a counter for its files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, DECLARATIONS, FILES)
        self.ids = itertools.count(1)

    def sell(self, *sold: tuple[str, int]) -> None:
        first = next(self.ids)
        rows = "".join(
            f"{first * 1000 + i},2024-01-01T00:00:00,{shop},{amount}\n" for i, (shop, amount) in enumerate(sold)
        )
        self.land(f"sales_{first}.csv", "id,sold,shop,amount\n" + rows)

    def batch(self, app: App | None = None, **ports: Any) -> Batch:
        app = app or self.app
        parts = {"lake": app.lake, "engine": app.engine, "store": app.store, **ports}
        return Batch(app.project, app.inbox, app.log, observer=self.observer, **parts)

    def pointer(self) -> pointers.Pointer:
        return pointers.read(self.app.store.control(POINTER) or "")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.sell(("a", 1), ("b", 10))
    shop.run()
    return shop


def begin(batch: Batch) -> Callable[[], None]:
    """Lands, refines and takes a number; gives what builds and publishes."""
    reached, go, errors = threading.Event(), threading.Event(), []
    true_build = Batch.build

    def build(self: Batch, *given: Any, **named: Any) -> None:
        reached.set()
        go.wait(60)
        true_build(self, *given, **named)

    def work() -> None:
        try:
            _Paused(batch, build).run()
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)
        reached.set()

    thread = threading.Thread(target=work)
    thread.start()
    reached.wait(60)

    def finish() -> None:
        go.set()
        thread.join(60)
        if errors:
            raise errors[0]

    return finish


class _Paused:
    """A batch with another ``build``."""

    def __init__(self, batch: Batch, build: Callable[..., None]) -> None:
        self._batch, self._build = batch, build

    def run(self) -> Run:
        paused = type("Paused", (Batch,), {"__slots__": (), "build": self._build})
        fields = {
            name: getattr(self._batch, name)
            for name in ("project", "inbox", "log", "lake", "engine", "store", "observer")
        }
        run: Run = paused(**fields).run()
        return run


# Who may run


def test_a_second_run_stops_at_once(shop: Shop) -> None:
    with wiring.run_lock(shop.folder):
        for act in (
            lambda: shop.run(),
            shop.app.rollback,
            lambda: shop.app.vacuum(0),
            lambda: list(shop.app.compact(Quiet())),
        ):
            with pytest.raises(ConflictError, match="HR0401") as caught:
                act()
            assert caught.value.exit_code == 4
            assert str(os.getpid()) in caught.value.what
    assert shop.run().generation is None, "the lock was given back"


def test_a_second_run_of_the_command_line_exits_with_4(shop: Shop) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "headrace", "--project", str(shop.folder), "run"]
    with wiring.run_lock(shop.folder):
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 4
    assert "HR0401" in second.stderr
    assert "Traceback" not in second.stderr


def test_of_two_runs_past_the_lock_the_later_one_counts(shop: Shop) -> None:
    shop.sell(("a", 2))
    finish = begin(shop.batch())
    before = shop.ask("shops")
    shop.run(full=True)
    assert shop.pointer().generation == 3
    with pytest.raises(ConflictError, match="HR0404"):
        finish()
    assert (
        shop.ask("shops")
        == [{"shop": "a", "revenue": 3, "receipts": 2}, {"shop": "b", "revenue": 10, "receipts": 1}]
        != before
    )
    assert shop.pointer() == pointers.Pointer(3, 1, None, (2,), 3)


def test_a_zombie_changes_nothing_however_late_it_writes(shop: Shop) -> None:
    shop.sell(("a", 2))
    finish = begin(shop.batch(lake=_Forgiving(shop.app.lake)))
    for amount in (4, 8):
        shop.sell(("a", amount))
        shop.run()
    wanted = shop.ask("shops")
    with pytest.raises(ConflictError, match="HR0404"):
        finish()
    assert (
        shop.ask("shops")
        == wanted
        == [{"shop": "a", "revenue": 15, "receipts": 4}, {"shop": "b", "revenue": 10, "receipts": 1}]
    )
    shop.app.rollback()
    assert shop.ask("detail", shop="a") == [{"revenue": 7, "receipts": 3}]


class _Forgiving:
    """A lake that lets a zombie commit, so that it goes on to write in the store."""

    def __init__(self, lake: Any) -> None:
        self._lake = lake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def commit(self, table: str, add: Any, *, keep: Any, base: Any, transactions: Any = None) -> int:
        version: int = self._lake.commit(
            table, add, keep=keep, base=self._lake.snapshot(table), transactions=transactions
        )
        return version


# What a run that fails leaves


def test_a_run_that_failed_before_it_wrote_is_as_if_it_had_never_been(shop: Shop) -> None:
    shop.sell(("a", 2))
    shop.run()
    before = shop.pointer()
    shop.sell(("a", 4))
    for _ in range(3):
        with pytest.raises(OutsideError, match="away"):
            shop.batch(lake=NoGold(shop.app.lake)).run()
    after = shop.pointer()
    assert (after.generation, after.predecessor, after.next, after.abandoned) == (2, 1, None, before.abandoned), (
        "nothing grows"
    )
    assert after.highest == 5, "no number is used twice"
    assert shop.app.rollback() == 1
    assert shop.ask("detail", shop="a") == [{"revenue": 1, "receipts": 1}]


def test_a_run_that_failed_while_it_wrote_takes_the_predecessor_with_it(shop: Shop) -> None:
    """It wrote over the slot that only the predecessor still reads."""
    shop.sell(("a", 2))
    shop.run()
    shop.sell(("a", 4))
    with pytest.raises(OutsideError, match="away"):
        shop.batch(store=Failing(shop.app.store, "put", after=2)).run()
    assert shop.ask("detail", shop="a") == [{"revenue": 3, "receipts": 2}], "the answers stay"
    with pytest.raises(ConflictError, match="HR0405"):
        shop.app.rollback()
    assert shop.ask("detail", shop="a") == [{"revenue": 3, "receipts": 2}]
    shop.run()
    assert shop.ask("detail", shop="a") == [{"revenue": 7, "receipts": 3}]
    assert shop.app.rollback() == 2
    assert shop.ask("detail", shop="a") == [{"revenue": 3, "receipts": 2}]


def test_a_killed_run_takes_the_predecessor_with_it_even_if_the_next_one_fails_early(shop: Shop) -> None:
    shop.sell(("a", 2))
    shop.run()
    shop.sell(("a", 4))
    killed = shop.batch(store=Failing(Failing(shop.app.store, "put", after=2), "compare_and_set", after=1))
    with pytest.raises(OutsideError, match="away"):
        killed.run()
    assert shop.pointer().next == 3, "it could not even give up"
    with pytest.raises(OutsideError, match="away"):
        shop.batch(lake=NoGold(shop.app.lake)).run()
    with pytest.raises(ConflictError, match="HR0405"):
        shop.app.rollback()
    assert shop.ask("detail", shop="a") == [{"revenue": 3, "receipts": 2}]


def test_the_first_error_is_the_one_that_is_told(shop: Shop) -> None:
    shop.sell(("a", 2))
    broken = Failing(Failing(shop.app.store, "put", error=OutsideError("HR0406", "full")), "compare_and_set", after=1)
    with pytest.raises(OutsideError, match="HR0406: full"):
        shop.batch(store=broken).run()


def test_a_lake_that_lost_what_the_answers_rest_on_is_told(shop: Shop) -> None:
    import shutil

    shop.sell(("a", 2))
    shutil.rmtree(next((shop.folder / ".headrace/lake/serving").iterdir()))
    with pytest.raises(OutsideError, match="HR0407.*gone from the lake"):
        shop.run()
    assert shop.ask("detail", shop="a") == [{"revenue": 1, "receipts": 1}]


def test_gold_that_is_gone_is_computed_again(shop: Shop) -> None:
    import shutil

    shop.sell(("a", 2))
    shutil.rmtree(shop.folder / ".headrace/lake/gold/by_shop")
    run = shop.run()
    assert shop.ask("shops") == [
        {"shop": "a", "revenue": 3, "receipts": 2},
        {"shop": "b", "revenue": 10, "receipts": 1},
    ]
    assert next(s for s in run.steps if s.verb == "aggregate").note == "whole"


# What a reader sees while generations come and go under it: every story happens between its two looks at the pointer


def asked_while(shop: Shop, happens: Callable[[], None], query: str = "shops", **given: str) -> tuple[int, list[Any]]:
    """Asks, and lets something happen at the read's first fetch."""
    app = shop.app
    things = iter([happens])

    def between() -> None:
        for thing in things:
            thing()

    answer = Reader(app.project, Between(app.store, between)).answer(query, given)  # type: ignore[arg-type]
    return answer.generation, answer.rows


def publish(shop: Shop, *sold: tuple[str, int]) -> None:
    shop.sell(*(sold or (("a", 2),)))
    shop.run()


def fail(shop: Shop, *, wrote: bool) -> None:
    shop.sell(("a", 4), ("b", 40))
    broken = {"store": Failing(shop.app.store, "put", after=2)} if wrote else {"lake": NoGold(shop.app.lake)}
    with contextlib.suppress(OutsideError):
        shop.batch(**broken).run()


def die(shop: Shop) -> None:
    shop.sell(("a", 8), ("b", 80))
    with contextlib.suppress(OutsideError):
        shop.batch(store=Failing(Failing(shop.app.store, "put", after=2), "compare_and_set", after=1)).run()


STORIES: dict[str, tuple[list[Callable[[Shop], Any]], int]] = {
    "nothing": ([], 1),
    "published": ([publish], 1),
    "published twice": ([publish, publish], 3),
    "published, and the next one failed while it wrote": ([publish, lambda s: fail(s, wrote=True)], 2),
    "published, and the next one failed before it wrote": ([publish, lambda s: fail(s, wrote=False)], 1),
    "published, and the next one died while it wrote": ([publish, die], 2),
    "died": ([die], 1),
    "died, and published": ([die, publish], 1),
    "published and rolled back": ([publish, lambda s: s.app.rollback()], 1),
    "published, rolled back, published": ([publish, lambda s: s.app.rollback(), publish], 1),
    "published, rolled back, published twice": ([publish, lambda s: s.app.rollback(), publish, publish], 4),
    "published, and its rows compacted and vacuumed": (
        [publish, lambda s: list(s.app.compact(Quiet())), lambda s: s.app.vacuum(0)],
        1,
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_an_answer_is_of_one_generation_whatever_happens_under_it(story: str, shop: Shop) -> None:
    steps, of = STORIES[story]
    known: dict[int, list[Any]] = {1: shop.app.reader.answer("shops", {}).rows}

    def happens() -> None:
        for step in steps:
            step(shop)
            current = shop.app.reader.answer("shops", {})
            known[current.generation] = current.rows

    generation, rows = asked_while(shop, happens)
    assert rows == known[generation]
    assert generation == of


def test_a_predecessor_answers_until_the_next_run_begins(shop: Shop) -> None:
    pointer = pointers.Pointer(2, 1, None, (), 2)
    assert pointers.still_valid(1, pointer)
    assert not pointers.still_valid(1, pointers.begin(pointer))


def test_a_table_that_is_dropped_under_a_read_starts_it_again(shop: Shop) -> None:
    def happens() -> None:
        (shop.folder / "queries/shops.sql").unlink()
        publish(shop)
        publish(shop)
        shop.app.vacuum(0)

    with pytest.raises(NotReadyError, match="HR0403"):
        asked_while(shop, happens)


def test_a_store_that_is_away_is_no_reason_to_read_on(shop: Shop) -> None:
    app = shop.app
    with pytest.raises(OutsideError, match="away"):
        Reader(app.project, Failing(app.store, "fetch")).answer("shops", {})  # type: ignore[arg-type]


def test_an_answer_is_never_older_than_its_question(shop: Shop) -> None:
    reader = Reader(shop.app.project, shop.app.store)
    assert reader.answer("shops", {}).generation == 1
    publish(shop)
    assert reader.answer("shops", {}).generation == 2, "although the reader knew the pointer before"
    shop.app.rollback()
    assert reader.answer("shops", {}).generation == 1


@pytest.mark.slow
def test_readers_at_work_see_whole_generations_only(shop: Shop) -> None:
    """Threads ask without a pause while generations are published, rolled back, abandoned and vacuumed."""
    published: dict[int, list[Any]] = {}
    done = threading.Event()
    seen: list[tuple[int, str, list[Any]]] = []
    errors: list[BaseException] = []

    def note() -> None:
        answer = shop.app.reader.answer("shops", {})
        published[answer.generation] = answer.rows

    def ask(number: int) -> None:
        app = shop.app
        reader = Reader(app.project, app.store)
        try:
            while not done.is_set():
                for query in ("total", "shops") if number else ("shops", "total"):
                    try:
                        answer = reader.answer(query, {})
                    except NotReadyError as error:
                        if error.code != "HR0408":
                            raise
                    else:
                        seen.append((answer.generation, query, answer.rows))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    note()
    readers = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
    for reader in readers:
        reader.start()
    rnd = random.Random(1)
    try:
        for turn in range(8):
            shop.sell(*((rnd.choice("abcdef"), rnd.randint(1, 99)) for _ in range(4)))
            if turn % 5 == 2:
                fail(shop, wrote=True)
            elif turn % 5 == 3:
                shop.app.vacuum(0)
            elif turn % 5 == 4:
                with contextlib.suppress(ConflictError):
                    shop.app.rollback()
            shop.run()
            note()
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
    assert not errors, errors
    for generation, query, rows in seen:
        shops = published[generation]
        wanted = shops if query == "shops" else [(sum(r[1] for r in shops), sum(r[2] for r in shops))]
        assert rows == wanted, (generation, query)
    assert len({generation for generation, _, _ in seen}) > 4, "the readers were there when it happened"


# Full disks


def limited(folder: Path, bytes_: int) -> subprocess.CompletedProcess[str]:
    """A run of the command line that can write no file beyond a size: what it meets is what a full disk gives."""
    program = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_}, {bytes_}))\n"
        f"from headrace.cli import main; sys.argv = ['headrace', '--project', {str(folder)!r}, 'run', '--quiet']; sys.exit(main())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def large(shop: Shop) -> Shop:
    """Rows enough for files of some hundred KiB, in the lake and in the store."""
    rows = "".join(
        f"{i},2024-01-01T00:00:00,shop {i * 7919 % 1000003},{i * 31337 % 999983}\n" for i in range(1_000_000, 1_030_000)
    )
    shop.land("sales_large.csv", "id,sold,shop,amount\n" + rows)
    return shop


@pytest.mark.parametrize("kib", [1, 20, 60, 200, 400, 700, 1100])
def test_a_full_disk_is_told_and_leaves_everything_as_it_was(kib: int, large: Shop) -> None:
    before = large.ask("total"), large.ask("detail", shop="a")
    stopped = limited(large.folder, kib * 1024)
    assert (stopped.returncode, "HR0406" in stopped.stderr) == (3, True), stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert (large.ask("total"), large.ask("detail", shop="a")) == before
    large.run()
    assert large.ask("total") == [
        {"revenue": 11 + sum(i * 31337 % 999983 for i in range(1_000_000, 1_030_000)), "receipts": 30_002}
    ]
    assert large.run().generation is None


def test_a_full_lake_is_told_wherever_it_happens(shop: Shop) -> None:
    """Every write of the lake in turn, as the system's own errors."""
    shop.sell(("a", 2))
    before = shop.ask("shops")
    for after in range(20):
        full = Failing(shop.app.lake, "commit", after, OutsideError("HR0406", "no space left"))
        try:
            run = shop.batch(lake=full).run()
        except HeadraceError as error:
            assert error.code == "HR0406"
            if shop.pointer().generation == 1:
                assert shop.ask("shops") == before
        else:
            break
    else:
        pytest.fail("it never got through")
    assert run.generation is None or run.generation > 1
    assert shop.ask("detail", shop="a") == [{"revenue": 3, "receipts": 2}]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 MiB; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("where", ["lake.path", "store.path"])
def test_a_disk_that_fills_up_and_is_cleared(where: str, shop: Shop, small_disk: Path) -> None:
    place = small_disk / ("lake" if where == "lake.path" else "store.db")
    flags = {"inbox.quiet": 0.0, where: str(place)}
    folder = Shop(shop.folder / "other")
    folder.sell(("a", 1), ("b", 10))
    App(folder.folder, flags).run(Quiet())
    served = App(
        folder.folder, flags
    ).reader  # as a server's: SQLite needs a few KB to open a file that nobody has open
    served.answer("shops", {})
    rows = "".join(
        f"{i},2024-01-01T00:00:00,shop {i * 7919 % 1000003},{i * 31337 % 999983}\n" for i in range(1_000_000, 1_030_000)
    )
    folder.land("sales_large.csv", "id,sold,shop,amount\n" + rows)
    ballast = small_disk / "ballast"
    for room in (0, 100_000, 500_000):
        ballast.write_bytes(b"")
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(b"\1" * max(free - room, 0))
        app = App(folder.folder, flags)
        for _ in range(2):  # the same process may try again
            with pytest.raises(OutsideError, match="HR0406"):
                app.run(Quiet())
        assert served.answer("shops", {}).rows == [("a", 1, 1), ("b", 10, 1)]
    ballast.unlink()
    app.run(Quiet())
    assert served.answer("total", {}).rows[0][1] == app.reader.answer("total", {}).rows[0][1] == 30_002


def test_rollback_is_refused_while_a_run_is_going_on(shop: Shop) -> None:
    publish(shop)
    shop.sell(("a", 4))
    finish = begin(shop.batch())
    with pytest.raises(ConflictError, match="HR0405"):
        rollback(shop.app.store)
    finish()
    assert shop.ask("detail", shop="a") == [{"revenue": 7, "receipts": 3}]
