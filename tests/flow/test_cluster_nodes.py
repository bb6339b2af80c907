"""What a cluster tells of its nodes, through CQL alone; and the rights that a role needs."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import OperationTimedOut, ReadTimeout, Unavailable

from headrace.adapters.cassandra_inspect import CassandraInspect
from headrace.adapters.cassandra_session import Address
from headrace.adapters.cassandra_store import CassandraStore
from headrace.errors import OutsideError
from headrace.flow.cluster import examined, status
from headrace.ops.skew.token import token
from headrace.sql.cql import roles_sql
from tests.flow.test_tables import DECLARATIONS, FILES, Limited, limited, sales
from tests.kit import ProjectFolder, Quiet
from tools import services

pytestmark = pytest.mark.slow


def close(app: Limited) -> None:
    assert isinstance(app.store, CassandraStore)
    app.store.close()


@pytest.fixture
def inspect(cassandra3: services.Nodes) -> Iterator[CassandraInspect]:
    node = cassandra3[0]
    store = CassandraStore(Address((node.host, cassandra3[1].host), node.port, "nodes", replicas=3, timeout=5.0))
    store.control("pointer")  # which makes the keyspace
    yield CassandraInspect(store)
    store.connected.define("DROP KEYSPACE IF EXISTS nodes")
    store.connected.define("DROP KEYSPACE IF EXISTS thirds")
    store.close()


def test_nodes_tell_what_they_are_and_one_that_is_down_what_that_means(
    inspect: CassandraInspect, cassandra3: services.Nodes
) -> None:
    found = status(inspect)
    (datacenter,) = found["datacenters"].values()
    assert (found["strategy"], datacenter["replicas"], found["down"]) == ("NetworkTopologyStrategy", 3, [])
    assert [(n["node"], n["status"], n["tokens"], n["owns"]) for n in datacenter["nodes"]] == [
        (f"127.0.0.{i}", "up", 1, 1.0) for i in (1, 2, 3)
    ]
    assert {n["version"] for n in datacenter["nodes"]} == {"5.0.9"}
    assert len({n["schema"] for n in datacenter["nodes"]}) == 1
    assert all(n["load"] >= 0 for n in datacenter["nodes"])
    assert found["health"] == [
        f"{next(iter(found['datacenters']))}: all 3 node(s) up; answers and writes go on with 1 down"
    ]
    wrong = {f.check: f.found for f in examined(inspect) if not f.ok}
    assert not wrong
    place = next(iter(found["datacenters"]))
    inspect.connected.define(
        f"CREATE KEYSPACE thirds WITH replication = {{'class': 'NetworkTopologyStrategy', '{place}': 1}}"
    )
    thirds = CassandraInspect(
        CassandraStore(Address(inspect.store.address.hosts, inspect.store.address.port, "thirds"))
    )
    thirds.connected = inspect.connected
    assert {k: round(v, 6) for k, v in thirds.ring().owned().items()} == {f"127.0.0.{i}": 0.333333 for i in (1, 2, 3)}
    assert [f.check for f in examined(thirds) if not f.ok] == ["replication"]

    inspect.connected.define("CREATE TABLE thirds.t (k int PRIMARY KEY)")
    for key in range(60):
        inspect.connected.session.execute("INSERT INTO thirds.t (k) VALUES (%s)", (key,))
    ring = thirds.ring("t")
    of = {key: ring.replicas_of(token(struct.pack(">i", key))) for key in range(60)}
    on_third = {key for key, places in of.items() if [ring.nodes[n].name for n, _ in places] == ["127.0.0.3"]}

    cassandra3[2].kill()
    until = time.monotonic() + 60
    while not status(inspect)["down"] and time.monotonic() < until:
        time.sleep(0.2)
    found = status(inspect)
    assert found["down"] == ["127.0.0.3"]

    def is_lost(key: int) -> bool:
        while True:
            try:
                assert list(inspect.connected.session.execute("SELECT k FROM thirds.t WHERE k = %s", (key,)))
            except Unavailable:
                return True
            except (ReadTimeout, OperationTimedOut):  # whom it asked has not noticed yet
                assert time.monotonic() < until
            else:
                return False

    assert on_third
    until = time.monotonic() + 60
    lost = {key for key in range(60) if is_lost(key)}
    assert lost == on_third, "the ring says which keys a node has alone"
    assert 5 < len(lost) < 40
    assert found["health"][0].endswith("127.0.0.3 down; answers and writes go on, and with 0 more down")
    assert [f.check for f in examined(inspect) if not f.ok] == ["nodes"]


def test_the_roles_that_plan_prints_are_enough_and_not_more(tmp_path: Path) -> None:
    settings = {"authenticator": "PasswordAuthenticator", "authorizer": "CassandraAuthorizer"}
    with services.cassandra(tmp_path / "node", settings=settings) as node:
        admin = CassandraStore(Address((node.host,), node.port, "system", user="cassandra", password="cassandra"))
        until = time.monotonic() + 60
        while True:
            try:
                assert admin.connected.session
                break
            except OutsideError:  # the first user is made a moment after the start
                assert time.monotonic() < until
                time.sleep(0.5)
        for line in roles_sql("tills", "", 1).replace("change me", "secret").splitlines():
            if not line.startswith("--"):
                admin.connected.session.execute(line)
        admin.close()
        project = ProjectFolder(tmp_path / "tills", DECLARATIONS, FILES)
        project.land("sales_1.csv", sales())

        def opened(role: str, rows: int = 100_000) -> Limited:
            project.write(
                "headrace.toml",
                f'[inbox]\nquiet = 0.0\n[cassandra]\nhosts = "{node.host}"\nport = {node.port}\nkeyspace = "tills"\n'
                f'replicas = 1\nuser = "tills_{role}"\npassword = "secret"\n',
            )
            return limited(rows)(project.folder)

        run = opened("run")
        assert run.apply(Quiet()).generations == [1]
        close(run)
        run = opened("run", 60)
        assert run.apply(Quiet()).generations == [2]
        assert [f.found for f in run.doctor() if not f.ok] == []
        close(run)
        serve = opened("serve")
        assert serve.reader.answer("by_till", {"shop": "shop00"}).rows
        with pytest.raises(OutsideError, match="HR0425"):
            serve.store.set_control("x", "y")
        close(serve)
