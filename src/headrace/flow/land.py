"""land: files of the inbox become bronze records, each exactly once, with its file, row, lane and offset."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Iterator

import pyarrow as pa

from headrace import formats
from headrace.errors import ContractError, OutsideError
from headrace.flow import manifest
from headrace.flow.manifest import Landed
from headrace.model.run import Step
from headrace.model.source import Source
from headrace.ports import Engine, Inbox, InboxFile, Lake, Observer
from headrace.sql.judge import bronze_columns, decode_json, quote

SNIPPET = 400
"""Bytes of a rejected file that quarantine keeps."""


def land(source: Source, inbox: Inbox, lake: Lake, engine: Engine, observer: Observer, known: list[Landed]) -> tuple[Step, list[Landed]]:
    """Lands what is new in the inbox for one source; gives the step's record and the versions that it landed.

    Bronze and its lane's end are one commit, prepared on the snapshot that it follows, so that of two landers one
    fails and nothing is there twice. The manifest follows; where it lags it is rebuilt from bronze.
    """
    started = time.monotonic()
    table = f"bronze/{source.name}"
    base = lake.snapshot(table)
    start = (base.transaction(source.name) or 0) if base else 0
    files = inbox.list(source.format.pattern)
    arrivals = _Arrivals(source, inbox, observer, [f for f in files if not _is_known(f, source, known)], known, start)
    step = Step("land", source.name)
    if arrivals.files:
        observer.begin("land", source.name, sum(f.size for f in arrivals.files))
        schema = _schema(source)
        engine.offer("arrivals", pa.RecordBatchReader.from_batches(schema, arrivals.batches(schema)))
        path = lake.new_file(table)
        rows = engine.write(_landing_sql(source), path)
        if rows:
            lake.commit(table, [(path, rows)], keep=None, base=base, transactions={source.name: start + rows})
    landed = arrivals.landed
    step.counts = {
        "files": sum(1 for e in landed if not e.rejected),
        "rejected": sum(1 for e in landed if e.rejected),
        "rows": sum(e.rows for e in landed),
    }
    if arrivals.files and step.counts["rows"]:
        unreadable = engine.rows(f"SELECT count(*) FROM {engine.scan([path], bronze_columns(source))} WHERE _error IS NOT NULL")[0][0]
        step.counts["unreadable"] = int(unreadable)
        step.counts["bronze"] = step.counts["rows"] - int(unreadable)
    step.seconds = time.monotonic() - started
    observer.end("land", source.name, step.counts, step.seconds)
    return step, landed


def recover(source: Source, lake: Lake, engine: Engine, known: list[Landed]) -> list[Landed]:
    """Versions that bronze holds and the manifest does not: a landing that was killed between its two commits."""
    base = lake.snapshot(f"bronze/{source.name}")
    end = (base.transaction(source.name) or 0) if base else 0
    have = max((e.next for e in known if e.source == source.name), default=0)
    if base is None or end <= have:
        return []
    rows = engine.rows(
        f"SELECT _file, _sha256, count(*), min(_offset), max(_offset) + 1, coalesce(max(CASE WHEN _row = 0 THEN _error END), ''), "
        f"CAST(min(_landed_at) AS VARCHAR) FROM {engine.scan(base.files, bronze_columns(source))} WHERE _offset >= {have} GROUP BY ALL ORDER BY 4"
    )
    # Size and time are unknown here, so that the next landing looks at the bytes again and finds them known.
    return [Landed(source.name, file, -1, -1, sha, count, first, end, why, at) for file, sha, count, first, end, why, at in rows]


def _is_known(file: InboxFile, source: Source, known: list[Landed]) -> bool:
    """The same name, size and time as a landed version: not even read again."""
    return any(e.source == source.name and e.file == file.name and e.size == file.size and e.modified == file.modified for e in known)


class _Arrivals:
    """New files as one stream of Arrow batches with their origin; notes what was landed as it goes."""

    def __init__(self, source: Source, inbox: Inbox, observer: Observer, files: list[InboxFile], known: list[Landed], start: int) -> None:
        self.source = source
        self.inbox = inbox
        self.observer = observer
        self.known = [e for e in known if e.source == source.name]
        self.files = files
        self.next = start
        self.landed: list[Landed] = []
        self.now = dt.datetime.now(dt.UTC)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            try:
                data = self.inbox.read(file)
            except OutsideError as error:
                if not error.retry:
                    raise
                continue  # still being written: the next run reads it
            digest = hashlib.sha256(data).hexdigest()
            first, rejected = self.next, ""
            earlier = [e for e in self.known if e.file == file.name]
            if not any(e.sha256 == digest for e in earlier):
                if earlier:
                    self.observer.alarm(f"HR0302: {file.name} came again with other bytes ({self.source.changed_file})")
                if earlier and self.source.changed_file == "reject":
                    rejected = "the file changed after it was landed, and the source's policy is to reject"
                    yield self._refusal(schema, file, digest, data, rejected)
                else:
                    try:
                        for batch in formats.read(self.source, file.name, data):
                            yield self._with_origin(schema, file, digest, batch)
                    except ContractError as error:
                        if self.next != first:
                            raise
                        rejected = error.what + (f"; {error.help}" if error.help else "")
                        self.observer.alarm(f"{error.code}: {rejected}")
                        yield self._refusal(schema, file, digest, data, rejected)
            else:
                first = next(e.first for e in earlier if e.sha256 == digest)
            rows = self.next - first if not any(e.sha256 == digest for e in earlier) else next(e.rows for e in earlier if e.sha256 == digest)
            self.landed.append(
                Landed(self.source.name, file.name, file.size, file.modified, digest, rows, first, first + rows, rejected, self.now.isoformat())
            )
            self.observer.advance(file.size)

    def _with_origin(self, schema: pa.Schema, file: InboxFile, digest: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        count = batch.num_rows
        fixed = {"_file": _constant(file.name, count), "_sha256": _constant(digest, count), "_offset": pa.arange(self.next, self.next + count)}
        self.next += count
        return pa.record_batch([fixed.get(f.name, None) if f.name in fixed else batch.column(f.name) for f in schema], schema=schema)

    def _refusal(self, schema: pa.Schema, file: InboxFile, digest: str, data: bytes, why: str) -> pa.RecordBatch:
        """A whole file that was refused, as one record in quarantine."""
        values = {"_row": 0, "_error": f"file rejected: {why}", "_bytes": data[:SNIPPET], "_file": file.name, "_sha256": digest, "_offset": self.next}
        self.next += 1
        columns = [pa.array([values.get(f.name)], f.type) for f in schema]
        return pa.record_batch(columns, schema=schema)


def _constant(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)


def _schema(source: Source) -> pa.Schema:
    fixed = [("_file", pa.string()), ("_sha256", pa.string()), ("_offset", pa.int64()), ("_row", pa.int64()), ("_error", pa.string()), ("_bytes", pa.binary())]
    return pa.schema([*fixed, *((name, pa.string()) for name in formats.columns(source))])


def _landing_sql(source: Source) -> str:
    now = "TIMESTAMPTZ '" + dt.datetime.now(dt.UTC).isoformat() + "'"
    origin = f"_file, _row, '{source.name}' AS _lane, _offset, {now} AS _landed_at, _sha256"
    if source.format.kind != "jsonl":
        return f"SELECT {origin}, _error, _bytes, {', '.join(quote(n) for n in formats.columns(source))} FROM arrivals"
    fields = ", ".join(f"_json.{quote(source.sent(c.name))}" for c in source.columns)
    problem = "coalesce(_error, CASE WHEN _json IS NULL OR NOT starts_with(ltrim(_line), '{') THEN 'not a JSON object' END)"
    return (
        f"SELECT {origin}, {problem} AS _error, CASE WHEN {problem} IS NOT NULL THEN coalesce(_bytes, encode(_line)) END AS _bytes, {fields} "
        f"FROM (SELECT *, {decode_json(source, '_line')} AS _json FROM arrivals)"
    )
