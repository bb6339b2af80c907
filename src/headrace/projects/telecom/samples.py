"""Sample data of a made-up mobile operator: its subscribers, what they use, and how the records of that arrive.

Who subscribes decides how much is used, when and from which tower; what was used decides the record; and how records
are delivered decides what a file holds: late, again, or damaged. ``_truth/truth.json``, which the project does not read,
says how much of each was planted, and what the records come to.
"""

from __future__ import annotations

import runpy
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headrace import Samples

START = datetime(2024, 1, 1)  # noqa: DTZ001  the files name no time zone
DAYS = 3
SUBSCRIBERS = 2_000
RECORDS_PER_DAY = 20_000
"""Of data, and as many calls."""
ROWS_PER_FILE = 1_000
"""On average: a file is a stretch of time, with more rows by day than by night."""
TICKS_PER_HOUR = 60
CALLERS = 15
"""Phones whose attempted calls a switch has recorded: 20 to 25 each, as in the case of CallDrop."""
SUCCESS = 0.9
"""The share of their calls that is completed."""
CALLS_PER_FILE = 10_000
"""On average; at least three files."""
VOLUMES = {"dev": 1.0, "prod": 14.4}
"""Scales by name: as many records as the originals' production has, which is where ``original`` writes all of its files."""
LIVE_FILES = 48
"""Of a kind and day, where records are made as if they were used just now."""

# How busy each hour of a day is, beside the others.
LOAD = [2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 9, 9, 10, 9, 9, 9, 10, 11, 12, 12, 11, 9, 6, 4]
DATA_TYPES = {"video": 30, "image": 25, "application": 20, "audio": 15, "text": 10}
CALL_TYPES = {"voice": 80, "video": 20}
# A subscriber stays where they are for so many hours, then may move.
HOURS_AT_A_TOWER = 2
# Hours since the start in which a pair has no tick.
GAPS = {"MRVZAR": [0, 30, 31, 32, 33], "WAKMRV": [0, 31, 40]}


class Stretch(NamedTuple):
    """Days that are made at once, from day ``first`` on, in so many files of each kind besides the last one, which has
    whatever was late."""

    first: int
    days: int
    files: int
    folder: str = ""

    @property
    def begins(self) -> datetime:
        return START + timedelta(days=self.first)

    @property
    def step(self) -> int:
        """Seconds of a file."""
        return round(self.days * 86_400 / self.files)


