"""Tokens and shards against published values, against the driver, and in SQL against Python."""

from __future__ import annotations

import random
import struct
from collections import Counter
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from cassandra import cqltypes
from cassandra.metadata import murmur3

from headrace import wiring
from headrace.model.ring import shard_of
from headrace.ops.skew.ring import shard_sql
from headrace.ops.skew.token import bytes_sql, composite, composite_sql, token, tokens_sql
from headrace.ports import Engine

PUBLISHED = [  # (key, token); where from is beside them
    (b"123", -7468325962851647638),  # scylladb/python-driver, tests/unit/test_metadata.py
    (b"\xfe" * 8, -8927430733708461935),
    (b"\x10" * 8, 1446172840243228796),
    (b"\x00\xff\x10\xfa\x99" * 10, 5837342703291459765),
    (b"test", -6017608668500074083),  # scylladb/scylla-rust-driver, scylla/src/routing/partitioner.rs
    (b"xd", 4507812186440344727),
    (b"primary_key", -1632642444691073360),
    ("kremówki".encode(), 4354931215268080151),
    # scylladb/gocql, internal/murmur/murmur_test.go: the case in which the sign of bytes decides
    (bytes.fromhex("00104327529fb645dd00b883ec39ae448bb800000400066a6b00"), -9223371632693506265),
    (composite([struct.pack(">i", 143), struct.pack(">i", 234)]), 4958784316840156970),  # scylladb, test/boost/partitioner_test.cc
    (b"\x00", 5048724184180415669),  # the two values of a boolean
    (b"\x01", 8849112093580131862),
    (b"a", -8839064797231613815),  # keys of scylladb/python-driver, tests/unit/test_shard_aware.py
    (b"b", 8833996863197925870),
    (b"c", -8198557465434950441),
    (b"e", -4200008757497435756),
    (b"100000", 2739050094959918959),
]  # fmt: skip
SHARDS = [  # (token, shards, shard), ignore_msb 12
    (-9219783007514621794, 4, 3),  # four of the 10,000 of scylladb/gocql, scylla_tokens_test.go
    (-9217148724365525195, 4, 1),
    (-9209452951616763088, 4, 0),
    (9222582454147032830, 4, 3),
    *((token(key), 12, shard) for key, shard in ((b"a", 4), (b"b", 6), (b"c", 6), (b"e", 4), (b"100000", 2))),
    (5048724184180415669, 4, 0),
    (8849112093580131862, 4, 3),
    (5048724184180415669, 8, 0),
    (8849112093580131862, 8, 7),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return wiring.binder()


def driver(key: bytes) -> int:
    """The driver's hash, as servers use it: the least number is no key's token."""
    found: int = murmur3(key)
    return 2**63 - 1 if found == -(2**63) else found


def in_sql(engine: Engine, keys: list[bytes], longest: int | None = None) -> list[int]:
    values = ", ".join(f"({at}, unhex('{key.hex()}'))" for at, key in enumerate(keys))
    sql = tokens_sql(f"(VALUES {values}) AS t(n, k)", ["n"], "k", longest or max(map(len, keys)))
    return [found for _, found in engine.rows(f"SELECT n, token FROM ({sql}) ORDER BY n")]


@pytest.mark.parametrize(("key", "expected"), PUBLISHED)
def test_a_published_token(key: bytes, expected: int) -> None:
    assert token(key) == expected


def test_published_tokens_in_sql(engine: Engine) -> None:
    assert in_sql(engine, [key for key, _ in PUBLISHED]) == [expected for _, expected in PUBLISHED]


def test_any_key_has_the_driver_s_token_in_python_and_in_sql(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    keys = [chance.randbytes(length) for length in (*range(70), *(chance.randrange(129) for _ in range(400)))]
    expected = [driver(key) for key in keys]
    assert [token(key) for key in keys] == expected
    assert in_sql(engine, keys, longest=128) == expected


@pytest.mark.parametrize(("at", "shards", "expected"), SHARDS)
def test_a_published_shard(at: int, shards: int, expected: int) -> None:
    assert shard_of(at, shards) == expected


def test_shards_in_sql_are_those_of_python_and_of_exact_fractions(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    tokens = [-(2**63) + 1, -1, 0, 1, 2**63 - 1, *(chance.randrange(-(2**63), 2**63) for _ in range(200))]
    for shards in (1, 2, 3, 4, 7, 12, 128):
        for ignored in (0, 1, 12, 63):
            values = ", ".join(f"({at}, {t})" for at, t in enumerate(tokens))
            sql = f"SELECT {shard_sql('token', shards, ignored)} FROM (VALUES {values}) AS t(n, token) ORDER BY n"
            # By its definition: the part of [0, 1) that the token's bits behind the ignored ones fall in.
            kept = 64 - (ignored if shards > 1 else 0)
            expected = [((t + 2**63) % 2**kept) * shards // 2**kept for t in tokens]
            assert [shard_of(t, shards, ignored) for t in tokens] == expected
            assert [found for (found,) in engine.rows(sql)] == expected


def test_15_users_fall_on_shards_as_chance_has_it() -> None:
    users = [f"+1555000{n}".encode() for n in range(1, 16)]  # the users of the CallDrop exercise
    on = Counter(shard_of(token(user), 4) for user in users)
    assert [on[shard] for shard in range(4)] == [1, 7, 2, 5]
    on = Counter(shard_of(token(user), 8) for user in users)
    assert [on[shard] for shard in range(8)] == [0, 1, 2, 5, 0, 2, 4, 1]


@pytest.mark.parametrize(
    ("sql", "cql", "written"),
    [
        ("'kremówki'", "text", cqltypes.UTF8Type.serialize("kremówki", 4)),
        ("27", "bigint", cqltypes.LongType.serialize(27, 4)),
        ("-27", "bigint", cqltypes.LongType.serialize(-27, 4)),
        ("-2147483648", "int", cqltypes.Int32Type.serialize(-(2**31), 4)),
        ("'143'", "int", cqltypes.Int32Type.serialize(143, 4)),
        ("-5", "smallint", cqltypes.ShortType.serialize(-5, 4)),
        ("-5", "tinyint", cqltypes.ByteType.serialize(-5, 4)),
        ("true", "boolean", cqltypes.BooleanType.serialize(True, 4)),
        ("'false'", "boolean", cqltypes.BooleanType.serialize(False, 4)),
        ("TIMESTAMP '2024-02-29 12:00:00.123'", "timestamp", cqltypes.DateType.serialize(datetime(2024, 2, 29, 12, 0, 0, 123_000, UTC), 4)),
        ("TIMESTAMP '1969-12-31 23:59:59.999'", "timestamp", cqltypes.LongType.serialize(-1, 4)),
        ("'2024-02-29'", "date", cqltypes.SimpleDateType.serialize(date(2024, 2, 29), 4)),
        ("'1950-01-01'", "date", cqltypes.SimpleDateType.serialize(date(1950, 1, 1), 4)),
        ("-2.5", "double", cqltypes.DoubleType.serialize(-2.5, 4)),
        ("'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "uuid", UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479").bytes),
    ],
)  # fmt: skip
def test_a_value_is_written_as_the_driver_writes_it(engine: Engine, sql: str, cql: str, written: bytes) -> None:
    assert engine.rows(f"SELECT {bytes_sql(sql, cql)}") == [(written,)]


def test_a_key_of_several_columns_in_sql_and_in_python(engine: Engine) -> None:
    parts = [bytes_sql("'27820000001'", "text"), bytes_sql("''", "text"), bytes_sql("7", "bigint")]
    expected = b"\0\x0b27820000001\0" b"\0\0\0" b"\0\x08\0\0\0\0\0\0\0\x07\0"  # fmt: skip
    assert composite([b"27820000001", b"", struct.pack(">q", 7)]) == expected
    assert engine.rows(f"SELECT {composite_sql(parts)}") == [(expected,)]
