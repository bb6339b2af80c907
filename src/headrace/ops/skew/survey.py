"""Counts keys and finds where they lie, in bounded memory: how many rows there are is of no account to it.

Rows are counted by a hash of their key first, in ``BUCKETS`` counters. Then the keys of the fullest buckets are counted one
by one, up to about ``BUDGET`` keys: exactly, and of any other key it is known that it has at most as many rows as the fullest
of the buckets that were left. Where all buckets were looked into, as with some millions of keys, everything is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.errors import ContractError
from headrace.model.ring import Place, Ring
from headrace.ops.skew.balance import Balance, balance
from headrace.ops.skew.ring import ranges_sql, shard_sql
from headrace.ops.skew.subject import KeyColumn
from headrace.ops.skew.token import bytes_sql, composite_sql, token, tokens_sql
from headrace.ports import Engine

LONGEST = 128
"""Bytes of a key whose token the engine works out; those of longer ones are worked out one by one."""
BUCKETS = 1 << 21
BUDGET = 3_000_000
"""Keys that are counted one by one."""
SLICES = 4096
"""Groups of tokens whose distinct ones are estimated each for itself, so that errors even out."""
PIECE = 50_000
"""Longer keys, about, that are held at a time."""
SKETCH = "_skew_sketch"


@dataclass(frozen=True, slots=True)
class Loads:
    """Rows and bytes, every replica counted, of each shard of each node: exact. ``partitions`` and the rows and bytes of the
    largest one are, too, unless ``is_estimate``: then the first is within about a hundredth, and the largest is at most so
    large."""

    rows: dict[Place, int]
    bytes: dict[Place, int]
    partitions: int
    largest_rows: int
    largest_bytes: int
    is_estimate: bool = False

    def by_node(self, ring: Ring) -> tuple[list[int], list[int]]:
        of = [[place for place in ring.places if place[0] == number] for number in range(len(ring.nodes))]
        rows = [sum(self.rows[p] for p in places) for places in of]
        return rows, [sum(self.bytes[p] for p in places) for places in of]

    @property
    def shards(self) -> Balance:
        """Of rows on shards."""
        return balance(list(self.rows.values()))


@dataclass(frozen=True, slots=True)
class Survey:
    """Of a key: all rows and bytes, the rows that have none, how they lie, and the most rows and bytes that a key can have
    that was not counted by itself (0: each was)."""

    rows: int
    bytes: int
    keyless: int
    loads: Loads
    unlisted: int
    unlisted_bytes: int


def named(key: Sequence[KeyColumn]) -> str:
    """The key's columns for a SELECT: ``_k0``, ``_k1`` and so on."""
    return ", ".join(f"{column.expression} AS _k{at}" for at, column in enumerate(key))


def names(key: Sequence[KeyColumn]) -> list[str]:
    return [f"_k{at}" for at in range(len(key))]


def typed(key: Sequence[KeyColumn]) -> list[tuple[str, str]]:
    return [(name, column.cql_type) for name, column in zip(names(key), key, strict=True)]


