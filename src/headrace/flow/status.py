"""status and doctor: how fresh the answers are, what the last runs did, and the usual causes of trouble."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.errors import MissingExtraError, OutsideError, SettingError
from headrace.flow.canary import damaged
from headrace.flow.cluster import Finding, examined
from headrace.flow.control import epoch_of, generation_of, pointer_of, reached
from headrace.flow.gauges import freshness
from headrace.flow.isolation import isolated
from headrace.flow.lanes import ends, gaps_of, lanes_of
from headrace.flow.lanes import streamed as stream_lanes
from headrace.flow.reconcile import last as last_reconcile
from headrace.flow.stream import streamed_sources
from headrace.flow.watermark import newest_of, watermark
from headrace.model.project import LoadedProject
from headrace.model.retention import spelled
from headrace.model.run import Run
from headrace.model.source import Source, source_of
from headrace.ports import Engine, Inbox, Inspect, Lake, Store
from headrace.seam import epoch as epochs
from headrace.seam import generation as generations
from headrace.seam.generation import Generation, moment_order
from headrace.seam.pointer import Pointer
from headrace.sql.judge import silver_columns

RUNS = "runs"
COLUMNS = [("started_at", "VARCHAR"), ("generation", "BIGINT"), ("seconds", "DOUBLE"), ("record", "VARCHAR")]
ROOM = 1 << 30
"""Bytes of free disk below which doctor warns."""


def record(run: Run, lake: Lake, engine: Engine) -> None:
    """Keeps a run's record in the lake."""
    steps = [
        {"verb": s.verb, "subject": s.subject, "seconds": round(s.seconds, 3), "note": s.note, **s.counts}
        for s in run.steps
    ]
    row = {
        "started_at": [run.started_at],
        "generation": [run.generation],
        "seconds": [round(run.seconds, 3)],
        "record": [json.dumps(steps)],
    }
    types = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
    engine.offer("_run_record", pa.table({name: pa.array(row[name], types[type]) for name, type in COLUMNS}))
    path = lake.new_file(RUNS)
    rows = engine.write("SELECT * FROM _run_record", path)
    lake.commit(RUNS, [(path, rows)], keep=None, base=lake.snapshot(RUNS))


def status(
    project: LoadedProject, lake: Lake, engine: Engine, store: Store, inspect: Inspect | None = None, last: int = 5
) -> dict[str, Any]:
    """The pointer; of each source its counts as of its silver table, how many records wait and how fresh it is; what the
    stream has counted; what the last reconcile found; and the last runs."""
    pointer = pointer_of(store)
    generation = generation_of(store, pointer.generation)
    sources = []
    for source in project.sources.values():
        silver = lake.snapshot(f"silver/{source.name}")
        if silver is None:
            continue
        progress = store if generation.epoch in pointer.streamed and source.name in streamed_sources(project) else None
        lanes = [lane for lane in generation.cut if source_of(lane) == source.name]
        newest = newest_of(generation, progress, lanes)
        as_of = min((moment for moment in newest.values() if moment), key=moment_order, default=None)
        mark = watermark(project, newest, [source.name])
        scan = engine.scan(silver.files, silver_columns(source))
        counts: dict[str, int] = dict(engine.rows(f"SELECT _verdict, count(*) FROM {scan} GROUP BY ALL"))
        sources.append(
            {"source": source.name, "landed": sum(counts.values()), "clean": counts.get("clean", 0),
             "quarantined": counts.get("quarantined", 0) + counts.get("unreadable", 0), "duplicates": counts.get("duplicate", 0),
             "superseded": counts.get("superseded", 0),
             "waiting": _waiting(source, lake, engine, generation, progress), "as_of": as_of, "behind": _since(as_of), "lateness": source.lateness, "watermark": mark.text, "idle": list(mark.idle),
             "late": sum(n for lane, n in generation.late.items() if source_of(lane) == source.name) if source.lateness is not None else None}
        )  # fmt: skip
    found = lake.snapshot(RUNS)
    runs = []
    if found is not None:
        rows = engine.rows(
            f"SELECT started_at, generation, seconds, record FROM {engine.scan(found.files, COLUMNS)} ORDER BY started_at DESC LIMIT {last}"
        )
        for started, number, seconds, steps in rows:
            landed = sum(s.get("rows", 0) for s in json.loads(steps) if s["verb"] == "land")
            runs.append({"started_at": started, "generation": number, "seconds": seconds, "rows": landed})
    return {
        "project": project.name, "generation": pointer.generation or None, "predecessor": pointer.predecessor,
        "rolled_back": max((n for n in pointer.abandoned if n > pointer.generation and store.control(generations.control_name(n))), default=None), "running": pointer.next,
        "published_at": generation.published_at, "age": _since(generation.published_at or None), "tables": len(generation.tables), "sources": sources, "runs": runs,
        "gaps": [{"lane": lane, "first": first, "next": end} for lane, first, end in gaps_of(lake, engine)],
        "isolated": [{"lane": lane, "offset": offset} for lane, offsets in isolated(lake, engine).items() for offset in offsets],
        "floors": [{"mart": name, "kept": spelled(floor.span), "start": floor.text or None} for name, floor in generation.floors.items()],
        "stream": streaming(project, lake, engine, store, pointer, generation),
        "reconcile": reconciled(store),
        "damaged": [{"table": name, "what": what} for name, what in sorted(damaged(project, generation, inspect).items())],
        "goals": [
            {"mart": each.mart, "goal": each.goal, "behind": each.behind(dt.datetime.now(dt.UTC)), "as_of": each.as_of}
            for each in freshness(project, pointer, generation, store) if each.goal is not None
        ],
    }  # fmt: skip


