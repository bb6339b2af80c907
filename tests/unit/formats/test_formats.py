"""Readers of files: every record once, in order; strict where a lenient reading would swallow a record."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from headrace import formats
from headrace.formats import delimited, lines
from headrace.formats.rejected import Rejected
from headrace.model.source import Format, Source
from headrace.model.types import Column, parse_type

Row = tuple[Any, ...]


def source(kind: str = "csv", **types: str) -> Source:
    columns = [
        Column(n, parsed) for n, t in (types or {"a": "VARCHAR", "b": "VARCHAR"}).items() if (parsed := parse_type(t))
    ]
    form = Format(kind, "*")  # type: ignore[arg-type]
    return Source("s", "fact", form, tuple(columns), ("a",), None)


def rows(of: Source, data: bytes, name: str = "f") -> list[Row]:
    found: list[Row] = []
    for batch in formats.read(of, name, data):
        found += [tuple(r.values()) for r in batch.to_pylist()]
    return found


def fields(of: Source, data: bytes) -> list[Row]:
    """(row, error, fields) of every record."""
    return [(r[0], r[1], *r[3:]) for r in rows(of, data)]


# CSV

TEXTS = st.text(st.sampled_from('ab,\r\n\0é"x1\ufeff'), max_size=40)


@pytest.fixture(params=[False, True], ids=["pyarrow", "strict"])
def strict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Reads by either of the two readers, as far as there is a choice."""
    if request.param:
        monkeypatch.setattr(delimited._Body, "plain", _not_plain)
    return bool(request.param)


def _not_plain(body: delimited._Body, block: bytes) -> Iterator[pa.RecordBatch]:
    return body.strict(body.at + len(block))


@pytest.mark.usefixtures("strict")
class TestCsv:
    def test_an_empty_field_is_null_and_an_empty_quoted_one_is_empty(self) -> None:
        assert fields(source(), b'a,b\n,""\n"",\n') == [(1, None, None, ""), (2, None, "", None)]

    def test_blank_lines_are_no_records(self) -> None:
        assert fields(source(), b"\n\na,b\n\n1,2\n\r\n\n3,4\n\n") == [(1, None, "1", "2"), (2, None, "3", "4")]

    def test_a_misfit_keeps_its_bytes_and_its_place(self) -> None:
        found = rows(source(), b"a,b\n1,2\n1\n3,4\n1,2,3\n5,6\n")
        assert [r[0] for r in found] == [1, 2, 3, 4, 5]
        assert [(r[1], r[2]) for r in found if r[1]] == [("too few fields", b"1"), ("too many fields", b"1,2,3")]

    def test_a_nul_or_foreign_byte_costs_its_own_line_only(self) -> None:
        found = fields(source(), b"a,b\n1,2\n\0,2\n\xff,2\n3,4\n")
        assert [r[1] for r in found] == [None, "contains a NUL byte", "not UTF-8", None]

    def test_columns_are_found_by_name(self) -> None:
        assert fields(source(), b"x,b,x, a \n0,2,0,1\n") == [(1, None, "1", "2")]


def test_reading_goes_on_at_the_next_line_that_parses() -> None:
    data = b'a,b\n1,"2\n3,4\n"5,6\n7,"8\n9"\n'
    expected = [
        (1, "unclosed quote", None, None), (2, None, "3", "4"), (3, "unclosed quote", None, None), (4, None, "7", "8\n9"),
    ]  # fmt: skip
    assert fields(source(), data) == expected


def test_a_quoted_field_keeps_its_line_ends() -> None:
    assert fields(source(), b'a,b\r\n"1\r\n2","3\r4"\r\n') == [(1, None, "1\r\n2", "3\r4")]


def test_quotes_out_of_place_spoil_one_record() -> None:
    found = fields(source(), b'a,b\n"1"x,2\n3,4\n5,6"7"\n8,9\n')
    assert [r[1] for r in found] == ["quotes out of place", None, "quotes out of place", None]


def test_an_open_quote_looks_ahead_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "LOOK_AHEAD", 3)
    found = fields(source(), b'a,b\n1,"2\nx\ny\n"\n3,4\n')
    assert [r[1] for r in found] == ["unclosed quote", "too few fields", "too few fields", "unclosed quote", None]


def strictly(text: str) -> list[Row]:
    """An independent reading: line by line, joining lines while the quotes are odd and the result is a record."""
    ends = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[Row] = []
    at = 0
    while at < len(ends):
        if not ends[at]:
            at += 1
            continue
        joined, used = ends[at], 1
        while joined.count('"') % 2 and at + used < len(ends):
            joined += "\n" + ends[at + used]
            used += 1
        record = parsed(joined)
        found.append((len(found) + 1, *record) if record else (len(found) + 1, None, None))
        at += used if record else 1
    return found


