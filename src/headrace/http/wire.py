"""The HTTP/1.1 connection: uvicorn's, with bounds on how long and how large the head of a request may be."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.errors import CODES
from headrace.http.gateway import SAFE
from headrace.http.limits import LONGEST_HEADERS, LONGEST_URL
from headrace.http.problems import MEDIA_TYPE, Problem

HEAD_WITHIN = 10.0
"""Seconds in which a request line and its headers must have come, counted from the first byte or the connection."""
LONGEST_HEAD = LONGEST_URL + 2 * LONGEST_HEADERS
"""Bytes of them. The gateway's limits are lower and say more; this one bounds what is kept until then."""
NO_PROGRESS = 10.0
"""Seconds after which a client that reads none of its response is cut off."""


class Connection(HttpToolsProtocol):
    """One connection. ``most`` is set by the server, for all of them."""

    most = 1000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the class above
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "HR0408", "too many connections")
            return
        self._deadline = self.loop.call_later(HEAD_WITHIN, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._met()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:  # more of it is to come
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self._refuse(431, "HR0607", f"the head of the request has more than {LONGEST_HEAD} bytes")
            elif self._deadline is None:
                self._deadline = self.loop.call_later(HEAD_WITHIN, self._too_slow)

    def on_message_begin(self) -> None:
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._met()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if len(getattr(self, "url", b"")) > LONGEST_URL:  # too long for the parser of URLs, too
            self._refuse(414, "HR0607", f"the URL has more than {LONGEST_URL} bytes")
        else:
            self._refuse(400, "HR0608", msg)

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.is_closing():
            return
        waiting = self.transport.get_write_buffer_size()
        self.transport.close()
        if waiting:
            self.loop.call_later(NO_PROGRESS, self._cut_off, waiting)

    def _cut_off(self, waiting: int) -> None:
        """Ends a connection whose client has stopped reading, which close() would wait for."""
        left = self.transport.get_write_buffer_size()
        if left and left == waiting:
            self.transport.abort()
        elif left:
            self.loop.call_later(NO_PROGRESS, self._cut_off, left)

    def _met(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            if self._in_head:
                self._refuse(408, "HR0607", f"the head of the request did not come within {HEAD_WITHIN:.0f} seconds")
            else:
                self.transport.close()

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Says why, and closes: there is no request yet that the gateway could answer."""
        self._met()
        if self.transport.is_closing():
            return
        title = CODES[code].title
        problem = Problem(
            type=f"/docs/errors/{code}", title=title, status=status, detail=detail, instance="", request_id=""
        )
        body = msgspec.json.encode(problem)
        headers = [
            *SAFE,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        self.transport.write(
            b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % pair for pair in headers), b"\r\n", body])
        )
        self.transport.close()
