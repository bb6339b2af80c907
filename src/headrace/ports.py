"""What the steps ask of the outside. An adapter fulfils a port; a step never knows which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from headrace.model.cluster import LiveNode, LiveSize, LiveTable
from headrace.model.ring import Ring
from headrace.model.serving import ServingTable
from headrace.model.source import Source

if TYPE_CHECKING:
    import pyarrow as pa  # boundary: Arrow is what the engine is offered; a type only

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class InboxFile:
    """A file that is complete and may be read. ``name`` is relative to the inbox, with ``/``; ``modified`` in ns."""

    name: str
    size: int
    modified: int


class Inbox(Protocol):
    """Where landing files arrive."""

    @property
    def unfinished(self) -> Sequence[str]:
        """Names that the last ``list`` left out because they still changed."""
        ...

    def list(self, pattern: str) -> Sequence[InboxFile]:
        """Complete files whose name matches, in order of name. A file still being written is left out."""
        ...

    def read(self, file: InboxFile) -> bytes:
        """The bytes of a file; raises OutsideError where they are not the size that was listed, with ``retry`` where the
        next run may find it whole, and OutOfReachError where no file can be read now."""
        ...


class Engine(Protocol):
    """Runs SQL over Parquet files and Arrow data, in UTC, without network and without touching other files."""

    def describe(self, sql: str) -> Sequence[tuple[str, str]]:
        """Names and SQL types of a SELECT's columns; raises DeclarationError HR0204 with the engine's reason."""
        ...

    def define(self, name: str, sql: str) -> None:
        """Makes ``name`` a view of a SELECT, replacing one of that name; what is wrong with it may show where it is read."""
        ...

    def offer(self, name: str, batches: pa.RecordBatchReader | pa.Table) -> None:
        """Makes Arrow data readable as ``name``, once."""
        ...

    def keep(self, name: str, sql: str) -> None:
        """Makes ``name`` a temporary table with the rows of a SELECT."""
        ...

    def add(self, name: str, sql: str) -> None:
        """Adds the rows of a SELECT to a temporary table that ``keep`` made."""
        ...

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """The rows of a SELECT, as Python values; ``?`` takes ``values``."""
        ...

    def batches(self, sql: str, size: int = 10_000) -> Iterator[list[Row]]:
        """The rows of a SELECT in lists of at most ``size``."""
        ...

    def write(self, sql: str, path: str) -> int:
        """Writes the rows of a SELECT to one new Parquet file and flushes it to disk; returns their number. Rows have
        the order of the SELECT's ORDER BY, if it has one, and else any."""
        ...

    def export(self, sql: str, path: str, kind: str) -> int:
        """Writes the rows of a SELECT to a file for other tools; ``kind`` is csv, parquet or json (lines)."""
        ...

    def scan(self, files: Sequence[str], columns: Sequence[tuple[str, str]], *, grown: bool = False) -> str:
        """SQL of a relation over Parquet files; an empty relation of these columns where there are none. With ``grown``
        the files may be older than some of the columns, which are NULL there."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version of a lake table: its files (absolute paths) and, by application, the transaction it ends with."""

    version: int
    files: tuple[str, ...]
    transaction: Callable[[str], int | None]


def next_version(base: Snapshot | None) -> int:
    """The version of a lake table that a commit on ``base`` makes."""
    return 0 if base is None else base.version + 1


class Lake(Protocol):
    """Versioned tables of Parquet files. A commit is atomic; readers of older versions are not disturbed."""

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        """The newest, or the named, version of a table; None where there is none."""
        ...

    def new_file(self, table: str) -> str:
        """A path for a new Parquet file of this table, not yet part of it."""
        ...

    def commit(
        self,
        table: str,
        add: Sequence[tuple[str, int]],
        *,
        keep: Sequence[str] | None,
        base: Snapshot | None,
        transactions: Mapping[str, int] | None = None,
    ) -> int:
        """Makes the ``next_version`` of exactly ``keep`` (None: all files of ``base``) and the added (file, rows); returns
        it.

        Raises ConflictError where another commit was made since ``base``.
        """
        ...

    def tables(self) -> Sequence[str]:
        """Names of all tables."""
        ...

    def forget(self, table: str, keep_versions: Sequence[int], older_than_hours: float) -> int:
        """Deletes files that neither the newest nor the kept versions use and that are older; returns their number."""
        ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """Records of a lane that follow those that came before: ``relation`` (SQL, with bronze's columns) has those up to
    ``end``, and may have earlier ones."""

    lane: str
    relation: str
    end: int
    mark: str = ""
    """What tells the last of them from any other that may ever be at its offset: ``offset.digest``, integers of 63 bits.
    Empty where there is none, and where a log uses no offset twice."""


