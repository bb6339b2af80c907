"""The stores keep what the port promises."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from headrace.adapters.cassandra_session import Address
from headrace.adapters.cassandra_store import CassandraStore
from headrace.adapters.postgres_store import PostgresStore
from headrace.adapters.sqlite_store import SQLiteStore
from headrace.ports import Store
from headrace.testing.store import StoreSuite
from tools import services


class TestSQLite(StoreSuite):
    def open(self, place: Path) -> Store:
        return SQLiteStore(place / "store.db")

    def test_a_new_file_is_opened_when_another_who_makes_it_is_done(self, tmp_path: Path) -> None:
        """Between two who do so at once SQLite waits for neither, whatever its busy timeout."""
        other = apsw.Connection(str(tmp_path / "store.db"))
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.open(tmp_path).control, "pointer")
            with pytest.raises(TimeoutError):
                asked.result(0.2)
            other.execute("COMMIT")
            assert asked.result(30) is None


class TestPostgres(StoreSuite):
    url: str

    @pytest.fixture(autouse=True)
    def _on_a_server(self, postgres: services.Postgres) -> None:
        self.url = postgres.address

    def open(self, place: Path) -> Store:
        name = hashlib.md5(str(place).encode(), usedforsecurity=False).hexdigest()
        return PostgresStore(self.url, schema=f"t{name}")


class TestCassandra(StoreSuite):
    at: tuple[str, int]

    @pytest.fixture(autouse=True)
    def _on_a_node(self, cassandra: services.Node) -> Iterator[None]:
        self.at = cassandra.host, cassandra.port
        yield
        for (process, keyspace), store in list(OPENED.items()):
            if process == os.getpid():
                store.connected.define(f"DROP KEYSPACE IF EXISTS {keyspace}")
                store.close()
                del OPENED[process, keyspace]

    def open(self, place: Path) -> Store:
        keyspace = "t" + hashlib.md5(str(place).encode(), usedforsecurity=False).hexdigest()
        known = OPENED.get((os.getpid(), keyspace))
        if known is None:
            host, port = self.at
            known = OPENED[os.getpid(), keyspace] = CassandraStore(Address((host,), port, keyspace, replicas=1))
        return known


OPENED: dict[tuple[int, str], CassandraStore] = {}
"""By process and keyspace: a store is a session, of which a process needs one."""
