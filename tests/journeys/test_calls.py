"""The calls of the telecom project: success rates against an independent oracle, by both paths; the faults of the system that they
replace (`chsukhija/calldata`), each as a test of its own; and the generated calls."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.cli import init
from headrace.errors import ParameterError
from tests.journeys.cloud_tables import ask
from tests.journeys.test_telecom import inbox, moment, stream
from tests.kit import Opened, Quiet
from tests.oracle import calls as oracle
from tools.services import Broker

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
HEADER = ",".join(oracle.COLUMNS) + "\n"
ZONES = [None, "UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Chatham"]
# Days on which clocks of these zones are changed.
CHANGES = [(3, 10), (3, 31), (4, 6), (9, 28), (10, 5), (10, 27), (11, 3)]


def made(folder: Path) -> App:
    init.write(folder, "telecom")
    (folder / "landing").mkdir()
    return Opened(folder, {"inbox.quiet": 0.0})


def lines(rnd: random.Random, count: int) -> list[str]:
    """Calls of twelve phones, half of them around the hours in which clocks are changed; some damaged, some twice."""
    found = []
    for _ in range(count):
        month, day = rnd.choice(CHANGES)
        at = datetime(2024, month, day, tzinfo=UTC) + timedelta(seconds=rnd.randrange(-20_000, 110_000))
        if rnd.random() < 0.5:
            at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=rnd.randrange(366 * 86_400))
        ahead = rnd.choice([0, 0, 0, 120, -210])
        written = f"{at + timedelta(minutes=ahead):%Y-%m-%dT%H:%M:%S}{rnd.choice(['', '.5', '.000001'])}"
        offset = f"{'-' if ahead < 0 else '+'}{abs(ahead) // 60:02}:{abs(ahead) % 60:02}" if ahead else "Z"
        completed, phone = rnd.random() < 0.7, f"+1555000{rnd.randint(1, 12)}"
        fields = [phone, f"+1555{rnd.randrange(10**7)}", written + offset, rnd.randrange(900) if completed or rnd.random() < 0.5 else 0, 12,
                  "" if not completed else 7, str(completed).lower(), "490154203237518"]  # fmt: skip
        if rnd.random() < 0.02:
            damage = rnd.choice([(0, ""), (2, "2024-01-01 10:00:00"), (3, "-1"), (4, "n/a"), (6, "perhaps")])
            fields[damage[0]] = damage[1]
        found += [",".join(map(str, fields)) + "\n"] * (2 if rnd.random() < 0.05 else 1)
    return found


def outcomes(app: App) -> list[tuple[Any, ...]]:
    """Rows of the mart; minutes as they are in UTC."""
    app.gold.define()
    found = app.engine.rows(
        "SELECT phone, minute AT TIME ZONE 'UTC', total, successful, seconds_of_successful FROM call_outcomes"
    )
    return sorted(found)


def write(folder: Path, pieces: list[list[str]], *, first: int = 0) -> None:
    for n, piece in enumerate(pieces, first):
        (folder / f"calls_{n:02}.csv").write_text(HEADER + "".join(piece))


@pytest.fixture(scope="module")
def pieces() -> list[list[str]]:
    rnd = random.Random(7)
    all_ = lines(rnd, 3000)
    rnd.shuffle(all_)
    return [all_[n::6] for n in range(6)]


@pytest.fixture(scope="module")
def batch(pieces: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> App:
    app = made(tmp_path_factory.mktemp("batch") / "telecom")
    for n, piece in enumerate(pieces):
        write(inbox(app), [piece], first=n)
        if n % 3 == 2:
            app.run(Quiet())
    return app


@pytest.fixture(scope="module")
def counted(batch: App) -> oracle.Calls:
    return oracle.Calls(inbox(batch))


def questions(rnd: random.Random, phones: list[str], count: int) -> Iterator[Row]:
    """Ranges of whole minutes, of a phone or of all, in some hours of some zone's day."""
    for _ in range(count):
        month, day = rnd.choice(CHANGES)
        start = datetime(2024, month, day, tzinfo=UTC) + timedelta(minutes=rnd.randrange(-3000, 3000))
        end = start + timedelta(minutes=rnd.choice([1, 60, 1440, rnd.randrange(1, 300_000)]))
        asked: Row = {"start_time": start.strftime("%Y-%m-%d %H:%M:%S"), "end_time": end.isoformat()}
        if rnd.random() < 0.5:
            asked["phone_number"] = rnd.choice([*phones, "+1555000999"])
        if rnd.random() < 0.7:
            asked |= {"from_hour": rnd.randrange(24)} if rnd.random() < 0.8 else {}
            asked |= {"to_hour": rnd.randrange(25)} if rnd.random() < 0.8 else {}
            if asked.get("from_hour", 0) == asked.get("to_hour", 24):
                continue
        zone = rnd.choice(ZONES)
        yield asked | ({"time_zone": zone} if zone else {})