Record = tuple[int, str, bytes, str | None, int]
"""A record of a file on its way into the log: its row there (from 1), the key that decides its lane, what is sent, why it
cannot be read (None where it can), and the how many-th of its id in the file it is."""
Filed = tuple[str, str, Iterable[Record]]
"""A file on its way into the log: its name, the digest of its bytes, and its records."""


class Feed(Protocol):
    """The lanes that one stream worker counts, as the log gives them to the workers of its group."""

    @property
    def lanes(self) -> Collection[str]:
        """Those that are this worker's now."""
        ...

    @property
    def is_caught_up(self) -> bool:
        """Whether the worker takes part in its group, and all that the log has now of these lanes was given."""
        ...

    def poll(self, wait: float) -> Sequence[Arrival]:
        """What comes next, after at most ``wait`` seconds. A relation is readable until the next call.

        Raises OutsideError HR0411 where records that were not given yet are gone from the log.
        """
        ...

    def mark(self, lane: str, end: int) -> str:
        """As ``Arrival.mark``, of a record before ``end`` that the last ``poll`` gave, the last one where it ends an arrival;
        empty where there is none."""
        ...

    def commit(self, lane: str, offset: int) -> None:
        """Tells the log, for others to see, that everything before the offset is counted."""
        ...

    def close(self) -> None:
        """Leaves the group, so that others take the lanes over at once."""
        ...


class Drop(Protocol):
    """Where files are delivered to."""

    def put(self, path: str, file: Path) -> None:
        """Delivers a file; it is seen whole or not at all. Repeating is harmless."""
        ...


class Log(Protocol):
    """Where records arrive before they are bronze: append-only lanes, each record with its offset."""

    @property
    def is_bronze(self) -> bool:
        """Whether bronze itself is the log, so that nothing need be copied."""
        ...

    def lanes(self, source: Source) -> Mapping[str, tuple[int, int]]:
        """The lanes of a source, each with its first retained offset and its end."""
        ...

    def read(self, source: Source, lane: str, first: int, end: int) -> Arrival:
        """Records from an offset on, up to ``end`` at most; where it ends at ``first`` there are none.

        Raises OutsideError HR0411 where records from ``first`` on are gone.
        """
        ...

    def keeps(self, source: Source, lane: str, mark: str) -> bool:
        """Whether the record that a ``mark`` is of is the one that it was. One that was forgotten since is."""
        ...

    def append(self, source: Source, files: Iterable[Filed]) -> Iterator[int]:
        """Appends the records of files, in order; says now and then, and in the end, how many of the files are there whole
        and for good. Who is told so must remember it before going on: of what an earlier call appended before it was
        interrupted, only files that were not told yet are known, and not appended again."""
        ...

    def feed(self, group: str, sources: Sequence[Source], start: Callable[[str, int], int]) -> Feed:
        """Lets a worker take part in a group; ``start``, given a lane that becomes its own and the first offset that is
        retained, says from which one on it wants it."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A store of which there is more to see than answers."""

    def inspection(self) -> Inspect:
        """What looks at its tables and nodes."""
        ...


@runtime_checkable
class Insisting(Protocol):
    """A store whose reads give up soon where nobody answers, so that whoever waits is told."""

    def insist(self) -> None:
        """From now on reads are tried again for as long as writes are: they are of one who counts."""
        ...