def _waiting(source: Source, lake: Lake, engine: Engine, generation: Generation, progress: Store | None) -> int:
    """Records in bronze that neither the batch has counted nor, with ``progress``, the stream."""
    lanes = lanes_of(source, lake, engine)
    waiting = 0
    for lane, end in ends(lake.snapshot(f"bronze/{source.name}"), lanes).items():
        name = epochs.progress_name(generation.epoch, lane)
        counted = max(generation.cut.get(lane, lanes[lane]), reached(progress, name)[0] if progress is not None else 0)
        waiting += max(end - counted, 0)
    return waiting


def _since(moment: str | None) -> int | None:
    """Seconds from a moment until now."""
    if moment is None:
        return None
    return round((dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(moment)).total_seconds())


def reconciled(store: Store) -> dict[str, Any] | None:
    """When answers were last held against bronze, and how much of what was compared differed; None where never."""
    found = last_reconcile(store)
    if found is None:
        return None
    tables = found["tables"]
    keys = sum(t["keys"] for t in tables)
    drifted = sum(t["differing"] + t["missing"] + t["surplus"] for t in tables)
    return {
        "at": found["at"], "generation": found["generation"], "sampled": found["sampled"], "keys": keys,
        "drifted": drifted, "repaired": sum(t["repaired"] for t in tables), "ratio": drifted / keys if keys else 0.0,
        "mended_by": found["mended_by"],
    }  # fmt: skip


def _landed(project: LoadedProject, lake: Lake, engine: Engine) -> dict[str, int]:
    """The lanes that are streamed, and where bronze ends in each."""
    found: dict[str, int] = {}
    for name in streamed_sources(project):
        lanes = stream_lanes(lanes_of(project.sources[name], lake, engine))
        found |= dict.fromkeys(lanes, 0) | ends(lake.snapshot(f"bronze/{name}"), lanes)
    return found


