"""land: files of the inbox become bronze records, each exactly once, with its file, row, lane and offset."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from headrace import formats
from headrace.errors import HeadraceError, OutOfReachError, OutsideError
from headrace.flow import manifest
from headrace.flow.isolation import isolated
from headrace.flow.lanes import lanes_of, mark_in, marked, note, note_gaps
from headrace.flow.manifest import Landed, current
from headrace.formats.rejected import Rejected
from headrace.model.run import Step
from headrace.model.source import Source
from headrace.ports import Engine, Filed, Inbox, InboxFile, Lake, Log, Observer, Record
from headrace.sql.judge import bronze_columns, literal
from headrace.sql.landing import landing_sql, message_sql

IN_TOPIC = -(1 << 40)
"""Where the versions of a file that landed in a topic are counted from: they have no offsets in the source's own lane."""
SAME = pa.dictionary(pa.int32(), pa.string())
SNIPPET = 400
"""Bytes of a rejected file that quarantine keeps."""


def land(
    source: Source, inbox: Inbox, log: Log, lake: Lake, engine: Engine, observer: Observer, known: list[Landed]
) -> tuple[Step, list[Landed]]:
    """Lands what is new in the inbox for one source; gives the step's record and, for the manifest, the versions that
    it landed or saw again under another time. Where the project has a log, facts land in their topic, and ``copy``
    brings them to bronze.

    Bronze and its lane's end are one commit, prepared on the snapshot that it follows, so that of two landers one
    fails and nothing is there twice. The manifest follows; where it lags it is rebuilt from bronze.
    """
    started = time.monotonic()
    step = Step("land", source.name)
    through = source.role == "fact" and not log.is_bronze
    arrivals = _Arrivals(source, inbox, observer, known, "reject" if through else source.changed_file)
    unreadable = 0
    if arrivals.files:
        observer.begin("land", source.name, sum(f.size for f in arrivals.files))
        if through:
            for whole in _produce(arrivals, log, engine):
                manifest.append(lake, engine, arrivals.landed[:whole])
        else:
            unreadable = _write(arrivals, lake, engine)
    rows = sum(e.rows for e in arrivals.landed)
    rejected = sum(1 for e in arrivals.landed if e.rejected)
    step.counts = {"files": len(arrivals.landed) - rejected, "rejected": rejected, "rows": rows}
    if arrivals.landed:
        step.counts["bytes"] = sum(entry.size for entry in arrivals.landed)
    if rows and not through:
        step.counts |= {"unreadable": unreadable, "bronze": rows - unreadable}
    if arrivals.unfinished:
        step.note = f"still being written: {', '.join(arrivals.unfinished)}"
    step.seconds = time.monotonic() - started
    observer.end("land", source.name, step.counts, step.seconds, step.note)
    return step, [*arrivals.landed, *arrivals.seen]


def copy(
    source: Source, log: Log, lake: Lake, engine: Engine, observer: Observer, *, accept_gaps: bool = False
) -> Step:
    """Brings a source's records from its topic to bronze, each exactly once by its lane and offset, up to where the topic
    ends now.

    A commit names where each of its lanes ends, and is prepared on the version in which they ended where it begins.
    Raises OutsideError HR0411 where records are gone before they were copied; with ``accept_gaps`` it goes on behind them.
    Raises HR0417 where the log has other records now at offsets that were copied.
    """
    started = time.monotonic()
    step = Step("land", source.name)
    extents = log.lanes(source)
    note({lane: first for lane, (first, _) in extents.items()}, lake, engine)
    starts = lanes_of(source, lake, engine)
    table, copied, unreadable = f"bronze/{source.name}", 0, 0
    while True:
        base = lake.snapshot(table)
        at = {lane: (base.transaction(lane) if base else None) or starts[lane] for lane in extents}
        lost = {lane: (at[lane], first) for lane, (first, _) in extents.items() if accept_gaps and at[lane] < first}
        for lane, (first, end) in lost.items():
            observer.alarm(f"HR0411: offsets {first} to {end} of {lane} are missing from here on")
            at[lane] = end
        note_gaps(lost, lake, engine)
        found = [log.read(source, lane, at[lane], end) for lane, (_, end) in extents.items() if at[lane] < end]
        moved = {lane: end for lane, (_, end) in lost.items()}
        moved |= {arrival.lane: arrival.end for arrival in found if arrival.end > at[arrival.lane]}
        shorter = [lane for lane, (_, end) in extents.items() if end < at[lane]]
        if not copied:
            for lane in {*moved, *shorter}:
                refuse_rewritten(source, lane, mark_in(base, lane), log)
        if not moved:
            break
        if not copied:
            observer.begin("land", source.name)
        path = lake.new_file(table)
        skipped = {
            lane: f" WHERE _offset NOT IN ({', '.join(map(str, o))})" for lane, o in isolated(lake, engine).items()
        }
        relations = [a.relation + skipped.get(a.lane, "") for a in found if a.end > at[a.lane]]
        relations = relations or [engine.scan([], bronze_columns(source))]
        rows = engine.write(" UNION ALL ".join(f"SELECT * FROM {relation}" for relation in relations), path)
        marks = {name: number for a in found for name, number in marked(a.lane, a.mark).items()}
        lake.commit(table, [(path, rows)], keep=None, base=base, transactions=moved | marks)
        scan = engine.scan([path], bronze_columns(source), grown=True)
        unreadable += int(engine.rows(f"SELECT count(*) FROM {scan} WHERE _error IS NOT NULL")[0][0])
        copied += rows
        observer.advance(rows)
    if copied:
        step.counts = {"copied": copied, "unreadable": unreadable, "bronze": copied - unreadable}
        step.note = "from the log"
        step.seconds = time.monotonic() - started
        observer.end("land", source.name, step.counts, step.seconds, step.note)
    return step