def wanted(counted: oracle.Calls, asked: Row) -> Row:
    keys = ("start_time", "end_time", "phone_number", "from_hour", "to_hour", "time_zone")
    return counted.rate(*(asked.get(key) for key in keys))  # type: ignore[arg-type]


def test_every_row_of_the_mart_is_the_oracles(batch: App, counted: oracle.Calls) -> None:
    rows = counted.rows(
        "SELECT phone, date_trunc('minute', utc), count(*), count(*) FILTER (completed), coalesce(sum(seconds) FILTER (completed), 0) FROM attempts GROUP BY ALL"
    )
    assert outcomes(batch) == sorted(rows)
    assert len(rows) > 2000


def test_success_rates_are_the_oracles(batch: App, counted: oracle.Calls) -> None:
    """Of all and of one phone, in hours of the day across midnight, where clocks are changed, in zones that are half hours apart."""
    across, one = 0, 0
    for asked in questions(random.Random(1), counted.phones(), 600):
        (row,) = ask(batch, "call_success_rate", **asked)
        assert row == wanted(counted, asked), asked
        across += asked.get("from_hour", 0) > asked.get("to_hour", 24) and row["total"] > 0
        one += "phone_number" in asked and row["total"] > 0
    assert across > 50
    assert one > 100


def test_hours_are_the_oracles(batch: App, counted: oracle.Calls) -> None:
    for phone in (None, *counted.phones()[:3]):
        given = {"phone_number": phone} if phone else {}
        found = ask(batch, "call_success_hours", start_time="2024-03-01", end_time="2024-04-02", **given)
        rows = counted.rows(
            "SELECT date_trunc('hour', utc), count(*), count(*) FILTER (completed), sum(seconds) FILTER (completed) FROM attempts "
            "WHERE began >= '2024-03-01' AND began < '2024-04-02' AND (phone = ? OR ? IS NULL) GROUP BY 1 ORDER BY 1",
            (phone, phone),
        )
        assert [
            (moment(r["hour"]), r["total"], r["successful"], r["asr_percent"], r["acd_seconds"]) for r in found
        ] == [
            (hour, total, successful, oracle.rounded(100 * successful, total), oracle.rounded(seconds or 0, successful))
            for hour, total, successful, seconds in rows
        ]
        assert len(rows) > 20


def test_the_calls_of_a_phone_are_a_range_of_its_partition(batch: App, counted: oracle.Calls) -> None:
    """The original's query restricts a column behind one that it leaves open, which its store refuses without filtering."""
    (table,) = batch.project.queries["calls"].tables
    assert [c.name for c in table.partition] == ["phone"]
    assert next(c.name for c in table.clustering) == "started_at"
    phone = counted.phones()[0]
    rows = counted.rows(
        "SELECT utc, destination, seconds, completed FROM attempts WHERE phone = ? AND began >= '2024-03-31' AND began < '2024-10-28' ORDER BY began DESC, destination DESC",
        (phone,),
    )
    found, cursor = [], None
    while True:
        given = {"phone_number": phone, "start_time": "2024-03-31 00:00:00", "end_time": "2024-10-28", "limit": "17"}
        answer = batch.reader.answer("calls", given, cursor)
        found += [(moment(row[0]), *row[1:4]) for row in answer.rows]
        cursor = answer.cursor
        if cursor is None:
            break
    assert found == rows
    assert len(rows) > 50


def test_one_query_has_a_table_of_a_phone_and_one_of_all(batch: App) -> None:
    plans = batch.project.queries["call_success_rate"].plans
    keys = {given: [[c.name for c in k] for k in (p.table.partition, p.table.clustering)] for given, p in plans.items()}
    assert keys == {frozenset(): [[], ["minute"]], frozenset({"phone_number"}): [["phone"], ["minute"]]}


@pytest.mark.slow
def test_what_is_streamed_is_what_the_oracle_counts(
    pieces: list[list[str]], counted: oracle.Calls, tmp_path: Path
) -> None:
    app = made(tmp_path / "telecom")
    write(inbox(app), pieces[:2])
    app.run(Quiet())
    for n, piece in enumerate(pieces[2:], 2):
        write(inbox(app), [piece], first=n)
        if n % 2:
            stream(app)
    assert app.status()["generation"] == 1, "nothing but the stream has counted them"
    for asked in questions(random.Random(2), counted.phones(), 200):
        assert ask(app, "call_success_rate", **asked) == [wanted(counted, asked)], asked


