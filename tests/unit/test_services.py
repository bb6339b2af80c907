"""The servers that tests run on: they serve, die and come back as they are told, and nothing outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tools import services

ROOT = Path(__file__).resolve().parents[2]


def make_topic(address: str, name: str, copies: int) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    for done in admin.create_topics([NewTopic(name, 1, copies)]).values():
        done.result(30)


def produce(address: str, topic: str, values: list[bytes]) -> list[KafkaError | None]:
    told: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": address, "acks": "all", "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: told.append(error))
    producer.flush(60)
    return told


def consume(address: str, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "one"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    until = time.monotonic() + 60
    while len(found) < count and time.monotonic() < until:
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            found.append(message.value() or b"")
    consumer.close()
    return found


@pytest.mark.slow
def test_a_killed_broker_comes_back_with_what_it_acknowledged(kafka: services.Broker) -> None:
    make_topic(kafka.address, "killed", 1)
    sent = [b"%d" % i for i in range(100)]
    assert produce(kafka.address, "killed", sent) == [None] * 100
    before = kafka.pid
    kafka.kill()
    assert not kafka.alive
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", kafka.port), 5):
        pass
    kafka.start()
    assert kafka.pid != before
    assert consume(kafka.address, "killed", 100) == sent


def test_a_paused_broker_keeps_its_connections_and_says_nothing(kafka: services.Broker) -> None:
    kafka.pause()
    with socket.create_connection(("127.0.0.1", kafka.port), 5) as open_:
        open_.settimeout(0.5)
        open_.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\0\0")  # asks for versions of the protocol
        with pytest.raises(TimeoutError):
            open_.recv(1)
        kafka.resume()
        open_.settimeout(10)
        assert open_.recv(1)


@pytest.mark.slow
def test_of_three_brokers_one_may_die_and_nothing_is_lost(kafka3: services.Cluster) -> None:
    make_topic(kafka3.address, "three", 3)
    assert produce(kafka3.address, "three", [b"before"]) == [None]
    kafka3[0].kill()
    assert produce(kafka3.address, "three", [b"while"]) == [None]
    kafka3[0].start()
    assert produce(kafka3.address, "three", [b"after"]) == [None]
    assert consume(kafka3.address, "three", 3) == [b"before", b"while", b"after"]


def test_the_sftp_server_takes_a_key_and_shows_one_folder(sftp: services.Sftp, tmp_path: Path) -> None:
    (sftp.upload / "a.csv").write_bytes(b"1")
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sftp.port} {sftp.host_key}\n")
    done = subprocess.run(
        ["sftp", "-q", "-b", "-", "-P", str(sftp.port), "-i", sftp.key, "-o", f"UserKnownHostsFile={known}",
         "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", f"{sftp.user}@127.0.0.1"],
        input="ls -1 /\nls -1 /upload\n", capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if not line.startswith("sftp>")] == ["/upload", "/upload/a.csv"]


# What the records promise is shown with a server that any machine has.


class Sleeper(services.Server):
    def command(self) -> list[str]:
        return [sys.executable, "-c", "import time; print('serves', flush=True); time.sleep(600)"]

    def ready(self, log: str) -> bool:
        return "serves" in log


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HEADRACE_SERVICES", str(tmp_path / "home"))
    yield tmp_path / "home"
    services.end(services.records(), patience=0)


def sleeper(folder: Path, owner: int = 0) -> Sleeper:
    folder.mkdir()
    return Sleeper("sleeper", folder, 1, address="none", owner=owner, scrap=str(folder))


def test_a_server_without_owner_is_found_again_and_ended_with_its_folder(home: Path, tmp_path: Path) -> None:
    server = sleeper(tmp_path / "data")
    server.start()
    services.sweep()
    assert server.alive, "nobody owns it"
    (record,) = services.of("sleeper")
    services.end([record])
    server.reap()
    assert not services.born(server.pid)
    assert services.records() == []
    assert not (tmp_path / "data").exists()


def test_a_server_whose_owner_was_killed_is_ended_by_the_next(home: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        server = sleeper(tmp_path / "data", owner.pid)
        server.start()
        services.sweep()
        assert server.alive, "its owner lives"
        owner.kill()
    services.sweep()
    server.reap()
    assert not services.born(server.pid)
    assert services.records() == []


def test_another_process_that_got_the_number_is_left_alone(home: Path, tmp_path: Path) -> None:
    server = sleeper(tmp_path / "data")
    server.start()
    other = json.loads(server.record.file.read_text())
    server.record.file.write_text(json.dumps({**other, "born": "1"}))
    services.end(services.of("sleeper"), patience=0)
    assert server.alive, "the number is the same, the process is another"
    server.kill()


def test_children_are_killed_with_their_server(home: Path, tmp_path: Path) -> None:
    class Parent(Sleeper):
        def command(self) -> list[str]:
            code = (
                "import os, time; child = os.fork(); os.setsid() if not child else print('serves', child, flush=True)"
            )
            return [sys.executable, "-c", f"{code}; time.sleep(600)"]

    server = Parent("sleeper", tmp_path, 1, address="none", owner=0, scrap="")
    server.start()
    child = int(server.log.read_text().split()[1])
    assert services.born(child)
    server.kill()
    until = time.monotonic() + 10
    while services.born(child) and time.monotonic() < until:
        os.sched_yield()
    assert not services.born(child)


def test_the_command_starts_what_is_missing_and_ends_what_it_started(tmp_path: Path, sftp: services.Sftp) -> None:
    def run(*args: str) -> str:
        command = [sys.executable, "-m", "tools.services", *args]
        env = {**os.environ, "HEADRACE_SERVICES": str(tmp_path), "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout

    first = run("up", "sftp")
    assert "sftp://headrace@127.0.0.1:" in first
    assert run("up", "sftp").split()[6] == first.split()[6], "it runs already"
    pid = int(first.split()[6])
    os.kill(pid, signal.SIGKILL)
    again = run("up", "sftp")
    assert int(again.split()[6]) != pid
    assert "sftp" not in run("down", "sftp")
    assert not services.born(int(again.split()[6]))
    assert sftp.alive, "of another folder of records"
