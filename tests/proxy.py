"""A TCP proxy before each node of Cassandra, which can lose, delay and hold back single messages, fall silent, or cut connections.

Nodes that are ``proxied`` (``tools/services/cassandra.py``) tell clients to ask it, so that all they say goes through here. It
knows as much of CQL's protocol 5 as it takes to see where messages begin (native_protocol_v5.spec, 2 and 2.1).
"""

from __future__ import annotations

import asyncio
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from tools.services import Nodes

EXECUTE, RESULT = 0x0A, 0x08
STARTUP, READY, AUTHENTICATE = 0x01, 0x02, 0x03
HEAD = struct.Struct(">BBhBi")
Rule = Callable[[int, bytes], float | None]
"""Given the kind of a message and its body: the seconds by which it is late, or None where it is lost."""


def at_once(kind: int, body: bytes) -> float | None:
    return 0.0


def is_write_reply(kind: int, body: bytes) -> bool:
    """Whether a reply says that something was written: a result without rows."""
    return kind == RESULT and body[:4] == b"\0\0\0\1"


def is_move_reply(kind: int, body: bytes) -> bool:
    """Whether a reply is one to a lightweight transaction."""
    return kind == RESULT and b"[applied]" in body


class Proxy:
    """Listens before one node. Its rules may be changed at any time, by any thread."""

    def __init__(self, host: str, port: int, node: str) -> None:
        self.host, self.port, self.node = host, port, node
        self.requests: Rule = at_once
        self.replies: Rule = at_once
        self.silent = False
        self.lost = self.late = 0
        self._links: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop

    def heal(self) -> None:
        self.requests = self.replies = at_once
        self.silent = False

    def cut(self) -> None:
        """Ends all connections, as a reset does."""
        self.loop.call_soon_threadsafe(self.cut_now)

    def cut_now(self) -> None:
        self.silent = False
        for task in self._tasks:
            task.cancel()
        for link in list(self._links):
            link.abort()

    async def serve(self) -> asyncio.Server:
        self.loop = asyncio.get_running_loop()
        return await asyncio.start_server(self._meet, self.host, self.port)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = [writer]
        try:
            upstream, down = await asyncio.open_connection(self.node, self.port)
            mine.append(down)
            self._links |= {w.transport for w in mine}
            ways = [
                asyncio.create_task(self._pump(reader, down, {STARTUP}, lambda k, b: self.requests(k, b))),
                asyncio.create_task(
                    self._pump(upstream, writer, {READY, AUTHENTICATE}, lambda k, b: self.replies(k, b))
                ),
            ]
            _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in others:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await asyncio.gather(*self._tasks, return_exceptions=True)  # what is held back arrives all the same
        except OSError:
            pass
        finally:
            for one in mine:
                self._links.discard(one.transport)
                one.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, last: set[int], rule: Rule
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            kind = -1
            while kind not in last:  # messages of the handshake stand by themselves
                head = await source.readexactly(HEAD.size)
                _, _, _, kind, length = HEAD.unpack(head)
                body = await source.readexactly(length)
                await self._pass(target, head + body)
            while True:
                head = await source.readexactly(6)
                bits = int.from_bytes(head[:3], "little")
                payload = await source.readexactly(bits & 0x1FFFF)
                whole = head + payload + await source.readexactly(4)
                if not bits >> 17 & 1:  # a part of one that is longer than a segment
                    await self._pass(target, whole)
                    continue
                kept = b""
                for kind, message in messages(payload):
                    seconds = rule(kind, message[HEAD.size :])
                    if seconds is None:
                        self.lost += 1
                    elif seconds:
                        self.late += 1
                        task = asyncio.create_task(self._later(target, message, seconds))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                    else:
                        kept += message
                if kept:
                    await self._pass(target, whole if kept == payload else segment(kept))

    async def _later(self, target: asyncio.StreamWriter, message: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(OSError):
            await self._pass(target, segment(message))

    async def _pass(self, target: asyncio.StreamWriter, what: bytes) -> None:
        while self.silent:  # noqa: ASYNC110  # another thread sets it
            await asyncio.sleep(0.02)
        target.write(what)
        await target.drain()


def messages(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages in a segment, each with its kind."""
    at = 0
    while at < len(payload):
        _, _, _, kind, length = HEAD.unpack_from(payload, at)
        end = at + HEAD.size + length
        yield kind, payload[at:end]
        at = end


def segment(payload: bytes) -> bytes:
    """Whole messages as a segment, with the checksums of head and payload."""
    head = (len(payload) | 1 << 17).to_bytes(3, "little")
    crc = 0x875060
    for byte in head:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1974F0B
    check = zlib.crc32(payload, zlib.crc32(b"\xfa\x2d\x55\xca"))
    return head + crc.to_bytes(3, "little") + payload + check.to_bytes(4, "little")


class Proxies:
    """One before each node, by a thread of their own; a context manager."""

    def __init__(self, nodes: Nodes) -> None:
        members = [nodes[i] for i in range(len(nodes))]
        self.each = [Proxy(node.announced, node.port, node.host) for node in members]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __getitem__(self, index: int) -> Proxy:
        return self.each[index]

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self.each)

    def __enter__(self) -> Self:
        self._thread.start()
        self._servers = [asyncio.run_coroutine_threadsafe(one.serve(), self._loop).result(10) for one in self.each]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            for one in self.each:
                one.cut_now()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
