"""Real servers as fixtures. Each worker of a run has its own, from its first test of one on, and heals it after each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pytest

from tools import services

Of = TypeVar("Of")
NAMES = {"kafka", "kafka3", "kafka_secure", "sftp"}


def mark(items: list[pytest.Item]) -> None:
    """Marks each test with the servers it uses."""
    for item in items:
        used = sorted(NAMES.intersection(getattr(item, "fixturenames", ())))
        for name in used:
            item.add_marker(name if name == "sftp" else "kafka")


def started(server: AbstractContextManager[Of]) -> Iterator[Of]:
    """The running server; the test is skipped where a program for it is missing."""
    try:
        value = server.__enter__()
    except services.MissingError as missing:
        pytest.skip(str(missing))
    yield value
    server.__exit__(None, None, None)


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what a test has left open as if its process had been killed: a client that takes part in a group keeps threads
    busy, and would go on to take part in it."""
    from headrace.adapters.kafka_log import KafkaFeed, KafkaLog

    true_feed, opened = KafkaLog.feed, list[KafkaFeed]()

    def feed(log: KafkaLog, *given: Any) -> KafkaFeed:
        opened.append(true_feed(log, *given))
        return opened[-1]

    monkeypatch.setattr(KafkaLog, "feed", feed)
    yield
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def kafka_for_all() -> Iterator[services.Broker]:
    yield from started(services.kafka())


@pytest.fixture
def kafka(feeds: None, kafka_for_all: services.Broker) -> Iterator[services.Broker]:
    """A Kafka broker; topics of other tests are in it."""
    yield kafka_for_all
    kafka_for_all.heal()


@pytest.fixture(scope="session")
def kafka3_for_all() -> Iterator[services.Cluster]:
    yield from started(services.kafka3())


@pytest.fixture
def kafka3(feeds: None, kafka3_for_all: services.Cluster) -> Iterator[services.Cluster]:
    """Three Kafka brokers; topics of other tests are in them."""
    yield kafka3_for_all
    kafka3_for_all.heal()


@pytest.fixture(scope="session")
def kafka_secure_for_all() -> Iterator[services.SecureBroker]:
    yield from started(services.kafka_secure())


@pytest.fixture
def kafka_secure(feeds: None, kafka_secure_for_all: services.SecureBroker) -> Iterator[services.SecureBroker]:
    """A Kafka broker that asks for names and passwords; topics and access rules of other tests are in it."""
    yield kafka_secure_for_all
    kafka_secure_for_all.heal()


@pytest.fixture(scope="session")
def sftp_for_all() -> Iterator[services.Sftp]:
    yield from started(services.sftp())


@pytest.fixture
def sftp(sftp_for_all: services.Sftp) -> Iterator[services.Sftp]:
    """An SFTP server with an empty ``upload``."""
    sftp_for_all.clear()
    yield sftp_for_all
    sftp_for_all.heal()
