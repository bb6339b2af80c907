"""CSV: pyarrow's reader for stretches without quotes, a strict record by record reader around every quote.

pyarrow is lenient about quotes (text after a closing quote, an open quote at the end), and a lenient reading of one
record can swallow the next; so it only reads stretches in which the question cannot arise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.csv as arrow_csv

from headrace.errors import nearest
from headrace.formats.rejected import Rejected
from headrace.model.source import Source

LOOK_AHEAD = 1000
"""Lines that a quoted field may span before its quote counts as unclosed."""
STRETCH = 1 << 20
"""Bytes that are read strictly once a quote was found, before looking for the next one."""
BLOCK = 32 << 20
"""Bytes that pyarrow reads at a time: what bounds memory on large files."""
BATCH = 50_000
BOM = b"\xef\xbb\xbf"

Fields = list[str | None]
Record = tuple[str | None, bytes | None, Fields]


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    data = _as_utf8(source, name, data).lstrip(b"\r\n")
    if not data.strip():
        return
    wanted = [source.sent(c.name) for c in source.columns]
    header, body = _split_header(source, name, data)
    for column in wanted:
        if column not in header:
            what = f"{name} has no column '{column}' in its header"
            raise Rejected("a column is missing from its header", what, help=nearest(column, [h for h in header if h]))
        if header.count(column) > 1:
            raise Rejected("its header names a column twice", f"{name} names the column '{column}' twice")
    yield from _Body(source.format.separator, wanted, header, body).batches()


def _as_utf8(source: Source, name: str, data: bytes) -> bytes:
    encoding = source.format.encoding.lower()
    if encoding not in ("utf-8", "utf8"):
        try:
            data = data.decode(encoding).encode()
        except (UnicodeError, LookupError) as error:
            raise Rejected("it is not in its declared encoding", f"{name} is not {encoding}: {error}") from None
    elif data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Rejected("it is UTF-16", f"{name} is UTF-16", help='declare it: csv(…, encoding="utf-16")')
    return data.removeprefix(BOM)


def _split_header(source: Source, name: str, data: bytes) -> tuple[list[str], bytes]:
    found = re.match(rb"[^\r\n]*(\r\n|\r|\n|\Z)", data)
    line = data[: found.end()] if found else data
    if b"\0" in line:
        raise Rejected("its header cannot be read", f"{name}: the header holds NUL bytes", help="is it UTF-16?")
    try:
        text = line.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise Rejected("its header cannot be read", f"{name}: the header is not UTF-8") from None
    fields = _fields(text, source.format.separator)
    if fields is None:
        raise Rejected("its header cannot be read", f"{name}: the header cannot be read: {text[:80]}")
    return [(f or "").strip() for f in fields], data[len(line) :]


class _Body:
    """What follows the header: read in order, each stretch by the reader that fits it."""

    def __init__(self, separator: str, wanted: list[str], header: list[str], body: bytes) -> None:
        self.separator = separator
        self.wanted = wanted
        self.header = header
        self.places = [header.index(w) for w in wanted]
        self.body = body
        self.at = 0
        self.row = 1

    def batches(self) -> Iterator[pa.RecordBatch]:
        simple = self.separator.isascii()
        while self.at < len(self.body):
            quote = self.body.find(b'"', self.at) if simple else self.at
            clear = len(self.body) if quote < 0 else self.line_start(quote)
            while self.at < clear:
                block = self.body[self.at : min(self.line_end(self.at + BLOCK), clear)]
                if b"\0" in block or not _is_utf8(block):
                    yield from self.strict(self.at + len(block))
                else:
                    yield from self.plain(block)
            if self.at < len(self.body):
                yield from self.strict(self.at + STRETCH)

    def line_start(self, place: int) -> int:
        before = max(self.body.rfind(b"\n", self.at, place), self.body.rfind(b"\r", self.at, place))
        return max(before + 1, self.at)

    def line_end(self, place: int) -> int:
        """The first place at or after this one where a line begins."""
        if place >= len(self.body):
            return len(self.body)
        ends = [found for end in (b"\n", b"\r") if (found := self.body.find(end, place)) >= 0]
        if not ends:
            return len(self.body)
        first = min(ends) + 1
        return first + 1 if self.body[first - 1 : first + 1] == b"\r\n" else first

    def plain(self, block: bytes) -> Iterator[pa.RecordBatch]:
        bad: list[tuple[int, str, str]] = []

        def note(row: arrow_csv.InvalidRow) -> str:
            bad.append((row.number, _misfit(row.actual_columns, row.expected_columns), row.text))
            return "skip"

        self.at += len(block)
        if not block.strip(b"\r\n"):
            return
        # Repeated names of columns nobody wants would be refused; give every column a name of its own.
        names = [h if self.header.index(h) == i else f"{h}#{i}" for i, h in enumerate(self.header)]
        if block.startswith(BOM):  # pyarrow takes one mark off each block; here it is data
            block = BOM + block
        table = arrow_csv.read_csv(
            pa.BufferReader(block),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block)),
            parse_options=arrow_csv.ParseOptions(delimiter=self.separator, quote_char=False, invalid_row_handler=note),
            convert_options=arrow_csv.ConvertOptions(
                column_types={n: pa.string() for n in names},
                include_columns=self.wanted,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        whole = _with_bad(self.wanted, table, bad, self.row)
        self.row += whole.num_rows
        yield from whole.combine_chunks().to_batches(max_chunksize=BATCH)

    def strict(self, stop: int) -> Iterator[pa.RecordBatch]:
        """Reads on to the end of the record that reaches ``stop``."""
        records: list[Record] = []
        for record in self.records(stop):
            records.append(record)
            if len(records) == BATCH:
                yield self.batch(records)
                records = []
        if records:
            yield self.batch(records)

    def batch(self, records: list[Record]) -> pa.RecordBatch:
        columns = {w: pa.array([r[2][i] for r in records], pa.string()) for i, w in enumerate(self.wanted)}
        first, self.row = self.row, self.row + len(records)
        return pa.record_batch(
            {
                "_row": pa.arange(first, self.row),
                "_error": pa.array([r[0] for r in records], pa.string()),
                "_bytes": pa.array([r[1] for r in records], pa.binary()),
                **columns,
            }
        )

    def records(self, stop: int) -> Iterator[Record]:
        """Each record as (error, bytes, fields); after an unclosed quote reading goes on at the next line."""
        lines = self.take(stop)
        nothing: Fields = [None] * len(self.places)
        at = 0
        while at < len(lines):
            line = lines[at]
            pieces = [line]
            odd = line.count(b'"') % 2
            while odd and len(pieces) < LOOK_AHEAD:
                if at + len(pieces) == len(lines):
                    lines += self.take(self.at + STRETCH)
                    if at + len(pieces) == len(lines):
                        break
                pieces.append(lines[at + len(pieces)])
                odd ^= pieces[-1].count(b'"') % 2
            error, fields = self.parse(b"".join(pieces))
            if error is None:
                yield None, None, [fields[i] for i in self.places]
                at += len(pieces)
                continue
            # A record that spans lines and does not fit began with a quote that was never closed: only its first line
            # is bad.
            if _without_end(line):
                yield ("unclosed quote" if odd or len(pieces) > 1 else error), _without_end(line), nothing
            at += 1

    def take(self, stop: int) -> list[bytes]:
        end = self.line_end(stop)
        taken, self.at = self.body[self.at : end].splitlines(keepends=True), end
        return taken

    def parse(self, record: bytes) -> tuple[str | None, Fields]:
        record = _without_end(record)
        if b"\0" in record:
            return "contains a NUL byte", []
        try:
            fields = _fields(record.decode(), self.separator)
        except UnicodeDecodeError:
            return "not UTF-8", []
        if fields is None:
            return "quotes out of place", []
        if len(fields) != len(self.header) or not record:
            return _misfit(len(fields), len(self.header)), []
        return None, fields


def _misfit(fields: int, expected: int) -> str:
    return "too few fields" if fields < expected else "too many fields"


def _without_end(line: bytes) -> bytes:
    return line[:-2] if line.endswith(b"\r\n") else line[:-1] if line.endswith((b"\n", b"\r")) else line


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_bad(wanted: list[str], table: pa.Table, bad: list[tuple[int, str, str]], first: int) -> pa.Table:
    """Good rows with their numbers, bad ones in their places: pyarrow numbers records from 1."""
    total = table.num_rows + len(bad)
    rows = pa.arange(first, first + total)
    if bad:
        numbers = {number for number, _, _ in bad}
        rows = pa.array([first + i for i in range(total) if i + 1 not in numbers], pa.int64())
    good = {
        "_row": rows,
        "_error": pa.nulls(table.num_rows, pa.string()),
        "_bytes": pa.nulls(table.num_rows, pa.binary()),
    }
    whole = pa.table({**good, **{w: table[w] for w in wanted}})
    if not bad:
        return whole
    extra = pa.table(
        {
            "_row": pa.array([first + number - 1 for number, _, _ in bad], pa.int64()),
            "_error": pa.array([error for _, error, _ in bad], pa.string()),
            "_bytes": pa.array([text.encode() for _, _, text in bad], pa.binary()),
            **{w: pa.nulls(len(bad), pa.string()) for w in wanted},
        }
    )
    return pa.concat_tables([whole, extra]).sort_by("_row")


def _fields(record: str, separator: str) -> Fields | None:
    """The fields of one record: an empty one is None, ``""`` is ''. None where its quotes are out of place.

    The csv module cannot tell an empty field from an empty quoted one before Python 3.12.
    """
    if '"' not in record:
        return [f or None for f in record.split(separator)]
    fields: Fields = []
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
