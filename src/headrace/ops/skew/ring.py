"""Rings of clusters that are only planned: made from their size."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.model.ring import GREATEST, IGNORE_MSB, LEAST, Node, Ring
from headrace.ops.skew.token import token


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