def survey(engine: Engine, relation: str, key: Sequence[KeyColumn], size: str, ring: Ring, into: str) -> Survey:
    """Surveys a relation by a key; the keys that were counted one by one are kept as the table ``into``, with their
    ``_rows`` and ``_bytes``. ``size`` is SQL of a row's bytes. Raises ContractError HR0623 where no row has a key."""
    columns = names(key)
    listed = ", ".join(columns)
    tests = [f"{column} IS NOT NULL" for column in columns]
    if len(key) == 1 and key[0].cql_type == "text":
        tests.append("_k0 <> ''")  # a store refuses it as well
    has_key = f"coalesce({' AND '.join(tests)}, false)"
    rows = f"(SELECT {named(key)}, {size} AS _bytes FROM {relation})"
    bucket = f"CASE WHEN {has_key} THEN CAST(hash({listed}) % {BUCKETS} AS INTEGER) ELSE -1 END"
    length = " + ".join(f"strlen(CAST({column} AS VARCHAR)) + 11" for column in columns)
    engine.keep(SKETCH, f"SELECT {bucket} AS bucket, count(*) AS n, CAST(sum(_bytes) AS BIGINT) AS size, max({length}) AS longest FROM {rows} GROUP BY 1")  # fmt: skip
    total, total_size, used, longest = engine.rows(f"SELECT sum(n), sum(size), count(*), max(longest) FROM {SKETCH} WHERE bucket >= 0")[0]  # fmt: skip
    keyless = engine.rows(f"SELECT coalesce(sum(n), 0) FROM {SKETCH} WHERE bucket < 0")[0][0]
    if not total:
        raise ContractError("HR0623", f"no row has a value of {', '.join(column.name for column in key)}")
    # How many keys there are about, by how many counters are empty (K.-Y. Whang et al., A Linear-Time Probabilistic
    # Counting Algorithm, 1990); where nearly none is, that says nothing, and there are no more than rows.
    keys = min(-BUCKETS * math.log1p(-used / BUCKETS), total) if used < 0.98 * BUCKETS else total
    looked = used if keys <= BUDGET else max(int(BUDGET * used / keys), 1)
    order = f"greatest(n / {total}, size / {max(total_size, 1)}) DESC, bucket"
    engine.keep(f"{SKETCH}_full", f"SELECT * FROM {SKETCH} WHERE bucket >= 0 ORDER BY {order} LIMIT {looked}")
    only = f"SELECT * FROM {rows} WHERE {has_key}"
    if looked < used:
        only = f"SELECT r.* FROM ({only}) AS r SEMI JOIN {SKETCH}_full AS f ON CAST(hash({listed}) % {BUCKETS} AS INTEGER) = f.bucket"
    engine.keep(into, f"SELECT {listed}, count(*) AS _rows, CAST(sum(_bytes) AS BIGINT) AS _bytes FROM ({only}) GROUP BY {listed}")  # fmt: skip
    if looked == used:
        return Survey(int(total), int(total_size), int(keyless), partitions(engine, into, typed(key), ring), 0, 0)
    left = f"SELECT max(n), max(size) FROM {SKETCH} ANTI JOIN {SKETCH}_full USING (bucket) WHERE bucket >= 0"
    unlisted, unlisted_bytes = engine.rows(left)[0]
    most, most_bytes = engine.rows(f"SELECT max(_rows), max(_bytes) FROM {into}")[0]
    each = f"(SELECT {listed}, 1 AS _rows, _bytes FROM {rows} WHERE {has_key})"
    held, held_bytes, distinct = _held(engine, each, typed(key), ring, longest, counted=True)
    largest = Loads(held, held_bytes, distinct, max(most, unlisted), max(most_bytes, unlisted_bytes), is_estimate=True)
    return Survey(int(total), int(total_size), int(keyless), largest, unlisted, unlisted_bytes)


def partitions(engine: Engine, relation: str, key: Sequence[tuple[str, str]], ring: Ring) -> Loads:
    """How partitions lie, each of which is a row of a relation: the columns of the key, with their CQL types, ``_rows`` and
    ``_bytes``."""
    length = " + ".join(f"strlen(CAST({column} AS VARCHAR)) + 11" for column, _ in key)
    count, most, most_bytes, longest = engine.rows(
        f"SELECT count(*), max(_rows), max(_bytes), max({length}) FROM {relation}"
    )[0]
    if not count:
        nothing = dict.fromkeys(ring.places, 0)
        return Loads(nothing, dict(nothing), 0, 0, 0)
    rows, sizes, _ = _held(engine, relation, key, ring, longest)
    return Loads(rows, sizes, count, most, most_bytes)


def without(all_of: Loads, some: Loads, most: int, most_bytes: int) -> Loads:
    """The loads of what is not among ``some``; none of it is larger than ``most``."""
    rows = {place: rows - some.rows[place] for place, rows in all_of.rows.items()}
    sizes = {place: size - some.bytes[place] for place, size in all_of.bytes.items()}
    return Loads(rows, sizes, max(all_of.partitions - some.partitions, 0), most, most_bytes, all_of.is_estimate)


