"""Suite ``stream``: messages of a real Kafka broker to serving rows in SQLite, exactly once, against a loop that commits row
and offset per message, and against the same pipeline without a store."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.measure import ROOT, Figure, Result, environment, run, run_command
from tools import services

MESSAGES = 1_000_000
LOOPED = 40_000
"""Messages that the loop is given: its rate does not depend on how many there are."""
QUIX = 200_000
"""And Quix Streams, likewise."""
PARTITIONS = 4
RECORDED = "rows.pickle"
"""Where ``record`` leaves what it would have written, for others to write."""
DECLARATIONS = """
from headrace import Project, jsonl

project = Project("calls")
calls = project.source(
    "calls", jsonl("calls_*.jsonl"), id="call_id", event_time="started_at", topic="{topic}", lane_by="msisdn",
    columns="call_id BIGINT, msisdn VARCHAR NOT NULL, started_at TIMESTAMPTZ NOT NULL, kind VARCHAR NOT NULL, "
    "tower BIGINT, up BIGINT NOT NULL, down BIGINT NOT NULL, url VARCHAR",
)
calls.rule("up >= 0", "negative volume")
"""
FILES = {
    "marts/usage.sql": "SELECT msisdn, CAST(started_at AS DATE) AS day, kind, sum(up) AS up, sum(down) AS down, count(*) AS events FROM calls GROUP BY ALL",
    "queries/usage.sql": "SELECT day, kind, up, down, events FROM usage WHERE msisdn = $msisdn AND day BETWEEN $first AND $last ORDER BY day, kind",
    "queries/total.sql": "SELECT measure(up) AS up, measure(down) AS down, measure(events) AS events FROM usage",
}


def suite(work: Path, rounds: int, *, peers: bool) -> Result:
    result = Result("stream")
    names = ("headrace stream", "without a store", "a loop, row by row")
    quix = environment(work / "quix", "quixstreams==3.28.1") if peers else None
    goals = {1_000: 6, 50_000: 3}
    with services.kafka(heap="384m") as broker:
        for subscribers, faster in goals.items():
            rates: dict[str, list[float]] = {name: [] for name in names}
            for name in names:
                result.runs[f"{name}, {subscribers:,} subscribers"] = []
            for number in range(rounds):
                topic = f"calls.{subscribers}.{number}.{time.time_ns()}"
                folder = project(work / "stream", broker.address, topic)
                run("benchmarks.stream", "publish", folder)
                produce(broker.address, topic, subscribers)
                for name, what in zip(names, ("stream", "discard", "loop"), strict=True):
                    ran = run("benchmarks.stream", what, folder, broker.address, topic)
                    result.runs[f"{name}, {subscribers:,} subscribers"].append(ran)
                    rates[name].append(ran.report["records"] / ran.report["seconds"])
                check(result, subscribers)
                if quix is not None:
                    command = [quix, str(ROOT / "benchmarks/peers/quix_stream.py"), broker.address, topic, str(QUIX)]
                    ran = run_command(command)
                    result.runs.setdefault(f"Quix Streams, {subscribers:,} subscribers", []).append(ran)
                    rates.setdefault("quix", []).append(ran.report["records"] / ran.report["seconds"])
            ours, bare, loop = (statistics.median(rates[name]) for name in names)
            told = f"{ours / 1000:,.0f} k/s against {{:,.0f}} k/s"
            result.figures += [
                Figure(f"{subscribers:,} subscribers: Headrace / a loop that commits each message", ours / loop, at_least=faster, detail=told.format(loop / 1000)),
                Figure(f"{subscribers:,} subscribers: Headrace / the same without a store", ours / bare, at_least=0.6, detail=told.format(bare / 1000)),
            ]  # fmt: skip
            if quix is not None:
                theirs = statistics.median(rates["quix"])
                result.figures.append(
                    Figure(f"{subscribers:,} subscribers: Headrace / Quix Streams, a count by key and day", ours / theirs, at_least=8, detail=told.format(theirs / 1000))
                )  # fmt: skip
    result.notes.append(
        f"{MESSAGES:,} messages of about 165 bytes in {PARTITIONS} partitions; rules, ids and a horizon of a million on; the loop has {LOOPED:,} of them and neither"
    )
    return result


def project(folder: Path, brokers: str, topic: str) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "landing").mkdir(parents=True)
    (folder / "project.py").write_text(DECLARATIONS.format(topic=topic))
    (folder / "headrace.toml").write_text(f'[kafka]\nbrokers = "{brokers}"\n[stream]\nrange = 1000000\n')
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def produce(brokers: str, topic: str, subscribers: int, first: int = 0, count: int = MESSAGES) -> None:
    """Calls with ids from ``first`` on."""
    rnd = random.Random(subscribers)
    producer = Producer(
        {"bootstrap.servers": brokers, "linger.ms": 50, "partitioner": "murmur2_random", "queue.buffering.max.messages": 500_000}
    )  # fmt: skip
    for i in range(count):
        msisdn = f"27{rnd.randrange(subscribers):09d}"
        kind = ("video", "audio", "image", "text", "app")[i % 5]
        message = (
            f'{{"call_id":{first + i},"msisdn":"{msisdn}","started_at":"2024-01-{1 + i * 28 // count:02d}T10:{i % 60:02d}:00Z",'
            f'"kind":"{kind}","tower":{i % 2000},"up":{100_000 + i % 900_000},"down":{100_000 + i * 7 % 900_000},'
            f'"url":"https://example.org/{i % 977:06d}"}}'
        )
        while True:
            try:
                producer.produce(topic, message, msisdn)
            except BufferError:
                producer.poll(0.1)
            else:
                break
    producer.flush()


def join(brokers: str, topic: str) -> None:
    """The first group of all has a broker make the topic in which it keeps groups, which takes seconds."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "first"})
    consumer.subscribe([topic])
    while not consumer.assignment():
        consumer.poll(0.1)
    consumer.close()


