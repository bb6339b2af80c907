"""What a generation is: the cut that it counts, and the versions and tables that it answers from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from headrace.model.retention import Floor
from headrace.model.serving import ServingTable, bucket_of, tail


@dataclass(frozen=True, slots=True)
class MartState:
    """The gold version of a mart, and the hash of all that it was computed from, offsets of its lanes aside."""

    version: int
    definition: str
    lanes: Mapping[str, int]
    """Offsets [0, end) of each lane that it has counted."""


@dataclass(frozen=True, slots=True)
class TableState:
    """The lake version that holds a serving table's live rows with their slots, and what they were rolled up from."""

    version: int
    definition: str
    lanes: Mapping[str, int]
    bucket: str = ""
    """What its partitions in the store are cut into."""
    copy: int = 0

    def name(self, base: str) -> str:
        """The name in the store of the table that goes by ``base``."""
        return base + tail(bucket_of(self.bucket), self.copy)


@dataclass(frozen=True, slots=True)
class Generation:
    """One published batch: exactly the records below ``cut`` {lane: offset} are counted.

    ``as_of`` is the newest event time (RFC 3339) of each lane's counted records. ``code`` hashes the project's
    declarations, so that a run that finds nothing new can say so without looking further. ``epoch`` is the stretch of
    generations whose speed rows add to it.
    """

    number: int
    cut: Mapping[str, int] = field(default_factory=dict)
    marts: Mapping[str, MartState] = field(default_factory=dict)
    tables: Mapping[str, TableState] = field(default_factory=dict)
    as_of: Mapping[str, str] = field(default_factory=dict)
    contracts: Mapping[str, int] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    published_at: str = ""
    epoch: int = 0
    late: Mapping[str, int] = field(default_factory=dict)
    """How many of each lane's counted records came below its watermark, where a lateness is declared."""
    floors: Mapping[str, Floor] = field(default_factory=dict)
    """By mart for which a retention is declared, where the windows begin that this generation keeps."""

    def text(self) -> str:
        return _encode(self).decode()


def instant(text: str) -> str:
    """An event time as SQL writes it, as RFC 3339 does."""
    return text.replace(" ", "T") + "Z"


def moment_order(text: str) -> str:
    """What event times sort by: a fraction of a second comes after none."""
    return text.removesuffix("Z")


def stored(table: ServingTable, state: TableState | None) -> ServingTable:
    """A serving table as a generation keeps it in the store."""
    if state is None or not (state.bucket or state.copy):
        return table
    return _stored(table, state.bucket, state.copy)


@functools.lru_cache(1024)
def _stored(table: ServingTable, bucket: str, copy: int) -> ServingTable:
    return table.kept(bucket_of(bucket), copy)


EMPTY = Generation(0)
"""Generation 0: before the first run."""


def read(text: str) -> Generation:
    """The inverse of ``Generation.text``."""
    return _decode(text)


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Generation).decode


def control_name(number: int) -> str:
    """The name of a generation's control row."""
    return f"generation/{number}"
