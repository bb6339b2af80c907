"""A session with Cassandra or ScyllaDB: how it is opened, what is asked again until it is known, and how errors are told."""

from __future__ import annotations

import itertools
import logging
import os
import random
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from headrace.errors import MissingExtraError, OutOfReachError, OutsideError, SettingError
from headrace.waiting import Sharing, must_not_block, on_loop, waited

try:
    from cassandra import (
        AuthenticationFailed,
        ConsistencyLevel,
        OperationTimedOut,
        RequestExecutionException,
        RequestValidationException,
        Unauthorized,
        Unavailable,
    )
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
    from cassandra.connection import ConnectionException
    from cassandra.policies import (
        ConstantSpeculativeExecutionPolicy,
        DCAwareRoundRobinPolicy,
        ExponentialReconnectionPolicy,
        FallthroughRetryPolicy,
        TokenAwarePolicy,
    )
    from cassandra.protocol import ErrorMessage
    from cassandra.protocol import RequestValidationException as RefusedMessage
    from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement, tuple_factory
except ImportError:
    raise MissingExtraError("cassandra", "a store in Cassandra (cassandra.hosts)", "cassandra-driver") from None

Of = TypeVar("Of")
Row = tuple[Any, ...]
STRONG = ("LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL")
"""Levels at which a write and a read meet in a replica, whatever node is down."""
IN_FLIGHT = 128
"""Requests that one writer has under way."""
AT_ONCE = 32
"""Reads that one question has under way."""
LONGEST_WAIT = 5.0
"""Seconds between two tries at most."""
A_MOMENT = 3.0
"""Seconds for which a read is tried again where somebody waits for the answer: another node may have it."""
SLOW = 0.5
"""Seconds after which another node is asked, too: one that is paused keeps its connections, and says nothing."""
HEARTBEAT = 4
"""Seconds between two signs of life that a connection must give, and for each of them."""
PERHAPS: tuple[type[Exception], ...] = (
    OperationTimedOut,
    RequestExecutionException,
    ErrorMessage,
    NoHostAvailable,
    ConnectionException,
)
"""What may go away by itself, and leaves open whether a write was taken."""
NEVER: tuple[type[Exception], ...] = (RequestValidationException, RefusedMessage, AuthenticationFailed)
"""What stays as it is however often it is asked."""

logging.getLogger("cassandra").addHandler(logging.NullHandler())  # what it warns of is raised too, or goes away


@dataclass(frozen=True)
class Address:
    """Where a cluster is and how to come in. ``bundle`` is Astra's, and stands for hosts, port and certificates."""

    hosts: tuple[str, ...] = ()
    port: int = 9042
    keyspace: str = "headrace"
    datacenter: str = ""
    replicas: int = 3
    consistency: str = "LOCAL_QUORUM"
    user: str = ""
    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    bundle: str = ""
    timeout: float = 10.0
    patience: float = 120.0
    """Seconds for which a write is tried again while too few replicas answer, and a read of those who count."""

    def __post_init__(self) -> None:
        if self.consistency not in STRONG:
            raise SettingError(
                "HR0601",
                f"cassandra.consistency is '{self.consistency}': a read could miss what was written",
                help=f"one of {', '.join(STRONG)}",
            )


Encoded = list[bytes]
"""The values of a row as CQL's protocol has them."""
ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "bigint": struct.Struct(">q").pack,
    "tinyint": struct.Struct(">b").pack,
    "double": struct.Struct(">d").pack,
    "text": str.encode,
}
"""By CQL type; the driver's own ``bind`` takes four times as long, for types that we do not have."""


