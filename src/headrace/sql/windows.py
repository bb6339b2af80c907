"""Which grain column of a mart is a window of event time, and when a window ends."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from headrace.errors import Place
from headrace.model.mart import Dataset, Mart
from headrace.model.retention import EPOCH
from headrace.model.source import Source
from headrace.sql.dialect import Text, parse_select

SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400, "WEEK": 7 * 86_400}
MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A grain column whose value is where a window of event time begins; ``unit`` is how long the window is."""

    column: str
    unit: str

    def begin(self, moment: dt.datetime) -> dt.datetime:
        """When the window begins that a moment of UTC is in."""
        if self.unit in MONTHS:
            month = (moment.month - 1) // MONTHS[self.unit] * MONTHS[self.unit] + 1
            return moment.replace(month=month, day=1, hour=0, minute=0, second=0, microsecond=0)
        if not self.unit:
            return moment
        step = dt.timedelta(days=1) if self.unit == "WEEK" else dt.timedelta(seconds=SECONDS[self.unit])
        begin = EPOCH + (moment - EPOCH) // step * step
        # Before the first Monday there is, a week begins with the first day.
        days = min(begin.weekday(), begin.toordinal() - 1) if self.unit == "WEEK" else 0
        return begin - dt.timedelta(days=days)

    def end(self, start: Any) -> dt.datetime | None:
        """When the window of a stored value ends, in UTC; None beyond the years that there are."""
        try:
            begin = (
                EPOCH + dt.timedelta(microseconds=start) if isinstance(start, int) else dt.datetime.fromisoformat(start)
            )
            if self.unit not in MONTHS:
                return begin + dt.timedelta(seconds=SECONDS.get(self.unit, 0))
            years, month = divmod(begin.month - 1 + MONTHS[self.unit], 12)
            last = calendar.monthrange(begin.year + years, month + 1)[1]
            return begin.replace(year=begin.year + years, month=month + 1, day=min(begin.day, last))
        except (OverflowError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Declared:
    """What names lead to."""

    sources: Mapping[str, Source]
    datasets: Mapping[str, Dataset]
    marts: Mapping[str, Mart]


def window_of(mart: Mart, declared: Declared) -> TimeWindow | None:
    """The first grain column that is a window of its records' event time: the day of it, ``date_trunc`` of it, or the
    window of a mart that it reads. None where no column is known to be one."""
    select = parse_select(Text(mart.sql, Place(mart.file)))
    if not isinstance(select, exp.Select):
        return None
    for item in select.expressions:
        if mart.grain_column(item.alias_or_name) is not None:
            unit = _unit(item.unalias(), select, declared)
            if unit is not None:
                return TimeWindow(item.alias_or_name, unit)
    return None


def _unit(node: exp.Expr, select: exp.Select, declared: Declared) -> str | None:
    if isinstance(node, exp.Cast):
        inner = _unit(node.this, select, declared)
        if inner == "":  # a moment
            return "DAY" if node.is_type("date") else None
        # Truncated to less than a day, and then to a date, it is a day.
        return "DAY" if inner in ("SECOND", "MINUTE", "HOUR") and node.is_type("date") else inner
    if isinstance(node, (exp.TimestampTrunc, exp.DateTrunc)):
        unit = str(node.args["unit"].name).upper()
        known = unit in SECONDS or unit in MONTHS
        return unit if known and _unit(node.this, select, declared) == "" else None
    if not isinstance(node, exp.Column):
        return None
    name = _read(node, select)
    if name is not None and name in declared.marts:
        window = window_of(declared.marts[name], declared)
        return window.unit if window is not None and window.column == node.name else None
    return _moment(name, node.name, declared) if name is not None else None


def _read(column: exp.Column, select: exp.Select) -> str | None:
    """The relation that a column of a SELECT is of, where that is the one that its rows come from."""
    source = select.args.get("from_")
    table = source.this if source is not None else None
    joined = bool(select.args.get("joins"))
    if not isinstance(table, exp.Table) or (column.table != table.alias_or_name and (column.table or joined)):
        return None
    return table.name


def _moment(name: str, column: str, declared: Declared) -> str | None:
    """Empty where a column is the event time of the records that a relation passes on, DAY where that is a date."""
    source = declared.sources.get(name) or declared.sources.get(name.removesuffix("_judged"))
    if source is not None:
        found = source.column(column) if source.event_time == column and source.role == "fact" else None
        return None if found is None else "DAY" if found.type.name == "DATE" else ""
    dataset = declared.datasets.get(name)
    if dataset is None:
        return None
    found_units = set()
    tree = parse_select(Text(dataset.sql, Place(dataset.file)))
    for select in tree.find_all(exp.Select):
        item = next((e for e in select.expressions if e.alias_or_name == column and not e.is_star), None)
        star = next((e for e in select.expressions if e.is_star), None)
        node = item.unalias() if item is not None else exp.column(column, table=_starred(star)) if star else None
        inner = _read(node, select) if isinstance(node, exp.Column) else None
        found_units.add(_moment(inner, node.name, declared) if inner is not None and node is not None else None)
    return found_units.pop() if len(found_units) == 1 else None


def _starred(star: exp.Expr) -> str | None:
    return star.table if isinstance(star, exp.Column) and star.table else None
