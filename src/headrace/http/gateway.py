"""The door: every request passes its limits, its credentials and its log, and every response its security headers."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from headrace.errors import HeadraceError
from headrace.http import origins, problems
from headrace.http.access_log import AccessLog
from headrace.http.answers import Answers
from headrace.http.auth import Authenticator, Login
from headrace.http.contracts import Call, Contracts
from headrace.http.limits import headers_of
from headrace.http.meter import Meter
from headrace.http.problems import Problem, Reply

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

QUERIES = "/v1/queries/"
LONGEST_INSTANCE = 1024
ABOUT = ("/v1/queries", "/v1/status", "/openapi.json")
"""With the answers, what a page of another origin may ask."""
OPEN = ("/health/live", "/health/ready")
OPEN_PREFIX = "/static/"
OPEN_AT_HOME = ("/docs", "/openapi.json")
HOME = ("localhost", "127.0.0.1", "[::1]")
FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"via")
ANYWHERE = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
NO_PAGE = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
SAFE = [*ANYWHERE, NO_PAGE]
PAGE_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
PAGE = [*ANYWHERE, (b"content-security-policy", PAGE_POLICY.encode())]


class Gateway:
    """The ASGI application of a project. Answers go the short way; everything else through ``routes``."""

    def __init__(
        self,
        routes: Application,
        answers: Answers,
        contracts: Contracts,
        auth: Authenticator,
        meter: Meter,
        log: AccessLog | None,
        *,
        page: Callable[[Problem], str],
        loopback: bool,
        allowed: frozenset[bytes] = frozenset(),
    ) -> None:
        self._page = page
        self._routes = routes
        self._answers = answers
        self._contracts = contracts
        self._auth = auth
        self._meter = meter
        self._log = log
        self._loopback = loopback
        self._allowed = allowed
        self._run = secrets.token_hex(4)
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])  # the server is told to offer nothing else
        began = time.perf_counter()
        self._count += 1
        request_id = f"{self._run}-{self._count:x}"
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        address = scope["client"][0] if scope["client"] else ""
        responder = _Responder(send, request_id)
        who, code, route, rows, right = "", "", "other", None, None
        call = None if path.startswith(QUERIES) else self._contracts.find(path)
        try:
            headers = headers_of(scope["headers"], path, query)
            preflight = bool(self._allowed) and self._is_preflight(path, method, headers, call, responder)
            if not preflight and not self._is_open(path, headers, address) and not (call is not None and call.is_open):
                caller = self._auth.known(headers)
                if not self._auth.fresh:
                    # True of every request that this turn of the event loop handles: all were received before it.
                    self._auth.fresh = True
                    asyncio.get_running_loop().call_soon(self._turn_ends)
                if isinstance(caller, Login):
                    caller = await self._auth.verify(caller, address)
                who = caller.name
                caller.must("metrics" if path == "/metrics" else "read")
                right = caller.right
                if right is not None and call is None and not path.startswith(QUERIES):
                    right.must_read(path)
            if preflight:
                await responder.reply(Reply(204, origins.PREFLIGHT, b""))
            elif path.startswith(QUERIES) and method in ("GET", "HEAD"):
                name = path[len(QUERIES) :]
                route = name if name in self._answers.forms else route
                reply = await self._answers.reply(name, query, headers.get(b"if-none-match"), right)
                rows = reply.rows
                await responder.reply(reply)
            elif call is not None and method in ("GET", "HEAD"):
                route = call.route.path
                reply = await call.reply(query, headers.get(b"if-none-match"), right)
                rows = reply.rows
                await responder.reply(reply)
            else:
                await self._routes(scope, receive, responder)
                route = scope.get("headrace.route", route)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes a problem document
            code = await self._refuse(error, scope, responder, request_id, call)
        seconds = time.perf_counter() - began
        self._meter.request(route, method, responder.status, seconds)
        if self._log is not None:
            # What stands in a declared path is a value, and the log has none.
            sent = call.route.path.encode() if call is not None else scope["raw_path"]
            milliseconds = seconds * 1000
            self._log.note(
                time.time(),
                request_id,
                who,
                address,
                method,
                sent,
                responder.status,
                milliseconds,
                responder.size,
                code,
                rows,
            )

    def _turn_ends(self) -> None:
        self._auth.fresh = False

    async def _refuse(
        self, error: Exception, scope: Scope, responder: _Responder, request_id: str, call: Call | None
    ) -> str:
        """Answers with what went wrong, and gives its code. What is our own fault also goes to standard error."""
        problem = problems.problem(error, scope["path"][:LONGEST_INSTANCE], request_id)
        if problem.status == 500:
            print(f"request {request_id}:", "".join(traceback.format_exception(error)), file=sys.stderr, flush=True)  # noqa: T201
        if not responder.started:
            page = self._page(problem) if call is None and _wants_page(scope) else None
            member = call.route.error if call is not None else ""
            await responder.reply(problems.reply(error, problem, page, member))
        return error.code if isinstance(error, HeadraceError) else "HR0999"

    def _is_preflight(
        self, path: str, method: str, headers: dict[bytes, bytes], call: Call | None, responder: _Responder
    ) -> bool:
        """Whether a browser asks what a page of an allowed origin may ask: that has no credentials. Of queries any name
        will do, so that nobody learns which there are. Also notes what the response must say to that page."""
        origin = headers.get(b"origin", b"")
        responder.more = origins.told(origin if origin in self._allowed else None)
        return (
            method == "OPTIONS"
            and origin in self._allowed
            and b"access-control-request-method" in headers
            and (call is not None or path in ABOUT or path.startswith(QUERIES))
        )

    def _is_open(self, path: str, headers: dict[bytes, bytes], address: str) -> bool:
        """Whether a path needs no credentials."""
        if path.startswith(QUERIES):
            return False
        if path in OPEN or path.startswith(OPEN_PREFIX):
            return True
        if not (path in OPEN_AT_HOME or path.startswith("/docs/")) or b"authorization" in headers:
            return False
        # A proxy on this machine calls from loopback too, on behalf of anybody.
        return (
            self._loopback
            and (address == "::1" or address.startswith("127."))
            and headers.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0].lower() in HOME
            and not any(name in headers for name in FORWARDED)
        )


def _wants_page(scope: Scope) -> bool:
    """Whether somebody with a browser asks, and not for an answer of the API."""
    return not scope["path"].startswith("/v1/") and any(
        name == b"accept" and b"text/html" in value for name, value in scope["headers"]
    )


class _Responder:
    """Sends responses with what every one of them carries, and remembers what the log wants to know."""

    __slots__ = ("_request_id", "_send", "more", "size", "started", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self.status = 0
        self.size = 0
        self.started = False
        self.more: origins.Headers = []

    async def reply(self, reply: Reply) -> None:
        """A whole response of the API. The server leaves the body out where the method is HEAD."""
        body = reply.body
        self.status, self.size, self.started = reply.status, len(body), True
        headers = reply.headers + (PAGE if reply.headers[0][1].startswith(b"text/html") else SAFE)
        headers.append((b"x-request-id", self._request_id))
        if self.more:
            headers += self.more
        if reply.status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def __call__(self, message: Any) -> None:
        """Passes on what Starlette sends."""
        if message["type"] == "http.response.start":
            self.status, self.started = message["status"], True
            request_id = (b"x-request-id", self._request_id)
            headers = message["headers"] = [*message["headers"], *ANYWHERE, *self.more, request_id]
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(NO_PAGE)
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)
