"""JSON lines: split here, taken apart by the engine (``sql.judge.decode_json``)."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import ContractError
from headrace.model.source import Source

CHUNK = 8 << 20
"""Bytes framed at a time: what bounds memory on large files."""


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ContractError("HR0301", f"{name} is UTF-16; JSON lines are UTF-8")
    start = 3 if data[:3] == b"\xef\xbb\xbf" else 0
    row = 1
    while start < len(data):
        end = len(data) if start + CHUNK >= len(data) else data.rfind(b"\n", start, start + CHUNK) + 1
        if end <= start:  # one record longer than a chunk
            end = data.find(b"\n", start + CHUNK) + 1 or len(data)
        batch = _frame(data[start:end], row)
        row += batch.num_rows
        start = end
        if batch.num_rows:
            yield batch


def _frame(chunk: bytes, first: int) -> pa.RecordBatch:
    try:
        text = pa.array([chunk.decode()], pa.large_string())
        errors: list[str | None] | None = None
        split = pc.split_pattern(text, "\n").values
    except UnicodeDecodeError:
        pieces = chunk.split(b"\n")
        errors, decoded = [], []
        for piece in pieces:
            try:
                decoded.append(piece.decode())
                errors.append(None)
            except UnicodeDecodeError:
                decoded.append("")
                errors.append("not UTF-8")
        split = pa.array(decoded, pa.large_string())
    full = pc.not_equal(pc.utf8_trim_whitespace(split), "")
    bad = pa.array(errors, pa.string()) if errors is not None else pa.nulls(len(split), pa.string())
    raw = pa.nulls(len(split), pa.binary())
    if errors is not None:
        raw = pa.array([p if e else None for p, e in zip(chunk.split(b"\n"), errors, strict=True)], pa.binary())
        full = pc.or_(full, pc.is_valid(bad))
    table = pa.table({"_error": bad, "_bytes": raw, "_line": split.cast(pa.string())}).filter(full).combine_chunks()
    rows = pa.arange(first, first + table.num_rows)
    return pa.record_batch(
        {"_row": rows, **{n: table[n].chunk(0) if table.num_rows else pa.nulls(0, table.schema.field(n).type) for n in table.column_names}}
    )
