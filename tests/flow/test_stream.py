"""The speed path counts as the batch does: whatever is streamed, run, killed or rolled back in between."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.errors import ConflictError, OutsideError
from headrace.flow import stream
from headrace.flow.answer import Reader
from headrace.flow.control import change_pointer, reached
from headrace.flow.refine import refine
from headrace.flow.stream import Worker
from headrace.flow.writing import AtOnce
from headrace.http.answers import Answers
from headrace.model.run import Run
from headrace.seam import epoch as epochs
from headrace.seam import pointer as pointers
from tests.flow import shop
from tests.kit import Opened, Quiet

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))
SETTINGS = {"stream.range": 37}
MORE = {
    "marts/days.sql": "SELECT day, measure(revenue) AS revenue, measure(most) AS most, measure(basket) AS basket FROM daily GROUP BY ALL",
    "queries/days.sql": "SELECT day, revenue, most, basket FROM days ORDER BY day",
    "marts/typical.sql": "SELECT shop, median(amount) AS typical FROM sales GROUP BY ALL",
    "silver/dear.sql": "SELECT s.* FROM sales AS s JOIN typical AS t USING (shop) WHERE s.amount > t.typical",
    "marts/dear_ones.sql": "SELECT shop, count(*) AS receipts FROM dear GROUP BY ALL",
    "queries/dear_ones.sql": "SELECT receipts FROM dear_ones WHERE shop = $shop",
}
FIRST = ("shops_1.csv", "rates_1.csv", "sales_1.csv", "visits_1.jsonl")


class Shops:
    """Two projects that get the same files: one streams, the other one only runs."""

    def __init__(self, folder: Path, without: tuple[str, ...] = (), *, is_begun: bool = False) -> None:
        self.streamed, self.batch = shop.make(folder / "streamed"), shop.make(folder / "batch")
        for project in (self.streamed, self.batch):
            for name, text in MORE.items():
                project.write(name, text)
            project.write("project.py", (project.folder / "project.py").read_text() + 'project.pin("typical")\n')
        self.names = itertools.count()
        self.rnd = random.Random(3)
        self.unfitted = False
        """Whether a rollback forgot the pinned yardstick, so that the next run fits it to more than the batch had."""
        self.next = 120
        if is_begun:
            return
        for name, text in shop.waves()[0].items():
            assert name in FIRST
            if name not in without:
                self.land(name, text)
        self.batch.run()
        self.app.run(Quiet())

    @property
    def app(self) -> App:
        return Opened(self.streamed.folder, SETTINGS)

    def land(self, name: str, text: str) -> None:
        self.streamed.land(name, text)
        self.batch.land(name, text)

    def sell(self, count: int) -> None:
        """New receipts, among them duplicates of earlier ones, and visits."""
        number = next(self.names)
        self.land(f"sales_n{number:03}.csv", shop.sales_file(self.rnd, self.next, count))
        self.land(f"visits_n{number:03}.jsonl", shop.visits_file(self.next, count // 2))
        self.next += count

    def worker(self, app: App | None = None, store: Any = None) -> Worker:
        app = app or self.app
        if shop.pointer(app).generation == 0:
            app.run(Quiet())  # as `headrace stream` does where nothing is published
        return Worker(app.project, app.log, app.lake, app.engine, store or app.store, Quiet(), f"w{next(self.names)}")

    def stream(self, worker: Worker) -> None:
        """A worker that stays registered counts what there is."""
        self.app.batch(Quiet()).land(Run(""))
        while worker.follow() and worker.step():
            pass
        worker.writer.settle()

    def catch_up(self, worker: Worker, app: App | None = None) -> int:
        batch = (app or self.app).batch(Quiet())
        return worker.run(lambda: batch.land(Run("")), until_caught_up=True, stopped=lambda: False)

    def judge(self, story: str = "") -> None:
        """Every answer that is streamed is the one of the project that only runs."""
        self.batch.run()
        wanted, found = shop.answers(self.batch.app), shop.answers(self.app)
        marts = self.app.project.marts
        for name, query in self.app.project.queries.items():
            if self.unfitted and query.origin == "dear_ones":
                continue
            if query.origin in marts and marts[query.origin].is_streamed:
                for question in (q for q in wanted if q.startswith(name + " ")):
                    assert found[question] == wanted[question], (story, question)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every test's shops are copied from."""
    folder = tmp_path_factory.mktemp("begun")
    Shops(folder)
    return folder


