"""retention: which windows a generation keeps in its serving tables. By the watermark of what it counts, never by the clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from headrace.flow.watermark import watermark
from headrace.model.project import LoadedProject
from headrace.model.retention import EPOCH, Floor, Floors, Retention
from headrace.model.source import source_of
from headrace.model.types import Type
from headrace.seam.floor import risen
from headrace.sql.windows import TimeWindow


def floors_of(project: LoadedProject, before: Floors, newest: Mapping[str, str], now: dt.datetime) -> dict[str, Floor]:
    """By mart with a declared retention, the floor of a generation that builds on one with the floors ``before`` and has
    counted events up to ``newest`` of each lane. What is later than ``now`` (UTC, without a zone) is taken for now: one
    record from a far future must not end all windows."""
    floors = {}
    for name, keep in project.retention.items():
        facts = project.facts_of(name)
        until = watermark(project, {lane: m for lane, m in newest.items() if source_of(lane) in facts}, facts).until
        column = project.marts[name].grain_column(keep.column)
        assert column is not None
        start = None if until is None else _start(keep, column.type, min(until, now))
        floors[name] = risen(before.get(name), Floor(keep.column, keep.unit, keep.span, start))
    return floors


def _start(keep: Retention, type: Type, moment: dt.datetime) -> str | int | None:
    """Where the first window begins that has any moment of the span in it, as a stored value; None before the year 1."""
    try:
        begin = TimeWindow(keep.column, keep.unit).begin(moment - dt.timedelta(seconds=keep.span))
    except OverflowError:
        return None
    return begin.date().isoformat() if type.name == "DATE" else (begin - EPOCH) // dt.timedelta(microseconds=1)
