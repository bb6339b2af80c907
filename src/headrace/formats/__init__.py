"""Bytes to Arrow by contract, never sniffed. ``read`` gives a file's records, the unreadable ones with their bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pyarrow as pa

from headrace.errors import ContractError
from headrace.formats import delimited, lines, parquet
from headrace.model.source import Source

MOST_BYTES = 4 << 30
"""What one compressed file may unpack to."""


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    """The records of one file, in order: ``_row`` (1-based), ``_error`` and ``_bytes`` (set where a record cannot be
    read), and the format's own columns (``columns``). Raises ContractError HR0301 where the file as a whole does not
    fit its contract."""
    kind = {"csv": delimited, "jsonl": lines, "parquet": parquet}[source.format.kind]
    return kind.read(source, name, _plain(name, data))


def columns(source: Source) -> list[str]:
    """Names of the columns that ``read`` gives besides ``_row``, ``_error`` and ``_bytes``; all VARCHAR."""
    return ["_line"] if source.format.kind == "jsonl" else [source.sent(c.name) for c in source.columns]


def _plain(name: str, data: bytes) -> bytes:
    packed = data[:2] == b"\x1f\x8b"
    if not name.endswith(".gz"):
        if packed:
            raise ContractError("HR0301", f"{name} is gzip but its name does not end in .gz")
        return data
    if not packed:
        raise ContractError("HR0301", f"{name} is named .gz but is not gzip")
    try:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        plain = unpacker.decompress(data, MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise ContractError("HR0301", f"{name} unpacks to more than {MOST_BYTES >> 30} GiB")
        return gzip.decompress(data) if unpacker.unused_data else plain
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ContractError("HR0301", f"{name} is damaged: {error}") from None