def parsed(record: str) -> Row | None:
    if "\0" in record:
        return None
    made: list[str | None] = []
    rest = record
    while True:
        if rest.startswith('"'):
            value, end = "", 1
            while True:
                if end >= len(rest):
                    return None
                if rest[end] != '"':
                    value += rest[end]
                elif rest[end + 1 : end + 2] == '"':
                    value, end = value + '"', end + 1
                else:
                    break
                end += 1
            made.append(value)
            rest = rest[end + 1 :]
            if rest and rest[0] != ",":
                return None
        else:
            value = rest.partition(",")[0]
            if '"' in value:
                return None
            made.append(value or None)
            rest = rest[len(value) :]
        if not rest:
            return tuple(made) if len(made) == 2 else None
        rest = rest[1:]


@given(TEXTS, st.sampled_from([1, 7, 1 << 20]))
def test_any_text_is_read_as_by_hand(text: str, stretch: int) -> None:
    """With any stretch and block size: where the readers take turns must not show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "STRETCH", stretch)
        patch.setattr(delimited, "BLOCK", stretch)
        found = rows(source(), b"a,b\n" + text.encode())
    seen = [(r[0], *r[3:]) for r in found]
    # Line ends inside quotes are kept; by hand they are all \n.
    seen = [tuple(v.replace("\r\n", "\n").replace("\r", "\n") if isinstance(v, str) else v for v in r) for r in seen]
    assert seen == strictly(text)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        try:
            found = rows(source(kind), (b"a,b\n" if kind == "csv" else b"") + data)
        except Rejected:
            continue
        assert [r[0] for r in found] == list(range(1, len(found) + 1))
        assert all((r[1] is None) == (r[2] is None) for r in found)


def test_many_unclosed_quotes_cost_no_more_than_their_lines() -> None:
    found = rows(source(), b"a,b\n" + b'1,"2\n3,4\n' * 20_000)
    assert [r[1] for r in found[:2]] == ["unclosed quote", None]
    assert len(found) == 40_000


# gzip


def test_gzip_members_are_joined_and_zeros_may_follow() -> None:
    data = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + b"\0" * 20
    assert [r[3:] for r in rows(source(), data, "f.csv.gz")] == [("1", "2"), ("3", "4")]


def test_a_gzip_bomb_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MOST_BYTES", 1000)
    assert rows(source(), gzip.compress(b"a,b\n" + b"\n" * 996), "f.gz") == []
    for data in (gzip.compress(b"\n" * 1001), gzip.compress(b"\n" * 600) * 2):
        with pytest.raises(Rejected, match="unpacks to more"):
            rows(source(), data, "f.gz")


@pytest.mark.parametrize("damage", ["plain", "cut", "more"])
def test_what_is_named_gz_must_be_whole_gzip(damage: str) -> None:
    whole = gzip.compress(b"a,b\n1,2\n")
    data = {"plain": b"a,b\n1,2\n", "cut": whole[:-1], "more": whole + b"x"}[damage]
    with pytest.raises(Rejected):
        rows(source(), data, "f.csv.gz")


# JSON lines


def json_source() -> Source:
    return source("jsonl", a="VARCHAR", n="DECIMAL(38,4)", i="BIGINT", d="DOUBLE")


def errors(data: str) -> list[str | None]:
    return [r[1] for r in rows(json_source(), data.encode(errors="surrogateescape"))]


def test_rows_are_numbered_without_blank_lines_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 16)
    data = b'\n{"a":"1"}\r\n\n \n' + b'{"a":"' + b"2" * 50 + b'"}\n{"a":"3"}'
    found = rows(json_source(), data)
    assert [(r[0], json.loads(r[3])["a"][0]) for r in found] == [(1, "1"), (2, "2"), (3, "3")]


def test_foreign_bytes_cost_their_own_line_only() -> None:
    found = rows(json_source(), b'{"a":"1"}\n{"a":"\xff"}\n{"n":12345678901234567.5}\n{"a":"2"}\n')
    assert [r[1] for r in found][:2] == [None, "not UTF-8"]
    assert found[1][2] == b'{"a":"\xff"}'
    assert (found[2][1] or "").startswith("n has more digits")
    assert found[3][1] is None


@pytest.mark.parametrize(
    ("line", "exact"),
    [
        ('{"n": 12345678901.2345}', True),
        ('{"n": 0.000000000000000000000123}', True),
        ('{"n": 123000000000000000000.0}', True),
        ('{"n": 12345678901234567890123}', True),
        ('{"n": "12345678901234567890123.4567"}', True),
        ('{"d": 0.30000000000000004, "other": 1.23456789012345678}', True),
        ('{"x": {"n": 1.234567890123456789}, "n": 1}', True),
        ('{"a": "\\"n\\": 1.234567890123456789", "n": 1}', True),
        ('{"n": 1, "n": 1.234567890123456789}', True),
        ('{"n": 12345678901234567890123.4567}', False),
        ('{"n":-1.234567890123456}', False),
        ('{"n" : 0.10000000000000000000001, "n": 1}', False),
        ('{"i": 1.00000000000000000001}', False),
        ('{"i": 1234567890123456E-2}', False),
    ],
)
def test_numbers_are_exact_or_refused(line: str, exact: bool) -> None:
    assert errors(line) == [None if exact else f"{line[2]} has more digits than a JSON number keeps: send it as text"]


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20), st.booleans()
)
def test_no_number_that_a_double_changes_passes(number: Decimal, exponent: bool) -> None:
    text = f"{number:E}" if exponent else f"{number:f}"
    (error,) = errors(f'{{"n": {text}}}')
    if Decimal(repr(float(text))) != number:
        assert error is not None


def test_nested_values_nul_and_depth() -> None:
    assert errors('{"a": {"x": 1}}') == ["a is an object or a list, not text"]
    assert errors('{"a" :\t[]}') == ["a is an object or a list, not text"]
    assert errors('{"a": "{[", "b": [1], "i": 5}') == [None]
    for other in ("", "no json", "\udcff"):  # a line without a brace must not hide one that has two
        assert errors(f'{other}\n{{"a": {{"x": 1}}}}\n')[-1] == "a is an object or a list, not text"
    assert errors('{"a": "\\u0000"}') == ["contains a NUL character"]
    assert errors('{"b": "\\u0000", "a": "\\\\u0000"}') == [None]
    assert errors('{"a": %s}' % ("[" * 10_000 + "]" * 10_000)) == ["nested too deeply"]


# Parquet


def packed(**columns: pa.Array) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([1, None], pa.int8()), ["1", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([0.1, 1e22], pa.float64()), ["0.1", "1e+22"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([Decimal("1.50")], pa.decimal128(9, 2)), ["1.50"]),
        (pa.array([True], pa.bool_()), ["true"]),
        (pa.array([0], pa.date32()), ["1970-01-01"]),
        (pa.array([0], pa.timestamp("ms")), ["1970-01-01 00:00:00.000000"]),
        (pa.array([0], pa.timestamp("ns", "Europe/Paris")), ["1970-01-01 00:00:00.000000Z"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001"]),
        (pa.array(["x", None]).dictionary_encode(), ["x", None]),
        (pa.array([b"x"], pa.large_binary()), ["x"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_every_plain_type_is_read_as_text(values: pa.Array, texts: list[str | None]) -> None:
    found = rows(source("parquet", a="VARCHAR"), packed(a=values, other=values))
    assert [(r[1], r[3]) for r in found] == [(None, t) for t in texts]


def test_bytes_that_are_no_text_cost_their_own_row_only() -> None:
    found = rows(source("parquet", a="VARCHAR"), packed(a=pa.array([b"x", b"\xff", None], pa.binary())))
    assert [(r[1], r[2], r[3]) for r in found] == [(None, None, "x"), ("not UTF-8", b"\xff", None), (None, None, None)]


@pytest.mark.parametrize("values", [pa.array([[1]]), pa.array([{"x": 1}]), pa.array([1], pa.duration("s"))])
def test_a_type_without_plain_values_rejects_the_file(values: pa.Array) -> None:
    with pytest.raises(Rejected, match="is of type"):
        rows(source("parquet", a="VARCHAR"), packed(a=values))
    assert rows(source("parquet", b="VARCHAR"), packed(a=values, b=pa.array(["x"])))


def test_a_rejection_comes_before_the_first_record() -> None:
    whole = bytearray(packed(a=pa.array([str(i) for i in range(200_000)])))
    whole[len(whole) // 2 : len(whole) // 2 + 100] = os.urandom(100)
    batches = formats.read(source("parquet", a="VARCHAR"), "f", bytes(whole))
    try:
        next(batches)
    except Rejected:
        return
    list(batches)  # the damage fell into values, not structure: then nothing may be raised later
