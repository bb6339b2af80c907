"""What tests of SFTP share: an inbox at a server, and a line to it that breaks when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace.adapters.sftp_inbox import SftpInbox
from tools import services


def inbox_at(server: services.Sftp, *, path: str = "/upload", port: int = 0, **given: Any) -> SftpInbox:
    """An inbox that takes files as complete at once, and does not wait long between tries."""
    values: dict[str, Any] = {
        "url": f"sftp://{server.user}@127.0.0.1:{port or server.port}{path}",
        "host_key": server.host_key,
        "key": server.key.read_text(),
        "pauses": (0.05, 0.1, 0.2, 0.4),
        "timeout": 10.0,
    }
    return SftpInbox(**{**values, **given})


class Line:
    """A TCP line to a server; once it has carried ``limit`` bytes to the client, it does what was planned, once."""

    def __init__(self, target: int) -> None:
        self.carried = 0
        self.accepted = 0
        self.limit: int | None = None
        self.plan: Callable[[], object] = lambda: None
        self.frozen = threading.Event()
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def after(self, limit: int, plan: Callable[[], object]) -> None:
        self.limit, self.plan = limit, plan

    def cut(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.frozen.clear()
        for thread in self._threads:
            thread.join(5)
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            for ends in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._carry, args=ends, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    self.carried += len(data)
                    if self.limit is not None and self.carried >= self.limit:
                        self.limit = None
                        self.plan()
                if self.frozen.is_set():
                    continue  # swallowed: neither an answer nor an end
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    line = Line(port)
    try:
        yield line
    finally:
        line.close()
