"""Suite ``sftp``: listing and downloading over SFTP, against OpenSSH's own client; and files of an SFTP server into a topic of
Kafka, against that client with a bare producer, and against a message at a time. One server and one broker in one run."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from benchmarks.measure import Figure, Result, run_command
from benchmarks.stream import PARTITIONS
from tools import services

SHAPES = {"one file of 256 MiB": (1, 256 << 20), "1,000 files of 10 kB": (1000, 10_000)}

FILES, ROWS = 20, 20_000
"""Files that go into a topic, and records of each."""
ONE_BY_ONE = 2_000
"""Records for the peer that sends one at a time: its rate does not depend on how many there are."""
DECLARATIONS = """
from headrace import Project, csv

project = Project("sessions")
project.source(
    "sessions", csv("*.csv"), twins=True, event_time="event_datetime", topic="{topic}", lane_by="msisdn",
    id="msisdn, tower_id, up_bytes, down_bytes, data_type, ip_address, website_url, event_datetime",
    columns="msisdn VARCHAR, tower_id INTEGER, up_bytes BIGINT, down_bytes BIGINT, data_type VARCHAR, ip_address VARCHAR, "
    "website_url VARCHAR, event_datetime TIMESTAMP",
)
"""


def suite(work: Path, rounds: int) -> Result:
    result = Result("sftp")
    target = work / "sftp-downloads"
    with services.sftp() as server:
        known = server.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        peer = ["sftp", "-q", "-b", str(server.folder / "batch"), "-i", str(server.key), "-P", str(server.port)]
        peer += ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", f"{server.user}@127.0.0.1"]
        for shape, (count, size) in SHAPES.items():
            server.clear()
            noise = random.Random(1).randbytes(1 << 20)
            for n in range(count):
                (server.upload / f"f_{n:04}.csv").write_bytes((noise * (size // len(noise) + 1))[:size])
            (server.folder / "batch").write_text(f"get /upload/*.csv {target}\n")
            ours = [sys.executable, "-m", "benchmarks.sftp", "get", server.address, server.host_key, str(server.key)]
            names = {f"headrace, {shape}": ours, f"sftp get, {shape}": peer}
            result.runs |= {name: [] for name in names}
            for _ in range(rounds):
                for name, command in names.items():
                    shutil.rmtree(target, ignore_errors=True)
                    target.mkdir()
                    result.runs[name].append(run_command(command))
                if sum(f.stat().st_size for f in target.iterdir()) != count * size:
                    raise SystemExit("sftp get did not bring every byte")
            reports = [r.report for r in result.runs[f"headrace, {shape}"]]
            if {(r["files"], r["bytes"]) for r in reports} != {(count, count * size)}:
                raise SystemExit("the inbox did not give every byte")
            rate = sorted(r["files"] / r["seconds"] for r in reports)[len(reports) // 2]
            speed = sorted(r["bytes"] / r["seconds"] for r in reports)[len(reports) // 2] / 1e6
            result.ratio(f"{shape}: time of sftp get / time of the inbox", f"sftp get, {shape}", f"headrace, {shape}")
            result.notes.append(
                f"{shape}, listing and reading without the start: {rate:,.1f} files/s, {speed:,.0f} MB/s"
            )
        with services.kafka(heap="384m") as broker:
            to_topic(result, server, broker.address, work, rounds)
        shutil.rmtree(target)
    result.notes.append("the inbox lists, checks each file before and after, and holds it in memory; sftp writes files")
    return result


def to_topic(result: Result, server: services.Sftp, brokers: str, work: Path, rounds: int) -> None:
    """Files of call detail records, from the server into a topic."""
    folder, target = work / "sftp-project", work / "sftp-downloads"
    known = server.folder / "known_hosts"
    client = ["sftp", "-q", "-b", str(server.folder / "batch"), "-i", str(server.key), "-P", str(server.port)]
    client += ["-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes", f"{server.user}@127.0.0.1"]
    (server.folder / "batch").write_text(f"get /upload/*.csv {target}\n")
    names = {"headrace land": FILES, "sftp get and a bare producer": FILES, "sftp get and a message at a time": 1}
    rates: dict[str, list[float]] = {name: [] for name in names}
    admin = AdminClient({"bootstrap.servers": brokers})
    for _ in range(rounds):
        for name, files in names.items():
            rows = ROWS if files > 1 else ONE_BY_ONE
            server.clear()
            for n in range(files):
                (server.upload / f"sessions_{n:04}.csv").write_text(sessions(n, rows))
            for made in (target, folder):
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
            topic = f"sessions.{time.time_ns()}"
            admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
            (folder / "project.py").write_text(DECLARATIONS.format(topic=topic))
            (folder / "headrace.toml").write_text(
                f'[kafka]\nbrokers = "{brokers}"\n[inbox]\nurl = "{server.address}"\n'
                f'host_key = "{server.host_key}"\nkey = "file:{server.key}"\nquiet = 0.0\n'
            )
            ours = [sys.executable, "-m", "benchmarks.sftp", "land", str(folder)]
            how = "bare" if files > 1 else "one"
            theirs = [sys.executable, "-m", "benchmarks.sftp", how, brokers, topic, str(target), *client]
            ran = run_command(ours if name == "headrace land" else theirs)
            if ended(brokers, topic) != files * rows:
                raise SystemExit(f"{name} sent {ended(brokers, topic):,} of {files * rows:,} records")
            result.runs.setdefault(name, []).append(ran)
            rates[name].append(files * rows / ran.seconds)
    ours_, bare, one = (sorted(rate)[len(rate) // 2] for rate in rates.values())
    result.figures += [
        Figure("SFTP to a topic: records a second / sftp get and a bare producer", ours_ / bare, at_least=0.7, detail=f"{ours_:,.0f}/s, {bare:,.0f}/s"),
        Figure("SFTP to a topic: records a second / sftp get and a message at a time", ours_ / one, at_least=50, detail=f"{one:,.0f}/s"),
    ]  # fmt: skip
    result.notes.append(
        "into a topic, whole processes: the bare producer sends each line as it is; ours makes JSON, checks it and numbers twins"
    )


def sessions(number: int, rows: int) -> str:
    """A file of data sessions."""
    rnd = random.Random(number)
    lines = ["msisdn,tower_id,up_bytes,down_bytes,data_type,ip_address,website_url,event_datetime"]
    for n in range(rows):
        lines.append(
            f"27{rnd.randrange(50_000):09d},{n % 2000},{rnd.randrange(10**6)},{rnd.randrange(10**7)},video,10.0.{n % 256}.7,"
            f"https://example.org/{n % 977:06d},2024-01-01 {n % 24:02d}:{n % 60:02d}:00"
        )
    return "\n".join(lines) + "\n"


def ended(brokers: str, topic: str) -> int:
    """How many records a topic has."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "benchmark"})
    lanes = consumer.list_topics(topic).topics[topic].partitions
    end = sum(consumer.get_watermark_offsets(TopicPartition(topic, lane), timeout=10)[1] for lane in lanes)
    consumer.close()
    return end


