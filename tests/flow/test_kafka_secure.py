"""A real Kafka that asks who comes: by password, by certificate, over TLS; and what is said where it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from headrace.errors import OutsideError
from headrace.flow.stream import Worker
from tests.flow import shop
from tests.kit import ProjectFolder, Quiet
from tools.services import SecureBroker

pytestmark = pytest.mark.slow
DECLARATIONS = """
project = Project("guarded")
project.source("numbers", csv("numbers_*.csv"), id="n", event_time="came_at", topic="{topic}",
               columns="n BIGINT, came_at TIMESTAMPTZ NOT NULL")
"""
FILES = {
    "marts/sums.sql": "SELECT sum(n) AS total, count(*) AS records FROM numbers",
    "queries/sums.sql": "SELECT total, records FROM sums",
}


def settings(address: str, **more: str) -> str:
    lines = [f'{name} = "{value}"' for name, value in {"brokers": address, **more}.items()]
    return "\n".join(["[inbox]", "quiet = 0.0", "[kafka]", "partitions = 2", *lines, ""])


def by_plain(broker: SecureBroker) -> str:
    return settings(
        broker.sasl, security="SASL_PLAINTEXT", mechanism="PLAIN", user=broker.user, password=broker.password
    )


def by_scram(broker: SecureBroker) -> str:
    admin = AdminClient({"bootstrap.servers": broker.address})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    new = UserScramCredentialUpsertion(broker.user, info, b"other words")
    for future in admin.alter_user_scram_credentials([new]).values():
        future.result(30)
    login = {"mechanism": "SCRAM-SHA-512", "user": broker.user, "password": "other words"}
    return settings(broker.sasl_tls, security="SASL_SSL", ca=f"{broker.folder}/ca.crt", **login)


def by_certificate(broker: SecureBroker) -> str:
    place = f"{broker.folder}/client"
    return settings(
        broker.tls, security="SSL", ca=f"{broker.folder}/ca.crt", certificate=f"{place}.crt", key=f"{place}.key"
    )


class Guarded:
    """A project on a topic of the broker, and the access rules of its user."""

    def __init__(self, folder: Path, broker: SecureBroker, how: str) -> None:
        self.broker = broker
        self.topic = f"numbers.{time.time_ns()}"
        declared = DECLARATIONS.format(topic=self.topic)
        self.project = ProjectFolder(folder, declared, {**FILES, "headrace.toml": how})
        self.people = (f"User:{broker.user}", f"User:CN={broker.user}")
        self.admin = AdminClient({"bootstrap.servers": broker.address})
        self.next = 0

    def allow(self, kind: ResourceType, name: str) -> None:
        rules = [AclBinding(kind, name, *rule) for rule in self.rules(kind)]
        for future in self.admin.create_acls(rules).values():
            future.result(30)

    def forbid(self, kind: ResourceType, name: str) -> None:
        rules = [AclBindingFilter(kind, name, *rule) for rule in self.rules(kind)]
        for future in self.admin.delete_acls(rules).values():
            assert future.result(30)

    def rules(self, kind: ResourceType) -> list[tuple[Any, ...]]:
        """What docs/project.md asks for."""
        needed = [AclOperation.READ]
        if kind == ResourceType.TOPIC:
            needed += [AclOperation.WRITE, AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS]
        how = (ResourcePatternType.PREFIXED, AclPermissionType.ALLOW)
        return [(how[0], who, "*", operation, how[1]) for who in self.people for operation in needed]

    def allow_all(self) -> None:
        self.allow(ResourceType.TOPIC, self.topic)
        self.allow(ResourceType.GROUP, "headrace")

    def arrive(self, count: int) -> int:
        text = "n,came_at\n" + "".join(f"{n},2024-01-01T00:00:00Z\n" for n in range(self.next, self.next + count))
        self.project.land(f"numbers_{self.next}.csv", text)
        self.next += count
        return sum(range(self.next))

    def worker(self) -> Worker:
        app = self.project.app
        return Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")


@pytest.mark.parametrize("how", [by_plain, by_scram, by_certificate])
def test_what_the_settings_say_is_believed(
    how: Callable[[SecureBroker], str], kafka_secure: SecureBroker, tmp_path: Path
) -> None:
    guarded = Guarded(tmp_path, kafka_secure, how(kafka_secure))
    guarded.allow_all()
    total = guarded.arrive(50)
    guarded.project.run()
    assert guarded.project.ask("sums") == [{"total": total, "records": 50}]
    total = guarded.arrive(30)
    said = guarded.project.command("stream", "--until-caught-up", "-q")
    assert said.returncode == 0, said.stderr
    assert guarded.project.ask("sums") == [{"total": total, "records": 80}], "streamed"
    guarded.project.run()
    assert guarded.project.ask("sums") == [{"total": total, "records": 80}], "run"
    assert guarded.project.app.doctor()


def test_a_wrong_password_is_said_at_once(kafka_secure: SecureBroker, tmp_path: Path) -> None:
    wrong = by_plain(kafka_secure).replace(kafka_secure.password, "wrong")
    guarded = Guarded(tmp_path, kafka_secure, wrong)
    guarded.arrive(3)
    began = time.monotonic()
    with pytest.raises(OutsideError, match="HR0412.*Invalid username or password"):
        guarded.project.run()
    assert time.monotonic() - began < 20
    assert "wrong" not in guarded.project.command("run", "-q").stderr


def test_an_unknown_authority_is_said(kafka_secure: SecureBroker, tmp_path: Path) -> None:
    stranger = by_certificate(kafka_secure).replace("/ca.crt", "/client.crt")
    guarded = Guarded(tmp_path, kafka_secure, stranger)
    guarded.arrive(3)
    with pytest.raises(OutsideError, match="HR0412.*(certificate|SSL)"):
        guarded.project.run()


@pytest.mark.parametrize("what", ["topic", "group"])
def test_a_right_that_is_missing_or_taken_away_is_no_silence(
    what: str, kafka_secure: SecureBroker, tmp_path: Path
) -> None:
    guarded = Guarded(tmp_path, kafka_secure, by_plain(kafka_secure))
    guarded.allow_all()
    guarded.arrive(20)
    guarded.project.run()
    total = guarded.arrive(20)
    guarded.project.command("land", "-q")
    place = {"topic": (ResourceType.TOPIC, guarded.topic), "group": (ResourceType.GROUP, "headrace")}[what]

    def follow(worker: Worker) -> None:
        """Counts, without the inbox, which would be refused first, until something is refused; and leaves, as a process
        does that ends: a client left behind would stay in the group, and hold lanes that nobody counts."""
        deadline = time.monotonic() + 60
        worker.run(lambda: None, until_caught_up=False, stopped=lambda: time.monotonic() > deadline)

    guarded.forbid(*place)
    try:
        with pytest.raises(OutsideError, match="HR0412.*authorization failed"):
            follow(guarded.worker())
        guarded.allow(*place)
        worker = guarded.worker()
        worker.run(lambda: None, until_caught_up=True, stopped=lambda: False)
        assert guarded.project.ask("sums") == [{"total": total, "records": 40}]
        worker = guarded.worker()
        worker.follow()
        deadline = time.monotonic() + 60
        while not worker.is_caught_up:
            assert time.monotonic() < deadline, "not caught up"
            worker.step(0.1)
        guarded.forbid(*place)
        with pytest.raises(OutsideError, match="HR0412.*authorization failed"):
            follow(worker)
    finally:
        guarded.allow(*place)
    assert shop.pointer(guarded.project.app).generation
