"""The log in a real Kafka: files and messages, batch and stream, workers that come, go and are killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from headrace.adapters import kafka_log
from headrace.errors import ConflictError, OutsideError
from headrace.flow.gauges import state
from tests.flow import shop
from tests.flow.logged import Crew, Shops, message
from tests.kit import Quiet
from tools.services import Broker


@pytest.fixture
def shops(tmp_path: Path, kafka: Broker, seed: int) -> Shops:
    return Shops(tmp_path, kafka, seed)


@pytest.mark.slow
def test_files_go_through_the_topic_and_the_batch_counts_them_once(shops: Shops) -> None:
    shops.app.run(Quiet())
    shops.judge("first run")
    shops.sell(60)
    shops.app.run(Quiet())
    shops.judge("second run")
    assert shops.app.run(Quiet()).generation is None


def test_what_is_streamed_from_topics_is_what_the_batch_counts(shops: Shops) -> None:
    shops.sell(90)
    shops.catch_up(shops.worker())
    shops.judge("streamed")
    shops.sell(60)
    shops.catch_up(shops.worker())
    shops.judge("streamed again")
    shops.app.run(Quiet())
    shops.judge("run")
    shops.sell(30)
    shops.catch_up(shops.worker())
    shops.judge("and streamed in the next epoch")


@pytest.mark.slow
def test_lag_is_what_the_topic_has_and_nobody_has_counted(shops: Shops) -> None:
    def lag(*, far: bool) -> int:
        app = shops.app
        return sum(state(app.project, app.lake, app.engine, app.store, app.log if far else None).lag.values())

    shops.app.run(Quiet())
    shops.produce(range(7000, 7040))
    assert lag(far=True) == 40
    assert lag(far=False) == 0  # bronze has not heard of them
    shops.catch_up(shops.worker())
    assert lag(far=True) == 0


# Messages that others produce


@pytest.mark.slow
def test_what_comes_by_topic_and_by_file_is_counted_once(shops: Shops) -> None:
    shops.app.run(Quiet())
    shops.produce(range(5000, 5040))
    shops.catch_up(shops.worker())
    text = "sale_id,sold_at,shop,customer,amount\n" + "".join(shop._sale(n) for n in range(5000, 5080))
    shops.land("sales_both.csv", text)
    shops.catch_up(shops.worker())
    shops.judge("by both ways", but="quality")  # which counts the second ones as duplicates
    shops.app.run(Quiet())
    shops.judge("run", but="quality")


@pytest.mark.slow
def test_messages_that_cannot_be_read_are_quarantined_and_the_rest_is_counted(shops: Shops) -> None:
    shops.app.run(Quiet())
    before = shops.app.status()["sources"][0]
    producer = Producer({"bootstrap.servers": shops.broker.address})
    for value in (b"{", b"\xff\xfe", b'["a list"]', None, b"null", message(6000)[1]):
        producer.produce(f"sales.{shops.tag}", value, "k")
    odd: list[dict[str, bytes | None]] = [
        {"row": b"seven"},
        {"file": b"x", "sha256": b"y", "row": "٣".encode()},
        {"error": b"no"},
    ]
    for number, headers in enumerate(odd):  # those of another's systems
        producer.produce(f"sales.{shops.tag}", message(6003 + number)[1], "k", headers=headers)
    producer.flush(30)
    worker = shops.worker()
    shops.catch_up(worker)
    streamed = {key: rows for key, rows in shop.answers(shops.app).items() if key.startswith("quality")}
    shops.app.run(Quiet())
    after = shops.app.status()["sources"][0]
    assert (after["quarantined"] - before["quarantined"], after["clean"] - before["clean"]) == (4, 1 + len(odd))
    assert after["landed"] - before["landed"] == 5 + len(odd), "a message without a value is no record"
    for key, rows in streamed.items():
        assert shop.answers(shops.app)[key][0] == rows[0], "the stream had quarantined the same"


@pytest.mark.slow
@pytest.mark.fault("F24")
def test_what_a_transaction_took_back_is_not_counted(shops: Shops) -> None:
    shops.app.run(Quiet())
    producer = Producer({"bootstrap.servers": shops.broker.address, "transactional.id": shops.tag})
    producer.init_transactions(30)
    for numbers, commit in ((range(7000, 7020), False), (range(7020, 7040), True), (range(7040, 7060), False)):
        producer.begin_transaction()
        for number in numbers:
            key, value = message(number)
            producer.produce(f"sales.{shops.tag}", value, key)
        producer.flush(30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    shops.catch_up(shops.worker())
    text = "sale_id,sold_at,shop,customer,amount\n" + "".join(shop._sale(n) for n in range(7020, 7040))
    shops.batch.land("sales_tx.csv", text)
    shops.judge("streamed")
    shops.app.run(Quiet())
    shops.judge("run")


# Topics that change


@pytest.fixture
def admin(shops: Shops) -> AdminClient:
    return AdminClient({"bootstrap.servers": shops.broker.address})


@pytest.mark.slow
def test_a_topic_that_gets_more_partitions_goes_on(shops: Shops, admin: AdminClient) -> None:
    from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

    shops.app.run(Quiet())
    shops.sell(40)
    shops.catch_up(shops.worker())
    for future in admin.create_partitions([NewPartitions(f"sales.{shops.tag}", 6)]).values():
        future.result(30)
    shops.produce(range(8000, 8060))
    shops.catch_up(shops.worker())
    text = "sale_id,sold_at,shop,customer,amount\n" + "".join(shop._sale(n) for n in range(8000, 8060))
    shops.batch.land("sales_more.csv", text)
    shops.judge("streamed")
    shops.app.run(Quiet())
    shops.judge("run")


@pytest.mark.slow
@pytest.mark.fault("F18")
def test_a_topic_that_is_made_again_is_another_one(shops: Shops, admin: AdminClient) -> None:
    shops.app.run(Quiet())
    shops.sell(40)
    shops.catch_up(shops.worker())
    shops.app.run(Quiet())
    topic = f"sales.{shops.tag}"
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while shops.app.log.lanes(shops.app.project.sources["sales"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    time.sleep(0.5)
    shops.produce(range(9000, 9050))
    shops.catch_up(shops.worker())
    text = "sale_id,sold_at,shop,customer,amount\n" + "".join(shop._sale(n) for n in range(9000, 9050))
    shops.batch.land("sales_again.csv", text)
    shops.judge("streamed")
    shops.app.run(Quiet())
    shops.judge("run")


@pytest.mark.slow
@pytest.mark.fault("F17")
def test_records_that_are_gone_stop_the_lane_and_are_named(shops: Shops, admin: AdminClient) -> None:
    from confluent_kafka import TopicPartition

    shops.app.run(Quiet())
    shops.produce(range(10_000, 10_060))
    ends = shops.app.log.lanes(shops.app.project.sources["sales"])
    lost = [TopicPartition(f"sales.{shops.tag}", int(lane.rpartition("/")[2]), end) for lane, (_, end) in ends.items()]
    for future in admin.delete_records(lost).values():
        future.result(30)
    for attempt in (lambda: shops.catch_up(shops.worker()), lambda: shops.app.run(Quiet())):
        with pytest.raises(OutsideError, match="HR0411"):
            attempt()
    observer = Quiet()
    shops.app.land(observer, accept_gaps=True)
    assert len(observer.alarms) == len(shops.app.status()["gaps"]) == len(ends)
    shops.app.run(Quiet(), take_over=True)
    shops.sell(30)
    shops.catch_up(shops.worker())
    shops.judge("what is lost is not in the files either")


@pytest.mark.slow
def test_what_a_topic_had_forgotten_before_it_was_first_seen_is_no_gap(shops: Shops, admin: AdminClient) -> None:
    from confluent_kafka import TopicPartition

    topic = f"sales.{shops.tag}"
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    shops.produce(range(11_000, 11_060))
    lanes = shops.app.log.lanes(shops.app.project.sources["sales"])
    forgotten = [TopicPartition(topic, int(lane.rpartition("/")[2]), end // 2) for lane, (_, end) in lanes.items()]
    for future in admin.delete_records(forgotten).values():
        future.result(30)
    shops.app.run(Quiet())
    shops.produce(range(11_060, 11_100))
    assert shops.catch_up(shops.worker()) == 40
    streamed = shop.answers(shops.app)
    shops.app.run(Quiet(), full=True)
    for question, (rows, _) in shop.answers(shops.app).items():
        if not question.startswith(("usual", "receipts", "good_days")):
            assert streamed[question][0] == rows, question


# Workers that come, go and are killed


@pytest.fixture
def crew(shops: Shops) -> Iterator[Crew]:
    found = Crew(shops)
    yield found
    found.end()


@pytest.mark.slow
@pytest.mark.fault("F1")
def test_workers_that_are_killed_leave_nothing_uncounted_or_doubled(shops: Shops, crew: Crew) -> None:
    shops.app.run(Quiet())
    crew.start()
    crew.start()
    for _ in range(4):
        shops.sell(shops.rnd.randint(30, 120))
        time.sleep(shops.rnd.uniform(0.5, 4))
        crew.kill(shops.rnd.choice([signal.SIGKILL, signal.SIGTERM]))
        if shops.rnd.random() < 0.5:
            with contextlib.suppress(ConflictError):
                shops.app.run(Quiet())
        crew.start()
    shops.sell(50)
    while crew.running:
        crew.kill()
    # Who was killed is missed after its session has ended; until then its lanes are nobody's.
    crew.start("--until-caught-up").wait(90)
    shops.judge("streamed")
    shops.app.run(Quiet(), take_over=True)
    shops.judge("run")


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_costs_nothing(shops: Shops, crew: Crew, kafka: Broker) -> None:
    shops.app.run(Quiet())
    crew.start()
    shops.sell(60)
    time.sleep(shops.rnd.uniform(0.5, 3))
    kafka.kill()
    shops.sell(40)
    time.sleep(1)
    kafka.start()
    shops.sell(30)
    crew.start("--until-caught-up").wait(90)
    while crew.running:
        crew.kill(signal.SIGTERM)
    shops.catch_up(shops.worker())
    shops.judge("streamed")


@pytest.mark.slow
def test_landing_that_is_killed_half_way_produces_the_rest_only(shops: Shops) -> None:
    shops.app.run(Quiet())
    shops.land(
        "sales_large.csv",
        "sale_id,sold_at,shop,customer,amount\n" + "".join(shop._sale(n) for n in range(20_000, 80_000)),
    )
    command = [sys.executable, "-m", "headrace", "--project", str(shops.logged.folder), "land", "-q"]
    before = sum(end for _, end in shops.app.log.lanes(shops.app.project.sources["sales"]).values())
    for _ in range(3):
        process = subprocess.Popen(command)
        enough = before + shops.rnd.randint(500, 9000)
        while process.poll() is None and _produced(shops) < enough:
            time.sleep(0.05)
        process.kill()
        process.wait()
        before = max(before, _produced(shops))
    shops.app.run(Quiet())
    counts = {s["source"]: s for s in shops.app.status()["sources"]}["sales"]
    shops.batch.run()
    wanted = {s["source"]: s for s in shops.batch.app.status()["sources"]}["sales"]
    assert counts["landed"] == wanted["landed"], (shops.seed, "every row is in the topic once")
    shops.judge("run")


def test_landing_of_many_files_that_is_interrupted_appends_none_of_them_again(
    shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even those that the ends of the lanes say nothing of any more, which the horizon might not know either."""
    monkeypatch.setattr(kafka_log, "CHUNK", 40)

    class Interrupted(Quiet):
        def advance(self, count: int) -> None:
            self.left = getattr(self, "left", shops.rnd.randint(25, 35)) - 1
            if not self.left:
                raise KeyboardInterrupt

    for _ in range(40):
        shops.sell(20)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            shops.app.land(Interrupted())
    shops.app.land(Quiet())
    files = (shops.logged.folder / "landing").glob("sales_*.csv")
    assert _produced(shops) == sum(file.read_text().count("\n") - 1 for file in files), shops.seed


def _produced(shops: Shops) -> int:
    return sum(end for _, end in shops.app.log.lanes(shops.app.project.sources["sales"]).values())
