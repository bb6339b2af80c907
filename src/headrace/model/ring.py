"""The ring: which nodes and shards of a cluster hold a token."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

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

    def widths(self) -> list[float]:
        """The share of all tokens that each range has."""
        before = [self.ends[-1] - (1 << 64), *self.ends]
        return [(end - start) / (1 << 64) for start, end in zip(before, self.ends, strict=False)]

    def owned(self) -> Mapping[str, float]:
        """By node, the share of all tokens that it keeps a replica of."""
        found = dict.fromkeys((node.name for node in self.nodes), 0.0)
        for share, holders in zip(self.widths(), self.owners, strict=True):
            for number in holders:
                found[self.nodes[number].name] += share
        return found

    def cells(self) -> list[tuple[float, tuple[Place, ...]]]:
        """The sets of replicas that a token may have, each with the share of all tokens that has it."""
        zones = [Fraction(0), Fraction(1)]
        if self.shards is None:
            # A range holds each stretch of a shard's tokens many times over, so that its zones have equal shares.
            zones = sorted({Fraction(i, n.shards) for n in self.nodes for i in range(n.shards + 1)})
        found: dict[tuple[Place, ...], float] = {}
        for number, (share, nodes) in enumerate(zip(self.widths(), self.owners, strict=True)):
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