class Connected:
    """One session a process, opened at first use. Safe to use from several threads."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.patience = min(A_MOMENT, address.patience)
        """Seconds for which a read is tried again."""
        self._lock = threading.Lock()
        self._owner = 0
        self._cluster: Any = None
        self._session: Any = None
        self._prepared: dict[str, Any] = {}
        self._sharing = Sharing()

    @property
    def session(self) -> Session:
        """The session; raises what ``told`` gives where no node can be reached."""
        if self._session is None or self._owner != os.getpid():  # a session does not outlive a fork
            must_not_block()
            with self._lock:
                if self._session is None or self._owner != os.getpid():
                    self._prepared, self._sharing = {}, Sharing()
                    self._session = self._open()
                    self._owner = os.getpid()
        return self._session

    @property
    def cluster(self) -> Any:
        assert self.session is not None
        return self._cluster

    def prepared(self, cql: str) -> PreparedStatement:
        """A prepared statement, prepared once."""
        found = self._prepared.get(cql)
        if found is None:
            must_not_block()
            found = self.asked(lambda: self.session.prepare(cql))
            # Idempotent the driver takes for: may be asked of two nodes at once. It tells of both answers, so that whoever
            # counts acknowledgements would count one write twice; and of two lightweight transactions one fails.
            found.is_idempotent = cql.startswith("SELECT")
            self._prepared[cql] = found
        return found

    def usable(self, cql: str) -> None:
        """Returns when a statement can be prepared: a table that another process makes is listed before it can be used."""
        for attempt in range(20):
            try:
                self.prepared(cql)
            except OutsideError as error:
                if error.retry or attempt == 19:
                    raise
                time.sleep(pause(attempt))
            else:
                return

    def rows(self, cql: str, values: Sequence[Any] = (), *, page: int = 5000) -> list[Row]:
        """The rows of a statement, all its pages."""
        statement = self.prepared(cql).bind(values)
        statement.fetch_size = page
        return self.asked(lambda: self._rows(statement))

    def rows_of_each(self, cql: str, many: Sequence[Sequence[Any]], *, page: int = 5000) -> list[list[Row]]:
        """As ``rows``, with each of many lists of values, asked for at once."""
        statement = self.prepared(cql)

        def ask() -> list[list[Row]]:
            found: list[list[Row]] = []
            for first in range(0, len(many), AT_ONCE):
                bound = [statement.bind(values) for values in many[first : first + AT_ONCE]]
                for one in bound:
                    one.fetch_size = page
                found += [self._all(future) for future in [self.session.execute_async(one) for one in bound]]
            return found

        return self.asked(ask)

    def rows_now(self, cql: str, values: Sequence[Any]) -> list[Row]:
        """As ``rows``, of one page, of what many ask for at once: on an event loop one statement is for all who came before
        it was sent."""
        if not on_loop():
            return self.rows(cql, values)
        statement = self.prepared(cql).bind(values)

        def start(done: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
            self.session.execute_async(statement).add_callbacks(done, failed)

        return self.asked(lambda: self._sharing.ask((cql, *values), start))

    def _rows(self, statement: Any) -> list[Row]:
        return self._all(self.session.execute_async(statement)) if on_loop() else list(self.session.execute(statement))

    def _all(self, future: Any) -> list[Row]:
        """The rows that were asked for, all their pages."""
        if not on_loop():
            return list(future.result())
        found: list[Row] = waited(future.add_callbacks)
        while future.has_more_pages:
            future.clear_callbacks()
            future.start_fetching_next_page()
            found = [*found, *waited(future.add_callbacks)]
        return found

    def pages(self, cql: str, values: Sequence[Any] = (), *, page: int = 2000) -> Iterator[list[Row]]:
        """The rows of a statement page by page; a page is asked for again until it comes."""
        state = None
        statement = self.prepared(cql).bind(values)
        statement.fetch_size = page
        while True:
            found = self.insist(partial(self.session.execute, statement, paging_state=state))
            yield found.current_rows
            state = found.paging_state
            if state is None:
                return

    def asked(self, ask: Callable[[], Of]) -> Of:
        """What a read gives, as ``insist`` does, for as long as whoever reads waits."""
        return self.insist(ask, self.patience)

    def insist(self, ask: Callable[[], Of], patience: float | None = None) -> Of:
        """What a question gives that may be repeated, asked until there is an answer or patience ends. Raises OutsideError,
        with ``retry`` where it may be answered later."""
        until = time.monotonic() + (self.address.patience if patience is None else patience)
        for attempt in itertools.count():
            try:
                return ask()
            except NEVER as error:
                raise told(error) from None
            except PERHAPS as error:
                if time.monotonic() > until:
                    raise told(error) from None
            except OutOfReachError:  # no session yet
                if time.monotonic() > until:
                    raise
            must_not_block()
            time.sleep(pause(attempt))
        raise AssertionError

    def serially(self, cql: str, values: Sequence[Any]) -> list[Row]:
        """The rows of a statement after every lightweight transaction that was begun before it."""
        statement = self.prepared(cql).bind(values)
        statement.consistency_level = ConsistencyLevel.LOCAL_SERIAL
        return self.insist(lambda: list(self.session.execute(statement)))

    def together(self, statement: PreparedStatement, rows: Sequence[Encoded]) -> Any:
        """A statement that writes rows of one partition; several are one write to its replicas, all of them or none."""
        bound = BoundStatement(statement)
        bound.values = rows[0]
        if len(rows) == 1:
            return bound
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in rows:
            bound.values = row
            batch.add(bound)
        return batch

    def write(self, statements: Iterable[Any]) -> None:
        """Executes statements of which the order does not matter, and returns when all are acknowledged. What is not is
        repeated as it is, so that it does not matter either whether it was taken. Raises what ``told`` gives."""
        Writing(self).write(statements)

    def define(self, cql: str) -> None:
        """Changes the schema, and returns when all nodes agree on it."""
        future = self.insist(lambda: self._defined(cql))
        if not future.is_schema_agreed:
            raise OutsideError(
                "HR0407", "the nodes do not agree on the schema", retry=True, help="nodetool describecluster"
            )

    def _defined(self, cql: str) -> Any:
        future = self.session.execute_async(cql, timeout=60.0)
        future.result()
        return future

    def close(self) -> None:
        with self._lock:
            if self._cluster is not None and self._owner == os.getpid():
                self._cluster.shutdown()
            self._cluster = self._session = None

    def _open(self) -> Session:
        a = self.address
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=a.datacenter)),
            retry_policy=FallthroughRetryPolicy(),  # each of our own loops knows what may be repeated
            consistency_level=getattr(ConsistencyLevel, a.consistency),
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
            request_timeout=a.timeout,
            row_factory=tuple_factory,
            speculative_execution_policy=ConstantSpeculativeExecutionPolicy(SLOW, 2),
        )
        given: dict[str, Any] = {
            "execution_profiles": {EXEC_PROFILE_DEFAULT: profile},
            # Without an end: by itself it gives a node up after five minutes, and for good.
            "reconnection_policy": ExponentialReconnectionPolicy(0.2, 5.0, max_attempts=None),
            "idle_heartbeat_interval": HEARTBEAT,
            "idle_heartbeat_timeout": HEARTBEAT,
            "connect_timeout": a.timeout,
            "control_connection_timeout": a.timeout,
            "max_schema_agreement_wait": 30,
            "auth_provider": PlainTextAuthProvider(a.user, a.password) if a.user else None,
        }
        if a.bundle:
            given["cloud"] = {"secure_connect_bundle": a.bundle}
        else:
            given |= {"contact_points": list(a.hosts), "port": a.port, "protocol_version": 5, "ssl_context": tls(a)}
        self._cluster = Cluster(**given)
        try:
            return self._cluster.connect(wait_for_all_pools=False)
        except (*PERHAPS, *NEVER) as error:
            self._cluster.shutdown()
            raise told(error) from None


class Writing:
    """Statements on their way: a bounded number at once, and what failed again, after a pause that grows."""

    def __init__(self, connected: Connected) -> None:
        self.session = connected.session
        self.patience = connected.address.patience
        self.room = threading.Semaphore(IN_FLIGHT)
        self.failed: list[tuple[Any, Exception]] = []

    def write(self, statements: Iterable[Any]) -> None:
        since, attempt = 0.0, 0
        waiting = iter(statements)
        while True:
            for statement in waiting:
                self._send(statement)
                if self.failed:
                    break
            self._settle()
            if not self.failed:
                break
            again, self.failed = self.failed, []
            for _, error in again:
                if not isinstance(error, PERHAPS) or isinstance(error, NEVER):
                    raise told(error) from error
            since = since or time.monotonic()
            if time.monotonic() - since > self.patience:
                raise told(again[0][1]) from None
            time.sleep(pause(attempt))
            attempt += 1
            for statement, _ in again:
                self._send(statement)
            self._settle()
            if not self.failed:
                since, attempt = 0.0, 0

    def _send(self, statement: Any) -> None:
        self.room.acquire()
        try:
            future = self.session.execute_async(statement)
        except (*PERHAPS, *NEVER) as error:
            self._lost(error, statement)
        else:
            future.add_callbacks(self._done, self._lost, errback_args=(statement,))

    def _done(self, _: object) -> None:
        self.room.release()

    def _lost(self, error: Exception, statement: Any) -> None:
        self.failed.append((statement, error))
        self.room.release()

    def _settle(self) -> None:
        for _ in range(IN_FLIGHT):
            self.room.acquire()
        self.room.release(IN_FLIGHT)


def pause(attempt: int) -> float:
    """Seconds to wait before the next try: twice as long each time, and never as long as others wait."""
    return float(min(LONGEST_WAIT, 0.05 * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret


def tls(address: Address) -> ssl.SSLContext | None:
    """A context that trusts the named authority only; None without one."""
    if not address.ca:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.certificate:
            context.load_cert_chain(address.certificate, address.key or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingError("HR0601", f"the certificates of cassandra.* cannot be used: {error}") from None
    return context


def told(error: Exception) -> OutsideError:
    """What an error of the driver means to who asked."""
    if isinstance(error, NoHostAvailable):
        inner = [e for e in (error.errors or {}).values() if isinstance(e, Exception)] if error.errors else []
        known = next((e for e in inner if isinstance(e, (*NEVER, RequestExecutionException))), None)
        if known is not None:
            return told(known)
        which = ", ".join(sorted(str(getattr(host, "endpoint", host)) for host in error.errors or ()))
        return OutOfReachError("HR0424", f"no node of Cassandra answers{which and f' ({which})'}", retry=True)
    if isinstance(error, Unavailable):
        need, have = error.required_replicas, error.alive_replicas
        return OutOfReachError("HR0424", f"{have} of the {need} replicas that it takes are up", retry=True)
    if isinstance(error, AuthenticationFailed):
        return OutsideError("HR0425", "Cassandra refused the login", help="cassandra.user and cassandra.password")
    if isinstance(error, Unauthorized):
        return OutsideError(
            "HR0425", f"Cassandra: {error}", help="`headrace plan --role` prints the rights that it takes"
        )
    if isinstance(error, NEVER):
        return OutsideError("HR0407", f"Cassandra: {error}")
    return OutOfReachError("HR0424", f"Cassandra did not answer: {error}", retry=True)
