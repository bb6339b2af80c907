"""The log in a real Kafka: files and messages, batch and stream, workers that come, go and are killed."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from headrace.app import App
from headrace.flow.stream import Worker
from headrace.model.run import Run
from tests.flow import shop
from tests.kit import ProjectFolder, Quiet
from tools.services import Broker

SEED = int(os.environ.get("HEADRACE_TEST_SEED") or random.SystemRandom().randrange(10**6))


class Shops:
    """A project whose log is in Kafka, and one that gets the same files and only runs, embedded."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.broker = broker
        (folder / "logged").mkdir()
        self.batch = shop.make(folder / "batch")
        self.tag = f"{SEED}.{time.time_ns()}"
        declared = shop.DECLARATIONS
        for name, time_column in (("sales", "sold_at"), ("visits", "came_at")):
            column = f'event_time="{time_column}"'
            declared = declared.replace(column, f'{column}, topic="{name}.{self.tag}"')
        self.logged = ProjectFolder(folder / "logged", declared, shop.FILES)
        self.logged.write(
            "headrace.toml",
            shop.FILES["headrace.toml"]
            + f'[kafka]\nbrokers = "{broker.address}"\npartitions = 3\n[stream]\nrange = 37\n',
        )
        self.rnd = random.Random(SEED)
        self.next, self.number = 120, 0
        for name, content in shop.waves()[0].items():
            self.land(name, content)

    @property
    def app(self) -> App:
        return App(self.logged.folder)

    def land(self, name: str, text: str) -> None:
        self.logged.land(name, text)
        self.batch.land(name, text)

    def sell(self, count: int) -> None:
        """New receipts, among them duplicates of earlier ones, and visits."""
        self.number += 1
        self.land(f"sales_n{self.number:03}.csv", shop.sales_file(self.rnd, self.next, count))
        self.land(f"visits_n{self.number:03}.jsonl", shop.visits_file(self.next, count // 2))
        self.next += count

    def worker(self, app: App | None = None) -> Worker:
        app = app or self.app
        if shop.pointer(app).generation == 0:
            app.run(Quiet())
        return Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), f"w{random.random()}")

    def catch_up(self, worker: Worker) -> int:
        app = self.app
        batch = app.batch(Quiet())
        return worker.run(lambda: batch.land(Run("")), until_caught_up=True, stopped=lambda: False)

    def judge(self, story: str = "") -> None:
        """Every streamed answer is the one of the project that never saw Kafka."""
        self.batch.run()
        wanted, found = shop.answers(self.batch.app), shop.answers(self.app)
        marts = self.app.project.marts
        for name, query in self.app.project.queries.items():
            if query.origin in marts and marts[query.origin].is_streamed:
                for question in (q for q in wanted if q.startswith(name + " ")):
                    assert found[question][0] == wanted[question][0], (SEED, story, question)


@pytest.fixture
def shops(tmp_path: Path, kafka: Broker) -> Shops:
    return Shops(tmp_path, kafka)


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