def refuse_rewritten(source: Source, lane: str, mark: str, log: Log) -> None:
    """Raises OutsideError HR0417 where a log has not the record any more that a mark is of."""
    if mark and not log.keeps(source, lane, mark):
        what = f"{lane} has other records now at offsets that were counted, or none"
        raise OutsideError("HR0417", what, help="headrace explain HR0417")


def recover(source: Source, lake: Lake, engine: Engine, known: list[Landed]) -> list[Landed]:
    """Versions that bronze holds and the manifest does not: a landing that was killed between its two commits."""
    base = lake.snapshot(f"bronze/{source.name}")
    end = (base.transaction(source.name) or 0) if base else 0
    # What is in the source's own lane; versions that landed in a topic have offsets below all.
    have = max([0, *(e.next for e in known if e.source == source.name)])
    if base is None or end <= have:
        return []
    rows = engine.rows(
        f"SELECT _file, _sha256, count(*), min(_offset), max(_offset) + 1, "
        f"coalesce(max(CASE WHEN _row = 0 THEN _error END), ''), CAST(min(_landed_at) AS VARCHAR) "
        f"FROM {engine.scan(base.files, bronze_columns(source), grown=True)} WHERE _lane = {literal(source.name)} "
        f"AND _offset >= {have} GROUP BY ALL ORDER BY 4"
    )
    # Size and time are unknown here, so that the next landing looks at the bytes again and finds them known.
    return [
        Landed(source.name, file, -1, -1, sha, count, first, end, why, at)
        for file, sha, count, first, end, why, at in rows
    ]


def _write(arrivals: _Arrivals, lake: Lake, engine: Engine) -> int:
    """Writes and commits what arrives; gives the number of records that cannot be read."""
    source = arrivals.source
    table = f"bronze/{source.name}"
    base = lake.snapshot(table)
    start = (base.transaction(source.name) or 0) if base else 0
    schema = arrival_schema(source)
    batches = arrivals.batches(schema, start)
    first = next(batches, None)
    if first is None:
        return 0
    path = lake.new_file(table)
    try:
        engine.offer("_arrivals", pa.RecordBatchReader.from_batches(schema, itertools.chain([first], batches)))
        rows = engine.write(landing_sql(source, formats.columns(source)), path)
    except HeadraceError:
        # The engine pulls the batches, and reports what they raise as a failure of its own.
        if arrivals.failure is not None:
            raise arrivals.failure from None
        raise
    lake.commit(table, [(path, rows)], keep=None, base=base, transactions={source.name: start + rows})
    unreadable = (
        f"SELECT count(*) FROM {engine.scan([path], bronze_columns(source), grown=True)} WHERE _error IS NOT NULL"
    )
    return int(engine.rows(unreadable)[0][0])


def produce(source: Source, inbox: Inbox, log: Log, engine: Engine, observer: Observer) -> None:
    """Appends the records of an inbox's files to the source's topic, whether or not such files were landed before."""
    for _ in _produce(_Arrivals(source, inbox, observer, [], "new version"), log, engine):
        pass  # whoever delivers remembers whole files by itself


def _produce(arrivals: _Arrivals, log: Log, engine: Engine) -> Iterator[int]:
    """Appends the records of new files to the source's topic, file after file; says now and then how many of those that
    have ``landed`` are there for good."""
    source = arrivals.source
    ends = [0]

    def files() -> Iterator[Filed]:
        for file, digest, batches in arrivals.pieces(arrival_schema(source)):
            yield file, digest, _records(source, batches, engine)
            ends.append(len(arrivals.landed))

    for whole in log.append(source, files()):
        yield ends[whole]
    yield len(arrivals.landed)  # those without records, too


def _records(source: Source, batches: Iterator[pa.RecordBatch], engine: Engine) -> Iterator[Record]:
    sql = message_sql(source, formats.columns(source))
    # Twins are numbered within their file, so that it must be looked at whole.
    tables = [list(batches)] if source.twins else ([batch] for batch in batches)
    for table in tables:
        engine.offer("_arrivals", pa.Table.from_batches(table))
        yield from engine.rows(sql)


