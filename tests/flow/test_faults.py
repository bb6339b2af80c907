"""Faults on a real Kafka: whatever is killed, stopped, doubled or rewritten, the answers come to what the topics hold.

Each begins at a fresh seed, and `./dev soak` repeats all of them at many.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from headrace.errors import OutsideError
from headrace.ports import Feed, Log
from tests.flow import shop
from tests.flow.clocks import Clocks, off_by, other
from tests.flow.logged import Crew, Shops, message
from tests.kit import Quiet
from tools.services import Broker, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def shops(tmp_path: Path, kafka: Broker, seed: int) -> Shops:
    return started(Shops(tmp_path, kafka, seed))


def started(shops: Shops) -> Shops:
    shops.app.run(Quiet())
    return shops


@pytest.fixture
def crew(shops: Shops) -> Iterator[Crew]:
    found = Crew(shops)
    yield found
    found.end()


# Workers


@pytest.mark.fault("F2")
def test_killed_between_the_rows_and_the_checkpoint(shops: Shops, crew: Crew) -> None:
    dies(shops, crew, "checkpoint")


@pytest.mark.fault("F3")
def test_killed_between_the_checkpoint_and_the_commit(shops: Shops, crew: Crew) -> None:
    dies(shops, crew, "commit")


def dies(shops: Shops, crew: Crew, what: str) -> None:
    at, folder = shops.rnd.randint(1, 5), str(shops.logged.folder)
    code = f"from pathlib import Path; from tests.flow.killing import stream_and_die; stream_and_die(Path({folder!r}), {what!r}, {at})"
    with shops.watched():
        dying = crew.run([sys.executable, "-c", code])
        shops.trade(500)
        assert dying.wait(60) == -signal.SIGKILL, crew.said()
        crew.running.clear()
        crew.start()
        shops.trade(60)
        shops.settle("the next one")
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F4")
def test_a_worker_that_was_stopped_for_longer_than_its_session_comes_back(shops: Shops, crew: Crew) -> None:
    crew.start()
    crew.start()
    shops.shared_by(2)
    with shops.watched():
        shops.trade(shops.rnd.randint(20, 200))
        time.sleep(shops.rnd.uniform(0, 0.5))  # anywhere in what it does
        zombie = shops.rnd.choice(crew.running)
        zombie.send_signal(signal.SIGSTOP)
        shops.trade(200)
        shops.settle("its lanes are the other one's")
        shops.trade(100)
        zombie.send_signal(signal.SIGCONT)
        shops.trade(100)
        shops.settle("it is back")
    shops.shared_by(2)
    crew.work_on()
    crew.leave()
    shops.close_books()


class Alone:
    """A log that gives a worker all lanes, whoever else counts them."""

    def __init__(self, log: Log, name: str) -> None:
        self._log, self._name = log, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def feed(self, group: str, sources: Any, start: Any) -> Feed:
        return self._log.feed(f"{group}.{self._name}", sources, start)


@pytest.mark.fault("F5")
def test_two_workers_in_every_lane(shops: Shops) -> None:
    apps = [shops.app, shops.app]
    told = Quiet()
    workers = [shops.worker(app, log=Alone(app.log, str(i)), observer=told) for i, app in enumerate(apps)]
    with shops.watched():
        for _ in range(6):
            shops.trade(shops.rnd.randint(10, 120))
            for worker in shops.rnd.choices(workers, k=shops.rnd.randint(0, 6)):
                worker.follow()
                worker.step(0.1)
        for more in (0, 300):  # when these come each has every lane, and the second one finds that the first was there
            if more:
                shops.trade(more)
            for worker in workers:
                worker.follow()
                while worker.step(0.1) or not worker.is_caught_up:
                    pass
        assert {len(worker.lanes) for worker in workers} == {6}, "each of them has every lane"
        shops.settle("both have counted everything")
    for worker in workers:
        worker.leave()
    assert any("HR0419" in alarm for alarm in told.alarms), told.alarms
    shops.close_books()


@pytest.mark.fault("F6")
def test_workers_that_join_and_leave_all_the_time(shops: Shops, crew: Crew) -> None:
    crew.start()
    crew.start()
    with shops.watched():
        until = time.monotonic() + 20
        while time.monotonic() < until:
            shops.trade(shops.rnd.randint(5, 60))
            crew.start()
            time.sleep(2)  # the beat of the storm
            crew.kill(shops.rnd.choice([signal.SIGTERM, signal.SIGKILL]))
        shops.settle("after the storm")
    crew.work_on()
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F28")
@pytest.mark.clock
def test_workers_whose_clocks_are_a_day_off(shops: Shops, crew: Crew, tmp_path: Path, clocks: Clocks) -> None:
    day = 86_400
    for seconds in (day, -day):
        crew.start(env=other(clocks, tmp_path, seconds))
    jump = tmp_path / "jump"
    crew.start(env=clocks(off_by(jump, 0)))
    shops.shared_by(3)
    with shops.watched():
        shops.trade(100)
        shops.settle("each at its own time")
        off_by(jump, shops.rnd.choice([day, -day]))
        shops.trade(100)
        shops.sell(60)
        shops.settle("one has jumped")
    crew.work_on()
    crew.leave()
    shops.close_books()


# The broker


@pytest.mark.fault("F15")
def test_a_broker_that_is_away_for_a_while(shops: Shops, crew: Crew, kafka: Broker) -> None:
    crew.start()
    crew.start()
    shops.shared_by(2)
    with shops.watched():
        shops.trade(shops.rnd.randint(20, 200))
        time.sleep(shops.rnd.uniform(0, 1))  # anywhere in what they do
        kafka.kill()
        shops.sell(40)
        time.sleep(shops.rnd.uniform(1, 5))
        kafka.start()
        shops.trade(60)
        shops.settle("it is back")
    crew.work_on()
    crew.leave()
    shops.close_books()


@pytest.fixture
def three(tmp_path: Path, kafka3: Cluster, seed: int) -> Shops:
    return started(Shops(tmp_path, kafka3, seed))


@pytest.mark.fault("F15x3")
def test_leaders_that_are_killed_under_load(three: Shops, kafka3: Cluster) -> None:
    crew = Crew(three)
    try:
        crew.start()
        crew.start()
        three.shared_by(2)
        with three.watched():
            for round_ in range(2):
                three.trade(three.rnd.randint(50, 300), acks="all")
                leader = kafka3[three.leader(three.rnd.randrange(3)) - 1]
                leader.kill()
                three.trade(200, acks="all", **{"enable.idempotence": True})
                three.settle(f"without leader {round_}")
                leader.start()
                three.whole()
        crew.work_on()
        crew.leave()
        three.close_books()
    finally:
        crew.end()


# What is in the topics


@pytest.mark.fault("F16")
def test_offsets_of_the_group_that_are_deleted(shops: Shops, crew: Crew) -> None:
    crew.start()
    shops.trade(400)
    shops.settle("first")
    group = shops.group()
    crew.leave()
    committed = shops.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
    assert any(p.offset > 0 for p in committed.topic_partitions), "there is something to lose"
    shops.admin.delete_consumer_groups([group])[group].result(30)
    with shops.watched():
        shops.trade(100)
        crew.start()
        shops.settle("from the checkpoints")
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F19")
def test_more_partitions_under_load(shops: Shops, crew: Crew) -> None:
    crew.start()
    crew.start()
    shops.shared_by(2)
    with shops.watched():
        shops.trade(150)
        for future in shops.admin.create_partitions([NewPartitions(shops.topic(), 8)]).values():
            future.result(30)
        for _ in range(5):
            shops.trade(shops.rnd.randint(10, 100))
        shops.sell(40)
        shops.shared_by(2)
        shops.trade(100)
        assert all(shops.messages("sales").values()), "each of them is used"
        shops.settle("eight of them")
    crew.work_on()
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F20")
def test_two_producers_that_part_keys_differently(shops: Shops) -> None:
    numbers = [*range(shops.next, shops.next + 300)]
    shops.rnd.shuffle(numbers)
    with shops.watched():
        shops.produce(numbers[:150], by_shop=True, partitioner="consistent_random")
        shops.catch_up(shops.worker())
        shops.produce(numbers[150:], by_shop=True, partitioner="murmur2_random")
        shops.catch_up(shops.worker())
        shops.settle("both")
    places: dict[bytes, set[int]] = {}
    for partition, messages in shops.messages("sales").items():
        for one in messages:
            places.setdefault(bytes(one.key() or b""), set()).add(partition)
    assert any(len(places[name.encode()]) > 1 for name in shop.SHOPS), "one key in two lanes"
    shops.close_books()


@pytest.mark.fault("F21")
def test_killed_while_two_topics_feed_one_row(shops: Shops, crew: Crew) -> None:
    """Twice, and not a third time before all is counted: whoever is killed as soon as a first lane is counted may three times
    be at the same record of the second, which is then isolated, as one that kills is meant to be."""
    with shops.watched():
        for _ in range(2):
            crew.start()
            shops.trade(shops.rnd.randint(50, 200))
            deadline, before = time.monotonic() + 30, shops.answered()
            while shops.answered() == before and time.monotonic() < deadline:
                time.sleep(0.02)
            crew.kill()  # in the midst of both
        crew.start()
        shops.settle("killed twice")
    assert all(events > 0 for _, events in shops.answered()["busy"])
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F22")
def test_a_log_that_was_rewritten_is_not_counted_on(shops: Shops, kafka: Broker) -> None:
    shops.trade(shops.rnd.choice([20, 200]))  # in the first range, or beyond a checkpoint
    shops.catch_up(shops.worker())
    before = shops.answered()
    ends = shops.app.log.lanes(shops.app.project.sources["sales"])
    kafka.stop()
    for partition in (kafka.folder / "data").glob(f"{shops.topic()}-*"):
        for file in partition.iterdir():
            if file.name != "partition.metadata":
                file.unlink()
    kafka.start()
    with pytest.raises(OutsideError, match="HR0417"):
        shops.catch_up(shops.worker())  # it ends before what was counted
    while any(
        end <= ends[lane][1] for lane, (_, end) in shops.app.log.lanes(shops.app.project.sources["sales"]).items()
    ):
        shops.trade(200)
    assert shops.app.log.lanes(shops.app.project.sources["sales"]).keys() == ends.keys(), (
        "the same lanes, by their names"
    )
    for _ in range(2):
        with pytest.raises(OutsideError, match="HR0417"):
            shops.catch_up(shops.worker())
        with pytest.raises(OutsideError, match="HR0417"):
            shops.app.run(Quiet())
    assert shops.answered() == before, "nothing of what came instead was counted"


@pytest.mark.fault("F23")
def test_a_producer_that_repeats_itself(shops: Shops) -> None:
    sent: list[int] = []
    for number in range(shops.next, shops.next + 1000):
        sent.append(number)
        if shops.rnd.random() < 0.01:
            sent.append(shops.rnd.choice(sent[-20:]))
    again = len(sent) - len(set(sent))
    assert again, "some are"
    before = shops.recount().balance["sales"]["duplicates"]
    at = shops.rnd.randrange(len(sent))
    with shops.watched():
        shops.produce(sent[:at])
        shops.catch_up(shops.worker())
        shops.produce(sent[at:])
        shops.catch_up(shops.worker())
        shops.settle("each once")
    good = [n for n in sent if sent.count(n) > 1 and accepted(n)]
    assert shops.recount().balance["sales"]["duplicates"] - before == len(good) - len(set(good))
    shops.close_books()


def accepted(number: int) -> bool:
    amount = json.loads(message(number)[1])["amount"]
    return amount != "oops" and float(amount) >= 0


# Runs beside it


@pytest.mark.fault("F25")
def test_all_is_computed_anew_while_it_is_streamed(shops: Shops, crew: Crew) -> None:
    crew.start()
    crew.start()
    shops.shared_by(2)  # a worker that comes while a run opens an epoch is sent away
    with shops.watched():
        for _ in range(3):
            shops.trade(shops.rnd.randint(20, 150))
            generation = shops.run(full=True).generation
            assert generation is not None
            shops.trade(20)
            shops.settle("beside a run")
    crew.work_on()
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F26")
def test_a_run_that_is_killed_half_way(shops: Shops, crew: Crew) -> None:
    command = [sys.executable, "-m", "headrace", *crew.project, "run", "--full", "-q"]
    began = time.monotonic()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    took = time.monotonic() - began
    crew.start()
    with shops.watched():
        shops.trade(150)
        shops.settle("before")
        before = shop.pointer(shops.app).generation
        run = crew.run(command)
        try:
            run.wait(took * shops.rnd.uniform(0.3, 0.9))
        except subprocess.TimeoutExpired:
            crew.kill(signal.SIGKILL, run)
            assert shop.pointer(shops.app).generation in (before, before + 1)
        else:
            crew.running.remove(run)
        shops.settle("killed")
        shops.trade(50)
        shops.settle("the stream goes on")
        assert shops.run(full=True).generation is not None
        shops.settle("run again")
    crew.work_on()
    crew.leave()
    shops.close_books()


@pytest.mark.fault("F27")
def test_back_to_the_generation_before(shops: Shops) -> None:
    shops.trade(shops.rnd.randint(20, 150))
    shops.app.run(Quiet())
    before = shop.everything(shops.app)["answers"]
    shops.trade(shops.rnd.randint(20, 150))
    shops.app.run(Quiet())
    assert shop.answers(shops.app) != before
    shops.app.rollback()
    assert shop.answers(shops.app) == before, shops.seed
    shops.catch_up(shops.worker())
    shops.settle("streamed on from there")
    shops.close_books()
