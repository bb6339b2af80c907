"""Tokens: where the Murmur3 partitioner of Cassandra and ScyllaDB puts a partition key; in Python, and in SQL for many.

The hash is MurmurHash3 x64-128, seed 0, of which the first half counts (A. Appleby, SMHasher, public domain), with one
difference that Cassandra made and everyone since repeats: the bytes of the last, incomplete block are sign-extended.
"""

from __future__ import annotations

from collections.abc import Sequence

C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
ADDED = (0x52DCE729, 0x38495AB5)
FINAL = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
BITS = 0xFFFF_FFFF_FFFF_FFFF
HALF = 1 << 63
BLOCK = 16
"""Bytes."""

CQL_TYPES = ("text", "bigint", "int", "smallint", "tinyint", "boolean", "timestamp", "date", "double", "uuid")
"""Types of key columns whose bytes are known here."""


def token(key: bytes) -> int:
    """The token of a serialised partition key, from -2^63 + 1 to 2^63 - 1."""
    whole = len(key) // BLOCK * BLOCK
    h1 = h2 = 0
    for at in range(0, whole, BLOCK):
        h1 ^= _mixed1(int.from_bytes(key[at : at + 8], "little"))
        h1 = ((_rotated(h1, 27) + h2) * 5 + ADDED[0]) & BITS
        h2 ^= _mixed2(int.from_bytes(key[at + 8 : at + BLOCK], "little"))
        h2 = ((_rotated(h2, 31) + h1) * 5 + ADDED[1]) & BITS
    k = [0, 0]
    for at, byte in enumerate(key[whole:]):
        k[at // 8] ^= (byte - 256 if byte > 127 else byte) << (8 * (at % 8)) & BITS
    h1 ^= _mixed1(k[0]) ^ len(key)
    h2 ^= _mixed2(k[1]) ^ len(key)
    h1 = (h1 + h2) & BITS
    h2 = (h2 + h1) & BITS
    found = (_finished(h1) + _finished(h2)) & BITS
    # The least number stands for "before all tokens", so no key has it.
    return HALF - 1 if found == HALF else found - (found >> 63 << 64)


def composite(parts: Sequence[bytes]) -> bytes:
    """The serialised partition key of its columns' values: of one column its bytes alone, of several each with its length
    before it and a zero behind."""
    if len(parts) == 1:
        return parts[0]
    return b"".join(len(part).to_bytes(2, "big") + part + b"\0" for part in parts)


def _rotated(x: int, by: int) -> int:
    return (x << by | x >> 64 - by) & BITS


def _mixed1(k: int) -> int:
    return _rotated(k * C1 & BITS, 31) * C2 & BITS


def _mixed2(k: int) -> int:
    return _rotated(k * C2 & BITS, 33) * C1 & BITS


def _finished(h: int) -> int:
    for factor in FINAL:
        h = (h ^ h >> 33) * factor & BITS
    return h ^ h >> 33


# The same in the engine's SQL. Its integers do not wrap, so products are made in 128 bits and cut.


def bytes_sql(expression: str, cql_type: str) -> str:
    """SQL of a value's bytes as CQL writes them; ``expression`` has the SQL type of a stored value (``model.serving``), or
    one that can be cast to what the CQL type holds."""
    if cql_type == "text":
        return f"encode(CAST({expression} AS VARCHAR))"
    if cql_type in ("bigint", "int", "smallint", "tinyint"):
        sql, width = {"bigint": ("BIGINT", 8), "int": ("INTEGER", 4), "smallint": ("SMALLINT", 2), "tinyint": ("TINYINT", 1)}[cql_type]  # fmt: skip
        return _integer(f"CAST({expression} AS {sql})", width)
    if cql_type == "boolean":
        return f"unhex(CASE WHEN CAST({expression} AS BOOLEAN) THEN '01' ELSE '00' END)"
    if cql_type == "timestamp":
        return _integer(f"epoch_ms(CAST({expression} AS TIMESTAMP))", 8)
    if cql_type == "date":  # days, with 1970-01-01 in the middle of 32 bits
        return _integer(f"(CAST({expression} AS DATE) - DATE '1970-01-01') + 2147483648", 4)
    if cql_type == "double":
        return _integer(f"CAST(CAST(CAST({expression} AS DOUBLE) AS BIT) AS BIGINT)", 8)
    if cql_type == "uuid":
        return f"unhex(replace(CAST(CAST({expression} AS UUID) AS VARCHAR), '-', ''))"
    raise ValueError(cql_type)


def composite_sql(parts: Sequence[str]) -> str:
    """SQL of ``composite``; ``parts`` are what ``bytes_sql`` gives."""
    if len(parts) == 1:
        return parts[0]
    return " || ".join(f"{_integer(f'octet_length({part})', 2)} || {part} || unhex('00')" for part in parts)


def tokens_sql(rows: str, columns: Sequence[str], key: str, longest: int) -> str:
    """A SELECT of ``columns`` of the relation ``rows``, and of ``token``; ``key`` is a column of it, a BLOB of at most
    ``longest`` bytes."""
    blocks = longest // BLOCK
    padding = "'" + "\\x00" * (BLOCK * (blocks + 1)) + "'"
    words = {"t1": f"_n // {BLOCK} * {BLOCK}", "t2": f"_n // {BLOCK} * {BLOCK} + 8"}
    for at in range(blocks):
        words |= {f"a{at}": str(BLOCK * at), f"b{at}": str(BLOCK * at + 8)}
    kept = [*columns, "_n"]
    sql = f"SELECT {', '.join(columns)}, octet_length({key}) AS _n, {key} || CAST({padding} AS BLOB) AS _p FROM {rows}"

    def step(names: Sequence[str], **new: str) -> None:
        # A level of its own for each use of a value: the engine does not work out one twice.
        nonlocal sql
        sql = f"SELECT {', '.join([*names, *(f'{text} AS {name}' for name, text in new.items())])} FROM ({sql})"

    step(kept, **{w: f"CAST(CAST(array_slice(_p, {at} + 1, {at} + 8) AS BIT) AS UBIGINT)" for w, at in words.items()})
    # Words are little-endian, the cast is not: neighbours change places, first bytes, then pairs, then halves.
    for mask, by in ((0x00FF00FF00FF00FF, 8), (0x0000FFFF0000FFFF, 16), (0x00000000FFFFFFFF, 32)):
        step(kept, **{w: f"((({w} & {_u64(mask)}) << {by}) | (({w} >> {by}) & {_u64(mask)}))" for w in words})
    # Sign-extended bytes: each byte is inverted once for each negative byte before it. Which ones, as a running parity.
    rest = [w for w in words if w not in ("t1", "t2")]
    step([*kept, *words], **{f"s{t}": f"(({t} >> 7) & {_u64(0x0101010101010101)})" for t in ("t1", "t2")})
    for by in (8, 16, 32):
        low = _u64(BITS >> by)
        step([*kept, *words], **{f"s{t}": f"xor(s{t}, ((s{t} & {low}) << {by}))" for t in ("t1", "t2")})
    turned = {t: f"xor({t}, (((s{t} & {_u64(BITS >> 8)}) << 8) * {_u64(255)}))" for t in ("t1", "t2")}
    step([*kept, *rest], **turned)
    step(kept, **{w: f"CAST({w} AS UHUGEINT)" for w in words}, h1=_u128(0), h2=_u128(0))
    for at in range(blocks):
        words = {w: "" for w in words if w not in (f"a{at}", f"b{at}")}
        names = [*kept, *words]
        step([*names, "h1 AS g1", "h2 AS g2"], k1=_mixed1_sql(f"a{at}"), k2=_mixed2_sql(f"b{at}"))
        h1 = _rotated_sql("xor(g1, k1)", 27)
        step([*names, "g1", "g2", "k2"], h1=_cut(f"{_cut(f'{h1} + g2')} * {_u128(5)} + {_u128(ADDED[0])}"))
        h2 = _rotated_sql("xor(g2, k2)", 31)
        step([*names, "g1", "g2", "h1"], h2=_cut(f"{_cut(f'{h2} + h1')} * {_u128(5)} + {_u128(ADDED[1])}"))
        full = f"_n >= {BLOCK * (at + 1)}"
        step(names, h1=f"CASE WHEN {full} THEN h1 ELSE g1 END", h2=f"CASE WHEN {full} THEN h2 ELSE g2 END")
    length = "CAST(_n AS UHUGEINT)"
    step(columns, h1=f"xor(xor(h1, {_mixed1_sql('t1')}), {length})", h2=f"xor(xor(h2, {_mixed2_sql('t2')}), {length})")
    step([*columns, "h2"], h1=_cut("h1 + h2"))
    step([*columns, "h1"], h2=_cut("h2 + h1"))
    for factor in FINAL:
        step(columns, **{h: _product(f"xor({h}, ({h} >> {_u128(33)}))", factor) for h in ("h1", "h2")})
    step(columns, _h=_cut(f"xor(h1, (h1 >> {_u128(33)})) + xor(h2, (h2 >> {_u128(33)}))"))
    signed = f"CAST(CAST(_h AS HUGEINT) - CASE WHEN _h > {HALF} THEN {1 << 64} ELSE 0 END AS BIGINT)"
    step(columns, token=f"CASE WHEN _h = {HALF} THEN {HALF - 1} ELSE {signed} END")
    return sql


def _integer(expression: str, width: int) -> str:
    """Big-endian bytes of an integer."""
    return f"unhex(right(lpad(hex(CAST({expression} AS BIGINT)), 16, '0'), {2 * width}))"


def _u64(value: int) -> str:
    return f"CAST({value} AS UBIGINT)"


def _u128(value: int) -> str:
    return f"CAST({value} AS UHUGEINT)"


def _cut(expression: str) -> str:
    return f"(({expression}) & {_u128(BITS)})"


def _product(expression: str, factor: int) -> str:
    return _cut(f"({expression}) * {_u128(factor)}")


def _rotated_sql(x: str, by: int) -> str:
    return _cut(f"(({x}) << {_u128(by)}) | (({x}) >> {_u128(64 - by)})")


def _mixed1_sql(k: str) -> str:
    return _product(_rotated_sql(_product(k, C1), 31), C2)


def _mixed2_sql(k: str) -> str:
    return _product(_rotated_sql(_product(k, C2), 33), C1)
