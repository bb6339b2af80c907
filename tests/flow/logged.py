"""The shop with its log in a real Kafka: what arrives, who counts it, and what must come of it, told from the topics alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from headrace.app import App
from headrace.errors import ConflictError
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.flow import shop
from tests.kit import Opened, ProjectFolder, Quiet
from tools.services import Broker, Cluster

ROOT = Path(__file__).parents[2]
TOGETHER = {
    "silver/movements.sql": "SELECT shop FROM sales UNION ALL SELECT shop FROM visits",
    "marts/busy.sql": "SELECT shop, count(*) AS events FROM movements GROUP BY ALL",
    "queries/busy.sql": "SELECT shop, measure(events) AS events FROM busy GROUP BY shop ORDER BY shop",
}
"""A mart whose rows two topics feed."""
HEALED = 90.0
"""Seconds after which whatever was broken counts again, without anybody's help."""


@dataclass
class Recount:
    """What the messages of both topics must come to, by the contract and rules of the shop, in plain Python."""

    revenue: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)
    visits: Counter[str] = field(default_factory=Counter)
    balance: dict[str, dict[str, int]] = field(default_factory=dict)
    filed: int = 0
    """Messages that were lines of files."""

    @property
    def answers(self) -> dict[str, Any]:
        """As ``Shops.answered`` gives them."""
        places = sorted({*self.receipts, *self.visits})
        return {
            "sales": [(s, self.revenue[s], self.receipts[s]) for s in places if self.receipts[s]],
            "busy": [(s, self.receipts[s] + self.visits[s]) for s in places],
        }


