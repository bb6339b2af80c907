"""Suite ``live``: how long from an event to an answer that counts it, how soon a worker that was killed has caught up, and what
memory it takes to catch up with millions of messages; on a real Kafka broker."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Producer

from benchmarks import stream
from benchmarks.measure import ROOT, Figure, Result, run
from headrace.app import App
from tools import services

RATE = 2_000
"""Records a second."""
SECONDS = 20
BACKLOG = (1_000_000, 5_000_000)


def suite(work: Path) -> Result:
    result = Result("live")
    with services.kafka(heap="384m") as broker:
        folder = stream.project(work / "live", broker.address, f"calls.live.{time.time_ns()}")
        run("benchmarks.stream", "publish", folder)
        with worker(folder):
            waits = latency(folder, broker.address)
        median, late = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
        told = f"{RATE:,} records/s for {SECONDS} s; asked all the while by a reader in another process"
        result.figures += [
            Figure("event to answer, median", median, "s", at_most=1, detail=told),
            Figure("event to answer, 99 of 100", late, "s", at_most=2, detail=told),
            Figure("restart after a kill until caught up, beyond the start of Python", restart(folder, broker.address), "s", at_most=10,
                   detail=f"{RATE * 5:,} records came meanwhile; the broker misses the killed worker after 6 s"),
        ]  # fmt: skip
        peaks = []
        for messages in BACKLOG:
            topic = f"calls.backlog.{time.time_ns()}"
            folder = stream.project(work / "live", broker.address, topic)
            run("benchmarks.stream", "publish", folder)
            for first in range(0, messages, stream.MESSAGES):
                stream.produce(broker.address, topic, 1_000, first)
            ran = run("benchmarks.stream", "backlog", folder)
            result.runs[f"catching up with {messages:,} messages"] = [ran]
            if ran.report["events"] != messages:
                raise SystemExit(f"the stream counted {ran.report}, of {messages:,}")
            peaks.append(ran.rss_mb)
        told = ", ".join(f"{peak} MB" for peak in peaks)
        result.figures.append(
            Figure("peak memory, 5 M messages behind / 1 M", peaks[1] / peaks[0], at_most=1.2, detail=told)
        )
    return result


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "headrace", "--project", str(folder), "stream", "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def counted(app: App) -> int:
    return int(app.reader.answer("total", {}).rows[0][2] or 0)


def await_count(app: App, count: int) -> None:
    deadline = time.monotonic() + 120
    while counted(app) < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{counted(app):,} of {count:,} records are counted after two minutes")
        time.sleep(0.01)


def send(producer: Producer, topic: str, first: int, count: int, sent: list[float] | None = None) -> None:
    """Records at an even rate, where ``sent`` takes their times; else as fast as can be."""
    begun = time.monotonic()
    for i in range(first, first + count):
        if sent is not None:
            time.sleep(max(0.0, begun + (i - first) / RATE - time.monotonic()))
            sent.append(time.monotonic())
        message = {"call_id": i, "msisdn": f"27{i * 7919 % 1000:09d}", "started_at": f"2024-01-01T10:{i % 60:02d}:00Z", "kind": "video",
                   "tower": i % 2000, "up": 1, "down": 1, "url": "https://example.org"}  # fmt: skip
        producer.produce(topic, json.dumps(message), message["msisdn"])
        producer.poll(0)
    producer.flush()


def latency(folder: Path, brokers: str) -> list[float]:
    """Of each record, the seconds from its sending to the end of the first answer that counts as many records."""
    app = App(folder)
    topic = str(app.project.sources["calls"].topic)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5, "partitioner": "murmur2_random"})
    send(producer, topic, 0, RATE)
    await_count(app, RATE)
    sent: list[float] = []
    sending = threading.Thread(target=send, args=(producer, topic, RATE, RATE * SECONDS, sent))
    sending.start()
    seen, waits = RATE, list[float]()
    deadline = time.monotonic() + SECONDS + 60
    while seen < RATE * (SECONDS + 1) and time.monotonic() < deadline:
        now = counted(app)
        moment = time.monotonic()
        waits += [moment - at for at in sent[seen - RATE : now - RATE]]
        seen = now
        time.sleep(0.005)
    sending.join()
    if seen != RATE * (SECONDS + 1):
        raise SystemExit(f"{seen:,} records are counted of {RATE * (SECONDS + 1):,}")
    return waits


def restart(folder: Path, brokers: str) -> float:
    """Seconds until a worker that takes over from a killed one has counted what came meanwhile, the start of Python aside."""
    app = App(folder)
    topic = str(app.project.sources["calls"].topic)
    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random"})
    before = counted(app)
    with worker(folder) as first:
        send(producer, topic, before, RATE)
        await_count(app, before + RATE)
        first.send_signal(signal.SIGKILL)
        first.wait()
    send(producer, topic, before + RATE, RATE * 5)
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    python = time.monotonic() - started
    started = time.monotonic()
    with worker(folder):
        await_count(app, before + RATE * 6)
    return time.monotonic() - started - python
