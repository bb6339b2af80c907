"""Bad input as files: for each code of docs/bad-input.md what lands, and what must come of it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import parquet

DECLARATIONS = r"""
project = Project("calls")
calls = project.source("calls", {format}, id="id", event_time="made_at", columns='''id BIGINT NOT NULL,
    made_at TIMESTAMPTZ NOT NULL, msisdn VARCHAR NOT NULL, volume BIGINT, cost DECIMAL({precision},4)''')
calls.repair("msisdn", r'''CASE WHEN regexp_full_match(msisdn, '(\+|00)?[0-9 -]+')
    THEN regexp_extract(replace(replace(msisdn, ' ', ''), '-', ''), '^(\+|00)?(.*)$', 2) ELSE msisdn END''',
    "written without + and separators")
calls.rule("regexp_full_match(msisdn, '[0-9]{{1,15}}')", "not a phone number")
calls.rule("volume >= 0", "negative volume")
"""
FILES = {
    "marts/numbers.sql": """SELECT msisdn, count(*) AS records, sum(cost) AS cost, sum(volume) AS volume
        FROM calls GROUP BY ALL""",
    "marts/quality.sql": "SELECT kind, reason, count(*) AS records FROM verdicts GROUP BY ALL",
    "queries/totals.sql": "SELECT measure(records) AS records, measure(cost) AS cost FROM numbers",
    "queries/numbers.sql": "SELECT msisdn, records FROM numbers WHERE msisdn = $msisdn",
    "queries/quality.sql": "SELECT reason, records FROM quality WHERE kind = $kind",
}
NUMBER = "27821234567"
HEADER = "id,made_at,msisdn,volume,cost"
COST = Decimal("1.25")


@dataclass(frozen=True, slots=True)
class Case:
    """Files, and the counts that they must lead to; ``rows`` is all that the files hold."""

    files: dict[str, bytes]
    rows: int
    clean: int
    bad: int = 0
    rejected: int = 0
    repaired: int = 0
    void: int = 0
    cost: Decimal | None = None
    """The sum of clean costs; COST for each where it is not given."""
    format: str = 'csv("*.csv")'
    precision: int = 18
    numbers: dict[str, int] = field(default_factory=dict)
    later: dict[str, bytes] = field(default_factory=dict)
    """Files of a second run."""

    @property
    def declarations(self) -> str:
        return DECLARATIONS.format(format=self.format, precision=self.precision)


CASES: dict[str, Callable[[], Case]] = {}


def case(code: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    def add(build: Callable[[], Case]) -> Callable[[], Case]:
        CASES[code] = build
        return build

    return add


# Rows and files

AT = "2024-05-01T12:00:00Z"


def row(id: int, *, at: str = AT, msisdn: str = NUMBER, volume: str = "5", cost: str = "1.25") -> str:
    return f"{id},{at},{msisdn},{volume},{cost}"


def text(*rows: str, header: str = HEADER, end: str = "\n") -> bytes:
    return end.join([header, *rows, ""]).encode()


GOOD = text(row(900), row(901))
"""A file beside the bad one, which must be loaded whatever happens."""


def line(id: int, **changed: Any) -> str:
    record = {"id": id, "made_at": AT, "msisdn": NUMBER, "volume": 5, "cost": 1.25}
    return json.dumps(record | changed)


def lines(*records: str) -> bytes:
    return ("\n".join(records) + "\n").encode()


GOOD_LINES = lines(line(900), line(901))
JSON = 'jsonl("*.jsonl")'


def packed(*rows: dict[str, Any], types: dict[str, pa.DataType] | None = None) -> bytes:
    kinds = {"id": pa.int64(), "made_at": pa.string(), "msisdn": pa.string(), "volume": pa.int64(), "cost": pa.string()}
    kinds |= types or {}
    columns = {n: pa.array([r[n] for r in rows], t) for n, t in kinds.items()}
    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink, compression="none")
    return sink.getvalue()


def values(number: int, **changed: Any) -> dict[str, Any]:
    return {"id": number, "made_at": AT, "msisdn": NUMBER, "volume": 5, "cost": "1.25"} | changed


GOOD_PACKED = packed(values(900), values(901))
PARQUET = 'parquet("*.parquet")'


def from_csv(bad: bytes, rows: int, clean: int, **more: Any) -> Case:
    """A bad file of so many rows, clean ones among them, beside a good file of two."""
    more.setdefault("bad", rows - clean)
    return Case({"bad.csv": bad, "good.csv": GOOD}, rows + 2, clean + 2, **more)


def from_lines(bad: bytes, rows: int, clean: int, **more: Any) -> Case:
    more.setdefault("bad", rows - clean)
    return Case({"bad.jsonl": bad, "good.jsonl": GOOD_LINES}, rows + 2, clean + 2, format=JSON, **more)


def refused(bad: bytes, **more: Any) -> Case:
    """A bad CSV file that is rejected as a whole: one quarantined record."""
    return from_csv(bad, 1, 0, rejected=1, **more)


def one_bad(**changed: str) -> Case:
    """Three rows, the middle one changed and bad."""
    return from_csv(text(row(1), row(2, **changed), row(3)), 3, 2)


def one_mended(**changed: str) -> Case:
    case = from_csv(text(row(1), row(2, **changed), row(3)), 3, 3, repaired=1)
    return Case(case.files, case.rows, case.clean, repaired=1, numbers={NUMBER: 5} if "msisdn" in changed else {})


# Bytes


@case("B1")
def _bom() -> Case:
    return from_csv(b"\xef\xbb\xbf" + text(row(1)), 1, 1)


@case("B2")
def _utf16() -> Case:
    return refused(text(row(1)).decode().encode("utf-16"))


@case("B2b")
def _utf16_declared() -> Case:
    files = {"bad.csv": text(row(1)).decode().encode("utf-16"), "good.csv": GOOD.decode().encode("utf-16")}
    return Case(files, 3, 3, format='csv("*.csv", encoding="utf-16")')


@case("B3")
def _latin1() -> Case:
    return from_csv(text(row(1)) + f"2,{AT},Zoë,5,1.25\n".encode("latin-1") + f"{row(3)}\n".encode(), 3, 2)


@case("B3b")
def _latin1_declared() -> Case:
    bad = text("é" + HEADER and row(1), header=HEADER + ",naïve").decode()
    bad = bad.replace(row(1), row(1) + ",Zoë")
    return Case({"bad.csv": bad.encode("latin-1"), "good.csv": GOOD}, 3, 3, format='csv("*.csv", encoding="latin-1")')


@case("B4")
def _invalid_utf8() -> Case:
    return from_csv(text(row(1)) + b"2," + AT.encode() + b",\xc3\x28,5,1.25\n" + row(3).encode() + b"\n", 3, 2)


@case("B5")
def _nul() -> Case:
    return from_csv(text(row(1), row(2, msisdn="2782\x00123"), row(3)), 3, 2)


@case("B6")
def _cr() -> Case:
    return from_csv(text(row(1), row(2), end="\r"), 2, 2)


@case("B7")
def _mixed_ends() -> Case:
    return from_csv(f"{HEADER}\r\n{row(1)}\n{row(2)}\r{row(3)}\r\n".encode(), 3, 3)


@case("B8")
def _empty() -> Case:
    return from_csv(b"", 0, 0)


@case("B9")
def _header_only() -> Case:
    return from_csv(text(), 0, 0)


@case("B10")
def _no_newline() -> Case:
    return from_csv(text(row(1), row(2)).removesuffix(b"\n"), 2, 2)


@case("B11")
def _cut() -> Case:
    return from_csv(text(row(1)) + f"2,{AT},2782".encode(), 2, 1)


@case("B11b")
def _cut_then_whole() -> Case:
    case = from_csv(text(row(1)) + f"2,{AT},2782".encode(), 2, 1)
    whole = {"bad.csv": text(row(1), row(2))}
    return Case(case.files, 6, 4, void=2, later=whole)


@case("B12")
def _gzip_named_csv() -> Case:
    return refused(gzip.compress(text(row(1))))


@case("B12b")
def _gzip_cut() -> Case:
    return Case({"bad.csv.gz": gzip.compress(text(row(1), row(2)))[:-9], "good.csv": GOOD}, 3, 2, 1, rejected=1)


# Shape


@case("B13")
def _short_row() -> Case:
    return from_csv(text(row(1), f"2,{AT},{NUMBER},5", row(3)), 3, 2)


@case("B14")
def _long_row() -> Case:
    return from_csv(text(row(1), row(2) + ",6", row(3)), 3, 2)


@case("B15")
def _header_twice() -> Case:
    return refused(text(row(1) + ",1.25", header=HEADER + ",cost"))


@case("B16")
def _no_header() -> Case:
    return refused(text(row(2), header=row(1)))


@case("B17")
def _reordered() -> Case:
    return from_csv(text(f"1.25,5,{NUMBER},{AT},1", header="cost,volume,msisdn,made_at,id"), 1, 1)


@case("B18")
def _unknown_column() -> Case:
    return from_csv(text("x," + row(1), header="new," + HEADER), 1, 1)


@case("B19")
def _newline_inside() -> Case:
    return from_csv(text(f'"a\nb\r\nc",{row(1)}', f'"d",{row(2)}', header="note," + HEADER), 2, 2)


@case("B20")
def _unclosed_quote() -> Case:
    return from_csv(text(row(1), f'2,{AT},"{NUMBER},5,1.25', row(3), row(4)), 4, 3)


@case("B21")
def _semicolons() -> Case:
    good = text(
        row(1, cost="1,25").replace("1,25", "1.25").replace(",", ";").replace("1.25", "1,25"),
        header=HEADER.replace(",", ";"),
    )
    return Case({"bad.csv": good}, 1, 1, format='csv("*.csv", separator=";", decimal=",")')


@case("B21b")
def _semicolons_undeclared() -> Case:
    return refused(text(row(1).replace(",", ";"), header=HEADER.replace(",", ";")))


@case("B21c")
def _point_for_thousands() -> Case:
    rows = [f"1;{AT};{NUMBER};5;1,25", f"2;{AT};{NUMBER};5;1.250", f"3;{AT};{NUMBER};5;1.250,00"]
    return Case(
        {"bad.csv": text(*rows, header=HEADER.replace(",", ";"))},
        3,
        1,
        2,
        format='csv("*.csv", separator=";", decimal=",")',
    )


@case("B22")
def _tabs() -> Case:
    return Case({"bad.csv": text(row(1), row(2)).replace(b",", b"\t")}, 2, 2, format=r'csv("*.csv", separator="\t")')


@case("B22b")
def _tabs_undeclared() -> Case:
    return refused(text(row(1)).replace(b",", b"\t"))


@case("B23")
def _huge_field() -> Case:
    return from_csv(
        text("x" * (1 << 20) + "," + row(1), '"' + "y" * (1 << 20) + '",' + row(2), header="note," + HEADER), 2, 2
    )


@case("B24")
def _doubled_quotes() -> Case:
    return from_csv(text('"say ""hi""",' + row(1), '"",' + row(2), '"""",' + row(3), header="note," + HEADER), 3, 3)


@case("B24b")
def _text_after_quote() -> Case:
    return from_csv(text('"a"b,' + row(1), "c," + row(2), header="note," + HEADER), 2, 1)


# Phone numbers


@case("B25")
def _leading_zero() -> Case:
    case = from_csv(text(row(1, msisdn="0821234567")), 1, 1)
    return Case(case.files, case.rows, case.clean, numbers={"0821234567": 1, "821234567": 0})


@case("B26")
def _late_leading_zero() -> Case:
    rows = [row(i, msisdn="821234567") for i in range(1000, 26_001)]
    case = from_csv(text(*rows, row(1, msisdn="0821234567")), 25_002, 25_002)
    return Case(case.files, case.rows, case.clean, numbers={"0821234567": 1, "821234567": 25_001})


@case("B27")
def _plus() -> Case:
    return one_mended(msisdn="+27821234567")


@case("B28")
def _double_zero() -> Case:
    return one_mended(msisdn="0027821234567")


@case("B29")
def _spreadsheet() -> Case:
    return one_bad(msisdn="2.78212E+10")


@case("B30")
def _point_zero() -> Case:
    return one_bad(msisdn="27821234567.0")


@case("B31")
def _separators() -> Case:
    return one_mended(msisdn="27 82 123-4567")


@case("B32")
def _arabic_digits() -> Case:
    return one_bad(msisdn="٢٧٨٢١٢٣٤٥٦٧")


@case("B33")
def _no_number() -> Case:
    return one_bad(msisdn="")


@case("B34")
def _sixteen_digits() -> Case:
    return one_bad(msisdn="2782123456789012")


@case("B35")
def _homoglyph() -> Case:
    return from_csv(text(row(1, msisdn="2782123456O"), row(2, msisdn="27821\u200b234567"), row(3)), 3, 1)


# Numbers


@case("B36")
def _nan() -> Case:
    costs = ("NaN", "nan", "Infinity", "-inf")
    return from_csv(text(*(row(i, cost=c) for i, c in enumerate(costs)), row(9)), 5, 1)


@case("B36b")
def _json_nan() -> Case:
    return from_lines(lines(line(1, cost=float("nan")), line(2, cost=float("-inf")), line(3)), 3, 1)


@case("B37")
def _negative() -> Case:
    return one_bad(volume="-1")


@case("B38")
def _too_big() -> Case:
    return from_csv(text(row(1, volume="9223372036854775000"), row(2, volume="9223372036854775808"), row(3)), 3, 2)


@case("B39")
def _thousands() -> Case:
    return one_bad(cost='"1,000"')


@case("B39b")
def _python_number() -> Case:
    return from_csv(text(row(1, volume="1_000"), row(2, volume=" 5"), row(3, volume="5 "), row(4)), 4, 1)


@case("B40")
def _minus_zero() -> Case:
    return from_csv(text(row(1, volume="-0", cost="-0.0")), 1, 1, cost=2 * COST)


@case("B41")
def _hex() -> Case:
    return one_bad(volume="0x10")


@case("B42")
def _beyond_64_bits() -> Case:
    huge = "9223372036854775807"
    return Case({"good.csv": GOOD}, 2, 2, later={"bad.csv": text(row(1, volume=huge), row(2, volume=huge))})


@case("B42b")
def _beyond_38_digits() -> Case:
    huge = "9" * 34 + ".0"
    return Case({"good.csv": GOOD}, 2, 2, precision=38, later={"bad.csv": text(row(1, cost=huge), row(2, cost=huge))})


@case("B42c")
def _rounding() -> Case:
    bad = [row(1, cost="0.00005"), row(2, cost="1.00000000000000000000000001"), row(3, cost="5e-5")]
    good = [row(4, cost="1.500000"), row(5, cost="15e-1")]
    return from_csv(text(*bad, *good), 5, 2, cost=2 * COST + 3)


# Time


def when(*moments: str, good: int = 0, **more: Any) -> Case:
    """One row for each moment; the last ``good`` of them are fine."""
    return from_csv(text(*(row(i, at=m) for i, m in enumerate(moments))), len(moments), good, **more)


@case("B43")
def _gap() -> Case:
    return when("2024-03-31T02:30:00", "2024-03-31T02:30:00+01:00", good=1)


@case("B44")
def _overlap() -> Case:
    return when("2024-10-27T02:30:00", "2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00", good=2)


@case("B45")
def _no_zone() -> Case:
    return when(
        "2024-05-01T12:00:00",
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00 Europe/Paris",
        "2024-05-01T12:00:00+99:00",
        AT,
        good=1,
    )


@case("B46")
def _leap_second() -> Case:
    case = when("2016-12-31T23:59:60Z", AT, good=2)
    return Case(case.files, case.rows, case.clean, repaired=1)


@case("B47")
def _far_years() -> Case:
    return when("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", good=2)


@case("B47b")
def _year_10000() -> Case:
    return when(
        "10000-01-01T00:00:00Z", "12024-05-01T12:00:0Z", "9999-12-31T23:59:59-10:00", "0000-01-01T00:00:00Z", AT, good=1
    )


@case("B48")
def _epochs() -> Case:
    return when("1714564800", "1714564800000", "1714564800000000", AT, good=1)


@case("B49")
def _slashes() -> Case:
    return when("01/02/2024", "01/02/2024 12:00:00Z", AT, good=1)


@case("B50")
def _no_such_day() -> Case:
    return when("2023-02-29T12:00:00Z", "2024-02-30T12:00:00Z", "2024-02-29T12:00:00Z", good=1)


@case("B51")
def _late() -> Case:
    return from_csv(text(row(1, at="2024-04-01T12:00:00Z"), row(2, at="2024-05-01T12:00:00Z")), 2, 2)


@case("B52")
def _future() -> Case:
    return when("2099-01-01T00:00:00Z", good=1)


# JSON


@case("B53")
def _not_json() -> Case:
    return from_lines(lines(line(1), "id=2, at=today", "{'id': 3}", line(4)), 4, 2)


@case("B54")
def _truncated() -> Case:
    return from_lines(lines(line(1)) + line(2)[:40].encode(), 2, 1)


@case("B55")
def _duplicate_names() -> Case:
    return from_lines(lines(line(1)[:-1] + ', "cost": 99.0, "msisdn": "x"}', line(2)), 2, 2)


DEEP = "[" * 10_000 + "]" * 10_000


@case("B56")
def _deep() -> Case:
    return from_lines(lines(line(1)[:-1] + f', "more": {DEEP}}}', line(2)), 2, 2)


@case("B56b")
def _deep_declared() -> Case:
    return from_lines(lines(line(1, msisdn="@").replace('"@"', DEEP), line(2)), 2, 1)


@case("B57")
def _null() -> Case:
    return from_lines(lines(line(1, msisdn=None), line(2, volume=None)), 2, 1)


@case("B57b")
def _null_line() -> Case:
    return from_lines(lines("null", "[]", '"x"', "5", line(1)), 5, 1)


@case("B58")
def _wrong_type() -> Case:
    bad = [line(1, volume="many"), line(2, volume=True), line(3, volume=[5]), line(4, volume=1.5)]
    return from_lines(lines(*bad, line(5, volume="5"), line(6, volume=5.0)), 6, 2)


@case("B58b")
def _nested() -> Case:
    return from_lines(lines(line(1, msisdn={"number": NUMBER}), line(2, msisdn=[NUMBER]), line(3)), 3, 1)


@case("B58c")
def _digits() -> Case:
    long = ["12345678901234.5678", "0.10000000000000000000001", "1234567890123456e-4", "1.0000000000000000001"]
    bad = [line(i).replace('"cost": 1.25', f'"cost": {number}') for i, number in enumerate(long)]
    return from_lines(lines(*bad, line(8, cost="12345678901234.5678"), line(9, volume=1234567890123456789)), 6, 2,
                      cost=3 * COST + Decimal("12345678901234.5678"))  # fmt: skip


@case("B58d")
def _nul_escape() -> Case:
    return from_lines(lines(line(1, msisdn="27\x0082"), line(2)), 2, 1)


@case("B60")
def _versions() -> Case:
    old = json.dumps({"id": 1, "made_at": AT, "msisdn": NUMBER})
    return from_lines(lines(old, line(2, extra={"a": [1]})), 2, 2, cost=3 * COST)


@case("B61")
def _huge_record() -> Case:
    return from_lines(lines(line(1, note="x" * (10 << 20)), line(2)), 2, 2)


# Messages: a case, and what is produced beside its files

Sent = list[tuple[str | None, bytes | None]]
MESSAGES: dict[str, Callable[[], tuple[Case, Sent]]] = {}


def message_case(code: str) -> Callable[[Callable[[], tuple[Case, Sent]]], Callable[[], tuple[Case, Sent]]]:
    def add(build: Callable[[], tuple[Case, Sent]]) -> Callable[[], tuple[Case, Sent]]:
        MESSAGES[code] = build
        return build

    return add


@message_case("B59")
def _no_key() -> tuple[Case, Sent]:
    return Case({}, 3, 3), [(None, line(number).encode()) for number in range(3)]


@message_case("B59b")
def _no_value() -> tuple[Case, Sent]:
    return Case({}, 2, 2), [("k", line(1).encode()), ("k", None), (None, None), ("k", line(2).encode())]


@message_case("B61b")
def _too_long_for_the_topic() -> tuple[Case, Sent]:
    return Case({"bad.jsonl": lines(line(1), line(2, msisdn="9" * (65 << 20)), line(3))}, 3, 2, bad=1), []


@message_case("B62")
def _avro() -> tuple[Case, Sent]:
    packed = b"\x00" + (7).to_bytes(4, "big") + b"\x02\x16" + NUMBER.encode()
    return Case({}, 2, 1, bad=1), [("k", line(1).encode()), ("k", packed)]


# Parquet


def from_packed(bad: bytes, rows: int, clean: int, **more: Any) -> Case:
    more.setdefault("bad", rows - clean)
    return Case({"bad.parquet": bad, "good.parquet": GOOD_PACKED}, rows + 2, clean + 2, format=PARQUET, **more)


@case("B63")
def _no_magic() -> Case:
    return from_packed(b"\0\0\0\0" + packed(values(1))[4:-4] + b"\0\0\0\0", 1, 0, rejected=1)


@case("B64")
def _last_byte() -> Case:
    return from_packed(packed(values(1))[:-1], 1, 0, rejected=1)


@case("B64b")
def _damaged_page() -> Case:
    sink = io.BytesIO()
    table = pa.table({n: [str(v)] * 1000 for n, v in values(1).items()} | {"id": [str(i) for i in range(1000)]})
    parquet.write_table(table, sink, compression="snappy", row_group_size=100, use_dictionary=False)
    whole = bytearray(sink.getvalue())
    place = parquet.ParquetFile(io.BytesIO(whole)).metadata.row_group(7).column(0).data_page_offset
    whole[place : place + 60] = b"\xff" * 60
    return from_packed(bytes(whole), 1, 0, rejected=1)


@case("B65")
def _other_types() -> Case:
    text_typed = packed(values(1, volume="5", id="1"), types={"volume": pa.string(), "id": pa.string()})
    floats = packed(values(2, volume=5.0, cost=1.25), types={"volume": pa.float64(), "cost": pa.float64()})
    exact = packed(
        values(3, cost=COST), types={"cost": pa.decimal128(9, 2), "msisdn": pa.dictionary(pa.int32(), pa.string())}
    )
    files = {"a.parquet": text_typed, "b.parquet": floats, "c.parquet": exact, "good.parquet": GOOD_PACKED}
    return Case(files, 5, 5, format=PARQUET)


@case("B66")
def _no_rows() -> Case:
    case = from_packed(packed(), 0, 0)
    part = packed(values(1))
    more = {"_temporary/0/part.parquet": part, "_part.parquet": part, ".part.parquet": part, "a.parquet.tmp": part}
    return Case(case.files | more, 2, 2, format=PARQUET)