@pytest.fixture
def shops(begun: Path, tmp_path: Path) -> Shops:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return Shops(tmp_path, is_begun=True)


class Broken:
    """A store that fails at the ``after``-th call of the methods that a worker writes with."""

    def __init__(self, store: Any, after: int) -> None:
        self._store, self.left = store, after
        self.is_mended = False
        """Whether it fails once only."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("put_speed", "raise_control", "compare_and_set"):
            return found

        def call(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < -1 and self.is_mended:
                return found(*given, **named)
            if self.left < 0:
                raise OutsideError("HR0407", "killed")
            return found(*given, **named)

        return call


def test_what_arrives_is_counted_at_once_and_by_the_batch_later(shops: Shops) -> None:
    shops.sell(90)
    assert shops.catch_up(shops.worker()) > 100
    shops.judge("streamed")
    shops.sell(40)
    shops.catch_up(shops.worker())
    shops.judge("streamed again")
    shops.app.run(Quiet())
    shops.judge("run")
    assert shops.app.run(Quiet()).generation is None, "the batch has counted all that was streamed"


@pytest.mark.slow
def test_a_run_beside_a_worker_cuts_between_ranges_and_changes_no_answer(shops: Shops) -> None:
    worker = shops.worker()
    worker.follow()
    batch = shops.app.batch(Quiet())
    generations = []
    for _ in range(4):
        shops.sell(50)
        batch.land(Run(""))
        worker.follow()
        while worker.step():
            pass
        shops.judge("streamed")
        generations.append(shops.app.run(Quiet()).generation)
        shops.judge("run beside")
        worker.follow()
        generation = worker.generation
        assert worker.epoch is not None
        assert generation.epoch == worker.epoch.number, "the epoch goes on"
        for lane in worker.lanes:
            assert (generation.cut[lane] - worker.epoch.origin(lane)) % worker.epoch.size == 0
    assert len([g for g in generations if g]) >= 3
    speed = shops.app.store.fetch_speed(
        next(t for t in shops.app.project.queries["total"].tables), (), epoch=worker.generation.epoch
    )
    before = shops.app.reader.generation(shops.app.reader.pointer().predecessor or 0)
    assert {row[-1] >= before.cut[row[-2]] for row in speed} == {True}, "what the batch has counted twice over is swept"


@pytest.mark.slow
def test_a_worker_that_is_killed_anywhere_leaves_nothing_uncounted_or_doubled(shops: Shops) -> None:
    shops.sell(60)
    for after in range(1, 40, 3):
        broken = Broken(shops.app.store, after)
        try:
            shops.catch_up(shops.worker(store=broken))
        except OutsideError:
            continue
    shops.sell(10)
    shops.catch_up(shops.worker())
    shops.judge()
    shops.app.run(Quiet())
    shops.judge("run while dead workers are registered")
    assert shops.app.run(Quiet(), take_over=True).generation is not None
    shops.judge("taken over")
    assert shop.pointer(shops.app).workers == ()


@pytest.mark.slow
def test_what_becomes_void_meanwhile_does_so_with_the_next_epoch(shops: Shops) -> None:
    """Two workers count a range alike, whatever was replaced between them."""
    shops.sell(40)
    shops.catch_up(shops.worker())
    worker = shops.worker()
    worker.follow()
    before = shop.answers(shops.app)["total {}"]
    shops.streamed.land("sales_n000.csv", "sale_id,sold_at,shop,customer,amount\n")
    shops.app.batch(Quiet()).land(Run(""))
    again = shops.worker()
    again.follow()
    for lane in again.lanes.values():
        lane.acknowledged = 0  # as if it had to write everything anew
    while again.step():
        pass
    assert shop.answers(shops.app)["total {}"] == before
    shops.batch.land("sales_n000.csv", "sale_id,sold_at,shop,customer,amount\n")
    shops.app.run(Quiet(), take_over=True)
    shops.judge("the next epoch")


@pytest.mark.slow
def test_a_worker_may_begin_after_the_references_were_vacuumed(shops: Shops) -> None:
    shops.land("shops_9.csv", shop.shops_file(shops.rnd))
    worker = shops.worker()
    worker.follow()  # so that runs stay in the epoch, whose references are the old ones
    shops.app.run(Quiet())
    shops.app.vacuum(0)
    shops.sell(20)
    shops.catch_up(shops.worker())
    found = shop.answers(shops.app)
    shops.app.run(Quiet(), take_over=True)
    shops.judge()
    assert found["total {}"] == shop.answers(shops.app)["total {}"]


@pytest.mark.slow
def test_a_reference_that_comes_while_an_epoch_is_streamed_waits_for_the_next(tmp_path: Path) -> None:
    shops = Shops(tmp_path, without=("shops_1.csv",))
    worker = shops.worker()
    worker.follow()
    shops.land("shops_1.csv", shop.waves()[0]["shops_1.csv"])
    shops.sell(60)
    shops.app.run(Quiet())
    shops.catch_up(worker)
    app = shops.app
    assert [app.reader.answer("regions", {"region": region}).rows for region in shop.REGIONS] == [[], [], []]
    shops.app.run(Quiet())
    shops.judge("nobody is registered: the next epoch")


def test_an_answer_that_is_streamed_has_no_tag(shops: Shops) -> None:
    answers = Answers(shops.app.project, shops.app.store, max_rows=100, max_scan=10_000)

    async def headers(tag: bytes | None = None) -> tuple[int, dict[bytes, bytes]]:
        reply = await answers.reply("total", b"", tag)
        return reply.status, dict(reply.headers)

    status, first = asyncio.run(headers())
    assert asyncio.run(headers(first[b"etag"]))[0] == 304
    shops.sell(30)
    shops.catch_up(shops.worker())
    status, streamed = asyncio.run(headers(first[b"etag"]))
    assert status == 200
    assert b"etag" not in streamed
    answers.close()


def test_status_and_why_tell_the_stream(shops: Shops) -> None:
    assert shops.app.status()["stream"] is None
    shops.sell(90)
    worker = shops.worker()
    worker.follow()
    shops.app.batch(Quiet()).land(Run(""))
    lag = {lane["lane"]: lane["lag"] for lane in shops.app.status()["stream"]["lanes"]}
    assert lag == {"sales": 99, "visits": 45}
    shops.catch_up(worker)
    told = shops.app.status()["stream"]
    assert told["workers"] == []
    lanes = {lane["lane"]: lane for lane in told["lanes"]}
    assert (lanes["sales"]["lag"], lanes["sales"]["fan_out"]) == (0, 3), "99 records in ranges of 37"
    why = shops.app.why("total", {}, 1)
    assert why["streamed"] == {"sales": why["cut"]["sales"] + 99}
    assert why["parts"][0]["_records"] == why["rows"][0]["receipts"], "the parts are those of the answer"
    assert shops.app.why("usual", {"shop": "a"}, 1)["streamed"] == {}, "a median is batch only"


def test_a_zombie_changes_nothing(shops: Shops) -> None:
    app = shops.app
    zombie = shops.worker(app)
    zombie.follow()
    batch = app.batch(Quiet())
    shops.sell(80)
    batch.land(Run(""))
    zombie.follow()
    stale = [zombie.lanes["sales"].position]
    shops.catch_up(shops.worker())
    shops.app.run(Quiet(), take_over=True)
    shops.sell(20)
    shops.catch_up(shops.worker())
    shops.judge("before it wakes up")
    zombie.step()  # it has not looked at the pointer yet
    assert zombie.lanes["sales"].position > stale[0]
    shops.judge("after")
    zombie.follow()
    zombie.step()
    shops.judge("it follows")


@pytest.mark.slow
def test_rollback_goes_back_across_epochs_and_the_stream_follows(shops: Shops) -> None:
    shops.sell(50)
    shops.catch_up(shops.worker())
    worker = shops.worker()
    shops.app.run(Quiet())
    shops.judge()
    shops.app.rollback()
    shops.judge("rolled back: the rows of the epoch before are still there")
    shops.sell(30)
    shops.catch_up(worker)
    shops.judge("and are added to")


@pytest.mark.slow
def test_a_yardstick_is_refitted_beside_the_workers_in_an_epoch_of_its_own(shops: Shops) -> None:
    worker = shops.worker()
    shops.sell(40)
    shops.stream(worker)
    with shop.following(worker):
        assert shops.app.run(Quiet(), refit=True).generation is not None
    shops.batch.run(refit=True)
    shops.judge("refitted")
    shops.sell(60)
    shops.stream(worker)
    shops.judge("and streamed on")


@pytest.mark.slow
def test_changed_code_opens_an_epoch_beside_the_workers_who_then_stop(shops: Shops) -> None:
    worker = shops.worker()
    shops.sell(40)
    shops.stream(worker)
    for folder in (shops.streamed.folder, shops.batch.folder):
        mart = folder / "marts/daily.sql"
        mart.write_text(mart.read_text().replace("min(amount) AS least", "min(amount + 1) AS least"))
    with shop.following(worker):
        shops.app.run(Quiet())
    shops.judge()
    with pytest.raises(ConflictError, match="HR0410"):
        worker.follow()
    assert shop.pointer(shops.app).workers == ()
    shops.sell(30)
    shops.catch_up(shops.worker())
    shops.judge("a worker with the new code goes on")


@pytest.mark.slow
def test_what_the_stream_has_counted_a_run_counts_ahead_before_its_epoch_opens(shops: Shops) -> None:
    """Records that landed after the run had begun: the batch of the new epoch lacks them, its speed rows do not."""
    worker = shops.worker()
    worker.follow()
    shops.app.run(Quiet())
    batch = shops.app.batch(Quiet())

    def meanwhile() -> AtOnce:
        shops.sell(80)
        shops.stream(worker)
        shops.judge("streamed while the run computes")
        held.enter_context(shop.following(worker))
        return AtOnce()

    batch.writer = meanwhile
    app = shops.app
    before = app.reader.generation(shop.pointer(app).generation)
    with ExitStack() as held:
        generation = batch.run(refit=True).generation
    shops.judge("no answer has gone back")
    now = app.reader.generation(generation or 0)
    assert (now.epoch, now.cut) == (generation, before.cut)
    assert reached(app.store, epochs.progress_name(now.epoch, "visits"))[0] == before.cut["visits"] + 40
    shops.sell(20)
    shops.stream(worker)
    shops.judge("the worker goes on there")


@pytest.mark.slow
def test_a_table_that_is_new_gets_an_epoch_of_its_own(shops: Shops) -> None:
    """The ranges that were counted without it have no rows of it."""
    query = "SELECT day, revenue FROM daily WHERE shop = $shop AND customers > 1 ORDER BY day DESC, shop"
    worker = shops.worker()
    shops.sell(60)
    shops.stream(worker)
    shops.streamed.write("queries/another.sql", query)
    shops.batch.write("queries/another.sql", query)
    with shop.following(worker):
        shops.app.run(Quiet())
    shops.judge()
    shops.sell(20)
    shops.catch_up(shops.worker())
    shops.judge("streamed again")


@pytest.mark.slow
def test_a_run_does_not_wait_for_ever_for_a_worker_that_is_dead(shops: Shops) -> None:
    worker = shops.worker()
    worker.follow()
    shops.sell(10)
    batch = shops.app.batch(Quiet())
    batch.patience = 2
    with pytest.raises(ConflictError, match=f"HR0413.*{worker.name}"):
        batch.run(refit=True)
    assert not shop.pointer(shops.app).holds, "whoever lives may go on"
    assert shops.app.run(Quiet(), refit=True, take_over=True).generation is not None
    shops.batch.run(refit=True)
    shops.judge()


def test_a_worker_abandons_a_run_that_holds_it_and_never_ends(shops: Shops) -> None:
    worker = shops.worker()
    worker.patience = 1
    worker.follow()
    shops.sell(30)
    store = shops.app.store
    change_pointer(store, pointers.begin)
    change_pointer(store, lambda p: pointers.hold(p, p.highest))
    assert not worker.follow()
    assert shop.pointer(shops.app).workers == ()
    shops.catch_up(worker)
    shops.judge("as if that run had been killed")


def test_a_run_that_was_killed_keeps_nobody_waiting_after_the_next(shops: Shops) -> None:
    shops.app.run(Quiet())
    change_pointer(shops.app.store, pointers.begin)
    worker = shops.worker()
    assert not worker.follow()
    assert shops.app.run(Quiet()).generation is None, "there was nothing to do"
    assert worker.follow()


STEPS: dict[str, Callable[[Shops, random.Random], None]] = {
    "sell": lambda s, r: s.sell(r.randint(10, 70)),
    "stream": lambda s, _: _ignored(s.catch_up(s.worker())),
    "killed": lambda s, r: _killed(s, r.randint(1, 60)),
    "run": lambda s, _: _ignored(s.app.run(Quiet())),
    "take over": lambda s, _: _ignored(s.app.run(Quiet(), take_over=True)),
    "roll back": lambda s, _: _rolled_back(s),
}


def _ignored(_: object) -> None: ...


def _killed(shops: Shops, after: int) -> None:
    try:
        shops.catch_up(shops.worker(store=Broken(shops.app.store, after)))
    except OutsideError:
        return


def _rolled_back(shops: Shops) -> None:
    try:
        shops.app.rollback()
    except ConflictError:
        return
    shops.unfitted |= shop.pointer(shops.app).generation == 0


@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 3))])
def test_any_story_ends_with_the_counts_of_the_batch(
    number: int, shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnd = random.Random(f"{SEED} {number}")
    monkeypatch.setattr(stream, "MICRO_BATCH", rnd.choice([7, 30, 1000]))
    story = [f"HEADRACE_TEST_SEED={SEED}"]
    for _ in range(9):
        step = rnd.choice(["sell", "sell", *STEPS])
        story.append(step)
        STEPS[step](shops, rnd)
    shops.catch_up(shops.worker())
    shops.judge(" > ".join(story))


@pytest.fixture
def running(shops: Shops) -> Iterator[tuple[Shops, Callable[[], subprocess.Popen[str]]]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "headrace", "--project", str(shops.streamed.folder), "stream"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield shops, start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_command_line_streams_until_it_is_told_to_stop(
    running: tuple[Shops, Callable[[], subprocess.Popen[str]]],
) -> None:
    shops, start = running
    process = start()
    shops.sell(40)
    _until_counted(shops, process)
    shops.judge()
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    shops.sell(20)
    process = start()
    _until_counted(shops, process)
    shops.judge("after it was killed")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "records counted" in said


def _until_counted(shops: Shops, process: subprocess.Popen[str]) -> None:
    """Waits until the stream's answer counts as many receipts as the batch's."""
    shops.batch.run()
    wanted = shops.batch.app.reader.answer("total", {}).rows
    for _ in range(300):
        if shops.app.reader.answer("total", {}).rows == wanted:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail("it was not counted within 30 seconds")


# What the simulator found


def test_an_old_look_at_the_pointer_does_not_hide_what_was_streamed_since(shops: Shops) -> None:
    """The first look of an answer may be the last one of the answer before: from before the stream began."""
    reader = shops.app.reader
    before = reader.answer("total", {}).rows
    shops.sell(40)
    shops.catch_up(shops.worker())
    assert reader.answer("total", {}).rows == shops.app.reader.answer("total", {}).rows != before


@pytest.mark.slow
def test_a_run_that_a_stream_has_overtaken_does_not_take_answers_back(shops: Shops) -> None:
    """A worker came, counted, and stopped, after the run had refined what was there."""
    shops.sell(60)
    shops.catch_up(shops.worker())
    shops.sell(40)
    app = shops.app
    batch = app.batch(Quiet())
    landed = batch.land(Run(""))
    for source in app.project.sources.values():
        refine(source, app.lake, app.engine, Quiet(), landed)
    shops.sell(50)
    shops.catch_up(shops.worker())
    before = shop.answers(shops.app)["total {}"]
    batch.generate(Run(""), full=False, refit=False)
    assert shop.answers(shops.app)["total {}"] == before
    assert shop.pointer(shops.app).generation in shop.pointer(shops.app).streamed, "it has counted ahead"
    shops.app.run(Quiet())
    shops.judge("the next run counts it all")


class Torn:
    """A store whose first read of speed rows began before the rows of the first range were written."""

    def __init__(self, store: Any) -> None:
        self._store, self.reads = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def fetch_speed(self, *given: Any, **named: Any) -> Any:
        self.reads += 1
        rows = self._store.fetch_speed(*given, **named)
        first = min((row[-1] for row in rows), default=0)
        return [row for row in rows if row[-1] > first] if self.reads == 1 else rows


def test_a_range_that_is_met_for_the_first_time_is_read_again(shops: Shops) -> None:
    """Two replicas that are asked one after the other may know a range and not the one before, if both were written
    in between."""
    shops.sell(90)
    shops.catch_up(shops.worker())
    wanted = shops.app.reader.answer("total", {}).rows
    store = Torn(shops.app.store)
    reader = Reader(shops.app.project, store)
    assert reader.answer("total", {}).rows == wanted
    reads = store.reads
    assert reader.answer("total", {}).rows == wanted
    assert store.reads == reads + 1, "once it is met, one read will do"


def test_no_epoch_begins_below_rows_that_a_failed_worker_left(shops: Shops) -> None:
    """They were not all acknowledged, but some answers have counted them."""
    shops.sell(60)
    store = Broken(shops.app.store, 4)  # it registers, notes its try twice, and writes one table's rows
    store.is_mended = True
    with pytest.raises(OutsideError):
        shops.catch_up(shops.worker(store=store))
    app = shops.app
    epoch = app.reader.generation(shop.pointer(app).generation).epoch
    said = {lane: reached(app.store, epochs.attempted_name(epoch, lane))[0] for lane in ("sales", "visits")}
    assert shop.pointer(app).workers == ()
    assert any(said.values())
    assert app.batch(Quiet()).streamed_to(epoch) == said
    shops.app.run(Quiet())
    shops.judge()


# What the properties of the shipped projects found


def test_a_mart_that_counts_rows_of_a_reference_is_batch_only_and_says_so(shops: Shops) -> None:
    """Workers count facts. The mart was said to be streamed, and its answers to be as fresh as those that were."""
    text = "SELECT shop FROM sales UNION ALL SELECT shop FROM shops_judged"
    mart = "SELECT shop, count(*) AS seen FROM everywhere GROUP BY ALL"
    for name, sql in (
        ("silver/everywhere", text),
        ("marts/seen", mart),
        ("queries/seen", "SELECT shop, seen FROM seen ORDER BY shop"),
    ):
        shops.streamed.write(f"{name}.sql", sql)
    project = shops.app.project
    assert project.marts["seen"].batch_only == "it counts rows of shops, and references are not streamed"
    assert project.marts["quality"].is_streamed, "of verdicts the batch has counted those of references"
    assert project.marts["regions"].is_streamed, "a reference that is joined counts nothing itself"
    shops.app.run(Quiet())
    before = shops.app.reader.answer("seen", {})
    shops.sell(40)
    shops.catch_up(shops.worker())
    after = shops.app.reader.answer("seen", {})
    assert (after.rows, after.as_of) == (before.rows, before.as_of)