class Shops:
    """A project whose log is in Kafka, and one that gets the same files and only runs, embedded."""

    def __init__(self, folder: Path, broker: Broker | Cluster, seed: int) -> None:
        self.broker = broker
        self.seed = seed
        (folder / "logged").mkdir()
        self.batch = shop.make(folder / "batch")
        self.tag = f"{seed}.{time.time_ns()}"
        declared = shop.DECLARATIONS
        for name, time_column in (("sales", "sold_at"), ("visits", "came_at")):
            column = f'event_time="{time_column}"'
            declared = declared.replace(column, f'{column}, topic="{name}.{self.tag}"')
        self.logged = ProjectFolder(folder / "logged", declared, shop.FILES)
        replicas = 3 if isinstance(broker, Cluster) else 1
        self.logged.write(
            "headrace.toml",
            shop.FILES["headrace.toml"]
            + f'[kafka]\nbrokers = "{broker.address}"\npartitions = 3\nreplicas = {replicas}\n[stream]\nrange = 37\n',
        )
        for project in (self.logged, self.batch):
            for name, content in TOGETHER.items():
                project.write(name, content)
        self.replicas = replicas
        self.admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 2})
        self.rnd = random.Random(seed)
        self.next, self.number = 120, 0
        self.filed = 0
        """Records of all files of facts."""
        for name, content in shop.waves()[0].items():
            self.land(name, content)

    @property
    def app(self) -> App:
        return Opened(self.logged.folder)

    def topic(self, source: str = "sales") -> str:
        return f"{source}.{self.tag}"

    def land(self, name: str, text: str) -> None:
        if name.startswith(("sales_", "visits_")):
            self.filed += text.count("\n") - name.endswith(".csv")
        self.logged.land(name, text)
        self.batch.land(name, text)

    def sell(self, count: int) -> None:
        """New receipts, among them duplicates of earlier ones, and visits, as files."""
        self.number += 1
        self.land(f"sales_n{self.number:03}.csv", shop.sales_file(self.rnd, self.next, count))
        self.land(f"visits_n{self.number:03}.jsonl", shop.visits_file(self.next, count // 2))
        self.next += count

    # Messages that others produce

    def produce(self, numbers: Iterable[int], *, by_shop: bool = False, **settings: Any) -> None:
        """Receipts by their numbers, keyed by id or by shop."""
        producer = Producer({"bootstrap.servers": self.broker.address, "partitioner": "murmur2_random", **settings})
        for number in numbers:
            key, value = message(number)
            producer.produce(self.topic(), value, json.loads(value)["shop"] if by_shop else key)
        assert producer.flush(60) == 0

    def trade(self, count: int, **settings: Any) -> None:
        """New receipts and visits as messages, among them some that are sent twice and some that are no records."""
        numbers = [*range(self.next, self.next + count)]
        self.next += count
        self.produce([*numbers, *self.rnd.sample(numbers, max(1, count // 20))], **settings)
        producer = Producer({"bootstrap.servers": self.broker.address, "partitioner": "murmur2_random", **settings})
        for number, line in zip(numbers, shop.visits_file(numbers[0], count).splitlines(), strict=True):
            producer.produce(self.topic("visits"), line.encode(), str(number))
        assert producer.flush(60) == 0

    # Workers in this process

    def worker(self, app: App | None = None, **ports: Any) -> Worker:
        app = app or self.app
        if shop.pointer(app).generation == 0:
            app.run(Quiet())
        given = {
            "log": app.log,
            "lake": app.lake,
            "engine": app.engine,
            "store": app.store,
            "observer": Quiet(),
            **ports,
        }
        return Worker(app.project, **given, name=f"w{random.random()}")

    def run(self, **options: Any) -> Run:
        return run_until_done(self.app, HEALED, **options)

    def catch_up(self, worker: Worker) -> int:
        app = self.app
        batch = app.batch(Quiet())
        return worker.run(lambda: batch.land(Run("")), until_caught_up=True, stopped=lambda: False)

    # What is right

    def judge(self, story: str = "", *, but: str = "") -> None:
        """Every streamed answer is the one of the project that never saw Kafka; ``but`` is a query that may differ."""
        self.batch.run()
        wanted, found = shop.answers(self.batch.app), shop.answers(self.app)
        marts = self.app.project.marts
        for name, query in self.app.project.queries.items():
            if name != but and query.origin in marts and marts[query.origin].is_streamed:
                for question in (q for q in wanted if q.startswith(name + " ")):
                    assert found[question][0] == wanted[question][0], (self.seed, story, question)

    def messages(self, source: str) -> dict[int, list[Message]]:
        """All that can be read of a topic, by partition."""
        topic = self.topic(source)
        reader = Consumer(
            {
                "bootstrap.servers": self.broker.address,
                "group.id": "recount",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "log_level": 2,
            }
        )
        found: dict[int, list[Message]] = {p: [] for p in reader.list_topics(topic, 30).topics[topic].partitions}
        reader.assign([TopicPartition(topic, p, 0) for p in found])
        waiting, deadline = set(found), time.monotonic() + 60
        while waiting:
            assert time.monotonic() < deadline, f"{topic} cannot be read"
            for one in reader.consume(10_000, 0.2):
                if one.error() is None:
                    found[one.partition() or 0].append(one)
                    waiting.add(one.partition() or 0)
                else:
                    waiting.discard(one.partition() or 0)
        reader.close()
        return found

    def recount(self) -> Recount:
        """What the topics hold, counted without any of the product's code."""
        found = Recount()
        for source, id in (("sales", "sale_id"), ("visits", "visit_id")):
            horizon = self.app.project.sources[source].horizon
            balance = dict.fromkeys(("landed", "clean", "quarantined", "duplicates"), 0)
            for messages in self.messages(source).values():
                passing: dict[Any, int] = {}
                for one in messages:
                    balance["landed"] += 1
                    found.filed += "file" in headers_of(one)
                    record = read(one)
                    if record is None or not accepts(source, record):
                        balance["quarantined"] += 1
                        continue
                    known, offset = passing.get(str(record[id])), one.offset() or 0
                    passing[str(record[id])] = offset
                    if known is not None and offset - known <= horizon:
                        balance["duplicates"] += 1
                        continue
                    balance["clean"] += 1
                    if source == "visits":
                        found.visits[record["shop"]] += 1
                        continue
                    found.receipts[record["shop"]] += 1
                    if record.get("amount") is not None:
                        found.revenue[record["shop"]] += Decimal(record["amount"])  # type: ignore[assignment]
            found.balance[source] = balance
        return found

    def answered(self) -> dict[str, Any]:
        """What the project answers now, of all that is sold and of all that comes and goes."""
        reader = self.app.reader
        sales = [(s, Decimal(str(r or 0)), int(n)) for s, r, n, _ in reader.answer("all_sales", {}).rows]
        return {"sales": sales, "busy": [(s, int(n)) for s, n in reader.answer("busy", {}).rows]}

    def settle(self, story: str) -> None:
        """Waits until what is answered is what is in the topics: whoever counts must come to it by himself (I1, I5, I6)."""
        deadline, wanted = time.monotonic() + HEALED, self.recount()
        while wanted.filed < self.filed or self.answered() != wanted.answers:
            assert time.monotonic() < deadline, (self.seed, story, self.answered(), wanted)
            time.sleep(0.1)
            if wanted.filed < self.filed:  # workers produce them
                wanted = self.recount()
        assert wanted.filed == self.filed, (self.seed, story, "every line of a file is one message")

    def close_books(self) -> None:
        """A last run, without workers: the same answers, and of every record it is known what became of it (I1, I2)."""
        self.run(take_over=True)
        wanted = self.recount()
        assert self.answered() == wanted.answers, self.seed
        references = {source.name for source in self.app.project.sources.values() if source.role == "reference"}
        found = {name: counts for name, counts in shop.balance(self.app).items() if name not in references}
        for counts in found.values():
            assert counts.pop("superseded") == 0
        assert found == wanted.balance, self.seed

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Asks all the while; no answer may count less than the one before (I3), and none may be refused (I4)."""
        failures: list[BaseException | str] = []
        over = threading.Event()

        def watch() -> None:
            app, last = self.app, 0
            reader = type(app.reader)(app.project, app.store)
            while not over.is_set():
                try:
                    now = sum(int(row[1]) for row in reader.answer("busy", {}).rows)
                except BaseException as error:  # noqa: BLE001 - whatever it was, somebody was refused
                    failures.append(error)
                    return
                if now < last:
                    failures.append(f"{now} after {last}")
                    return
                last = now
                over.wait(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(30)
        assert not failures, (self.seed, failures)

    def group(self) -> str:
        """The name of the consumer group of the workers of now."""
        app = self.app
        return f"headrace.{app.project.name}.{app.reader.generation(shop.pointer(app).generation).epoch}"

    def shares(self) -> list[int]:
        """How many partitions each member of the group has."""
        described = self.admin.describe_consumer_groups([self.group()], request_timeout=30)[self.group()].result(30)
        return sorted(len(m.assignment.topic_partitions) for m in described.members)

    def leader(self, partition: int) -> int:
        """The broker that leads a partition of the receipts."""
        found = self.admin.describe_topics(TopicCollection([self.topic()]))[self.topic()].result(30)
        return int(found.partitions[partition].leader.id)

    def whole(self) -> None:
        """Waits until every replica of the receipts has everything again."""
        deadline = time.monotonic() + HEALED
        while True:
            found = self.admin.describe_topics(TopicCollection([self.topic()]))[self.topic()].result(30)
            if all(len(p.isr) == self.replicas for p in found.partitions):
                return
            assert time.monotonic() < deadline, [(p.id, [n.id for n in p.isr]) for p in found.partitions]
            time.sleep(0.1)

    def shared_by(self, count: int) -> None:
        """Waits until so many workers share all partitions."""
        deadline = time.monotonic() + HEALED
        lanes = sum(len(self.app.log.lanes(self.app.project.sources[name])) for name in ("sales", "visits"))
        while len(shares := self.shares()) != count or not all(shares) or sum(shares) != lanes:
            assert time.monotonic() < deadline, (self.seed, shares)
            time.sleep(0.1)


def run_until_done(app: App, within: float, **options: Any) -> Run:
    """A run; again, for so many seconds, where another one, or a worker that came just then, moved the pointer first."""
    deadline = time.monotonic() + within
    while True:
        try:
            return app.run(Quiet(), **options)
        except ConflictError:
            if time.monotonic() > deadline:
                raise


def message(number: int) -> tuple[str, bytes]:
    """A receipt as `shop` writes them into files, by its id."""
    sale, sold_at, place, customer, amount = shop.sales_file(random.Random(1), number, 1).splitlines()[1].split(",")
    sent = {"sale_id": sale, "sold_at": sold_at, "shop": place, "customer": customer or None, "amount": amount}
    return sale, json.dumps(sent).encode()


def headers_of(message: Message) -> dict[str, Any]:
    found: Any = message.headers() or ()
    return dict(found)


def read(message: Message) -> dict[str, Any] | None:
    """A message as a record; None where it is none."""
    if "error" in headers_of(message):
        return None
    try:
        found = json.loads(message.value() or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def accepts(source: str, record: dict[str, Any]) -> bool:
    """Whether a record keeps the contract and the rules of the shop."""
    if source == "visits":
        return True
    try:
        return record.get("amount") is None or Decimal(record["amount"]) >= 0
    except InvalidOperation:
        return False


class Crew:
    """Stream workers as processes."""

    def __init__(self, shops: Shops) -> None:
        self.shops = shops
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return self.run([sys.executable, "-m", "headrace", *self.project, "stream", "-q", *more], env=env)

    @property
    def project(self) -> list[str]:
        return ["--project", str(self.shops.logged.folder)]

    def run(self, command: list[str], *, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.shops.logged.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(env or {})}, cwd=ROOT)
        self.running.append(process)
        return process

    def said(self) -> str:
        return (self.shops.logged.folder / "workers.log").read_text()

    def kill(self, which: signal.Signals = signal.SIGKILL, process: subprocess.Popen[bytes] | None = None) -> None:
        process = process or self.shops.rnd.choice(self.running)
        self.running.remove(process)
        process.send_signal(which)
        process.wait(60)

    def work_on(self) -> None:
        """That nobody stopped who was not told to (I5)."""
        assert [p.poll() for p in self.running] == [None] * len(self.running), (self.shops.seed, self.said())

    def leave(self) -> None:
        """All of them, as they should."""
        while self.running:
            self.kill(signal.SIGTERM)

    def end(self) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
