"""refine: bronze records become silver ones, each with its verdict; what fails a rule is quarantined with every reason."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from headrace.flow.isolation import isolated
from headrace.flow.lanes import ends, lanes_of
from headrace.flow.manifest import Landed, replaced, void_ranges
from headrace.model.run import Step
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Lake, Observer
from headrace.sql.judge import bronze_columns, identity_sql, judge_sql, repeats_sql, silver_columns
from headrace.sql.lanes import within

Voids = Mapping[str, Sequence[Sequence[int]]]
"""By lane, ranges [first, end) of records that are neither counted nor looked at for duplicates."""
CONTRACT = "contract"
"""The lake transaction that names the contract a silver table was judged by."""


KEYS_TOLD = 5
"""Repeated keys that an alarm names."""


def contract_hash(source: Source, voids: Voids) -> int:
    """A number that changes with whatever changes a verdict, or the records that count."""
    said = sorted((lane, [*map(tuple, ranges)]) for lane, ranges in voids.items())
    text = judge_sql(source, "bronze", "_repeats") + repeats_sql(source, "judged") + repr((said, source.event_time))
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


def refine(source: Source, lake: Lake, engine: Engine, observer: Observer, landed: list[Landed], *, again: bool = False) -> Step:  # fmt: skip
    """Judges what bronze holds and silver does not; everything where the contract changed, a landed record became void,
    the source is a reference, or ``again`` says so."""
    started = time.monotonic()
    step = Step("refine", source.name)
    bronze, silver = lake.snapshot(f"bronze/{source.name}"), lake.snapshot(f"silver/{source.name}")
    voids = voids_of(source, lake, engine, landed)
    judged_by = contract_hash(source, voids)
    same = silver is not None and silver.transaction(CONTRACT) == judged_by and not again
    starts = lanes_of(source, lake, engine)
    landing = ends(bronze, starts)
    done = ends(silver, starts) if same else {}
    if bronze is None or (same and done == landing):
        return step
    whole = source.role == "reference" or not done
    ranges = {lane: (0 if whole else done.get(lane, starts[lane]), end) for lane, end in landing.items()}
    observer.begin("refine", source.name, sum(end - max(first, starts[lane]) for lane, (first, end) in ranges.items()))
    sql = judging(
        source, engine.scan(bronze.files, bronze_columns(source), grown=True), ranges, voids, engine, observer
    )
    path = lake.new_file(f"silver/{source.name}")
    rows = engine.write(sql, path)
    transactions = {**landing, CONTRACT: judged_by}
    lake.commit(
        f"silver/{source.name}", [(path, rows)], keep=[] if whole else None, base=silver, transactions=transactions
    )
    counted = engine.rows(
        f"SELECT _verdict, count(*), count(_flags), count(_repairs) FROM {engine.scan([path], silver_columns(source))} GROUP BY ALL"
    )
    names = ("clean", "quarantined", "duplicate", "superseded", "unreadable", "flagged", "repaired")
    step.counts = {"landed": rows, **dict.fromkeys(names, 0)}
    for verdict, count, flagged, repaired in counted:
        step.counts[verdict] += count
        step.counts["flagged"] += flagged
        step.counts["repaired"] += repaired
    step.note = "whole" if whole and silver is not None else ""
    step.seconds = time.monotonic() - started
    observer.end("refine", source.name, step.counts, step.seconds, step.note)
    return step


def voids_of(source: Source, lake: Lake, engine: Engine, landed: list[Landed]) -> Voids:
    """A source's records that count no more, or never did: those of replaced file versions, those replaced by corrected
    ones, and those that are isolated."""
    found = {lane: [(o, o + 1) for o in offsets] for lane, offsets in replaced(source, lake, engine, landed).items()}
    if ranges := void_ranges(landed, source.name):
        found[source.name] = found.get(source.name, []) + ranges
    for lane, offsets in isolated(lake, engine).items():
        if source_of(lane) == source.name:
            found[lane] = found.get(lane, []) + [(o, o + 1) for o in offsets]
    return {lane: _joined(ranges) for lane, ranges in found.items()}


def judging(
    source: Source,
    bronze: str,
    ranges: Mapping[str, tuple[int, int]],
    voids: Voids,
    engine: Engine,
    observer: Observer | None = None,
) -> str:
    """SQL that judges the bronze records [first, end) of each lane, with the duplicates and the superseded among them."""
    scan = kept(engine, bronze, voids)
    engine.define("_to_judge", f"SELECT * FROM {scan} WHERE {within(ranges)}")
    repeats = _repeats(source, scan, ranges, engine)
    if repeats and source.role == "reference" and observer is not None:
        _tell_repeated_keys(source, engine, observer)
    return judge_sql(source, "_to_judge", repeats)


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same offsets in as few ranges as can be."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return joined


def kept(engine: Engine, scan: str, voids: Voids) -> str:
    """A relation of bronze without void records."""
    if not voids:
        return scan
    listed = [(lane, first, end) for lane, ranges in voids.items() for first, end in ranges]
    # Offset by offset: a hash join, where a condition of so many ranges takes minutes for a million rows.
    columns = dict(zip(("_lane", "low", "high"), map(list, zip(*listed, strict=True)), strict=True))
    engine.offer("_void_ranges", pa.table(columns))
    engine.keep("_void_offsets", "SELECT _lane, unnest(range(low, high)) AS _offset FROM _void_ranges")
    return f"{scan} ANTI JOIN _void_offsets USING (_lane, _offset)"


def _repeats(source: Source, scan: str, ranges: Mapping[str, tuple[int, int]], engine: Engine) -> str | None:
    """The name of a relation of duplicates or superseded records; None where no id occurs twice.

    Ids are compared by a hash of their typed values first: only where two hashes are alike are records judged twice,
    which for most runs is never. A conflict of hashes costs time, not correctness.
    """
    before = {lane: (max(first - source.horizon, 0), first) for lane, (first, _) in ranges.items()}
    window = within({lane: (before[lane][0], end) for lane, (_, end) in ranges.items()}) + " AND _error IS NULL"
    known = " AND ".join(f"{name} IS NOT NULL" for name in source.event_id)
    # A duplicate is one of its lane; the keys of references are compared across all, and references have one lane.
    hashed = (
        f"SELECT _lane, _offset, hash(_lane, {', '.join(source.event_id)}) AS _id FROM "
        f"({identity_sql(source, f'(SELECT * FROM {scan} WHERE {window})')}) WHERE {known}"
    )
    engine.keep("_arrived", f"SELECT _id, count(*) AS _times FROM ({hashed}) WHERE {within(ranges)} GROUP BY _id")
    earlier = f" UNION SELECT _id FROM ({hashed}) WHERE {within(before)} AND _id IN (SELECT _id FROM _arrived)"
    some = any(first < end for first, end in before.values())
    engine.keep("_alike", f"SELECT _id FROM _arrived WHERE _times > 1{earlier if some else ''}")
    if engine.rows("SELECT count(*) FROM _alike")[0][0] == 0:
        return None
    engine.keep("_candidate_offsets", f"SELECT _lane, _offset FROM ({hashed}) WHERE _id IN (SELECT _id FROM _alike)")
    candidates = f"SELECT * FROM {scan} SEMI JOIN _candidate_offsets USING (_lane, _offset) WHERE {window}"
    engine.define("_candidates", candidates)
    engine.keep("_candidates_judged", judge_sql(source, "_candidates", None))
    engine.keep("_repeats", f"SELECT * FROM ({repeats_sql(source, '_candidates_judged')}) WHERE {within(ranges)}")
    return "_repeats"


def _tell_repeated_keys(source: Source, engine: Engine, observer: Observer) -> None:
    """Alarms about keys that one file has more than once: a later file corrects an earlier one, but here either row may
    be the right one."""
    key = (*source.identity, source.valid_from) if source.valid_from else source.identity
    named = " || ', ' || ".join(f"'{name}=' || CAST({name} AS VARCHAR)" for name in key)
    found = engine.rows(
        f"SELECT {named}, _file, list(_row ORDER BY _row) AS _rows FROM _candidates_judged WHERE _reasons IS NULL "
        f"GROUP BY ALL HAVING count(*) > 1 ORDER BY _file, _rows"
    )
    if found:
        told = "; ".join(f"{keys} ({file}, rows {', '.join(map(str, rows))})" for keys, file, rows in found[:KEYS_TOLD])
        more = f"; and {len(found) - KEYS_TOLD} more" if len(found) > KEYS_TOLD else ""
        observer.alarm(
            f"HR0303: {source.name} has keys more than once in a file; the last row of each stands: {told}{more}"
        )
