"""One line of JSON a request, without query values, credentials or line breaks."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from typing import TextIO

import msgspec

LONGEST_PATH = 1024
FLUSH_AFTER = 0.25
"""Seconds that a line may wait, so that a busy server writes once for many."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said of a request. ``ms`` is from its first byte understood to its last byte handed over."""

    at: str
    id: str
    who: str
    address: str
    method: str
    path: str
    status: int
    ms: float
    bytes: int
    code: str = ""
    rows: int | None = None


class AccessLog:
    """Collects lines and writes them together. For one event loop."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._waiting: list[tuple[float, str, str, str, str, bytes, int, float, int, str, int | None]] = []
        self._encode = msgspec.json.Encoder().encode

    def note(
        self,
        at: float,
        id: str,
        who: str,
        address: str,
        method: str,
        path: bytes,
        status: int,
        ms: float,
        size: int,
        code: str,
        rows: int | None,
    ) -> None:
        """``path`` is as it was sent: what is not printable ASCII in it is escaped when written."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(FLUSH_AFTER, self.flush)
        self._waiting.append((at, id, who, address, method, path, status, ms, size, code, rows))

    def flush(self) -> None:
        lines, self._waiting = self._waiting, []
        text = [self._encode(_line(*values)) for values in lines]
        if text:
            stream = self._stream or sys.stderr
            stream.write(b"\n".join(text).decode() + "\n")
            stream.flush()


def _line(
    at: float,
    id: str,
    who: str,
    address: str,
    method: str,
    path: bytes,
    status: int,
    ms: float,
    size: int,
    code: str,
    rows: int | None,
) -> Line:
    when = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds")
    sent = path[:LONGEST_PATH].decode("ascii", "backslashreplace")
    return Line(when, id, who, _ascii(address), method, sent, status, round(ms, 3), size, code, rows)


def _ascii(text: str) -> str:
    """Behind a proxy an address is what the proxy says, and Unicode has line breaks that JSON does not escape."""
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()
