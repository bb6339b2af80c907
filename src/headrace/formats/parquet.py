"""Parquet: columns by name, values as text, so that one contract reads what every writer makes of a type."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as arrow_parquet

from headrace.errors import ContractError, nearest
from headrace.model.source import Source


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    wanted = [source.sent(c.name) for c in source.columns]
    try:
        file = arrow_parquet.ParquetFile(pa.BufferReader(data))
        missing = [w for w in wanted if w not in file.schema_arrow.names]
        if missing:
            raise ContractError("HR0301", f"{name} has no column '{missing[0]}'", help=nearest(missing[0], file.schema_arrow.names))
        row = 1
        for batch in file.iter_batches(columns=wanted):
            count = batch.num_rows
            columns = {w: pc.cast(batch.column(batch.schema.get_field_index(w)), pa.string()) for w in wanted}
            yield pa.record_batch(
                {"_row": pa.arange(row, row + count), "_error": pa.nulls(count, pa.string()), "_bytes": pa.nulls(count, pa.binary()), **columns}
            )
            row += count
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ContractError("HR0301", f"{name} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
