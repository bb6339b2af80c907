"""What a live cluster tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """A column of a table: its CQL type, and its place in the key, if it has one (``partition_key``, ``clustering``)."""

    type: str
    kind: str = "regular"
    place: int = -1


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table as the cluster has it. Options are texts, as CQL writes them."""

    name: str
    columns: Mapping[str, LiveColumn]
    options: Mapping[str, str]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class LiveNode:
    """A node; ``up`` is whether it answered. ``skew`` is by how many seconds its clock is ahead of ours, give or take
    ``doubt``; ``load`` are bytes; ``settings`` those that are looked at, and ``tokens`` how many it has."""

    address: str
    datacenter: str
    rack: str
    up: bool
    version: str = ""
    tokens: int = 0
    schema: str = ""
    skew: float = 0.0
    doubt: float = 0.0
    load: int | None = None
    hints: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    """What it said where it did not answer."""


@dataclass(frozen=True, slots=True)
class LiveSize:
    """What a node knows of a table: partitions and their mean bytes (estimates, of what is on disk), the bytes of the
    largest one, and tombstones that a read met, at most; None where it does not tell."""

    node: str
    table: str
    partitions: int | None = None
    mean: int | None = None
    largest: int | None = None
    tombstones: float | None = None