@pytest.mark.slow
def test_calls_by_topic_are_the_oracles(kafka: Broker, tmp_path: Path) -> None:
    """Keyed by phone: all calls of one are in one lane, where they are compared and counted in order."""
    from confluent_kafka import Consumer, TopicPartition

    app, files = made(tmp_path / "telecom"), made(tmp_path / "files")
    declared = (app.folder / "project.py").read_text()
    tag = time.time_ns()
    (app.folder / "project.py").write_text(re.sub(r'topic="([^"]+)"', rf'topic="\1.{tag}"', declared))
    (app.folder / "headrace.toml").write_text(f'[kafka]\nbrokers = "{kafka.address}"\npartitions = 3\n')
    app = Opened(app.folder, {"inbox.quiet": 0.0})
    app.deliver(Quiet(), ["kafka"], 4.0, 5, what="calls")
    files.generate(4.0, 5, None, what="calls")
    app.run(Quiet())
    counted = oracle.Calls(inbox(files))
    for phone in (None, *counted.phones()[:10]):
        asked: Row = {"start_time": "2024-01-01", "end_time": "2024-01-04"} | ({"phone_number": phone} if phone else {})
        assert ask(app, "call_success_rate", **asked) == [wanted(counted, asked)]
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": f"look.{tag}", "enable.auto.commit": False})
    places: defaultdict[str, set[int]] = defaultdict(set)
    for partition in range(3):
        place = TopicPartition(f"calls.{tag}", partition, 0)
        _, end = consumer.get_watermark_offsets(place, 20)
        consumer.assign([place])
        at = 0
        while at < end:
            for message in consumer.consume(1000, 1.0):
                at = (message.offset() or 0) + 1
                phone = json.loads(message.value() or b"").get("phone")
                if phone:
                    assert (message.key() or b"").decode() == phone
                    places[phone].add(partition)
    consumer.close()
    assert len(places) == 60
    assert all(len(lanes) == 1 for lanes in places.values())


# What the original got wrong


def lands(folder: Path, outcomes: list[bool], *, phone: str = "+15550001", at: str = "2024-01-01T10:00:00Z") -> App:
    app = made(folder)
    began = datetime.fromisoformat(at)
    rows = [
        f"{phone},+1555{n:07},{began + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ},{60 if done else 0},1,2,{str(done).lower()},490154203237518\n"
        for n, done in enumerate(outcomes)
    ]
    (inbox(app) / "calls.csv").write_text(HEADER + "".join(rows))
    app.run(Quiet())
    return app


def test_a_rate_is_rounded_once_and_shown_with_two_decimals(tmp_path: Path) -> None:
    """bc at scale 2 divides 93 by 120, keeps 0.77 and says 77.00; the README beside it says 77.50."""
    app = lands(tmp_path / "telecom", [n < 93 for n in range(120)])
    day = {"start_time": "2024-01-01 00:00:00", "end_time": "2024-01-02 00:00:00"}
    (row,) = ask(app, "call_success_rate", **day)
    assert row == {"total": 120, "successful": 93, "failed": 27, "asr_percent": "77.50", "acd_seconds": "60.00"}


@pytest.mark.parametrize(("successful", "total", "percent"), [(1, 3, "33.33"), (2, 3, "66.67"), (1, 8, "12.50"), (1, 800, "0.13"), (799, 800, "99.88"), (0, 7, "0.00"), (7, 7, "100.00")])  # fmt: skip
def test_rates_are_rounded_half_up(successful: int, total: int, percent: str) -> None:
    assert oracle.rounded(100 * successful, total) == percent


def test_the_successful_are_not_all(batch: App, counted: oracle.Calls) -> None:
    """The original's second view of successful calls has no filter: 347 of 347, whatever happened to them."""
    year = {"start_time": "2024-01-01", "end_time": "2025-01-01"}
    (row,) = ask(batch, "call_success_rate", **year)
    assert 0 < row["successful"] < row["total"] == row["successful"] + row["failed"]
    each = [ask(batch, "call_success_rate", phone_number=phone, **year)[0] for phone in counted.phones()]
    for name in ("total", "successful", "failed"):
        assert sum(one[name] for one in each) == row[name]