def generate(
    samples: Samples,
    *,
    skew: float = 0.5,
    roaming: float = 0.15,
    late: float = 0.01,
    duplicates: float = 0.005,
    corrupt: float = 0.002,
) -> None:
    """Write the four sources and the truth about them; the scale multiplies subscribers, records and ticks.

    ``skew`` is the exponent of how unequal subscribers are: 0, all use the same; 1, the second half as much as the first,
    the third a third. ``roaming`` is how often one is neither at home nor at work. The others are shares of the records:
    delivered hours late, delivered twice, and damaged.
    """
    stretch = Stretch(0, DAYS, samples.scaled(RECORDS_PER_DAY * DAYS // ROWS_PER_FILE, at_least=3))
    _tariffs(samples)
    _subscribers(samples, skew)
    _records(samples, stretch, roaming, late, duplicates, corrupt)
    for kind in ("data", "call"):
        _files(samples, stretch, kind, range(stretch.files + 1))
    _ticks(samples, stretch, DAYS)
    samples.jsonl("tick-data_{file:02}.jsonl", TICK_LINES, files=DAYS)
    _truth(samples)
    calls(samples, late=late, duplicates=duplicates, corrupt=corrupt)


def calls(
    samples: Samples,
    *,
    success: float = SUCCESS,
    late: float = 0.01,
    duplicates: float = 0.005,
    corrupt: float = 0.002,
) -> None:
    """Write the attempted calls alone, and the truth about them; the scale multiplies the phones.

    Of the calls that were made exactly the share ``success`` is completed, to the nearest call; the others are as in
    ``generate``.
    """
    stretch = Stretch(0, DAYS, max(3, samples.scaled(CALLERS, at_least=CALLERS) * 45 // 2 // CALLS_PER_FILE))
    _attempted(samples, stretch, success)
    _delivered(samples, stretch, "attempted", late, duplicates, corrupt)
    for first in range(0, stretch.files + 1, 20):
        _call_files(samples, stretch, range(first, min(first + 20, stretch.files + 1)))
    _calls_truth(samples, success)


def live(samples: Samples, number: int) -> None:
    """Write one day more, the ``number``-th from 0, file by file in the order of their times, as if it were just now."""
    stretch = Stretch(DAYS + number, 1, LIVE_FILES, "live/")
    _subscribers(samples, 0.5)
    _records(samples, stretch, 0.15, 0.01, 0.005, 0.002)
    _ticks(samples, stretch, LIVE_FILES)
    _attempted(samples, stretch, SUCCESS)
    _delivered(samples, stretch, "attempted", 0.01, 0.005, 0.002)
    for file in range(LIVE_FILES + 1):
        for kind in ("data", "call"):
            _files(samples, stretch, kind, range(file, file + 1))
        _call_files(samples, stretch, range(file, file + 1))
        if file < LIVE_FILES:
            samples.jsonl(f"live/tick-data_{stretch.first:03}_{file:02}.jsonl",
                          f"SELECT 0 AS file, place, line FROM ({TICK_LINES}) WHERE file = {file}", files=1)  # fmt: skip


def original(samples: Samples) -> None:
    """Write the very files of the original generators, bit for bit; from a scale of 10 on as many as their production."""
    made = runpy.run_path(str(Path(__file__).with_name("original.py")))
    made["write"](samples.text, production=samples.scale >= 10)
    _tariffs(samples)


def _tariffs(samples: Samples) -> None:
    samples.csv(
        "tariffs.csv",
        """
        SELECT * FROM (VALUES ('call', '2020-01-01T00:00:00', '1.0000', 60, 1),
            ('data', '2020-01-01T00:00:00', '49.0000', 1000000000, 1)) t(category, valid_from, price_zar, per, step)
        """,
    )


def _subscribers(samples: Samples, skew: float) -> None:
    # One in ten numbers begins with 0, as in the real files. The first subscriber's is that of the page.
    samples.table(
        "subscribers",
        f"""
        SELECT i,
            CASE i WHEN 0 THEN '2712345678901' ELSE
                lpad((hash(hash(u('msisdn', i)), i) % 10000000000000)::VARCHAR, 13, '0') END AS msisdn,
            CASE WHEN u('uses', i) < 0.06 AND i > 0 THEN 'call' WHEN u('uses', i) > 0.97 AND i > 0 THEN 'data' END AS uses,
            whole('home', i, 1, 2000) AS home, whole('work', i, 1, 2000) AS work,
            power(CASE i WHEN 0 THEN 1 ELSE 1 + shuffled('rank', i) END, -{skew}::DOUBLE) AS weight
        FROM range({samples.scaled(SUBSCRIBERS, at_least=10)}) t(i)
        """,
    )
    for kind in ("data", "call"):
        samples.table(
            f"{kind}_shares",
            f"""
            SELECT i AS subscriber, msisdn, home, work, sum(weight) OVER (ORDER BY i) - weight AS begins
            FROM subscribers WHERE coalesce(uses, '{kind}') = '{kind}'
            """,
        )


def _records(
    samples: Samples, stretch: Stretch, roaming: float, late: float, duplicates: float, corrupt: float
) -> None:
    for kind, types in (("data", DATA_TYPES), ("call", CALL_TYPES)):
        _used(samples, stretch, kind, types, roaming)
        _delivered(samples, stretch, kind, late, duplicates, corrupt)


def _used(samples: Samples, stretch: Stretch, kind: str, types: dict[str, int], roaming: float) -> None:
    """What really happened: one row a session or call."""
    names, weights = list(types), list(types.values())
    before = samples.scaled(RECORDS_PER_DAY * stretch.first, at_least=0)
    count = samples.scaled(RECORDS_PER_DAY * stretch.days, at_least=100)
    samples.table(
        f"{kind}_used",
        f"""
        WITH drawn AS (
            SELECT i, u('{kind} subscriber', i)
                    * (SELECT sum(weight) FROM subscribers WHERE coalesce(uses, '{kind}') = '{kind}') AS share,
                24 * ({stretch.first} + whole('{kind} day', i, 0, {stretch.days - 1})) + weighted('{kind} hour', i, range(24), {LOAD}) AS hour,
                floor(u('{kind} moment', i) * 3600000000)::BIGINT AS microsecond,
                weighted('{kind} type', i, {names}, {weights}) AS usage_type
            FROM range({before}, {before + count}) t(i)
        ), placed AS (
            SELECT drawn.*, msisdn, home, work, subscriber * 1000 + hour // {HOURS_AT_A_TOWER} AS stay,
                TIMESTAMP '{START}' + to_hours(hour::INTEGER) + to_microseconds(CASE WHEN u('{kind} whole', i) < 0.01
                    THEN microsecond - microsecond % 1000000 ELSE microsecond END) AS used_at
            FROM drawn ASOF JOIN {kind}_shares ON share >= begins
        )
        SELECT i, msisdn, usage_type, used_at,
            CASE WHEN u('roams', stay) < {roaming} THEN whole('roams to', stay, 1, 2000)
                WHEN hour % 24 BETWEEN 8 AND 16 THEN work ELSE home END AS tower_id,
            {_measured(kind)}
        FROM placed
        """,
    )


def _measured(kind: str) -> str:
    if kind == "call":
        return """
            least(1800, 1 + floor(-300 * ln(1 - u('seconds', i))))::INTEGER AS seconds,
            lpad((hash(hash(u('dest', i)), i) % 10000000000000)::VARCHAR, 13, '0') AS dest_nr"""
    # An apostrophe is legal in a path, and broke one of the originals.
    size = "CASE usage_type WHEN 'video' THEN 0.8 WHEN 'image' THEN 0.5 WHEN 'text' THEN 0.1 ELSE 0.3 END"
    return f"""
            (100000 + floor(900000 * power(u('up', i), 3)))::INTEGER AS up_bytes,
            (100000 + floor(900000 * least(1, {size} + 0.2 * u('down', i))))::INTEGER AS down_bytes,
            concat(whole('ip 1', i, 1, 223), '.', whole('ip 2', i, 0, 255), '.', whole('ip 3', i, 0, 255), '.',
                whole('ip 4', i, 1, 254)) AS ip_address,
            concat('http://www.site', whole('site', i, 1, 500), '.example/',
                CASE WHEN u('apostrophe', i) < 0.005 THEN 'o''clock' ELSE '' END) AS website_url"""


def _delivered(samples: Samples, stretch: Stretch, kind: str, late: float, duplicates: float, corrupt: float) -> None:
    """How the records arrive: seconds later, hours later, damaged, or a second time."""
    last = stretch.files
    file = f"least(floor(epoch(arrives_at - TIMESTAMP '{stretch.begins}') / {stretch.step}), {last})::INTEGER"
    samples.table(
        f"{kind}_delivered",
        f"""
        WITH judged AS (
            SELECT *, u('{kind} damaged', i) < {corrupt} AS damaged, u('{kind} late', i) < {late} AS late,
                used_at + to_seconds(CASE WHEN u('{kind} late', i) < {late} THEN whole('{kind} delay', i, 3600, 43200)
                    ELSE whole('{kind} delay', i, 1, 60) END) AS arrives_at
            FROM {kind}_used
        ), filed AS (
            SELECT *, {file} AS file, false AS copy FROM judged
        ), again AS (
            SELECT * REPLACE (arrives_at + to_seconds(whole('{kind} again', i, 60, 21600)) AS arrives_at, file + 1 AS file,
                true AS copy)
            FROM filed WHERE NOT damaged AND u('{kind} copied', i) < {duplicates} AND file < {last}
        )
        SELECT *, row_number() OVER () AS place FROM (
            SELECT *, CASE WHEN damaged THEN whole('{kind} damage', i, 0, 3) END AS damage FROM (
                FROM filed UNION ALL BY NAME SELECT * REPLACE (greatest(file, {file}) AS file) FROM again
            ) ORDER BY file, arrives_at, i, copy
        )
        """,
    )


def _files(samples: Samples, stretch: Stretch, kind: str, files: range) -> None:
    name, columns, moment, negative = {
        "data": ("cdr_data", DATA, "event_datetime", "up_bytes"),
        "call": ("cdr_voice", CALL, "start_time", "seconds"),
    }[kind]
    renamed = {"data_type": "usage_type AS data_type", "call_type": "usage_type AS call_type",
               "call_duration_sec": "seconds AS call_duration_sec"}  # fmt: skip
    rest = ", ".join(renamed.get(column, column) for column in columns if column not in ("msisdn", "tower_id", moment))
    sql = f"""
        SELECT file - {files[0]} AS file, place, CASE WHEN damage = 0 THEN NULL ELSE msisdn END AS msisdn,
            CASE WHEN damage = 1 THEN 'n/a' ELSE tower_id::VARCHAR END AS tower_id, {rest},
            CASE WHEN damage = 2 THEN strftime(used_at, '%d/%m/%Y %H:%M') WHEN microsecond(used_at) % 1000000 = 0
                THEN strftime(used_at, '%Y-%m-%d %H:%M:%S') ELSE strftime(used_at, '%Y-%m-%d %H:%M:%S.%f') END AS {moment}
        FROM (SELECT * REPLACE (CASE WHEN damage = 3 THEN -{negative} ELSE {negative} END AS {negative})
            FROM {kind}_delivered WHERE file BETWEEN {files[0]} AND {files[-1]}) AS rows
        """

    _written(samples, stretch, name, files, columns, sql)


def _written(samples: Samples, stretch: Stretch, name: str, files: range, columns: tuple[str, ...], sql: str) -> None:
    def path(file: int) -> str:
        ends = stretch.begins + timedelta(seconds=stretch.step * (file + 1))
        # The last file of a live day ends when the first one of the next does.
        late = "_late" if stretch.folder and file == stretch.files else ""
        return f"{stretch.folder}{name}_{ends:%Y%m%d_%H%M%S}{late}.csv"

    samples.csvs([path(file) for file in files], columns, sql)
    if 0 in files and not stretch.folder:  # the same records by another route
        samples.csvs([f"again/{name}.csv"], columns, sql)


def _attempted(samples: Samples, stretch: Stretch, success: float) -> None:
    """The phones, as the originals number them, and every call that one of them attempted. A phone keeps its IMEI."""
    callers = samples.scaled(CALLERS, at_least=CALLERS)
    # Of 14 digits, and a 15th by Luhn: every second one counts twice, of which the digits are added up.
    twice = "list_transform(digits, lambda d, n: CASE n % 2 WHEN 0 THEN d * 2 // 10 + d * 2 % 10 ELSE d END)"
    samples.table(
        "callers",
        f"""
        SELECT i, concat('+1555000', i + 1) AS phone, concat(body, (10 - list_sum({twice}) % 10) % 10) AS imei,
            whole('calls of', i * 1000 + {stretch.first}, 20, 25) * {stretch.days} // {DAYS} AS calls,
            whole('caller home', i, 1, 2000) AS home
        FROM (SELECT i, body, list_transform(range(1, 15), lambda n: substring(body, n, 1)::INTEGER) AS digits
            FROM (SELECT i, concat('35', lpad((hash(hash(u('imei', i)), i) % 1000000000000)::VARCHAR, 12, '0')) AS body
                FROM range({callers}) t(i)))
        """,
    )
    samples.table(
        "attempted_used",
        f"""
        WITH drawn AS (
            SELECT *, ({stretch.first} * {callers} + caller) * 32 + n AS i FROM (
                SELECT i AS caller, phone, imei, home, unnest(range(calls)) AS n FROM callers)
        ), decided AS (
            SELECT *, shuffled('attempted completed', i) <= round({success} * count(*) OVER ()) AS completed,
                u('attempted reaches', i) < 0.5 AS reaches,
                {stretch.first} + whole('attempted day', i, 0, {stretch.days - 1}) AS day,
                weighted('attempted hour', i, range(24), {LOAD}) AS hour,
                floor(u('attempted moment', i) * 3600000000)::BIGINT AS microsecond
            FROM drawn
        )
        SELECT i, phone, imei AS source_imei, completed,
            CASE WHEN u('attempted inside', i) < 0.5 THEN concat('+1555000', 1 + (caller + whole('attempted to', i, 1, {callers - 1})) % {callers})
                ELSE concat('+1555', whole('attempted to', i, 2000000, 9999999)) END AS destination,
            TIMESTAMP '{START}' + to_hours((24 * day + hour)::INTEGER) + to_microseconds(CASE WHEN u('attempted whole', i) < 0.01
                THEN microsecond - microsecond % 1000000 ELSE microsecond END) AS used_at,
            CASE WHEN completed THEN least(3600, 1 + floor(-180 * ln(1 - u('attempted seconds', i))))
                WHEN reaches THEN least(600, floor(-30 * ln(1 - u('attempted seconds', i)))) ELSE 0 END::INTEGER AS seconds,
            CASE WHEN u('attempted roams', i) < 0.3 THEN whole('attempted tower', i, 1, 2000) ELSE home END AS source_tower,
            CASE WHEN completed OR reaches THEN whole('attempted far', i, 1, 2000) END AS destination_tower
        FROM decided
        """,
    )


def _call_files(samples: Samples, stretch: Stretch, files: range) -> None:
    # RFC 3339; one in twenty with the offset of another zone's clock.
    moment = "strftime(used_at + to_hours(ahead), '%Y-%m-%dT%H:%M:%S')"
    fraction = "CASE WHEN microsecond(used_at) % 1000000 = 0 THEN '' ELSE strftime(used_at, '.%f') END"
    sql = f"""
        SELECT file - {files[0]} AS file, place, CASE WHEN damage = 0 THEN NULL ELSE phone END AS phone, destination,
            CASE WHEN damage = 2 THEN strftime(used_at, '%d/%m/%Y %H:%M')
                ELSE concat({moment}, {fraction}, CASE ahead WHEN 0 THEN 'Z' ELSE '+02:00' END) END AS started_at,
            CASE WHEN damage = 3 THEN -1 - seconds ELSE seconds END AS seconds,
            CASE WHEN damage = 1 THEN 'n/a' ELSE source_tower::VARCHAR END AS source_tower, destination_tower, completed, source_imei
        FROM (SELECT *, CASE WHEN u('attempted ahead', i) < 0.05 THEN 2 ELSE 0 END AS ahead
            FROM attempted_delivered WHERE file BETWEEN {files[0]} AND {files[-1]})
        """
    _written(samples, stretch, "calls", files, ATTEMPTED, sql)


DATA = ("msisdn", "tower_id", "up_bytes", "down_bytes", "data_type", "ip_address", "website_url", "event_datetime")
CALL = ("msisdn", "tower_id", "call_type", "dest_nr", "call_duration_sec", "start_time")
ATTEMPTED = (
    "phone",
    "destination",
    "started_at",
    "seconds",
    "source_tower",
    "destination_tower",
    "completed",
    "source_imei",
)
TICK_LINES = """
    SELECT file, epoch_us(ticked_at) * 2 + i % 2 AS place, concat('{"timestamp": "', strftime(ticked_at, '%Y-%m-%d %H:%M:%S.%f'),
        '", "pair_name": "', pair_name, '", "bid_price": ', bid, ', "ask_price": ', bid + spread, ', "spread": ', spread, '}') AS line
    FROM ticks
    """


def _ticks(samples: Samples, stretch: Stretch, files: int) -> None:
    per_hour = samples.scaled(TICKS_PER_HOUR, at_least=2)
    first, count = 24 * stretch.first * per_hour, 24 * stretch.days * per_hour
    gaps = " OR ".join(f"(pair_name = '{pair}' AND hour IN {tuple(hours)})" for pair, hours in GAPS.items())
    samples.table(
        "ticks",
        f"""
        WITH drawn AS (
            SELECT pair_name, n // {per_hour} AS hour, (n - {first}) * {files} // {count} AS file, n * 2 + pair AS i,
                TIMESTAMP '{START}' + to_milliseconds(n * 3600000 // {per_hour} + whole('jitter', n * 2 + pair, 0, 200)) AS ticked_at
            FROM (VALUES (0, 'MRVZAR'), (1, 'WAKMRV')) p(pair, pair_name), range({first}, {first + count}) t(n)
        ), priced AS (
            SELECT *, round(1.5 + 0.3 * sin(hour / 5.0 + pair_name.length() + i % 2) + 0.01 * u('bid', i), 4)::DECIMAL(9,4) AS bid,
                round(0.01 + 0.04 * u('spread', i), 4)::DECIMAL(9,4) AS spread
            FROM drawn
        )
        SELECT i, file, ticked_at, pair_name, bid, spread FROM priced WHERE NOT ({gaps}) ORDER BY file, ticked_at, i
        """,
    )


def _truth(samples: Samples) -> None:
    reasons = {
        "data": "['msisdn is missing', 'tower_id is not INTEGER', 'event_datetime is not TIMESTAMP', 'negative volume']",
        "call": "['msisdn is missing', 'tower_id is not INTEGER', 'start_time is not TIMESTAMP', 'negative duration']",
    }
    for kind, damages in reasons.items():
        _planted(samples, kind, damages)
    units = {"call": ("seconds", "1 * seconds", 60), "data": ("0", "49 * (up_bytes + down_bytes)", 1_000_000_000)}
    for kind, (seconds, price, per) in units.items():
        both = "up_bytes, down_bytes" if kind == "data" else "0 AS up_bytes, 0 AS down_bytes"
        samples.table(
            f"{kind}_totals",
            f"""
            SELECT '{kind}' AS category, usage_type, count(*) AS events, sum(up_bytes)::BIGINT AS up_bytes,
                sum(down_bytes)::BIGINT AS down_bytes, sum(seconds)::BIGINT AS seconds,
                sum(due)::BIGINT AS due_zar, {per} AS divided_by
            FROM (SELECT usage_type, {both}, {seconds} AS seconds, {price} AS due FROM {kind}_delivered WHERE NOT copy AND NOT damaged)
            GROUP BY usage_type
            """,
        )
    samples.jsonl(
        "_truth/truth.json",
        f"""
        SELECT 0 AS file, 0 AS place, to_json({{'seed': {samples.seed}, 'scale': {samples.scale},
            'cdr_data': (SELECT planted FROM data_planted), 'cdr_voice': (SELECT planted FROM call_planted),
            'forex_ticks': {{'records': (SELECT count(*) FROM ticks)}},
            'totals': (SELECT list(t ORDER BY t.category, t.usage_type) FROM (FROM data_totals UNION ALL FROM call_totals) t)
            }})::VARCHAR AS line
        """,
        files=1,
    )


def _planted(samples: Samples, kind: str, damages: str) -> None:
    samples.table(
        f"{kind}_planted",
        f"""
        SELECT {{'records': count(*) FILTER (NOT copy), 'late': count(*) FILTER (late AND NOT copy),
            'duplicates': count(*) FILTER (copy), 'damaged': count(*) FILTER (damaged),
            'again': {{'rows': count(*) FILTER (file = 0), 'damaged': count(*) FILTER (file = 0 AND damaged)}},
            'whole_seconds': count(*) FILTER (NOT copy AND microsecond(used_at) % 1000000 = 0),
            'damage': (SELECT json_group_object(reason, rows) FROM (SELECT {damages}[damage + 1] AS reason,
                count(*) AS rows FROM {kind}_delivered WHERE damaged GROUP BY reason ORDER BY reason))}} AS planted
        FROM {kind}_delivered
        """,
    )


def _calls_truth(samples: Samples, success: float) -> None:
    damages = (
        "['phone is missing', 'source_tower is not INTEGER', 'started_at is not TIMESTAMPTZ', 'negative duration']"
    )
    _planted(samples, "attempted", damages)
    samples.jsonl(
        "_truth/calls.json",
        f"""
        SELECT 0 AS file, 0 AS place, to_json({{'seed': {samples.seed}, 'scale': {samples.scale}, 'success': {success},
            'calls': (SELECT planted FROM attempted_planted),
            'phones': (SELECT count(*) FROM callers),
            'attempted': (SELECT {{'total': count(*), 'successful': count(*) FILTER (completed)}} FROM attempted_used),
            'totals': (SELECT {{'total': count(*), 'successful': count(*) FILTER (completed),
                'seconds_of_successful': sum(seconds) FILTER (completed)}} FROM attempted_delivered WHERE NOT copy AND NOT damaged)
            }})::VARCHAR AS line
        """,
        files=1,
    )
