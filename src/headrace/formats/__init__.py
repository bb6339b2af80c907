"""Bytes to Arrow by contract, never sniffed. ``read`` gives a file's records, the unreadable ones with their bytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa

from headrace.formats import delimited, lines, parquet
from headrace.formats.rejected import Rejected
from headrace.model.source import Source

MOST_BYTES = 4 << 30
"""What one compressed file may unpack to."""
READERS: dict[str, Callable[[Source, str, bytes], Iterator[pa.RecordBatch]]] = {
    "csv": delimited.read,
    "jsonl": lines.read,
    "parquet": parquet.read,
}


def read(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
    """The records of one file, in order: ``_row`` (1-based), ``_error`` and ``_bytes`` (set where a record cannot be
    read), and the format's own columns (``columns``). Raises Rejected, always before the first record, where the file
    as a whole does not fit its contract."""
    return READERS[source.format.kind](source, name, _plain(name, data))


def columns(source: Source) -> list[str]:
    """Names of the columns that ``read`` gives besides ``_row``, ``_error`` and ``_bytes``; all VARCHAR."""
    return ["_line"] if source.format.kind == "jsonl" else [source.sent(c.name) for c in source.columns]


def _plain(name: str, data: bytes) -> bytes:
    packed = data[:2] == b"\x1f\x8b"
    if not name.endswith(".gz"):
        if packed:
            raise Rejected("it is gzip, but not named .gz", f"{name} is gzip but its name does not end in .gz")
        return data
    if not packed:
        raise Rejected("it is named .gz, but not gzip", f"{name} is named .gz but is not gzip")
    return _unpacked(name, data)


def _unpacked(name: str, data: bytes) -> bytes:
    """All members of a gzip file; zeros may follow them, as `gzip` itself allows."""
    parts, left = [], MOST_BYTES
    while data:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = unpacker.decompress(data, left)
        except zlib.error as error:
            raise Rejected("its compression is damaged", f"{name} is damaged: {error}") from None
        if unpacker.unconsumed_tail:
            raise Rejected("it unpacks to too much", f"{name} unpacks to more than {MOST_BYTES >> 20} MiB")
        if not unpacker.eof:
            raise Rejected("its compression is damaged", f"{name} is damaged: it ends in the middle")
        parts.append(part)
        left -= len(part)
        data = unpacker.unused_data.lstrip(b"\0")
        if data and left <= 0:
            raise Rejected("it unpacks to too much", f"{name} unpacks to more than {MOST_BYTES >> 20} MiB")
    return parts[0] if len(parts) == 1 else b"".join(parts)