def test_ends_are_not_included(tmp_path: Path) -> None:
    """Ranges side by side count every call once: the original counts those on the edge twice."""
    app = lands(tmp_path / "telecom", [True] * 180, at="2024-01-01T10:59:00Z")

    def total(start: str, end: str, **more: Any) -> int:
        (row,) = ask(app, "call_success_rate", start_time=start, end_time=end, **more)
        return int(row["total"])

    assert total("2024-01-01 10:00:00", "2024-01-01 11:00:00") == 60
    assert total("2024-01-01 11:00:00", "2024-01-01 12:00:00") == 120
    assert total("2024-01-01", "2024-01-02", from_hour=10, to_hour=11) == 60
    assert total("2024-01-01", "2024-01-02", from_hour=11, to_hour=10) == 120
    # A call counts in its minute, and a minute where it begins.
    assert total("2024-01-01 10:59:00", "2024-01-01 10:59:59") == 60
    assert total("2024-01-01 10:59:30", "2024-01-01 11:01:00") == 60


def test_hours_of_the_day_are_not_a_range_of_time(tmp_path: Path) -> None:
    """`a range of hours`: each day's, not those from one instant to another."""
    app = made(tmp_path / "telecom")
    rows = [f"+15550001,+15559,2024-01-{day:02}T{hour:02}:15:00Z,60,1,2,{str(hour < 12).lower()},\n" for day in (1, 2, 3) for hour in range(24)]  # fmt: skip
    (inbox(app) / "calls.csv").write_text(HEADER + "".join(rows))
    app.run(Quiet())
    days = {"start_time": "2024-01-01", "end_time": "2024-01-04"}

    def counts(**hours: Any) -> tuple[int, str]:
        (row,) = ask(app, "call_success_rate", **days, **hours)
        return row["total"], row["asr_percent"]

    assert counts() == (72, "50.00")
    assert counts(from_hour=8, to_hour=16) == (24, "50.00")
    assert counts(from_hour=22, to_hour=6) == (24, "75.00")
    assert counts(from_hour=22) == (6, "0.00")
    assert counts(to_hour=6) == (18, "100.00")
    assert counts(from_hour=22, to_hour=0) == counts(from_hour=22, to_hour=24) == (6, "0.00")
    # 00:15 UTC is 06:00 in Kathmandu.
    assert counts(from_hour=6, to_hour=7, time_zone="Asia/Kathmandu") == (3, "100.00")


@pytest.mark.parametrize(
    "wrong",
    [{"from_hour": 24}, {"to_hour": 25}, {"from_hour": -1}, {"from_hour": 7, "to_hour": 7}, {"to_hour": 0}, {"end_time": "2024-01-01"},
     {"time_zone": "Berlin"}, {"start_time": "01/02/2024"}, {"from_hour": "22:30"}, {"nodes": "127.0.0.1"}],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(wrong: Row, batch: App) -> None:
    with pytest.raises(ParameterError, match="HR0502"):
        ask(batch, "call_success_rate", **({"start_time": "2024-01-01", "end_time": "2024-01-02"} | wrong))


# Sample data


def luhn(imei: str) -> bool:
    digits = [int(d) for d in reversed(imei)]
    return sum(sum(divmod(2 * d, 10)) if n % 2 else d for n, d in enumerate(digits)) % 10 == 0


def generated(folder: Path, scale: float, seed: int = 1, only: str = "calls") -> App:
    app = made(folder)
    app.generate(scale, seed, None, what=only)
    return app


def sent(folder: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for file in sorted(folder.glob("calls*.csv")):
        rows += csv.DictReader(io.StringIO(file.read_text()))
    return rows


def test_sample_calls_are_those_of_the_case(tmp_path: Path) -> None:
    app = generated(tmp_path / "telecom", 1, only="generate")
    truth = json.loads((inbox(app) / "_truth/calls.json").read_text())
    rows = {(r["phone"], r["destination"], r["started_at"]): r for r in sent(inbox(app))}
    imeis: defaultdict[str, set[str]] = defaultdict(set)
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows.values():
        imeis[row["phone"]].add(row["source_imei"])
        counts[row["phone"]] += 1
    assert sorted(imeis) == sorted(f"+1555000{n}" for n in range(1, 16))
    assert all(20 <= count <= 25 for count in counts.values())
    assert len(set(counts.values())) > 1
    assert all(len(own) == 1 for own in imeis.values()), "a phone keeps its IMEI"
    assert len(set().union(*imeis.values())) == 15
    assert all(len(imei) == 15 and luhn(imei) for own in imeis.values() for imei in own)
    attempted = truth["attempted"]
    assert attempted["total"] == len(rows)
    assert attempted["successful"] == round(truth["success"] * attempted["total"]) == sum(r["completed"] == "true" for r in rows.values())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "seed"), [(1, 1), (60, 3)])
