"""A load generator for where wrk is missing: ``python -m benchmarks.peers.load PORT SECONDS CONNECTIONS TOKEN < PATHS``.

Prints requests a second, the median and the 99th percentile in JSON. It costs more than wrk, so it shows fast servers slower.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import partial


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, requests: list[bytes], until: float, times: list[float], done: asyncio.Event) -> None:
        self.requests, self.until, self.times, self.done = requests, until, times, done
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.asked = time.perf_counter()
        self.transport.write(random.choice(self.requests))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.buffer.lower().index(b"content-length:") + 15
        if len(self.buffer) < end + 4 + int(self.buffer[at : self.buffer.index(b"\r", at)]):
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self.buffer.decode(errors="replace"))
        now = time.perf_counter()
        self.times.append(now - self.asked)
        self.buffer = b""
        if now < self.until:
            self.ask()
        else:
            self.done.set()


async def load(port: int, seconds: float, connections: int, token: str, paths: list[str]) -> None:
    requests = [
        f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\r\n".encode() for path in paths
    ]
    times: list[float] = []
    started = time.perf_counter()
    events = [asyncio.Event() for _ in range(connections)]
    loop = asyncio.get_running_loop()
    for done in events:
        client = partial(Client, requests, started + seconds, times, done)
        await loop.create_connection(client, "127.0.0.1", port)
    await asyncio.gather(*(done.wait() for done in events))
    taken = time.perf_counter() - started
    times.sort()
    p50, p99 = (times[len(times) * part // 100] * 1000 for part in (50, 99))
    print(json.dumps({"rate": len(times) / taken, "p50_ms": p50, "p99_ms": p99}))


if __name__ == "__main__":
    asyncio.run(load(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.stdin.read().split()))
