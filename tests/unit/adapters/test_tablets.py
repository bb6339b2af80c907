"""What ScyllaDB's `system.tablets` says becomes a ring. No server of it runs here: the rows are written as its documents and
its driver's `Tablet` have them, (last token, [(host id, shard)])."""

from __future__ import annotations

from uuid import UUID

from headrace.adapters.cassandra_inspect import tablet_ring
from headrace.model.ring import Node

HOSTS = [UUID(int=n) for n in (1, 2, 3)]
NODES = (Node("10.0.0.1", 4), Node("10.0.0.2", 4), Node("10.0.0.3", 2))
GONE = UUID(int=9)


def test_a_token_lies_on_the_shards_that_its_tablet_is_on() -> None:
    rows = [
        (-(2**62) - 1, [(HOSTS[0], 3), (HOSTS[2], 1)]),
        (-1, [(HOSTS[1], 0), (HOSTS[0], 2)]),
        (2**62 - 1, [(HOSTS[2], 0), (HOSTS[1], 1)]),
        (2**63 - 1, [(HOSTS[1], 2), (GONE, 0)]),
    ]
    ring = tablet_ring(NODES, HOSTS, rows)
    assert ring.has_tablets
    assert ring.replicas_of(-(2**63) + 1) == ((0, 3), (2, 1))
    assert ring.replicas_of(-(2**62) - 1) == ((0, 3), (2, 1)), "the last token is the tablet's own"
    assert ring.replicas_of(-(2**62)) == ((1, 0), (0, 2))
    assert ring.replicas_of(0) == ((2, 0), (1, 1))
    assert ring.replicas_of(2**63 - 1) == ((1, 2),), "a host that has left holds nothing"
    assert ring.owned() == {"10.0.0.1": 0.5, "10.0.0.2": 0.75, "10.0.0.3": 0.5}
    assert sum(share for share, _ in ring.cells()) == 1