def check(result: Result, subscribers: int) -> None:
    """No rate counts unless the answer is the sum of what was sent."""
    report = result.runs[f"headrace stream, {subscribers:,} subscribers"][-1].report
    up, down = (sum(100_000 + i * n % 900_000 for i in range(MESSAGES)) for n in (1, 7))
    if (report["events"], report["up"], report["down"]) != (MESSAGES, up, down):
        raise SystemExit(f"the stream counted {report}, and {(MESSAGES, up, down)} was sent")


def main(what: str, folder: str, brokers: str = "", topic: str = "") -> None:
    if what == "loop":
        print(json.dumps(loop(brokers, topic)))
        return
    from headrace import wiring
    from headrace.app import App
    from headrace.flow.stream import Worker
    from headrace.flow.writing import Behind

    app, quiet = App(Path(folder)), wiring.silence()
    if what == "publish":
        name = app.project.sources["calls"].topic
        admin = AdminClient({"bootstrap.servers": app.settings["kafka.brokers"]})
        admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(30)
        join(app.settings["kafka.brokers"], name)
        app.run(quiet)
        return
    store, rows = app.store, 0
    put = {"discard": _nothing, "record": _recorder(Path(folder) / RECORDED)}.get(what, store.put_speed)

    def put_speed(*given: Any) -> int:
        nonlocal rows
        written = put(*given)
        rows += written
        return written

    store.put_speed = put_speed  # type: ignore[method-assign, assignment]
    if what != "stream":
        store.raise_control = _nothing  # type: ignore[method-assign, assignment]
        # From the beginning once more: nothing of it was, or will be, written.
        true = store.control
        store.controls = lambda names: [store.control(name) for name in names]  # type: ignore[method-assign]
        store.control = lambda name: None if name.startswith(("progress/", "checkpoint/")) else true(name)  # type: ignore[method-assign]
    worker = Worker(app.project, app.log, app.lake, app.engine, store, quiet, what, Behind(2))
    started = time.monotonic()
    records = worker.run(lambda: None, until_caught_up=True, stopped=lambda: False)
    report = {"records": records, "rows": rows, "seconds": time.monotonic() - started}
    if what == "stream":
        ((up, down, events),) = app.reader.answer("total", {}).rows
        report |= {"up": int(up), "down": int(down), "events": int(events)}
    print(json.dumps(report))


def _nothing(*_: object) -> int:
    return 0


def _recorder(file: Path) -> Callable[..., int]:
    """Keeps what would be written."""

    def put_speed(table: Any, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Any]) -> int:
        found = list(rows)
        with file.open("ab") as recorded:
            pickle.dump((table, epoch, lane, start, fence, found), recorded)
        return len(found)

    return put_speed


def loop(brokers: str, topic: str) -> dict[str, float]:
    """What such systems are often begun with: a row and the offset in one transaction, for each message."""
    import sqlite3
    import tempfile

    from confluent_kafka import TopicPartition

    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(f"{folder}/rows.db", isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE usage (msisdn, day, kind, up, down, events, PRIMARY KEY (msisdn, day, kind))")
        database.execute("CREATE TABLE offsets (partition PRIMARY KEY, next)")
        consumer = Consumer({"bootstrap.servers": brokers, "group.id": "loop", "fetch.queue.backoff.ms": 5})
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        first = consumer.poll(30)
        started, count = time.monotonic(), 0
        message = first
        while message is not None and count < LOOPED:
            sent = json.loads(message.value() or b"")
            database.execute("BEGIN")
            database.execute(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET up = up + excluded.up, "
                "down = down + excluded.down, events = events + 1",
                (sent["msisdn"], sent["started_at"][:10], sent["kind"], sent["up"], sent["down"]),
            )
            database.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?)", (message.partition(), message.offset()))
            database.execute("COMMIT")
            count += 1
            message = consumer.poll(10)
        seconds = time.monotonic() - started
        consumer.close()
        database.close()
    return {"records": count, "seconds": seconds}


if __name__ == "__main__":
    main(*sys.argv[1:])
