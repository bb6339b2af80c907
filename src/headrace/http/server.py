"""A project served until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import ipaddress
import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from headrace.app import App
from headrace.errors import AccessError, SettingError
from headrace.flow.canary import EVERY
from headrace.http import credentials, origins
from headrace.http.access_log import AccessLog
from headrace.http.answers import Answers
from headrace.http.auth import Authenticator
from headrace.http.contracts import Contracts, served
from headrace.http.gateway import Gateway
from headrace.http.live import Live
from headrace.http.meter import Meter, Uncounted
from headrace.http.routes import Site
from headrace.http.wire import Connection

DRAIN = 10
"""Seconds that requests under way have when the server is told to stop."""
KEEP_ALIVE = 15
NOTE_USES = 60.0
"""Seconds between two writes of when keys were last used."""


def serve(
    app: App,
    *,
    host: str,
    port: int,
    insecure_http: bool = False,
    ready: Callable[[str], None] | None = None,
    once: bool = False,
    meter: Meter | None = None,
) -> None:
    """Serves a project until SIGTERM or SIGINT; requests under way are finished first.

    ``port`` 0 takes a free one. ``ready`` is called in a thread with the URL once connections are accepted; with
    ``once`` the server ends when it returns, and what it raises is raised here in any case. ``meter`` counts requests,
    and without one there is no ``/metrics``. Raises SettingError HR0603 for an address that is not loopback
    (unless ``insecure_http``), HR0601 for one that cannot be had, and AccessError HR0602 where nobody could log in.
    """
    Server(app, host=host, port=port, insecure_http=insecure_http, ready=ready, once=once, meter=meter).run()


def users_file(app: App) -> Path:
    """Where a project keeps its users and keys."""
    return app.folder / str(app.settings["serve.users"])


def _say(text: str) -> None:
    """An alarm as a line of JSON on standard error, beside those of requests."""
    at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"at": at, "alarm": text}) + "\n")
    sys.stderr.flush()


class Server(uvicorn.Server):
    """uvicorn with our connection, our door and our way to stop. ``stop`` may be called from any thread."""

    def __init__(
        self,
        app: App,
        *,
        host: str,
        port: int,
        insecure_http: bool = False,
        ready: Callable[[str], None] | None = None,
        once: bool = False,
        meter: Meter | None = None,
        auth: Authenticator | None = None,
    ) -> None:
        settings = app.settings
        loopback = is_loopback(host)
        if not loopback and not insecure_http:
            raise SettingError(
                "HR0603",
                f"'{host}' is not loopback",
                help="put TLS in front, or --insecure-http if the network is yours",
            )
        file = users_file(app)
        if credentials.load(file).empty:
            raise AccessError(
                "HR0602", "nobody could log in: there are no users and no keys", help="headrace user add NAME"
            )
        allowed = origins.allowed(settings["serve.origins"])
        routes = served(app.project.routes, settings["serve.routes"])
        self.socket = bound(host, port)
        self.url = url_of(self.socket)
        self._ready = ready
        self._once = once
        self._failure: Exception | None = None
        self._users = file
        self._answers = Answers(
            app.project, app.store, max_rows=settings["serve.max_rows"], max_scan=settings["serve.max_scan"]
        )
        self._auth = auth or Authenticator(file, noted=(meter or Uncounted()).login)
        self._watch = app.watch(_say)
        self._looking: asyncio.Task[None] | None = None
        self._log = AccessLog() if settings["serve.access_log"] else None
        site = Site(self._answers, meter, Live(app.progress), routes)
        self.gateway = Gateway(
            site.application(),
            self._answers,
            Contracts(routes, self._answers),
            self._auth,
            meter or Uncounted(),
            self._log,
            page=site.problem,
            loopback=loopback,
            allowed=allowed,
        )
        connection: Any = type("BoundedConnection", (Connection,), {"most": settings["serve.connections"]})
        proxies = str(settings["serve.proxies"])
        config = uvicorn.Config(
            self.gateway,
            http=connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or None,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=DRAIN,
        )
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        collecting = gc.get_threshold()
        try:
            super().run([self.socket])
        finally:
            gc.unfreeze()
            gc.set_threshold(*collecting)
            self._auth.close()
            self._answers.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Tells the server to drain and end."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is loaded by now stays for good, and a request makes no cycles: the collector need not look at the one
        # at all, nor at the other after every few hundred rows. Together that is a twentieth of an answer's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        if self._ready is not None:
            threading.Thread(target=self._announce, args=(self._ready,), daemon=True).start()

    async def on_tick(self, counter: int) -> bool:
        if counter % int(NOTE_USES * 10) == 1:
            self._note_uses()
        if counter % int(EVERY * 10) == 1 and self._watch.inspect is not None:
            self._looking = asyncio.create_task(asyncio.to_thread(self._watch.look))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        self._note_uses()
        if self._log is not None:
            self._log.flush()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a drained server returns to its caller instead of dying of the signal."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one does not wait."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def _announce(self, ready: Callable[[str], None]) -> None:
        """In a thread, so that ``ready`` may itself send requests."""
        try:
            ready(self.url)
        except Exception as error:  # noqa: BLE001 - raised again where the server was started
            self._failure = error
        if self._once or self._failure is not None:
            self.should_exit = True

    def _note_uses(self) -> None:
        uses = self._auth.uses()
        if uses:
            try:
                credentials.save_uses(self._users, uses)
            except OSError as error:  # a full disk must not stop answers
                print(f"when keys were used could not be noted: {error}", file=sys.stderr)  # noqa: T201


def is_loopback(host: str) -> bool:
    """Whether every address behind a name is this machine's own."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise SettingError(
            "HR0601", f"serve.host is '{host}', which is no address of this machine", help="127.0.0.1"
        ) from None
    return all(ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback for *_, address in found)


def bound(host: str, port: int) -> socket.socket:
    """A socket at the address; raises SettingError HR0601 where it cannot be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise SettingError(
            "HR0601", f"cannot listen on {host}:{port}: {error.strerror}", help="another --port, or 0 for any free one"
        ) from None
    opened.set_inheritable(False)
    return opened


def url_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if opened.family == socket.AF_INET6 else f"http://{host}:{port}"
