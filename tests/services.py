"""Real servers as fixtures. Each worker of a run has its own, from its first test of one on, and heals it after each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pytest

from tools import services

Of = TypeVar("Of")
NAMES = {
    "kafka": "kafka",
    "kafka3": "kafka",
    "kafka_secure": "kafka",
    "sftp": "sftp",
    "cassandra": "cassandra",
    "cassandra3": "cassandra",
    "cassandra_secure": "cassandra",
    "postgres": "postgres",
    "prometheus": "prometheus",
}
"""Marks by fixtures."""


def mark(items: list[pytest.Item]) -> None:
    """Marks each test with the servers it uses."""
    for item in items:
        for name in sorted({NAMES[name] for name in getattr(item, "fixturenames", ()) if name in NAMES}):
            item.add_marker(name)


def apart(items: list[pytest.Item]) -> list[pytest.Item]:
    """Tests of three nodes first, those of three brokers where three quarters are done: two workers begin with a half each, so
    that each has one of them, and not at the same time, as they would starve each other on two cores."""
    nodes, brokers, others = list[pytest.Item](), list[pytest.Item](), list[pytest.Item]()
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if used & {"cassandra3", "cassandra3_for_all", "proxied_nodes"}:
            nodes.append(item)
        elif used & {"kafka3", "kafka3_for_all"} or item.get_closest_marker("fault"):
            brokers.append(item)
        else:
            others.append(item)
    most = len(others) * 3 // 4
    return [*nodes, *others[:most], *brokers, *others[most:]]


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


@pytest.fixture(scope="module", autouse=True)
def sessions() -> Iterator[None]:
    """Ends the sessions with Cassandra that tests of a module have left open: they would go on to look for nodes that are
    gone, after pauses at random, which Hypothesis takes for those of other tests."""
    from headrace.adapters.cassandra_session import Connected

    true_open, opened = Connected._open, list[Connected]()

    def open_session(connected: Connected) -> Any:
        opened.append(connected)
        return true_open(connected)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connected, "_open", open_session)
        yield
    for one in opened:
        one.close()


# Servers that many modules use are there until the end; the others would only keep processors busy.


@pytest.fixture(scope="session")
def kafka_for_all() -> Iterator[services.Broker]:
    yield from started(services.kafka())


@pytest.fixture
def kafka(feeds: None, kafka_for_all: services.Broker) -> Iterator[services.Broker]:
    """A Kafka broker; topics of other tests are in it."""
    yield kafka_for_all
    kafka_for_all.heal()


@pytest.fixture(scope="module")
def kafka3_for_all() -> Iterator[services.Cluster]:
    yield from started(services.kafka3())


@pytest.fixture
def kafka3(feeds: None, kafka3_for_all: services.Cluster) -> Iterator[services.Cluster]:
    """Three Kafka brokers; topics of other tests are in them."""
    yield kafka3_for_all
    kafka3_for_all.heal()


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="session")
def cassandra_for_all() -> Iterator[services.Node]:
    yield from started(services.cassandra())


@pytest.fixture
def cassandra(cassandra_for_all: services.Node) -> Iterator[services.Node]:
    """A Cassandra node; keyspaces of other tests are in it."""
    yield cassandra_for_all
    cassandra_for_all.heal()


@pytest.fixture(scope="module")
def cassandra3_for_all() -> Iterator[services.Nodes]:
    yield from started(services.cassandra3())


@pytest.fixture
def cassandra3(cassandra3_for_all: services.Nodes) -> Iterator[services.Nodes]:
    """Three Cassandra nodes; keyspaces of other tests are in them."""
    yield cassandra3_for_all
    cassandra3_for_all.heal()


@pytest.fixture(scope="module")
def cassandra_secure_for_all() -> Iterator[services.SecureNode]:
    yield from started(services.cassandra_secure())


@pytest.fixture
def cassandra_secure(cassandra_secure_for_all: services.SecureNode) -> Iterator[services.SecureNode]:
    """A Cassandra node that asks for passwords and certificates; keyspaces and roles of other tests are in it."""
    yield cassandra_secure_for_all
    cassandra_secure_for_all.heal()


@pytest.fixture(scope="session")
def postgres_for_all() -> Iterator[services.Postgres]:
    yield from started(services.postgres())


@pytest.fixture
def postgres(postgres_for_all: services.Postgres) -> Iterator[services.Postgres]:
    """A PostgreSQL server; schemas of other tests are in it."""
    yield postgres_for_all
    postgres_for_all.heal()


@pytest.fixture
def prometheus() -> Iterator[services.Prometheus]:
    """A Prometheus that scrapes nothing yet, and remembers nothing of other tests."""
    yield from started(services.prometheus())
