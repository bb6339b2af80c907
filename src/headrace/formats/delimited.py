"""CSV: pyarrow's reader where a file has no quotes, a strict record by record reader where it has any.

pyarrow is lenient about quotes (text after a closing quote, an open quote at the end), and a lenient reading of one
record can swallow the next; so it only reads files in which the question cannot arise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as arrow_csv

from headrace.errors import ContractError, nearest
from headrace.model.source import Source

LOOK_AHEAD = 1000
"""Lines that a quoted field may span before its quote counts as unclosed."""
BATCH = 50_000


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    if source.format.encoding.lower() not in ("utf-8", "utf8"):
        try:
            data = data.decode(source.format.encoding).encode()
        except UnicodeDecodeError as error:
            raise ContractError("HR0301", f"{name} is not {source.format.encoding}: {error.reason} at byte {error.start}") from None
    elif data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ContractError("HR0301", f"{name} is UTF-16", help='declare it: csv(…, encoding="utf-16")')
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    if not data.strip():
        return
    wanted = [source.sent(c.name) for c in source.columns]
    header, body = _split_header(source, name, data)
    missing = [w for w in wanted if w not in header]
    if missing:
        raise ContractError("HR0301", f"{name} has no column '{missing[0]}' in its header", help=nearest(missing[0], header))
    twice = next((h for h in header if header.count(h) > 1 and h in wanted), None)
    if twice:
        raise ContractError("HR0301", f"{name} names the column '{twice}' twice")
    if b'"' not in body and b"\0" not in body and _is_utf8(body):
        yield from _plain(source, wanted, header, body)
    else:
        yield from _strict(source, wanted, header, body)


def _split_header(source: Source, name: str, data: bytes) -> tuple[list[str], bytes]:
    found = re.match(rb"[^\r\n]*(\r\n|\r|\n|\Z)", data)
    line = data[: found.end()] if found else data
    try:
        text = line.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ContractError("HR0301", f"{name}: the header is not UTF-8") from None
    fields = _fields(text, source.format.separator)
    if fields is None:
        raise ContractError("HR0301", f"{name}: the header cannot be read: {text[:80]}")
    return [(f or "").strip() for f in fields], data[len(line) :]


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(source: Source, wanted: list[str], header: list[str], body: bytes) -> Iterator[pa.RecordBatch]:
    bad: list[tuple[int, str, str]] = []

    def note(row: arrow_csv.InvalidRow) -> str:
        bad.append((row.number, f"{row.actual_columns} fields instead of {row.expected_columns}", row.text))
        return "skip"

    # Repeated names of columns nobody wants would be refused; give every column a name of its own.
    names = [h if header.index(h) == i else f"{h}#{i}" for i, h in enumerate(header)]
    if not body.strip(b"\r\n"):
        return
    table = arrow_csv.read_csv(
        pa.BufferReader(body),
        read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=max(len(body), 1)),
        parse_options=arrow_csv.ParseOptions(delimiter=source.format.separator, quote_char=False, invalid_row_handler=note),
        convert_options=arrow_csv.ConvertOptions(
            column_types={n: pa.string() for n in names}, include_columns=wanted, null_values=[""], strings_can_be_null=True
        ),
    )
    yield from _with_bad(wanted, table, bad)


def _with_bad(wanted: list[str], table: pa.Table, bad: list[tuple[int, str, str]]) -> Iterator[pa.RecordBatch]:
    """Good rows with their numbers, bad ones in their places: pyarrow numbers records from 1."""
    total = table.num_rows + len(bad)
    numbers = {number for number, _, _ in bad}
    rows = pa.arange(1, total + 1) if not bad else pa.array([i for i in range(1, total + 1) if i not in numbers], pa.int64())
    good = {"_row": rows, "_error": pa.nulls(table.num_rows, pa.string()), "_bytes": pa.nulls(table.num_rows, pa.binary())}
    whole = pa.table({**good, **{w: table[w] for w in wanted}})
    if bad:
        extra = pa.table(
            {
                "_row": pa.array([n for n, _, _ in bad], pa.int64()),
                "_error": pa.array([e for _, e, _ in bad], pa.string()),
                "_bytes": pa.array([t.encode() for _, _, t in bad], pa.binary()),
                **{w: pa.nulls(len(bad), pa.string()) for w in wanted},
            }
        )
        whole = pa.concat_tables([whole, extra]).sort_by("_row")
    yield from whole.combine_chunks().to_batches(max_chunksize=BATCH)


def _strict(source: Source, wanted: list[str], header: list[str], body: bytes) -> Iterator[pa.RecordBatch]:
    at = [header.index(w) for w in wanted]
    records: list[tuple[str | None, bytes | None, list[str | None]]] = []
    row = 1
    for error, text, fields in _records(body.decode(errors="surrogateescape"), source.format.separator, len(header)):
        raw = text.encode(errors="surrogateescape")
        if error is None and b"\0" in raw:
            error = "contains a NUL byte"
        if error is None and not _is_utf8(raw):
            error = "not UTF-8"
        records.append((error, raw if error else None, [None] * len(at) if error or fields is None else [fields[i] for i in at]))
        if len(records) == BATCH:
            yield _batch(wanted, records, row)
            row += len(records)
            records = []
    if records:
        yield _batch(wanted, records, row)


def _batch(wanted: list[str], records: list[tuple[str | None, bytes | None, list[str | None]]], first: int) -> pa.RecordBatch:
    columns = {w: pa.array([r[2][i] for r in records], pa.string()) for i, w in enumerate(wanted)}
    return pa.record_batch(
        {
            "_row": pa.arange(first, first + len(records)),
            "_error": pa.array([r[0] for r in records], pa.string()),
            "_bytes": pa.array([r[1] for r in records], pa.binary()),
            **columns,
        }
    )


def _records(text: str, separator: str, width: int) -> Iterator[tuple[str | None, str, list[str | None] | None]]:
    """Each record as (error, text, fields); after an unclosed quote reading goes on at the next line."""
    lines = re.split(r"\r\n|\r|\n", text)
    if lines and lines[-1] == "":
        lines.pop()
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line:
            at += 1
            continue
        joined, used = line, 1
        while joined.count('"') % 2 and at + used < len(lines) and used < LOOK_AHEAD:
            joined += "\n" + lines[at + used]
            used += 1
        fields = _fields(joined, separator)
        if fields is not None and len(fields) == width:
            yield None, joined, fields
            at += used
            continue
        # A record that spans lines and does not fit began with a quote that was never closed: only its first line is bad.
        if used > 1:
            yield "unclosed quote", line, None
        elif fields is None:
            yield "quotes out of place", line, None
        else:
            yield f"{len(fields)} fields instead of {width}", line, None
        at += 1


def _fields(record: str, separator: str) -> list[str | None] | None:
    """The fields of one record: an empty one is None, ``""`` is ''. None where its quotes are out of place.

    The csv module cannot tell an empty field from an empty quoted one before Python 3.12.
    """
    if '"' not in record:
        return [f or None for f in record.split(separator)]
    fields: list[str | None] = []
    at = 0
    while True:
        if record[at : at + 1] == '"':
            end = at + 1
            while True:
                end = record.find('"', end)
                if end < 0:
                    return None
                if record[end + 1 : end + 2] != '"':
                    break
                end += 2
            fields.append(record[at + 1 : end].replace('""', '"'))
            at = end + 1
            if at < len(record) and record[at] != separator:
                return None
        else:
            end = record.find(separator, at)
            field = record[at:] if end < 0 else record[at:end]
            if '"' in field:
                return None
            fields.append(field or None)
            at += len(field)
        if at >= len(record):
            return fields
        at += 1
        if at == len(record):
            return [*fields, None]
