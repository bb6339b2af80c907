"""The HTTP/1.1 connection: uvicorn's, with bounds on how long and how large the head of a request may be."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools  # boundary: the parser of uvicorn's connection, which this file is a kind of
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from headrace.errors import CODES
from headrace.http.gateway import SAFE
from headrace.http.limits import LONGEST_HEADERS, LONGEST_URL
from headrace.http.problems import MEDIA_TYPE, Problem

HEAD_WITHIN = 10.0
"""Seconds in which a request line and its headers must have come, counted from the first byte or the connection."""
LONGEST_HEAD = LONGEST_URL + 2 * LONGEST_HEADERS
"""Bytes of them. The gateway's limits are lower and say more; this one bounds what is kept until then."""
LINGER = 2.0
"""Seconds for which what a refused client goes on sending is thrown away: who closes with bytes unread resets the connection,
and the client would never see why (RFC 9112, 9.6)."""
NO_PROGRESS = 10.0
"""Seconds after which a client that reads none of its response is cut off."""


class Exchange(RequestResponseCycle):
    """One request and its response. A response that is whole goes out in one write instead of two, which saves a system
    call here and often a packet: a seventh of what a small answer costs."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start" and not self.response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is None:
            await super().send(message)
            return
        head = None if message.get("more_body") else self._head(start["status"], start["headers"])
        if head is None:  # a stream
            await super().send(start)
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.transport.write(head if self.scope["method"] == "HEAD" else head + message.get("body", b""))
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _head(self, status: int, headers: Any) -> bytes | None:
        """Status line and headers; None where the length of what follows is not known."""
        known = status in (204, 304)
        parts = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                known = True
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
        if not self.keep_alive and (b"connection", b"close") not in headers:
            parts += (b"connection", b": ", b"close", b"\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != (len(parts) - 2) // 4 + 2:
            raise RuntimeError("a header holds a line break")  # never sent, so that a value cannot make a header
        return head if known else None


class Connection(HttpToolsProtocol):
    """One connection. ``most`` is set by the server, for all of them."""

    most = 1000

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0
        self._in_head = False
        self._refused = False

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
        if self._refused:
            return
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
        """As in uvicorn, without what we do not offer (WebSockets, a root path), and with our exchange."""
        self._in_head = False
        self._met()
        version = self.parser.get_http_version()
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"] = target.path
        self.scope["query_string"] = target.query or b""
        before: RequestResponseCycle | None = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,  # no path takes a body
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

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
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
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
        if status == 503 or not self.transport.can_write_eof():  # of too many, none may stay
            self.transport.close()
        else:
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)
