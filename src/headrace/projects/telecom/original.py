"""The very files of the original generators: the same draws from the same seeds, in the same order.

Faker draws the numbers, addresses and moments, Python's own generator the rest; both are seeded once, so that a file needs
all files before it to be drawn. Another version of Faker may draw otherwise: see ``FAKER``.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

FAKER = "40.54.0"
START = datetime(2024, 1, 1)  # noqa: DTZ001  the files name no time zone
ROWS = 1_000
POOL = 50_000
"""Of numbers, addresses, sites and destinations each; half a million of some were meant, but never drawn."""
TICKS = 345_600
DATA = ("msisdn", "tower_id", "up_bytes", "down_bytes", "data_type", "ip_address", "website_url", "event_datetime")
VOICE = ("msisdn", "tower_id", "call_type", "dest_nr", "call_duration_sec", "start_time")


def cdr_files(*, production: bool = False) -> Iterator[tuple[str, str]]:
    """Names and texts of the files, data and voice by turns: 86 of each, or 864 in production."""
    faker = _faker()
    rnd = random.Random(27418001)
    numbers = [faker.msisdn() for _ in range(POOL)]
    addresses = [faker.ipv4_public() for _ in range(POOL)]
    sites = [faker.url() for _ in range(POOL)]
    destinations = [faker.msisdn() for _ in range(POOL)]
    files, seconds = (864, 200) if production else (86, 1005)
    begins = START
    for _ in range(files):
        begins += timedelta(seconds=seconds)
        ends = begins + timedelta(seconds=seconds)
        data = [
            (
                rnd.choice(numbers),
                rnd.randint(1, 2000),
                rnd.randint(100_000, 1_000_000),
                rnd.randint(100_000, 1_000_000),
                rnd.choice(("video", "audio", "image", "text", "application")),
                rnd.choice(addresses),
                rnd.choice(sites),
                faker.date_time_between(start_date=begins, end_date=ends),
            )
            for _ in range(ROWS)
        ]
        voice = [
            (
                rnd.choice(numbers),
                rnd.randint(1, 2000),
                rnd.choice(("voice", "video")),
                rnd.choice(destinations),
                rnd.randint(1, 1800),
                faker.date_time_between(start_date=begins, end_date=ends),
            )
            for _ in range(ROWS)
        ]
        yield f"cdr_data_{begins:%Y%m%d_%H%M%S}.csv", _csv(DATA, data)
        yield f"cdr_voice_{begins:%Y%m%d_%H%M%S}.csv", _csv(VOICE, voice)


def ticks() -> Iterator[dict[str, Any]]:
    """Two days of ticks, one a pair and half a second. Two seeds were meant; they were given to one generator, so that the
    second is that of both pairs."""
    rnd = random.Random(948342783)
    moment = START
    for _ in range(TICKS):
        moment += timedelta(milliseconds=500 + rnd.randint(-100, 100))
        for pair in ("MRVZAR", "WAKMRV"):
            bid = round(rnd.uniform(1.0, 2.0), 4)
            spread = round(rnd.uniform(0.01, 0.05), 4)
            yield {
                "timestamp": f"{moment:%Y-%m-%d %H:%M:%S.%f}",
                "pair_name": pair,
                "bid_price": bid,
                "ask_price": round(bid + spread, 4),
                "spread": spread,
            }


def write(put: Callable[[str, str], None], *, production: bool = False) -> None:
    """Give all files to ``put``, by name and text; the ticks, which were messages, are a file for each hour."""
    for name, text in cdr_files(production=production):
        put(name, text)
    lines: list[str] = []
    hour = ""
    for tick in ticks():
        if tick["timestamp"][:13] != hour and lines:
            put(_tick_file(hour), "".join(lines))
            lines = []
        hour = tick["timestamp"][:13]
        lines.append(json.dumps(tick) + "\n")
    put(_tick_file(hour), "".join(lines))


def _tick_file(hour: str) -> str:
    return f"tick-data_{hour.replace('-', '').replace(' ', '_')}.jsonl"


def _faker() -> Any:
    try:
        faker: Any = importlib.import_module("faker")
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the original files need Faker: pip install 'headrace[original]'") from None
    if faker.VERSION != FAKER:
        raise ImportError(f"Faker is {faker.VERSION}, and only {FAKER} draws the original files")
    made = faker.Faker()
    made.seed_instance(418001)
    return made


def _csv(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