def test_the_truth_about_sample_calls_is_what_is_found(scale: float, seed: int, tmp_path: Path) -> None:
    app = generated(tmp_path / "telecom", scale, seed)
    app.run(Quiet())
    truth = json.loads((inbox(app) / "_truth/calls.json").read_text())
    assert (truth["seed"], truth["scale"], truth["phones"]) == (seed, scale, 15 * scale)
    (row,) = ask(app, "call_success_rate", start_time="2024-01-01", end_time="2024-01-04")
    totals = truth["totals"]
    assert row == {
        "total": totals["total"], "successful": totals["successful"], "failed": totals["total"] - totals["successful"],
        "asr_percent": oracle.rounded(100 * totals["successful"], totals["total"]),
        "acd_seconds": oracle.rounded(totals["seconds_of_successful"], totals["successful"]),
    }  # fmt: skip
    found = {(r["kind"], r["reason"]): r["records"] for r in ask(app, "quality", source="calls")}
    planted, again = truth["calls"], truth["calls"]["again"]
    assert found["clean", ""] == planted["records"] - planted["damaged"] == totals["total"]
    assert found["landed", ""] == planted["records"] + planted["duplicates"] + again["rows"]
    assert found["duplicate", ""] == planted["duplicates"] + again["rows"] - again["damaged"]
    damaged = {reason: count for (kind, reason), count in found.items() if kind == "quarantined"}
    assert sum(damaged.values()) == planted["damaged"] + again["damaged"]
    assert damaged.keys() == (planted["damage"] or {}).keys()
    assert {reason for kind, reason in found if kind == "flagged"} <= set(), "all numbers and towers are known ones"
    if scale > 1:
        assert planted["late"] > 0
        assert len(damaged) == 4


def test_sample_calls_are_those_of_their_seed(tmp_path: Path) -> None:
    texts = [[f.read_bytes() for f in sorted(inbox(generated(tmp_path / str(n), 1, seed)).rglob("*.*"))] for n, seed in enumerate((1, 1, 2))]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]


def test_every_file_twice_changes_nothing(tmp_path: Path, batch: App) -> None:
    app = made(tmp_path / "telecom")
    shutil.copytree(inbox(batch), inbox(app), dirs_exist_ok=True)
    for n, file in enumerate(sorted(inbox(batch).glob("calls*.csv"))):
        shutil.copy(file, inbox(app) / f"calls_again_{n}.csv")
    app.run(Quiet())
    assert outcomes(app) == outcomes(batch)


@pytest.mark.slow
def test_the_live_calls_go_on_where_the_sample_ends(tmp_path: Path) -> None:
    app = made(tmp_path / "telecom")
    for number in (0, 1):
        app.generate(0.05, 1, None, number, what="live")
    days = sorted({file.name[6:14] for file in (inbox(app) / "live").glob("calls_*.csv")})
    assert days[0] == "20240104"
    rows = {(r["phone"], r["destination"], r["started_at"]) for r in sent(inbox(app) / "live")}
    assert 15 * 6 * 2 <= len(rows) <= 15 * 8 * 2
    assert {at[:10] for _, _, at in rows} <= {"2024-01-04", "2024-01-05", "2024-01-06"}


# The command line


def headrace(app: App, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", "--project", str(app.folder), *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_the_originals_command_lines_are_understood(batch: App, counted: oracle.Calls) -> None:
    """Its program takes RFC 3339, its script a date and a time; both a phone, or none."""
    start, end = "2024-03-01T00:00:00Z", "2024-10-27T12:00:00Z"
    row = counted.rate(start, end, "+15550003", None, None, None)
    asked = ["query", "call_success_rate", "--start-time"]
    by_go = headrace(batch, *asked, start, "--end-time", end, "--phone-number", "+15550003", "--json")
    assert json.loads(by_go.stdout)["rows"] == [row], by_go.stderr
    by_sh = headrace(batch, *asked, "2024-03-01 00:00:00", "--end-time=2024-10-27 12:00:00", "--phone_number=+15550003")
    assert by_sh.stdout.split("\n")[0].split() == list(row)
    assert by_sh.stdout.split("\n")[2].split() == [str(value) for value in row.values()]
    berlin = ["2024-03-01T01:00:00+01:00", "--end-time", "2024-10-27T13:00:00+01:00", "-o", "csv"]
    everybody = counted.rate(start, end, None, 22, 6, "Europe/Berlin")
    done = headrace(batch, *asked, *berlin, "--from-hour", "22", "--to-hour", "6", "--time-zone", "Europe/Berlin")
    assert done.stdout.split() == [",".join(everybody), ",".join(str(value) for value in everybody.values())]
