"""What compiled answers call: arithmetic, comparison and time over stored values, with SQL's NULL."""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import zoneinfo
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

Value = Any
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def exact(text: str | None) -> int | None:
    """A decimal's text as the integer of its digits: '12.50' is 1250."""
    return None if text is None else int(text.replace(".", "", 1))


def decimal_text(value: int | None, scale: int) -> str | None:
    """The inverse of ``exact``: 1250 at scale 2 is '12.50'."""
    if value is None:
        return None
    sign, digits = ("-", str(-value)) if value < 0 else ("", str(value))
    digits = digits.rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def ratio(value: int | None, scale: int) -> Fraction | None:
    return None if value is None else Fraction(value, scale)


def fraction(value: float | None) -> Fraction | None:
    """A double as the fraction that it is; NULL where it is not finite."""
    return None if value is None or not math.isfinite(value) else Fraction(value)


def double(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def half_up(value: Fraction | None, places: int) -> int | None:
    """The value times 10**places, rounded half away from zero."""
    if value is None:
        return None
    numerator, denominator = value.numerator * int(10**places), value.denominator
    quotient, rest = divmod(abs(numerator), denominator)
    if 2 * rest >= denominator:
        quotient += 1
    return -quotient if numerator < 0 else quotient


def add(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a + b


def sub(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a - b


def mul(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a * b


def div(a: Value, b: Value) -> Value:
    return None if a is None or b is None or b == 0 else a / b


def quotient(a: int | None, b: int | None) -> Fraction | None:
    return None if a is None or b is None or b == 0 else Fraction(a, b)


def absolute(a: Value) -> Value:
    return None if a is None else abs(a)


def eq(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a == b


def ne(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a != b


def lt(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a < b


def le(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a <= b


def gt(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a > b


def ge(a: Value, b: Value) -> bool | None:
    return None if a is None or b is None else a >= b


def both(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def either(a: bool | None, b: bool | None) -> bool | None:
    if a or b:
        return True
    return None if a is None or b is None else False


def negate(a: bool | None) -> bool | None:
    return None if a is None else not a


def within(value: Value, values: Iterable[Value]) -> bool | None:
    return None if value is None else value in values


def coalesce(*values: Value) -> Value:
    for value in values:
        if value is not None:
            return value
    return None


def greatest(*values: Value) -> Value:
    known = [v for v in values if v is not None]
    return max(known) if known else None


def least(*values: Value) -> Value:
    known = [v for v in values if v is not None]
    return min(known) if known else None


def length(value: Value) -> int | None:
    return None if value is None else len(value)


def lower(value: str | None) -> str | None:
    return None if value is None else value.lower()


def upper(value: str | None) -> str | None:
    return None if value is None else value.upper()


def as_text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def truth(value: Value) -> bool | None:
    return None if value is None else bool(value)


def days(a: str | None, b: str | None) -> int | None:
    return None if a is None or b is None else (dt.date.fromisoformat(a) - dt.date.fromisoformat(b)).days


def plus_days(value: str | None, count: int | None) -> str | None:
    return (
        None
        if value is None or count is None
        else (dt.date.fromisoformat(value) + dt.timedelta(days=count)).isoformat()
    )


def instant(value: str | None) -> int | None:
    """Midnight UTC of a date, in microseconds."""
    return None if value is None else (dt.date.fromisoformat(value) - dt.date(1970, 1, 1)).days * 86_400_000_000


def date_of(value: int | None) -> str | None:
    """The UTC date of an instant."""
    return None if value is None else (dt.date(1970, 1, 1) + dt.timedelta(days=value // 86_400_000_000)).isoformat()


def trunc_time(value: int | None, size: int) -> int | None:
    return None if value is None else value // size * size


def trunc_date(value: str | None, unit: str) -> str | None:
    if value is None or unit == "day":
        return value
    day = dt.date.fromisoformat(value)
    if unit == "week":
        return (day - dt.timedelta(days=day.weekday())).isoformat()
    month = {"month": day.month, "quarter": (day.month - 1) // 3 * 3 + 1, "year": 1}[unit]
    return dt.date(day.year, month, 1).isoformat()


def field(value: int | None, unit: str) -> int | None:
    if value is None:
        return None
    moment = _EPOCH + dt.timedelta(microseconds=value)
    return moment.isoweekday() if unit == "isodow" else int(getattr(moment, unit))


@functools.cache
def zone_names() -> frozenset[str]:
    """The names of the tz database of this machine, or of the package tzdata where it has none; UTC in any case."""
    return frozenset({"UTC", *zoneinfo.available_timezones()})


def local_time(value: int | None, zone: str | None) -> int | None:
    """What the clocks of a zone of ``zone_names`` show at an instant, in microseconds as though it were UTC."""
    if value is None or zone is None or zone == "UTC":
        return None if zone is None else value
    offset = (_EPOCH + dt.timedelta(microseconds=value)).astimezone(zoneinfo.ZoneInfo(zone)).utcoffset()
    assert offset is not None  # of a moment with a zone
    return value + offset // dt.timedelta(microseconds=1)


def rfc3339(value: int | None) -> str | None:
    """An instant as RFC 3339 in UTC, with a fraction only where there is one."""
    if value is None:
        return None
    return (_EPOCH + dt.timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")


def merge_sum(a: Value, b: Value) -> Value:
    return b if a is None else a if b is None else a + b


def merge_min(a: Value, b: Value) -> Value:
    return b if a is None else a if b is None else min(a, b)


def merge_max(a: Value, b: Value) -> Value:
    return b if a is None else a if b is None else max(a, b)


def merge_set(a: frozenset[Value] | None, b: frozenset[Value] | None) -> frozenset[Value] | None:
    return b if a is None else a if b is None else a | b


def ordered(rows: list[tuple[Value, ...]], keys: list[tuple[int, bool]]) -> list[tuple[Value, ...]]:
    """Rows sorted by (index, descending) keys; NULL comes last either way, as in DuckDB."""
    for index, descending in reversed(keys):
        rows.sort(
            key=lambda row: (row[index] is not None, row[index]) if descending else (row[index] is None, row[index]),
            reverse=descending,
        )
    return rows


def members(text: str | None) -> frozenset[Value] | None:
    """A stored set, JSON text, as a set."""
    return None if text is None else frozenset(json.loads(text))


def merge_one(a: Value, b: Value) -> Value:
    """The value of a part that has no merge: its group has one row."""
    return b if a is None else a


def ordered_value(text: str | None, order: Callable[[Value], Value] = lambda k: k) -> tuple[Value, ...] | None:
    """A stored arg_min or arg_max part as (order, lane, offset, value): tuples compare as the parts do."""
    if text is None:
        return None
    k, lane, offset, value = json.loads(text)
    return order(k), lane, offset, value


def chosen(part: tuple[Value, ...] | None) -> Value:
    """The value of an ordered part."""
    return None if part is None else part[3]


def windowed(
    kind: str, items: list[tuple[tuple[Value, ...], tuple[Value, ...], Value]], descending: tuple[bool, ...]
) -> list[Value]:
    """A window function over (partition, order, value) of each row, in the order of the rows.

    With an order the frame is SQL's default: from the start of the partition to the last peer of the row.
    """
    out: list[Value] = [None] * len(items)
    groups: dict[tuple[Value, ...], list[int]] = {}
    for i, (partition, _, _) in enumerate(items):
        groups.setdefault(partition, []).append(i)
    for members_of in groups.values():
        rows = [(*items[i][1], i) for i in members_of]
        sequence = [row[-1] for row in ordered(rows, list(enumerate(descending)))]
        total: Value = None
        count = rank = 0
        at = 0
        while at < len(sequence):
            end = at + 1
            while end < len(sequence) and items[sequence[end]][1] == items[sequence[at]][1]:
                end += 1
            rank = at + 1
            for i in sequence[at:end]:
                value = items[i][2]
                total = {"sum": merge_sum, "min": merge_min, "max": merge_max}.get(kind, merge_one)(total, value)
                count += value is not None
            for position, i in enumerate(sequence[at:end], at + 1):
                out[i] = {"count": count, "row_number": position, "rank": rank}.get(kind, total)
            at = end
    return out