class _Arrivals:
    """New files as one stream of Arrow batches with their origin; notes what was landed as it goes."""

    def __init__(self, source: Source, inbox: Inbox, observer: Observer, known: list[Landed], policy: str) -> None:
        self.source = source
        self.policy = policy
        self.inbox = inbox
        self.observer = observer
        self.known: dict[str, list[Landed]] = {}
        for entry in known:
            if entry.source == source.name:
                self.known.setdefault(entry.file, []).append(entry)
        listed = inbox.list(source.format.pattern)
        # The same name, size and time as a version that was landed: not even read again.
        self.files = [f for f in listed if not any(_looks_like(f, e) for e in _standing(self.known.get(f.name, [])))]
        self.next = 0
        self.landed: list[Landed] = []
        self.seen: list[Landed] = []
        self.unfinished = [*inbox.unfinished]
        self.failure: BaseException | None = None
        self.now = dt.datetime.now(dt.UTC).isoformat()

    def batches(self, schema: pa.Schema, start: int) -> Iterator[pa.RecordBatch]:
        self.next = start
        try:
            for file in self.files:
                yield from self._file(schema, file)
                self.observer.advance(file.size)
        except BaseException as error:
            self.failure = error
            raise

    def pieces(self, schema: pa.Schema) -> Iterator[tuple[str, str, Iterator[pa.RecordBatch]]]:
        """Each new file that has records, with its digest and its batches, which must be taken before the next file."""
        for file in self.files:
            self.next, before = 0, len(self.landed)
            batches = self._file(schema, file)
            first = next(batches, None)
            if first is not None:
                yield file.name, first.column("_sha256")[0].as_py(), itertools.chain([first], batches)
            for n, entry in enumerate(self.landed[before:], before):
                place = IN_TOPIC + len(self.known.get(entry.file, []))
                self.landed[n] = replace(entry, first=place, next=place)
            self.observer.advance(file.size)

    def _file(self, schema: pa.Schema, file: InboxFile) -> Iterator[pa.RecordBatch]:
        try:
            data = self.inbox.read(file)
        except OutsideError as error:
            if not error.retry or isinstance(error, OutOfReachError):
                raise
            self.unfinished.append(file.name)  # the next run reads it
            return
        digest = hashlib.sha256(data).hexdigest()
        earlier = self.known.get(file.name, [])
        same = next((e for e in _standing(earlier) if e.sha256 == digest), None)
        if same is not None:
            self.seen.append(replace(same, size=file.size, modified=file.modified))
            return
        first, rejected = self.next, ""
        policy = self.policy
        if any(not e.rejected for e in earlier):
            self.observer.alarm(f"HR0302: {file.name} came again with other bytes ({policy})")
        if policy == "reject" and any(not e.rejected for e in earlier):
            rejected = "it changed after it was landed, and the source's policy is to reject"
            yield self._refusal(schema, file, digest, data, "it changed after it was landed")
        else:
            try:
                for batch in formats.read(self.source, file.name, data):
                    yield self._with_origin(schema, file, digest, batch)
            except Rejected as error:
                rejected = error.what + (f"; {error.help}" if error.help else "")
                self.observer.alarm(f"{error.code}: {rejected}")
                yield self._refusal(schema, file, digest, data, error.reason)
        rows = self.next - first
        entry = (file.name, file.size, file.modified, digest, rows, first, first + rows, rejected, self.now)
        self.landed.append(Landed(self.source.name, *entry))

    def _with_origin(self, schema: pa.Schema, file: InboxFile, digest: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        count = batch.num_rows
        fixed = {
            "_file": _constant(file.name, count),
            "_sha256": _constant(digest, count),
            "_offset": pa.arange(self.next, self.next + count),
        }
        self.next += count
        columns = [fixed[f.name] if f.name in fixed else batch.column(f.name) for f in schema]
        return pa.record_batch(columns, schema=schema)

    def _refusal(self, schema: pa.Schema, file: InboxFile, digest: str, data: bytes, reason: str) -> pa.RecordBatch:
        """A whole file that was refused, as one record in quarantine."""
        values = {
            "_row": 0,
            "_error": f"file rejected: {reason}",
            "_bytes": data[:SNIPPET],
            "_file": file.name,
            "_sha256": digest,
            "_offset": self.next,
        }
        self.next += 1
        columns = [pa.array([values.get(f.name)], f.type) for f in schema]
        return pa.record_batch(columns, schema=schema)


def _looks_like(file: InboxFile, entry: Landed) -> bool:
    return entry.size == file.size and entry.modified == file.modified


def _standing(earlier: list[Landed]) -> list[Landed]:
    """The version of a file that counts, and those that were refused since: what it may be without having changed.

    Bytes of an older version that was replaced are a change: they come back as a version of their own.
    """
    if not earlier:
        return []
    (counts,) = current(earlier).values()
    return [counts, *(e for e in reversed(earlier) if e.rejected and e.first >= counts.next)]


def _constant(text: str, count: int) -> pa.DictionaryArray:
    """One text for many rows, which is there once."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([text]))


def arrival_schema(source: Source) -> pa.Schema:
    """What ``landing_sql`` reads from ``arrivals``."""
    fixed = [
        ("_file", SAME), ("_sha256", SAME), ("_offset", pa.int64()), ("_row", pa.int64()),
        ("_error", pa.string()), ("_bytes", pa.binary()),
    ]  # fmt: skip
    return pa.schema([*fixed, *((name, pa.string()) for name in formats.columns(source))])
