"""Parquet: columns by name, values as text, so that one contract reads what every writer makes of a type."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as arrow_parquet

from headrace.errors import nearest
from headrace.formats.rejected import Rejected
from headrace.model.source import Source

BATCH = 50_000


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    wanted = [source.sent(c.name) for c in source.columns]
    try:
        file = arrow_parquet.ParquetFile(pa.BufferReader(data))
        _check(name, wanted, file.schema_arrow)
        # All of it before the first record is handed on: a page damaged further down rejects the file as a whole.
        table = file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, Rejected):
            raise
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Rejected(
            "it is not a readable Parquet file", f"{name} is not a readable Parquet file: {detail}"
        ) from None
    row = 1
    for batch in table.to_batches(max_chunksize=BATCH):
        if batch.num_rows:
            yield _as_text(batch, wanted, row)
            row += batch.num_rows


def _check(name: str, wanted: list[str], schema: pa.Schema) -> None:
    for column in wanted:
        places = schema.get_all_field_indices(column)
        if not places:
            what = f"{name} has no column '{column}'"
            raise Rejected("a column is missing", what, help=nearest(column, schema.names))
        if len(places) > 1:
            raise Rejected("it has a column twice", f"{name} names the column '{column}' twice")
        type = schema.field(places[0]).type
        if pa.types.is_nested(type) or pa.types.is_duration(type) or pa.types.is_interval(type):
            raise Rejected("a column has no plain values", f"{name}: the column '{column}' is of type {type}")


def _as_text(batch: pa.RecordBatch, wanted: list[str], first: int) -> pa.RecordBatch:
    errors: dict[int, bytes] = {}
    columns = {w: _text(batch.column(w), errors) for w in wanted}
    count = batch.num_rows
    error, raw = pa.nulls(count, pa.string()), pa.nulls(count, pa.binary())
    if errors:
        error = pa.array(["not UTF-8" if i in errors else None for i in range(count)], pa.string())
        raw = pa.array([errors.get(i) for i in range(count)], pa.binary())
    return pa.record_batch({"_row": pa.arange(first, first + count), "_error": error, "_bytes": raw, **columns})


def _text(values: pa.Array, errors: dict[int, bytes]) -> pa.Array:
    """The values as text; where bytes are none, ``errors`` gets them by their place."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_float16(kind):
        values = pc.cast(values, pa.float32())
    if pa.types.is_timestamp(kind):
        zone = None if kind.tz is None else "UTC"
        try:
            values = pc.cast(values, pa.timestamp("us", zone))
        except pa.ArrowInvalid:  # finer than microseconds: its nine digits do not fit the contract's type
            values = pc.cast(values, pa.timestamp("ns", zone))
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        return pc.cast(values, pa.string())
    texts: list[str | None] = []
    for place, value in enumerate(values.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            errors[place] = value
            texts.append(None)
    return pa.array(texts, pa.string())
