"""A node that asks for a certificate and a password gets them, tells no more than it must, and a role needs few rights."""

from __future__ import annotations

import dataclasses
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable, Session

from headrace.adapters.cassandra_session import Address
from headrace.adapters.cassandra_store import CassandraStore
from headrace.errors import OutOfReachError, OutsideError, SettingError
from headrace.testing.store import SALES, sale
from tools import services
from tools.services.jars import certify

pytestmark = pytest.mark.slow
PASSWORD = secrets.token_urlsafe(9)


@pytest.fixture
def superuser(cassandra_secure: services.SecureNode) -> Iterator[Session]:
    """A session of the driver alone, that may do everything."""
    node = cassandra_secure
    context = ssl.create_default_context(cafile=node.folder / "ca.crt")
    context.load_cert_chain(node.folder / "client.crt", node.folder / "client.key")
    auth = PlainTextAuthProvider(node.user, node.password)
    for attempt in range(60):  # the first role is made seconds after the node serves
        cluster = Cluster([node.host], node.port, ssl_context=context, auth_provider=auth, protocol_version=5)
        try:
            session = cluster.connect()
        except NoHostAvailable:
            cluster.shutdown()
            if attempt == 59:
                raise
        else:
            break
    yield session
    cluster.shutdown()


@pytest.fixture
def address(cassandra_secure: services.SecureNode, superuser: Session) -> Address:
    """A role that may read and write one keyspace, which is there already, and make its tables."""
    superuser.execute(
        "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
    )
    superuser.execute(f"CREATE ROLE IF NOT EXISTS teller WITH LOGIN = true AND PASSWORD = '{PASSWORD}'")
    for right in ("SELECT", "MODIFY", "CREATE", "ALTER", "DROP"):
        superuser.execute(f"GRANT {right} ON KEYSPACE shop TO teller")
    node = cassandra_secure
    return Address(
        (node.host,), node.port, "shop", user="teller", password=PASSWORD, timeout=5.0, replicas=1,
        ca=str(node.folder / "ca.crt"), certificate=str(node.folder / "client.crt"), key=str(node.folder / "client.key"),
    )  # fmt: skip


def refused(address: Address) -> OutsideError:
    store = CassandraStore(address)
    try:
        with pytest.raises(OutsideError) as caught:
            store.control("pointer")
    finally:
        store.close()
    assert PASSWORD not in str(caught.value) + caught.value.help
    return caught.value


def test_a_role_of_one_keyspace_does_all_that_a_project_needs(address: Address) -> None:
    store = CassandraStore(address)
    store.create(SALES)
    store.put(SALES, [sale("cpt", "2024-01-01", 7, "10.00", 2)])
    assert store.compare_and_set("pointer", None, "a")
    assert [tuple(row) for row in store.fetch(SALES, ("cpt",))] == [("cpt", "2024-01-01", 7, "10.00", 2, 1, 0, 1)]
    store.drop(SALES.name)
    assert list(store.physical()) == []
    store.close()


def test_a_wrong_password_and_a_missing_right_are_told_apart(address: Address) -> None:
    assert refused(dataclasses.replace(address, password="wrong")).code == "HR0425"
    assert refused(dataclasses.replace(address, user="")).code in ("HR0424", "HR0425")
    elsewhere = refused(dataclasses.replace(address, keyspace="other"))
    assert elsewhere.code == "HR0425"
    assert not elsewhere.retry


def test_who_is_not_trusted_is_not_talked_to(address: Address, tmp_path: Path) -> None:
    certify(tmp_path, "ca", "", "")
    certify(tmp_path, "client", "extendedKeyUsage=clientAuth", "ca")
    other = str(tmp_path / "ca.crt")
    stranger = {"certificate": str(tmp_path / "client.crt"), "key": str(tmp_path / "client.key")}
    for changed in ({"ca": other}, {"ca": "", "certificate": "", "key": ""}, {"certificate": "", "key": ""}, stranger):
        assert isinstance(refused(dataclasses.replace(address, **changed)), OutOfReachError), changed
    with pytest.raises(SettingError, match="certificates"):
        CassandraStore(dataclasses.replace(address, ca=str(tmp_path / "none.crt"))).control("pointer")


def test_weak_consistency_is_refused() -> None:
    for weak in ("ONE", "LOCAL_ONE", "TWO", "ANY"):
        with pytest.raises(SettingError, match=weak):
            Address(("127.0.0.1",), consistency=weak)
