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
        if isinstance(type, pa.BaseExtensionType):
            type = type.storage_type
        if pa.types.is_nested(type) or pa.types.is_duration(type) or pa.types.is_interval(type):
            raise Rejected("a column has no plain values", f"{name}: the column '{column}' is of type {type}")


def _as_text(batch: pa.RecordBatch, wanted: list[str], first: int) -> pa.RecordBatch:
    errors: dict[int, tuple[str, bytes]] = {}
    columns = {w: _text(batch.column(w), w, errors) for w in wanted}
    count = batch.num_rows
    error, raw = pa.nulls(count, pa.string()), pa.nulls(count, pa.binary())
    if errors:
        error = pa.array([errors[i][0] if i in errors else None for i in range(count)], pa.string())
        raw = pa.array([errors[i][1] if i in errors else None for i in range(count)], pa.binary())
    return pa.record_batch({"_row": pa.arange(first, first + count), "_error": error, "_bytes": raw, **columns})


def _text(values: pa.Array, name: str, errors: dict[int, tuple[str, bytes]]) -> pa.Array:
    """The values as text. Where there is none for a value, ``errors`` gets the reason and its bytes by its place."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if _is_text(kind):
        return _checked(pc.cast(values, pa.large_binary(), safe=False), errors)
    if pa.types.is_binary_view(kind) or pa.types.is_string_view(kind):
        return _checked(pc.cast(values, pa.large_binary()), errors)
    if pa.types.is_float16(kind):
        values = pc.cast(values, pa.float32())
    if pa.types.is_timestamp(kind):
        return _moments(values, name, errors)
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowException:
        return _one_by_one(values, name, errors)


def _is_text(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(
        text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _checked(values: pa.Array, errors: dict[int, tuple[str, bytes]]) -> pa.Array:
    """Bytes as text: all at once where they are UTF-8 without NUL, which a writer need not have looked at."""
    if not pc.any(pc.match_substring(values, "\0")).as_py():
        try:
            return pc.cast(values, pa.string())
        except pa.ArrowException:
            pass
    texts: list[str | None] = []
    for place, value in enumerate(values.to_pylist()):
        text = None
        try:
            text = None if value is None else value.decode()
        except UnicodeDecodeError:
            errors[place] = "not UTF-8", value
        if text is not None and "\0" in text:
            errors[place], text = ("contains a NUL character", value), None
        texts.append(text)
    return pa.array(texts, pa.string())


def _moments(values: pa.Array, name: str, errors: dict[int, tuple[str, bytes]]) -> pa.Array:
    zone = None if values.type.tz is None else "UTC"
    for unit in ("us", "ns"):  # finer than microseconds: its nine digits do not fit the contract's type
        try:
            return pc.cast(pc.cast(values, pa.timestamp(unit, zone)), pa.string())
        except pa.ArrowException:
            continue
    return _one_by_one(values, name, errors)


def _one_by_one(values: pa.Array, name: str, errors: dict[int, tuple[str, bytes]]) -> pa.Array:
    """Values of which at least one is outside of what its type can say."""
    texts: list[str | None] = []
    for place in range(len(values)):
        one = values.slice(place, 1)
        try:
            if pa.types.is_timestamp(values.type):
                one = pc.cast(one, pa.timestamp("us", None if values.type.tz is None else "UTC"))
            texts.append(pc.cast(one, pa.string())[0].as_py())
        except pa.ArrowException:
            number = one.view(pa.int64())[0].as_py() if pa.types.is_timestamp(values.type) else None
            errors[place] = f"{name} is out of range", str(number).encode()
            texts.append(None)
    return pa.array(texts, pa.string())
