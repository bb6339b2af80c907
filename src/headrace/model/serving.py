"""Serving tables and queries, as derived from a query's SQL."""

from __future__ import annotations

import datetime as dt
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.model.mart import Part
from headrace.model.types import Column, Type

PARTITION_ROWS, PARTITION_BYTES = 100_000, 100_000_000
"""What a partition may have, where nothing else is set: beyond it Cassandra's rule of thumb advises against it, and ScyllaDB
warns."""
DAY = 86_400_000_000
"""Microseconds."""
FIRST, LAST = dt.date.min.isoformat(), dt.date.max.isoformat()
TIMES = ("month", "day")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a partition is cut into where it would grow too large: ``month`` or ``day`` of the first clustering column, or
    ``salt``, one of ``count`` by a hash of the clustering key."""

    kind: str
    count: int = 1

    @property
    def text(self) -> str:
        """As people write it: ``month``, ``day``, ``salt 8``."""
        return f"{self.kind} {self.count}" if self.kind == "salt" else self.kind

    @property
    def of_time(self) -> bool:
        """Whether a reader has to know a range of the first clustering column."""
        return self.kind in TIMES

    def of(self, clustering: tuple[Any, ...]) -> int:
        """The bucket of a clustering key."""
        if self.kind == "salt":
            return zlib.crc32("\0".join(map(str, clustering)).encode()) % self.count
        return self._of_window(clustering[0])

    def between(self, low: Any, high: Any) -> Sequence[int]:
        """As ``ServingTable.buckets``; of days and months both bounds must be known."""
        if self.kind == "salt":
            return range(self.count)
        return range(self._of_window(low), self._of_window(high) + 1)

    def _of_window(self, value: Any) -> int:
        """Months or days since 1970 of a stored DATE or instant; what lies beyond the years 1 to 9999 is in the first or
        the last."""
        if isinstance(value, str):
            try:
                day = dt.date.fromisoformat(value)
            except ValueError:
                day = dt.date.min if value < FIRST else dt.date.max
        else:
            day = dt.date.fromordinal(min(max(EPOCH + value // DAY, 1), dt.date.max.toordinal()))
        if self.kind == "day":
            return day.toordinal() - EPOCH
        return (day.year - 1970) * 12 + day.month - 1


EPOCH = dt.date(1970, 1, 1).toordinal()


def bucket_of(text: str) -> Bucket | None:
    """The bucket that ``Bucket.text`` names, None of an empty text; raises ValueError."""
    found = re.fullmatch(r"(month|day)|salt (\d{1,3})|", text)
    if found is None or (found[2] and not 2 <= int(found[2]) <= 256):
        raise ValueError(text)
    if not text:
        return None
    return Bucket("salt", int(found[2])) if found[2] else Bucket(text)


@dataclass(frozen=True, slots=True)
class ServingTable:
    """A query-first table: rows of ``origin`` (a mart, or the rows of a dataset) rolled up to the key.

    Key and parts are *stored values*: text for VARCHAR, DATE (ISO) and DECIMAL (at its scale), int for integers,
    BOOLEAN and instants (microseconds since 1970 UTC), float for DOUBLE, JSON text for sets. ``name`` ends in a hash
    of the definition, so that a changed query gets another table. How a store keeps it, a generation says: ``kept``.
    """

    name: str
    origin: str
    of_mart: bool
    partition: tuple[Column, ...]
    clustering: tuple[Column, ...]
    parts: tuple[Part, ...]
    where: str = ""
    bucket: Bucket | None = None
    copy: int = 0

    def kept(self, bucket: Bucket | None, copy: int = 0) -> ServingTable:
        """The definition as a store keeps it: its partitions cut into buckets, and the ``copy`` that replaced damaged
        ones. Each is another table of the store, by its name."""
        if (bucket, copy) == (self.bucket, self.copy):
            return self
        return replace(self, name=self.base + tail(bucket, copy), bucket=bucket, copy=copy)

    @property
    def base(self) -> str:
        """The name by the definition alone: what generations know the table by."""
        return self.name.removesuffix(tail(self.bucket, self.copy))

    @property
    def key(self) -> tuple[Column, ...]:
        return (*self.partition, *self.clustering)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of key, parts and the count of records, in the order of a stored row."""
        return (*(c.name for c in self.key), *(p.name for p in self.parts), "_records")

    def bucket_of(self, row: tuple[Any, ...]) -> int:
        """The bucket of a row, or of its key."""
        return 0 if self.bucket is None else self.bucket.of(row[len(self.partition) : len(self.key)])

    def buckets(self, low: Any, high: Any) -> Sequence[int]:
        """The buckets, in the order of their rows, that may have rows between two values of the first clustering column."""
        return (0,) if self.bucket is None else self.bucket.between(low, high)


def tail(bucket: Bucket | None, copy: int) -> str:
    """What the name of a table ends in, beyond that of its definition."""
    cut = "" if bucket is None else f"_{bucket.text.replace(' ', '')}"
    return cut + (f"_{copy}" if copy else "")


def shortened(name: str, most: int) -> str:
    """A table's name, cut before the hash of its definition where it has more than ``most`` characters."""
    if len(name) <= most:
        return name
    found = re.fullmatch(r"(.*?)_([0-9a-f]{8}(?:_month|_day|_salt\d+)?(?:_\d{1,4})?)", name)
    text, end = found.groups() if found is not None else name.rsplit("_", 1)
    return f"{text[: most - len(end) - 1]}_{end}"


def next_copy(base: str, names: Iterable[str]) -> int:
    """The number of a copy of a definition's table that no name among ``names`` is of."""
    found = (re.fullmatch(rf"{re.escape(base)}(?:_month|_day|_salt\d+)?(?:_(\d+))?", name) for name in names)
    return max((int(match[1] or 0) for match in found if match), default=0) + 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """A typed parameter; ``default`` and ``maximum`` are stored values, ``many`` takes a list, ``zone`` the name of a time
    zone."""

    name: str
    type: Type
    required: bool = True
    many: bool = False
    default: object = None
    maximum: int | None = None
    zone: bool = False