def land(folder: str) -> None:
    """Files into the topic, by Headrace; nothing is copied to bronze."""
    from benchmarks.peers.headrace_batch import Watch
    from headrace.app import App
    from headrace.model.run import Run

    App(Path(folder)).batch(Watch()).land(Run(""))


def bare(brokers: str, topic: str, target: str, *client: str) -> None:
    """Each line as it is, keyed by what is before its first comma."""
    subprocess.run(client, check=True, stdout=subprocess.DEVNULL)
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 50,
                         "partitioner": "murmur2_random", "queue.buffering.max.messages": 500_000})  # fmt: skip
    for file in sorted(Path(target).glob("*.csv")):
        for line in file.read_bytes().splitlines()[1:]:
            while True:
                try:
                    producer.produce(topic, line, line.partition(b",")[0])
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
    producer.flush()


def one(brokers: str, topic: str, target: str, *client: str) -> None:
    """As both originals do: a dictionary a line, and each message is waited for."""
    subprocess.run(client, check=True, stdout=subprocess.DEVNULL)
    producer = Producer({"bootstrap.servers": brokers})
    for file in sorted(Path(target).glob("*.csv")):
        with file.open(newline="") as lines:
            for record in csv.DictReader(lines):
                producer.produce(topic, json.dumps(record), record["msisdn"])
                producer.flush()


def get(url: str, host_key: str, key: str) -> None:
    """Reads everything from a server, and reports what it was."""
    from headrace.adapters.sftp_inbox import SftpInbox

    inbox = SftpInbox(url=url, host_key=host_key, key=Path(key).read_text("utf-8"))
    started = time.perf_counter()
    sizes = [len(inbox.read(file)) for file in inbox.list("*.csv")]
    seconds = time.perf_counter() - started
    print(json.dumps({"files": len(sizes), "bytes": sum(sizes), "seconds": seconds}))


def main(what: str, *given: str) -> None:
    ways: dict[str, Callable[..., None]] = {"get": get, "land": land, "bare": bare, "one": one}
    ways[what](*given)


if __name__ == "__main__":
    main(*sys.argv[1:])
