"""Rings, how even loads are, and what chance gives."""

from __future__ import annotations

import math
import random
import statistics
from itertools import product

import pytest
from cassandra.metadata import Murmur3Token, SimpleStrategy
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host

from headrace import wiring
from headrace.model.ring import GREATEST, LEAST, Node, Ring
from headrace.ops.skew.balance import advisor, balance, chance
from headrace.ops.skew.ring import ranges_sql, tablets, vnodes
from headrace.ops.skew.token import token

RINGS = {
    "three nodes, RF 3": vnodes(3, 3, 4, 16),
    "five nodes, RF 2": vnodes(5, 2, 3, 8),
    "Cassandra": vnodes(4, 2, 1, 16),
    "tablets": tablets(3, 2, 4, 16),
    "seven tablets": tablets(3, 3, 2, 7),
    "unlike nodes": Ring((Node("big", 8), Node("small", 3)), (-(10**18), 10**18), ((0, 1), (1, 0))),
}


@pytest.fixture(params=list(RINGS.values()), ids=list(RINGS))
def ring(request: pytest.FixtureRequest) -> Ring:
    found: Ring = request.param
    return found


def test_replicas_are_where_the_driver_looks_for_them() -> None:
    ring = vnodes(5, 3, 1, 16)
    hosts = [Host(node.name, SimpleConvictionPolicy, host_id=node.name) for node in ring.nodes]
    # The first replica owns the token that ends the range; the driver works out the others.
    owner = {Murmur3Token(end): hosts[owners[0]] for end, owners in zip(ring.ends, ring.owners, strict=True)}
    found = SimpleStrategy({"replication_factor": "3"}).make_token_replica_map(owner, sorted(owner))
    assert [[host.address for host in found[Murmur3Token(end)]] for end in ring.ends] == [
        [ring.nodes[n].name for n in owners] for owners in ring.owners
    ]


def test_a_token_is_of_the_first_range_whose_end_is_not_below_it(ring: Ring) -> None:
    for number, end in enumerate(ring.ends):
        assert ring.range_of(end) == number
        if end < GREATEST:
            assert ring.range_of(end + 1) == (number + 1) % len(ring.ends)


def test_of_2_to_the_n_tablets_the_number_is_the_first_n_bits() -> None:
    chance = random.Random(5)
    for bits in range(8):
        ring = tablets(3, 3, 2, 2**bits)
        for at in [LEAST + 1, -1, 0, GREATEST, *(chance.randrange(LEAST, GREATEST) for _ in range(100))]:
            assert ring.range_of(at) == (at + 2**63) >> (64 - bits)


def test_no_replicas_share_a_node_and_tablets_are_dealt_evenly(ring: Ring) -> None:
    assert all(len(set(owners)) == ring.replicas for owners in ring.owners)
    if ring.shards is not None:
        held = dict.fromkeys(ring.places, 0)
        for owners, shards in zip(ring.owners, ring.shards, strict=True):
            for place in zip(owners, shards, strict=True):
                held[place] += 1
        assert max(held.values()) - min(held.values()) <= 1


def test_the_ranges_in_sql_are_those_of_the_ring(ring: Ring) -> None:
    rows = wiring.binder().rows(f"SELECT last, part FROM ({ranges_sql(ring)}) ORDER BY last")
    assert rows[-1][0] == GREATEST
    assert all(ring.range_of(last) == part for last, part in rows)
    assert {part for _, part in rows} == set(range(len(ring.ends)))


def test_cells_are_the_places_of_random_tokens(ring: Ring) -> None:
    shares = {cell: share for share, cell in ring.cells()}
    assert math.isclose(sum(shares.values()), 1)
    draws, chance = 20_000, random.Random(3)
    counted = dict.fromkeys(shares, 0)
    for _ in range(draws):
        counted[tuple(sorted(ring.replicas_of(chance.randrange(LEAST, GREATEST))))] += 1
    for cell, count in counted.items():
        assert abs(count / draws - shares[cell]) < 5 * math.sqrt(shares[cell] / draws) + 1e-3


def test_balance_of_loads_that_can_be_worked_out_by_hand() -> None:
    even, one = balance([5, 5, 5, 5]), balance([0, 0, 0, 8])
    assert (even.max_over_mean, even.cv, even.gini) == (1, 0, 0)
    assert (one.max_over_mean, one.gini) == (4, 0.75)
    assert math.isclose(one.cv, math.sqrt(3))
    loads = [3, 1, 4, 1, 5, 9, 2, 6]
    # Gini as it is defined: the mean difference of two loads over twice their mean.
    differences = statistics.fmean(abs(a - b) for a, b in product(loads, loads))
    assert math.isclose(balance(loads).gini, differences / (2 * statistics.fmean(loads)))
    assert math.isclose(balance(loads).cv, statistics.pstdev(loads) / statistics.fmean(loads))


@pytest.mark.parametrize(("hot", "needed"), [(1, 6), (3, 16)])
def test_how_many_shards_an_advisor_needs_to_see_hot_ones(hot: int, needed: int) -> None:
    def loads(shards: int) -> list[int]:
        return [10**12] * hot + [0] * (shards - hot)

    assert advisor(loads(needed), hot).score > 2
    assert not advisor(loads(needed), hot).is_blind
    blind = advisor(loads(needed - 1), hot)
    assert blind.score <= blind.ceiling <= 2
    assert blind.is_blind
    assert blind.needed == needed


@pytest.mark.parametrize("keys", [1, 2, 15])
def test_chance_is_that_of_all_ways_in_which_few_keys_can_fall(keys: int) -> None:
    ring = vnodes(1, 1, 4, 16)
    ways = [
        max(loads.count(shard) for shard in range(4)) * 4 / keys for loads in product(range(4), repeat=min(keys, 8))
    ]
    if keys > 8:  # too many ways to list: by simulation of the keys themselves
        draw = random.Random(11)
        ways = []
        for _ in range(4000):
            loads = [draw.randrange(4) for _ in range(keys)]
            ways.append(max(loads.count(shard) for shard in range(4)) * 4 / keys)
    found = chance(ring, keys)
    assert found.median == statistics.median_low(sorted(ways)[: len(ways) // 2 * 2])
    assert found.high in {sorted(ways)[len(ways) * p // 100] for p in range(92, 98)}


def test_chance_of_many_keys_agrees_with_what_real_tokens_do() -> None:
    ring = vnodes(3, 3, 4, 256)
    seen = []
    for draw in range(40):
        loads = dict.fromkeys(ring.places, 0)
        for key in range(3000):
            for place in ring.replicas_of(token(f"{draw}/{key}".encode())):
                loads[place] += 1
        seen.append(max(loads.values()) * 12 / sum(loads.values()))
    found = chance(ring, 3000)
    assert abs(statistics.median(seen) - found.median) < 0.01
    assert sum(value > found.high for value in seen) <= 6


def test_chance_is_the_same_each_time() -> None:
    ring = vnodes(3, 3, 4, 256)
    assert chance(ring, 10**6) == chance(ring, 10**6)
