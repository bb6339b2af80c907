"""The ring: which nodes and shards hold a token. Made here from the size of a cluster; a live one can tell it, too."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from headrace.ops.skew.token import token

LEAST, GREATEST = -(1 << 63), (1 << 63) - 1
IGNORE_MSB = 12
"""What ScyllaDB leaves out of a token's first bits unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Node:
    """``shards`` is 1 where a node has none, as Cassandra's."""

    name: str
    shards: int = 1


Place = tuple[int, int]
"""A replica: the number of a node, and a shard of it."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Who holds which token; all that the rest of ``skew`` knows of a cluster.

    ``ends`` are the last tokens of the ranges, rising: a token is of the first range whose end is not below it, and beyond
    all of them of the first one. ``owners`` has, for each range, the numbers of its replicas' nodes. With tablets, ``shards``
    has, for each range, the replicas' shards: they are data. Without (None), a shard follows from the token.

    A live cluster tells it as: `system.local` and `system.peers` (tokens, and the keyspace's replication), SUPPORTED
    (SCYLLA_NR_SHARDS, SCYLLA_SHARDING_IGNORE_MSB), or `system.tablets` (last_token, replicas).
    """

    nodes: tuple[Node, ...]
    ends: tuple[int, ...]
    owners: tuple[tuple[int, ...], ...]
    ignore_msb: int = IGNORE_MSB
    shards: tuple[tuple[int, ...], ...] | None = None

    @property
    def has_tablets(self) -> bool:
        return self.shards is not None

    @property
    def replicas(self) -> int:
        """Of a range, at most."""
        return max(map(len, self.owners))

    @property
    def places(self) -> tuple[Place, ...]:
        """Every shard of every node."""
        return tuple((number, shard) for number, node in enumerate(self.nodes) for shard in range(node.shards))

    def range_of(self, token: int) -> int:
        """The number of a token's range: its tablet, or the part of the ring that a node's token ends."""
        at = bisect_left(self.ends, token)
        return at if at < len(self.ends) else 0

    def replicas_of(self, token: int) -> tuple[Place, ...]:
        number = self.range_of(token)
        if self.shards is not None:
            return tuple(zip(self.owners[number], self.shards[number], strict=True))
        return tuple((n, shard_of(token, self.nodes[n].shards, self.ignore_msb)) for n in self.owners[number])

    def cells(self) -> list[tuple[float, tuple[Place, ...]]]:
        """The sets of replicas that a token may have, each with the share of all tokens that has it."""
        zones = [Fraction(0), Fraction(1)]
        if self.shards is None:
            # A range holds each stretch of a shard's tokens many times over, so that its zones have equal shares.
            zones = sorted({Fraction(i, n.shards) for n in self.nodes for i in range(n.shards + 1)})
        found: dict[tuple[Place, ...], float] = {}
        for number, nodes in enumerate(self.owners):
            before = self.ends[number - 1] - (0 if number else 1 << 64)
            share = (self.ends[number] - before) / (1 << 64)
            for low, high in pairwise(zones):
                if self.shards is not None:
                    places = zip(nodes, self.shards[number], strict=True)
                else:
                    places = zip(nodes, (int(low * self.nodes[n].shards) for n in nodes), strict=True)
                cell = tuple(sorted(places))
                found[cell] = found.get(cell, 0.0) + share * float(high - low)
        return [(share, cell) for cell, share in sorted(found.items())]


def shard_of(token: int, shards: int, ignore_msb: int = IGNORE_MSB) -> int:
    """ScyllaDB's shard of a token where there are no tablets (its docs/dev/protocol-extensions.md, "biased-token-round-robin")."""
    biased = token + (1 << 63)
    if shards > 1:
        biased = biased << ignore_msb & (1 << 64) - 1
    return biased * shards >> 64


def shard_sql(token: str, shards: int, ignore_msb: int) -> str:
    """SQL of ``shard_of``."""
    if shards == 1:
        return "0"
    biased = f"CAST(CAST({token} AS HUGEINT) + {1 << 63} AS UHUGEINT)"
    shifted = f"(({biased} << CAST({ignore_msb} AS UHUGEINT)) & CAST({(1 << 64) - 1} AS UHUGEINT))"
    return f"CAST(({shifted} * CAST({shards} AS UHUGEINT)) >> CAST(64 AS UHUGEINT) AS INTEGER)"


def vnodes(nodes: int, replicas: int, shards: int, tokens: int, ignore_msb: int = IGNORE_MSB) -> Ring:
    """A ring of ``tokens`` tokens a node, at random places, the same ones each time. A range is held by the node of the
    token that ends it and by the next other nodes on the ring (SimpleStrategy; NetworkTopologyStrategy in one rack)."""
    names = [Node(f"node{n + 1}", shards) for n in range(nodes)]
    placed = {token(f"{node.name}/{t}".encode()): n for n, node in enumerate(names) for t in range(tokens)}
    ends = sorted(placed)
    owners = []
    for at in range(len(ends)):
        held: dict[int, None] = {}
        for further in range(len(ends)):
            held[placed[ends[(at + further) % len(ends)]]] = None
            if len(held) == replicas:
                break
        owners.append(tuple(held))
    return Ring(tuple(names), tuple(ends), tuple(owners), ignore_msb)


def tablets(nodes: int, replicas: int, shards: int, count: int) -> Ring:
    """A table of ``count`` tablets of equal width, dealt in turns to the nodes and to the shards of each."""
    dealt = [0] * nodes
    owners: list[tuple[int, ...]] = []
    places: list[tuple[int, ...]] = []
    for tablet in range(count):
        holders = tuple((tablet + r) % nodes for r in range(replicas))
        owners.append(holders)
        places.append(tuple(dealt[n] % shards for n in holders))
        for n in holders:
            dealt[n] += 1
    ends = tuple(((tablet + 1 << 64) // count) - 1 + LEAST for tablet in range(count))
    return Ring(tuple(Node(f"node{n + 1}", shards) for n in range(nodes)), ends, tuple(owners), 0, tuple(places))


def described(ring: Ring) -> str:
    """A ring in a line, for people."""
    counts = sorted({node.shards for node in ring.nodes})
    shards = "no shards" if counts == [1] else f"{' or '.join(map(str, counts))} shards each"
    parts = f"{len(ring.ends):,} tablets" if ring.has_tablets else f"{len(ring.ends):,} ranges of vnodes"
    ignored = f", ignore_msb {ring.ignore_msb}" if counts != [1] and not ring.has_tablets else ""
    return f"{len(ring.nodes)} nodes, RF {ring.replicas}, {shards}, {parts}{ignored}"


def ranges_sql(ring: Ring, name: str = "_ranges") -> str:
    """A SELECT of the ring's ranges: ``last`` token and ``part``, its number. What lies beyond the last one is of the first."""
    rows: Sequence[tuple[int, int]] = [(end, number) for number, end in enumerate(ring.ends)]
    if ring.ends[-1] < GREATEST:
        rows = [*rows, (GREATEST, 0)]
    values = ", ".join(f"({end}, {number})" for end, number in rows)
    return f"SELECT CAST(last AS BIGINT) AS last, CAST(part AS INTEGER) AS part FROM (VALUES {values}) AS {name}(last, part)"
