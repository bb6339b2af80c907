"""Connections to one PostgreSQL server: one a thread, opened at first use and anew where it broke; what its errors mean."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from headrace.errors import MissingExtraError, OutOfReachError, OutsideError, SettingError

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
except ImportError:
    raise MissingExtraError("postgres", "a store in PostgreSQL (postgres.url)", "psycopg") from None

Of = TypeVar("Of")
Connection = psycopg.Connection[tuple[Any, ...]]
DriverError = psycopg.Error
SHAPE = "postgresql://USER@HOST:PORT/DATABASE; what libpq knows may follow, as ?sslmode=require"
USUAL = {
    "application_name": "headrace",
    "connect_timeout": "10",
    # A server that is gone without a word is missed within half a minute.
    "tcp_user_timeout": "30000",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
}
"""What the URL may say otherwise."""
AWAY = ("57P", "53300")
"""How the states begin of a server that shuts down, starts or has no connection left."""
TURNS = ("40P01", "40001", "55P03")
"""Of a transaction that got into another one's way: it may be repeated."""
TRIES = 10
SNAPSHOT = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it warns of is raised too


def parameters(url: str, password: str = "", ca: str = "") -> dict[str, Any]:
    """Parameters of libpq for a URL; raises SettingError where that is none, or where nothing says that the way a password
    would take is encrypted."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        given = {}
    if {"password", "sslpassword"} & given.keys():  # the URL is shown in places where a password must not be
        raise SettingError(
            "HR0601", "postgres.url holds a password", help="set postgres.password to env:NAME or file:PATH"
        )
    if not given or not url.startswith(("postgresql://", "postgres://")):
        raise SettingError("HR0601", f"postgres.url is '{url}'", help=SHAPE)
    if password and not ca and "sslmode" not in given and not _is_near(given):
        raise SettingError(
            "HR0601",
            f"postgres.password would go to {given.get('host')}, perhaps unencrypted and to whoever answers there",
            help="postgres.ca = the file of the authority that the server is trusted by; or say in postgres.url what will do: "
            "?sslmode=require (encrypted) or ?sslmode=disable",
        )
    trust = {"sslmode": "verify-full", "sslrootcert": ca} if ca else {}
    secret = {"password": password} if password else {}
    return {**USUAL, **given, **trust, **secret, "client_encoding": "UTF8"}


def _is_near(given: dict[str, Any]) -> bool:
    """Whether a server is on this machine."""
    hosts = str(given.get("hostaddr") or given.get("host") or os.environ.get("PGHOST", "")).split(",")
    return all(h in ("", "localhost") or h.startswith(("/", "@")) or _is_loopback(h) for h in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Own:
    """A thread's connection: it is closed when the thread ends."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.process = os.getpid()
        self.close = weakref.finalize(self, _close, connection, self.process)


def _close(connection: Connection, process: int) -> None:
    if process == os.getpid():  # else it is the parent's
        connection.close()


class Connected:
    """Safe to use from several threads, and by a process that was forked."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._local = threading.local()

    def ask(self, work: Callable[[Connection], Of]) -> Of:
        """What ``work`` gives, which may be repeated: it is, on a new connection, where the one that was there turns out to be
        broken, and where another transaction was in the way. Raises what ``told`` gives."""
        for tries in range(TRIES):
            own, is_new = self._own()
            connection = own.connection
            try:
                if self._is_held and connection.pgconn.transaction_status == TransactionStatus.IDLE:
                    connection.execute(SNAPSHOT)
                return work(connection)
            except psycopg.Error as error:
                if connection.closed:
                    self._forget()
                    if is_new or tries:
                        raise told(error) from None
                    continue
                connection.rollback()  # only a held reader's snapshot is still there; the next one is of now
                if error.sqlstate not in TURNS or tries == TRIES - 1:
                    raise told(error) from None
        raise AssertionError

    def hold(self) -> None:
        """Lets this thread's reads see one moment, that of the first of them."""
        self._local.held = True

    def release(self) -> None:
        """Ends ``hold``."""
        if self._is_held:
            self._local.held = False
            own: _Own | None = getattr(self._local, "own", None)
            if own is not None and own.process == os.getpid():
                try:
                    own.connection.rollback()
                except psycopg.Error:
                    self._forget()  # it is broken; nothing is lost with it

    def open(self) -> Connection:
        """A connection of the caller's own. Raises what ``told`` gives."""
        try:
            connection = psycopg.connect(**self._parameters, autocommit=True)
        except psycopg.Error as error:
            raise told(error) from None
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            what = f"the database '{connection.info.dbname}' holds text as {encoding}"
            connection.close()
            raise OutsideError("HR0407", what, help="CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0")
        return connection

    def close(self) -> None:
        """Closes this thread's connection."""
        self._local.held = False
        self._forget()

    @property
    def _is_held(self) -> bool:
        return bool(getattr(self._local, "held", False))

    def _own(self) -> tuple[_Own, bool]:
        """The thread's connection, and whether it was made just now."""
        own: _Own | None = getattr(self._local, "own", None)
        if own is not None and own.process == os.getpid() and not own.connection.closed:
            return own, False
        own = self._local.own = _Own(self.open())
        return own, True

    def _forget(self) -> None:
        own: _Own | None = getattr(self._local, "own", None)
        self._local.own = None
        if own is not None:
            own.close()


def told(error: psycopg.Error) -> OutsideError:
    """What an error of the driver means to who asked."""
    state = error.sqlstate or ""
    what = " ".join((error.diag.message_primary or str(error)).split())
    if isinstance(error, psycopg.DataError) and ("NUL" in what or state == "22021"):
        return OutsideError(
            "HR0407",
            "PostgreSQL cannot hold a text with the character U+0000",
            help="leave it out in the dataset's SQL",
        )
    if not state and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return _told_of_connecting(what)
    if state.startswith(AWAY) or state.startswith("08"):
        return OutOfReachError("HR0424", f"PostgreSQL does not answer: {what}", retry=True)
    if state.startswith(("28", "42501", "3F000")):
        return OutsideError("HR0425", f"PostgreSQL: {what}", help="the rights that it takes: docs/postgres.md")
    if state.startswith(("53100", "58")):
        return OutsideError("HR0406", f"the store's disk is full or failing: {what}")
    helps = {
        "54000": "a key may have about 2,700 bytes in all",
        "25006": "target_session_attrs=read-write in postgres.url",
    }
    return OutsideError("HR0407", f"store: {what}", retry=state in TURNS, help=helps.get(state, ""))


def _told_of_connecting(what: str) -> OutsideError:
    """Of a connection that could not be made, or broke, there is only the text: libpq's own, and the server's after FATAL."""
    if "certificate" in what or "SSL" in what:
        return OutsideError("HR0425", f"PostgreSQL: {what}", help="look at postgres.ca and at sslmode in postgres.url")
    if "authentication failed" in what or "no password supplied" in what or "pg_hba.conf" in what:
        return OutsideError("HR0425", f"PostgreSQL: {what}", help="look at postgres.url and postgres.password")
    if "FATAL" in what and "does not exist" in what:
        return OutsideError("HR0425", f"PostgreSQL: {what}", help="look at postgres.url; docs/postgres.md makes both")
    return OutOfReachError("HR0424", f"PostgreSQL does not answer: {what}", retry=True)