def streaming(
    project: LoadedProject, lake: Lake, engine: Engine, store: Store, pointer: Pointer, generation: Generation
) -> dict[str, Any] | None:
    """Who streams, and of each lane where it ends, what the batch and the stream have counted of it, and how many speed
    rows a key has at most that an answer adds (fan-out). None where nothing was ever streamed in this epoch."""
    if generation.epoch not in pointer.streamed:
        return None
    epoch = epoch_of(store, generation.epoch)
    lanes = []
    for name, landed in sorted(_landed(project, lake, engine).items()):
        cut = generation.cut.get(name, 0)
        counted = max(reached(store, epochs.progress_name(epoch.number, name))[0], cut)
        fan_out = -(-(counted - cut) // epoch.size)
        lanes.append(
            {
                "lane": name,
                "landed": landed,
                "cut": cut,
                "counted": counted,
                "lag": landed - counted,
                "fan_out": fan_out,
                "as_of": newest_of(generation, store, [name])[name] or None,
                "watermark": watermark(project, newest_of(generation, store, [name]), [source_of(name)]).text,
            }
        )
    return {"epoch": epoch.number, "range": epoch.size, "workers": list(pointer.workers), "lanes": lanes}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far counting has come, over all sources of facts: records that batch or stream have counted, and that have
    landed and are not counted; the newest event time that is counted; up to when all is final; who streams."""

    counted: int
    lag: int
    as_of: str | None
    watermark: str | None
    workers: int


def progress(project: LoadedProject, lake: Lake, engine: Engine, store: Store) -> Progress:
    """Read from the lake's ends of lanes and the store's control rows: no record is looked at."""
    pointer = pointer_of(store)
    generation = generation_of(store, pointer.generation)
    streamed = streamed_sources(project) if generation.epoch in pointer.streamed else set()
    counted = lag = 0
    newest: dict[str, str] = {}
    facts = [source for source in project.sources.values() if source.role == "fact"]
    for source in facts:
        lanes = lanes_of(source, lake, engine)
        by = store if source.name in streamed else None
        newest |= newest_of(generation, by, lanes)
        for lane, landed in ends(lake.snapshot(f"bronze/{source.name}"), lanes).items():
            name = epochs.progress_name(generation.epoch, lane)
            done = max(generation.cut.get(lane, lanes[lane]), reached(by, name)[0] if by is not None else 0)
            counted += done - lanes[lane]
            lag += max(landed - done, 0)
    as_of = max((moment for moment in newest.values() if moment), key=moment_order, default=None)
    mark = watermark(project, newest, [source.name for source in facts])
    return Progress(counted, lag, as_of, mark.text, len(pointer.workers))


def doctor(
    folder: Path, project: LoadedProject, inbox: Callable[[], Inbox], lake: Lake, store: Store, inspect: Inspect | None
) -> list[Finding]:
    """Python, disk, folders, inbox, lake and store; of a cluster its nodes, and what could befall timestamps."""
    free = shutil.disk_usage(folder).free
    return [
        Finding(
            "python", sys.version_info >= (3, 11), ".".join(map(str, sys.version_info[:3])), "Python 3.11 or newer"
        ),
        Finding(
            "disk",
            free > ROOM,
            f"{free >> 20:,} MiB free",
            "free some space: a run needs room for a copy of what it changes",
        ),
        Finding("folder", os.access(folder, os.W_OK), str(folder), "the project folder must be writable"),
        _inbox(project, inbox),
        Finding("lake", ok=True, found=f"{len(lake.tables())} tables"),
        *_store(project, store, inspect),
    ]


def _store(project: LoadedProject, store: Store, inspect: Inspect | None) -> list[Finding]:
    cluster = []
    try:
        cluster = examined(inspect) if inspect is not None else []
        pointer = pointer_of(store)
        text = store.control(generations.control_name(pointer.generation))
        found = Finding(
            "store",
            text is not None or pointer.generation == 0,
            f"generation {pointer.generation or 'none yet'}",
            "headrace run --full",
        )
        wrong = damaged(project, generation_of(store, pointer.generation), inspect)
    except OutsideError as error:
        return [*cluster, Finding("store", ok=False, found=str(error), help=error.help)]
    if inspect is None:
        return [found]
    said = "; ".join(f"{name}: {what}" for name, what in wrong.items()) or "nobody wrote or deleted by the clock"
    return [
        *cluster,
        found,
        Finding("canary", not wrong, said, "headrace run builds the tables anew; headrace explain HR0427"),
    ]


def _inbox(project: LoadedProject, inbox: Callable[[], Inbox]) -> Finding:
    """Whether the inbox answers, which on a server is the likeliest trouble, and for whom it holds something."""
    try:
        box = inbox()
        matching = {name: len(box.list(source.format.pattern)) for name, source in project.sources.items()}
    except (OutsideError, SettingError, MissingExtraError) as error:
        return Finding("inbox", ok=False, found=str(error), help=error.help)
    empty = [name for name, count in matching.items() if not count]
    found = f"{sum(matching.values())} files" + (f"; none for {', '.join(empty)}" if empty else "")
    return Finding("inbox", ok=True, found=found)