def together(one: Loads, other: Loads) -> Loads:
    rows = {place: rows + other.rows[place] for place, rows in one.rows.items()}
    sizes = {place: size + other.bytes[place] for place, size in one.bytes.items()}
    largest = max(one.largest_rows, other.largest_rows), max(one.largest_bytes, other.largest_bytes)
    return Loads(rows, sizes, one.partitions + other.partitions, *largest, one.is_estimate or other.is_estimate)


def _held(
    engine: Engine, relation: str, key: Sequence[tuple[str, str]], ring: Ring, longest: int, *, counted: bool = False
) -> tuple[dict[Place, int], dict[Place, int], int]:
    """Rows and bytes of each place; and if ``counted``, about how many keys there are. ``longest`` is at least the bytes of
    the longest key as one of several columns."""
    blob = composite_sql([bytes_sql(column, type) for column, type in key])
    keyed = f"(SELECT {blob} AS _key, _rows, _bytes FROM {relation})"
    rows, sizes = dict.fromkeys(ring.places, 0), dict.fromkeys(ring.places, 0)

    def hold(replicas: Iterable[Place], count: int, size: int) -> None:
        for place in replicas:
            rows[place] += count
            sizes[place] += size

    short = f"(SELECT * FROM {keyed} WHERE octet_length(_key) <= {LONGEST})" if longest > LONGEST else keyed
    counts = [] if ring.has_tablets else sorted({node.shards for node in ring.nodes})
    shards = "".join(f", {shard_sql('token', n, ring.ignore_msb)} AS _s{n}" for n in counts)
    # A token's range, by its first 16 bits: most of these stretches lie within one range, so few are compared.
    ends = f"SELECT part, last, coalesce(lag(last) OVER (ORDER BY last), -9223372036854775808) AS below FROM ({ranges_sql(ring)})"
    slices = f"SELECT part, last, below, unnest(range(below >> 48, (last >> 48) + 1)) AS slice FROM ({ends})"
    tokens = tokens_sql(short, ["_rows", "_bytes"], "_key", min(longest, LONGEST))
    placed = f"SELECT token, part{shards}, _rows, _bytes FROM ({tokens}) JOIN ({slices}) ON (token >> 48) = slice AND token > below AND token <= last"
    by = f"part{''.join(f', _s{n}' for n in counts)}"
    cut = max(SLICES // (len(ring.ends) * max(counts, default=1)), 1) if counted else 1
    distinct = "approx_count_distinct(token)" if counted else "0"
    found = engine.rows(f"SELECT {by}, sum(_rows), sum(_bytes), {distinct} FROM ({placed}) GROUP BY {by}, token & {(1 << (cut - 1).bit_length()) - 1}")  # fmt: skip
    keys = 0
    for part, *at, count, size, some in found:
        owners = ring.owners[part]
        keys += some
        if ring.shards is not None:
            hold(zip(owners, ring.shards[part], strict=True), int(count), int(size))
        else:
            by_count = dict(zip(counts, at, strict=True))
            hold(((n, by_count[ring.nodes[n].shards]) for n in owners), int(count), int(size))
    if longest > LONGEST:
        long = f"{keyed} WHERE octet_length(_key) > {LONGEST}"
        slices_of = engine.rows(f"SELECT count(*) // {PIECE} + 1 FROM {long}")[0][0]
        for nth in range(slices_of):
            # One slice of all keys after the other, so that few are held here at a time.
            piece = (
                f"SELECT _key, sum(_rows), sum(_bytes) FROM {long} AND hash(_key) % {slices_of} = {nth} GROUP BY _key"
            )
            for key_bytes, count, size in engine.rows(piece):
                hold(ring.replicas_of(token(key_bytes)), int(count), int(size))
                keys += 1
    return rows, sizes, keys