class Store(Protocol):
    """Serving tables and control rows, as a last-write-wins store can give them: no transaction across rows, no counters.

    Every write may be repeated; of two writes to one (key, slot) the one with the higher generation stands.
    """

    @property
    def is_remote(self) -> bool:
        """Whether a read waits for another machine."""
        ...

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        """Replaces a control row if it still is ``old`` (None: absent). The only conditional write."""
        ...

    def control(self, name: str) -> str | None:
        """A control row, or None."""
        ...

    def controls(self, names: Sequence[str]) -> list[str | None]:
        """As ``control``, of many at once."""
        ...

    def set_control(self, name: str, value: str) -> None:
        """Writes a control row that only one writer ever writes, always with this value."""
        ...

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        """Writes a control row as ``value text``, unless a higher value stands there: of many writers the furthest counts."""
        ...

    def create(self, table: ServingTable) -> None:
        """Makes the physical table, and the one of its speed rows, where they are missing."""
        ...

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        """Writes whole batch rows: the table's columns, then slot and generation. Repeating is harmless."""
        ...

    def fetch(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        reverse: bool = False,
        after: Row | None = None,
        limit: int | None = None,
    ) -> Sequence[Row]:
        """Rows of one partition in clustering order (slot last), both slots: columns, slot, generation.

        ``bounds`` limit the first clustering column; ``after`` is a clustering key that the rows come after.
        """
        ...

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        """Writes whole speed rows: the table's columns, as the range of the lane that begins at ``start`` has counted
        them up to ``fence``. Repeating is harmless: of two writes to one (key, epoch, lane, start) the higher fence stands.
        """
        ...

    def fetch_speed(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        epoch: int,
    ) -> Sequence[Row]:
        """Speed rows of one partition and epoch in clustering order: columns, lane, start. ``bounds`` as for ``fetch``."""
        ...

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        """All batch rows, some thousands at a time, both slots: columns, slot, generation. Those of one key follow one
        another. For looking at a whole table; no answer reads so much."""
        ...

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        """All speed rows of an epoch, some thousands at a time, in any order: columns, lane, start, fence."""
        ...

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        """Removes an epoch's speed rows whose range starts below the offset of their lane (None: all of the epoch's)."""
        ...

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        """Removes the batch rows whose key has a lower value than ``start`` in a column, written by this generation or an
        earlier one. Repeated, or done late, it removes nothing that a higher generation wrote."""
        ...

    def hold(self) -> None:
        """Until ``release``, this thread's reads may all see the store as it is at the first of them, where that costs less."""
        ...

    def release(self) -> None:
        """Ends ``hold``; nothing where there was none."""
        ...

    def drop(self, table: str) -> None:
        """Removes a physical table that no generation names, and its speed rows."""
        ...

    def physical(self) -> Sequence[str]:
        """Names of the physical tables."""
        ...


class Inspect(Protocol):
    """What is asked of a live store besides rows: for looking at it, not for answering."""

    @property
    def is_scylla(self) -> bool:
        """Whether it is ScyllaDB that answers."""
        ...

    @property
    def space(self) -> str:
        """The keyspace."""
        ...

    def damaged(self, tables: Sequence[ServingTable]) -> Mapping[str, str]:
        """By name, what is wrong with those of the tables whose rows may not be what was written: gone, or on whose
        canary somebody wrote or deleted, or had it expire, by the clock. What is wrong stays so for as long as the table
        is there."""
        ...

    def foreign(self, table: ServingTable) -> int:
        """How many of a table's rows have a value with another timestamp than their generation or fence, or one that
        expires. Every row is looked at."""
        ...

    def unchecked(self) -> Store:
        """The store, to be read though its tables are not sound."""
        ...

    def keyspace(self) -> Mapping[str, str] | None:
        """How the keyspace is replicated: ``class``, and replicas by datacenter; None where there is none."""
        ...

    def schema(self) -> Mapping[str, LiveTable]:
        """The tables of the keyspace, by the names they have there."""
        ...

    def alter(self, table: str, options: Mapping[str, str]) -> None:
        """Sets options of a table of the keyspace; returns when all nodes agree."""
        ...

    def nodes(self) -> Sequence[LiveNode]:
        """The nodes of the cluster, each asked for itself."""
        ...

    def others(self) -> Mapping[str, str]:
        """Tables, indexes and materialized views in the keyspace that are not ours: by name, what they are."""
        ...

    def ring(self, table: str = "") -> Ring:
        """Which node, by its address, and which shard of it has which tokens: of the keyspace, or, where its tables have
        tablets, of a table by the name it has there.

        Raises OutsideError HR0424 where no node tells of shards that it has.
        """
        ...

    def partition(
        self, table: ServingTable, partition: Row, bounds: tuple[Any, bool, Any, bool]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The rows of one partition, between bounds of the first clustering column, as they are stored: ``batch`` and
        ``speed``, with write timestamps and what is left of a time to live."""
        ...

    def sizes(self) -> Sequence[LiveSize]:
        """What the nodes know of the tables' partitions; empty where they tell nothing."""
        ...

    def probe(self) -> str:
        """Writes a cell at a timestamp and reads it back; what is wrong with that, empty where nothing is."""
        ...


class Observer(Protocol):
    """Is told what goes on; never decides anything."""

    def begin(self, verb: str, subject: str, total: int | None = None) -> None: ...

    def advance(self, count: int) -> None: ...

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None: ...

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None:
        """Records of a stream's micro-batch, by verdict, once they are answered; perhaps by the writer's thread. ``newest`` is
        the newest event time of those that are clean, empty where there is none."""
        ...

    def alarm(self, text: str) -> None: ...
