"""Independent oracle for the telecom project: plain Python over the raw files, with no SQL and nothing of the product.

A record is what its file says: it counts as often as one file has it, however many files it came in and by whatever route,
unless a field is missing or no value. Money is a Fraction; prices are those of ``tariffs.csv``.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
PAIRS = ("MRVZAR", "WAKMRV")
OLDEST_PRICE = timedelta(days=31)


class Use(NamedTuple):
    """A session or a call, as both are counted."""

    msisdn: str
    at: datetime
    category: str
    usage_type: str
    up: int
    down: int
    seconds: int
    cost: Fraction
    unpriced: bool


def _files(folder: Path, kind: str) -> Iterator[list[dict[str, str]]]:
    for file in sorted(folder.rglob(f"{kind}*.csv")):
        with file.open(newline="", encoding="utf-8") as text:
            yield list(csv.DictReader(text))


def _rows(folder: Path, kind: str) -> Iterator[dict[str, str]]:
    for rows in _files(folder, kind):
        yield from rows


def _whole(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError(text)
    return int(text)


def _moment(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?", text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def _text(text: str) -> str:
    if not text:
        raise ValueError("nothing")
    return text


DATA: dict[str, Callable[[str], Any]] = {
    "msisdn": _text, "tower_id": _whole, "up_bytes": _whole, "down_bytes": _whole, "data_type": _text,
    "ip_address": _text, "website_url": _text, "event_datetime": _moment,
}  # fmt: skip
VOICE: dict[str, Callable[[str], Any]] = {
    "msisdn": _text, "tower_id": _whole, "call_type": _text, "dest_nr": _text, "call_duration_sec": _whole,
    "start_time": _moment,
}  # fmt: skip


def clean(folder: Path, kind: str) -> list[tuple[Any, ...]]:
    """The records of a kind that count; fields in the order of DATA or VOICE."""
    fields, volumes = (DATA, (2, 3)) if kind == "cdr_data" else (VOICE, (4,))
    most: Counter[tuple[Any, ...]] = Counter()
    for rows in _files(folder, kind):
        found: Counter[tuple[Any, ...]] = Counter()
        for row in rows:
            try:
                record = tuple(read(row[name]) for name, read in fields.items())
            except ValueError:
                continue
            if all(record[v] >= 0 for v in volumes):
                found[record] += 1
        most |= found
    return list(most.elements())


def _tariffs(folder: Path) -> dict[str, list[tuple[datetime, Decimal, int, int]]]:
    found: defaultdict[str, list[tuple[datetime, Decimal, int, int]]] = defaultdict(list)
    for row in _rows(folder, "tariffs"):
        price, per, step = Decimal(row["price_zar"]), int(row["per"]), int(row["step"])
        found[row["category"]].append((_moment(row["valid_from"]), price, per, step))
    return {category: sorted(prices) for category, prices in found.items()}


def uses(folder: Path) -> list[Use]:
    """Every session and call that counts, with its own exact cost."""
    tariffs = _tariffs(folder)

    def price(category: str, at: datetime, units: int) -> tuple[Fraction, bool]:
        held = [t for t in tariffs.get(category, []) if t[0] <= at]
        if not held:
            return Fraction(0), True
        _, money, per, step = held[-1]
        return Fraction(-(-units // step) * step) * Fraction(money) / per, False

    found = []
    for msisdn, _, up, down, usage_type, _, _, at in clean(folder, "cdr_data"):
        found.append(Use(msisdn, at, "data", usage_type, up, down, 0, *price("data", at, up + down)))
    for msisdn, _, usage_type, _, seconds, at in clean(folder, "cdr_voice"):
        found.append(Use(msisdn, at, "call", usage_type, 0, 0, seconds, *price("call", at, seconds)))
    return found


def grouped(used: Iterable[Use], key: Callable[[Use], Row]) -> list[Row]:
    """Sums of what was used, by a key."""
    groups: defaultdict[tuple[tuple[str, Any], ...], list[Use]] = defaultdict(list)
    for use in used:
        groups[tuple(key(use).items())].append(use)
    return [{**dict(names), **_sums(group)} for names, group in groups.items()]


def _sums(group: list[Use]) -> Row:
    up, down = sum(u.up for u in group), sum(u.down for u in group)
    return {
        "events": len(group), "up_bytes": up, "down_bytes": down, "bytes": up + down,
        "seconds": sum(u.seconds for u in group), "cost_zar": sum((u.cost for u in group), Fraction(0)),
        "unpriced": sum(u.unpriced for u in group),
    }  # fmt: skip


def quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


def half(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 30 * 30, second=0, microsecond=0)


def hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def usage_15min(folder: Path) -> list[Row]:
    return grouped(
        uses(folder),
        lambda u: {"msisdn": u.msisdn, "start": quarter(u.at), "category": u.category, "usage_type": u.usage_type},
    )


def network_hourly(folder: Path) -> list[Row]:
    return grouped(
        uses(folder),
        lambda u: {"day": u.at.date(), "hour": hour(u.at), "category": u.category, "usage_type": u.usage_type},
    )


def subscriber_days(folder: Path) -> list[Row]:
    used = uses(folder)
    rows = grouped(used, lambda u: {"day": u.at.date(), "msisdn": u.msisdn})
    calls: defaultdict[tuple[date, str], int] = defaultdict(int)
    for use in used:
        calls[use.at.date(), use.msisdn] += use.category == "call"
    return [
        {
            "day": r["day"], "msisdn": r["msisdn"], "calls": calls[r["day"], r["msisdn"]], "seconds": r["seconds"],
            "sessions": r["events"] - calls[r["day"], r["msisdn"]], "bytes": r["bytes"], "cost_zar": r["cost_zar"],
        }
        for r in rows
    ]  # fmt: skip


class Tick(NamedTuple):
    """A price at a moment."""

    pair: str
    at: datetime
    bid: Decimal
    ask: Decimal


def ticks(folder: Path) -> set[Tick]:
    found = set()
    for file in sorted(folder.rglob("tick-data*.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line, parse_float=Decimal)
            found.add(Tick(row["pair_name"], _moment(row["timestamp"]), row["bid_price"], row["ask_price"]))
    return found


def forex_hourly(folder: Path) -> list[Row]:
    groups: defaultdict[tuple[str, datetime], list[Tick]] = defaultdict(list)
    for tick in ticks(folder):
        groups[tick.pair, hour(tick.at)].append(tick)
    rows = []
    for (pair, at), group in groups.items():
        group.sort(key=lambda t: t.at)
        mid = Fraction(sum(t.bid + t.ask for t in group)) / (2 * len(group))
        rows.append({
            "pair_name": pair, "day": at.date(), "hour": at, "mid": mid, "open": group[0].bid, "close": group[-1].bid,
            "high": max(t.bid for t in group), "low": min(t.bid for t in group), "ticks": len(group),
        })  # fmt: skip
    return rows


class Prices:
    """The mean price of an hour, or the last known one before it."""

    def __init__(self, folder: Path) -> None:
        self.known: dict[str, dict[datetime, Fraction]] = {pair: {} for pair in PAIRS}
        for row in forex_hourly(folder):
            self.known.setdefault(row["pair_name"], {})[row["hour"]] = row["mid"]

    def last(self, pair: str, at: datetime) -> tuple[datetime, Fraction] | None:
        before = [known for known in self.known[pair] if at - OLDEST_PRICE < known <= at]
        return (max(before), self.known[pair][max(before)]) if before else None

    def in_wak(self, at: datetime, zar: Fraction) -> Row:
        """What ZAR are in WAK in an hour, and by which prices."""
        mrvzar, wakmrv = (self.last(pair, at) for pair in PAIRS)
        row: Row = {"mrvzar_of": mrvzar and mrvzar[0], "wakmrv_of": wakmrv and wakmrv[0], "cost_wak": None}
        if mrvzar is None or wakmrv is None:
            return {**row, "price_of": "unknown"}
        old = "this hour" if mrvzar[0] == wakmrv[0] == at else "last known"
        return {**row, "price_of": old, "cost_wak": zar / (wakmrv[1] * mrvzar[1])}


def last_prices(folder: Path) -> list[Row]:
    """For each pair the price of each hour from its first tick until 31 days after its last."""
    prices = Prices(folder)
    rows = []
    for pair, known in prices.known.items():
        if not known:
            continue
        at = min(known)
        while at < max(known) + OLDEST_PRICE:
            found = prices.last(pair, at)
            if found is not None:
                rows.append({"pair_name": pair, "day": at.date(), "hour": at, "priced_at": found[0], "mid": found[1]})
            at += timedelta(hours=1)
    return rows
