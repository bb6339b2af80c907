"""JSON lines: split here, taken apart by the engine (``sql.judge.decode_json``).

The engine reads a JSON number through a double, a nested value into a VARCHAR as its text, and of a name that occurs
twice the first one. The first two would change data without a word, so lines where they could are looked at here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from headrace.formats.rejected import Rejected
from headrace.model.source import Source

CHUNK = 8 << 20
"""Bytes framed at a time, twice as many at a file's end: what bounds memory on large files."""
LONGEST = (1 << 31) - 1
EXACT_DIGITS = 15
"""Significant digits of a decimal number that a double always gives back."""
DIGITS = bytes(48 if byte in b".0123456789" else 32 for byte in range(256))

Explain = Callable[[bytes], str | None]


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Rejected("it is UTF-16", f"{name} is UTF-16; JSON lines are UTF-8")
    inspect = _Inspector(source)
    start = 3 if data[:3] == b"\xef\xbb\xbf" else 0
    row = 1
    while start < len(data):
        end = len(data) if start + 2 * CHUNK >= len(data) else data.rfind(b"\n", start, start + CHUNK) + 1
        if end <= start:  # one record longer than a chunk
            end = data.find(b"\n", start + CHUNK) + 1 or len(data)
        if end - start > LONGEST:
            raise Rejected("a record is too long", f"{name} has a record of more than 2 GiB")
        batch = _frame(data[start:end], row, inspect)  # the slice of a whole file is no copy
        row += batch.num_rows
        start = end
        if batch.num_rows:
            yield batch


def _frame(chunk: bytes, first: int, inspect: _Inspector) -> pa.RecordBatch:
    if chunk.isascii() or _is_utf8(chunk):
        # One text of the whole chunk, made without a copy, then split by the library: 4 times as fast as Python.
        offsets = (0).to_bytes(4, "little") + len(chunk).to_bytes(4, "little")
        whole = pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(chunk))
        lines = pc.split_pattern(whole, "\n").values
        if chunk.endswith(b"\n"):
            lines = lines[:-1]
        found = inspect.chunk(chunk, lines)
        if not found and pc.all(pc.starts_with(lines, "{")).as_py():  # nearly every chunk: no line is empty
            return _whole(lines, first)
        error, raw = _marks(found, len(lines))
    else:
        pieces = chunk.split(b"\n")
        found = {at: ("not UTF-8", piece) for at, piece in enumerate(pieces) if not _is_utf8(piece)}
        lines = pa.array(["" if at in found else piece.decode() for at, piece in enumerate(pieces)], pa.string())
        found |= inspect.chunk(chunk, lines)
        error, raw = _marks(found, len(pieces))
    table = pa.table({"_error": error, "_bytes": raw, "_line": lines})
    full = pc.not_equal(pc.utf8_trim_whitespace(lines), "")
    if found:
        full = pc.or_(full, pc.is_valid(error))
    if not pc.all(full).as_py():
        table = table.filter(full)
    batch = table.combine_chunks().to_batches()
    if not batch:
        return pa.RecordBatch.from_pylist([], table.schema.insert(0, pa.field("_row", pa.int64())))
    return batch[0].add_column(0, "_row", pa.arange(first, first + table.num_rows))


def _whole(lines: pa.Array, first: int) -> pa.RecordBatch:
    count = len(lines)
    numbers = pa.arange(first, first + count)
    return pa.record_batch(
        [numbers, pa.nulls(count, pa.string()), pa.nulls(count, pa.binary()), lines],
        ["_row", "_error", "_bytes", "_line"],
    )


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _marks(found: dict[int, tuple[str, bytes]], count: int) -> tuple[pa.Array, pa.Array]:
    if not found:
        return pa.nulls(count, pa.string()), pa.nulls(count, pa.binary())
    errors: list[str | None] = [None] * count
    raw: list[bytes | None] = [None] * count
    for at, (error, line) in found.items():
        errors[at], raw[at] = error, line
    return pa.array(errors, pa.string()), pa.array(raw, pa.binary())


def misread(source: Source, lines: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Of JSON lines that come one by one, why the engine would read one as something else than was sent, and its bytes;
    null where it would not."""
    text = lines.buffers()[2]
    return _marks(_Inspector(source).chunk(text.to_pybytes() if text is not None else b"", lines), len(lines))


class _Number(str):
    """A JSON number with a point or an exponent, as it was written."""

    __slots__ = ()


class _Inspector:
    """Finds lines that the engine would read as something else than was sent: first by chunk, then by pattern, and
    only what is left by parsing it, as nearly all data have none."""

    def __init__(self, source: Source) -> None:
        self.exact = {source.sent(c.name) for c in source.columns if c.type.is_exact}
        self.text = {source.sent(c.name) for c in source.columns if c.type.name == "VARCHAR"}
        self.long = f'"(?:{_any_of(self.exact)})"\\s*:\\s*-?(?:[0-9.]{{17}}|[0-9]{{16}}[eE])'
        self.nested = f'"(?:{_any_of(self.text)})"\\s*:\\s*[\\[{{]'

    def chunk(self, chunk: bytes, lines: pa.Array) -> dict[int, tuple[str, bytes]]:
        patterns = []
        # A run of 16 digits shows in every fourth byte as a run of 4, whatever its place.
        if self.exact and b"0000" in chunk[::4].translate(DIGITS):
            patterns.append(self.long)
        # One brace at the start of a line and no other, nor a bracket: then nothing is nested.
        if self.text and (b"[" in chunk or chunk.count(b"{") > (pc.sum(pc.starts_with(lines, "{")).as_py() or 0)):
            patterns.append(self.nested)
        if b"\\" in chunk and b"\\u0000" in chunk:
            patterns.append(r"\\u0000")
        if not patterns:
            return {}
        suspects = pc.indices_nonzero(pc.match_substring_regex(lines, "|".join(patterns))).to_pylist()
        found = {}
        for at in suspects:
            line = lines[at].as_py()
            error = self.line(line)
            if error is not None:
                found[at] = (error, line.encode())
        return found

    def line(self, line: str) -> str | None:
        try:
            pairs = json.loads(line, parse_float=_Number, parse_int=str, object_pairs_hook=list)
        except RecursionError:
            return "nested too deeply"
        except ValueError:
            return "not a JSON object"
        if not line.lstrip().startswith("{"):
            return "not a JSON object"
        sent = dict(reversed(pairs))  # of a name that occurs twice, the first value counts
        for name in (n for n in sent if n in self.exact):
            if isinstance(sent[name], _Number) and _significant(sent[name]) > EXACT_DIGITS:
                return f"{name} has more digits than a JSON number keeps: send it as text"
        for name in (n for n in sent if n in self.text):
            if isinstance(sent[name], list):
                return f"{name} is an object or a list, not text"
            if isinstance(sent[name], str) and "\0" in sent[name]:
                return "contains a NUL character"
        return None


def _significant(number: str) -> int:
    return len(re.split("[eE]", number)[0].replace(".", "").strip("-0"))


def _any_of(names: set[str]) -> str:
    return "|".join(re.escape(n) for n in sorted(names))
