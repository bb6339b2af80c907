"""The telecom project on the original files and on generated ones: every row of its marts against an independent oracle, and
each bug of the originals as a test of its own."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.cli import init
from headrace.errors import ParameterError
from tests.data import landing
from tests.journeys.cloud_tables import ask
from tests.kit import Opened, Quiet
from tests.oracle import telecom as oracle

Row = dict[str, Any]
D = Decimal
ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "src/headrace/projects/telecom"
REAL = ("nngidi", "jermaine-beea")
TARIFFS = """category,valid_from,price_zar,per,step
call,2020-01-01T00:00:00,1,60,1
data,2020-01-01T00:00:00,49,1000000000,1
"""


def made(folder: Path) -> App:
    """The shipped project in a new folder, with its tariffs."""
    init.write(folder, "telecom")
    (folder / "landing").mkdir()
    (folder / "landing/tariffs.csv").write_text(TARIFFS)
    return Opened(folder, {"inbox.quiet": 0.0})


def filled(folder: Path, files: str) -> App:
    app = made(folder)
    if files == "generated":
        app.generate(0.03, 7, None)
    else:
        for file in landing("telecom", files).glob("*.csv"):
            shutil.copy(file, folder / "landing")
    return app


@pytest.fixture(scope="session", params=[*REAL, pytest.param("generated", marks=pytest.mark.slow)])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> App:
    app = filled(tmp_path_factory.mktemp("telecom") / "telecom", request.param)
    observer = Quiet()
    app.run(observer)
    assert observer.alarms == []
    return app


@pytest.fixture(scope="session")
def nngidi(tmp_path_factory: pytest.TempPathFactory) -> App:
    app = filled(tmp_path_factory.mktemp("nngidi") / "telecom", "nngidi")
    app.run(Quiet())
    return app


def inbox(app: App) -> Path:
    return app.folder / "landing"


def mart(app: App, name: str) -> list[Row]:
    app.gold.define()
    sql = f"SELECT * FROM {name}"
    names = [column for column, _ in app.engine.describe(sql)]
    return [dict(zip(names, row, strict=True)) for row in app.engine.rows(sql)]


MARTS: dict[str, tuple[Callable[[Path], list[Row]], tuple[str, ...]]] = {
    "usage_15min": (oracle.usage_15min, ("msisdn", "start", "category", "usage_type")),
    "network_hourly": (oracle.network_hourly, ("day", "hour", "category", "usage_type")),
    "subscriber_days": (oracle.subscriber_days, ("day", "msisdn")),
    "forex_hourly": (oracle.forex_hourly, ("pair_name", "day", "hour")),
    "last_prices": (oracle.last_prices, ("pair_name", "day", "hour")),
}


def differences(found: list[Row], expected: list[Row], key: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with rows as the engine has them; it finishes quotients as doubles."""
    wanted = {tuple(row[k] for k in key): row for row in expected}
    have = {tuple(row[k] for k in key): row for row in found}
    if not len(wanted) == len(expected) == len(have) == len(found) or have.keys() != wanted.keys():
        yield f"{len(found)} rows, {len(expected)} expected: {sorted(map(str, have.keys() ^ wanted.keys()))[:5]}"
        return
    for name, row in wanted.items():
        for column, value in row.items():
            close = pytest.approx(float(value), rel=1e-12) if isinstance(value, Fraction) else value
            if have[name][column] != close:
                yield f"{name}.{column}: {have[name][column]} found, {value} expected"


@pytest.mark.parametrize("name", MARTS)
def test_every_row_of_a_mart_is_the_oracles(name: str, ran: App) -> None:
    rows_of, key = MARTS[name]
    expected = rows_of(inbox(ran))
    assert expected or "forex" in name or "prices" in name
    assert list(differences(mart(ran, name), expected, key)) == []


def rounded(value: Fraction | None, places: int = 6) -> Decimal | None:
    if value is None:
        return None
    whole = int(abs(value) * 10**places + Fraction(1, 2))
    return D(whole if value >= 0 else -whole).scaleb(-places)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def some_subscribers(used: list[oracle.Use], count: int = 40) -> list[str]:
    everyone = sorted({u.msisdn for u in used})
    by_use = sorted(everyone, key=lambda m: (-sum(u.msisdn == m for u in used[:3000]), m))
    return [*by_use[: count // 2], *random.Random(1).sample(everyone, count // 2)]


@pytest.mark.parametrize("granularity", ["hour", "day"])
def test_data_usage_is_the_oracles(granularity: str, ran: App) -> None:
    used = oracle.uses(inbox(ran))
    floor = oracle.hour if granularity == "hour" else lambda at: oracle.hour(at).replace(hour=0)
    for msisdn in some_subscribers(used):
        expected = oracle.grouped(
            (u for u in used if u.msisdn == msisdn),
            lambda u: {"start_time": floor(u.at), "category": u.category, "usage_type": u.usage_type},
        )
        expected.sort(key=lambda r: (r["start_time"], r["category"], r["usage_type"]))
        found = ask(
            ran, "data_usage", msisdn=msisdn, start_time="2023-12-31", end_time="2025-01-01", granularity=granularity
        )
        assert [
            (moment(r["start_time"]), r["category"], r["usage_type"], r["total"], r["measure"], D(r["cost_zar"]))
            for r in found
        ] == [
            (
                r["start_time"], r["category"], r["usage_type"],
                r["seconds"] if r["category"] == "call" else r["bytes"],
                "seconds" if r["category"] == "call" else "bytes", rounded(r["cost_zar"]),
            )
            for r in expected
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "floor"),
    [
        ("usage_15min", oracle.quarter),
        ("usage_30min", oracle.half),
        ("usage_1h", oracle.hour),
        ("usage_day", lambda at: oracle.hour(at).replace(hour=0)),
    ],
)
def test_the_prepared_layers_are_the_oracles(query: str, floor: Callable[[datetime], datetime], ran: App) -> None:
    used = oracle.uses(inbox(ran))
    for msisdn in some_subscribers(used, 20):
        groups: defaultdict[datetime, list[oracle.Use]] = defaultdict(list)
        for use in used:
            if use.msisdn == msisdn:
                groups[floor(use.at)].append(use)
        found = ask(ran, query, msisdn=msisdn, from_="2023-12-31", to="2025-01-01")
        assert [moment(r["datetime"]) for r in found] == sorted(groups)
        for row in found:
            group = groups[moment(row["datetime"])]
            wanted: Row = {
                "calls": sum(u.category == "call" for u in group), "call_seconds": sum(u.seconds for u in group),
                "data_events": sum(u.category == "data" for u in group), "up_bytes": sum(u.up for u in group),
                "down_bytes": sum(u.down for u in group), "cost_zar": sum((u.cost for u in group), Fraction(0)),
            }  # fmt: skip
            for category in ("call", "data"):
                wanted[f"{category}_cost_zar"] = sum((u.cost for u in group if u.category == category), Fraction(0))
            for kind in ("voice", "video"):
                calls = [u for u in group if (u.category, u.usage_type) == ("call", kind)]
                wanted |= {f"{kind}_calls": len(calls), f"{kind}_seconds": sum(u.seconds for u in calls)}
            for kind in ("video", "audio", "image", "text", "application"):
                sessions = [u for u in group if (u.category, u.usage_type) == ("data", kind)]
                wanted[f"{kind}_events"] = len(sessions)
                wanted[f"{kind}_up_bytes"] = sum(u.up for u in sessions)
                wanted[f"{kind}_down_bytes"] = sum(u.down for u in sessions)
            assert row.keys() == {"datetime", *wanted}
            assert {k: D(str(v)) for k, v in row.items() if k != "datetime"} == {
                k: rounded(v) if isinstance(v, Fraction) else v for k, v in wanted.items()
            }


def test_cost_in_wak_is_the_oracles(ran: App) -> None:
    used, prices = oracle.uses(inbox(ran)), oracle.Prices(inbox(ran))
    seen = set()
    for msisdn in some_subscribers(used):
        hours: defaultdict[datetime, Fraction] = defaultdict(Fraction)
        for use in used:
            if use.msisdn == msisdn:
                hours[oracle.hour(use.at)] += use.cost
        found = ask(ran, "usage_in_wak", msisdn=msisdn, from_="2023-12-31", to="2025-01-01")
        assert [moment(r["hour"]) for r in found] == sorted(hours)
        zar, wak = Fraction(0), Fraction(0)
        balances = ask(ran, "balance", msisdn=msisdn, to="2025-01-01", limit=1000)[::-1]
        for row, balance in zip(found, balances, strict=True):
            at = moment(row["hour"])
            wanted = prices.in_wak(at, hours[at])
            seen.add(row["price_of"])
            assert row["price_of"] == wanted["price_of"]
            assert [row[k] and moment(row[k]) for k in ("mrvzar_of", "wakmrv_of")] == [
                wanted["mrvzar_of"], wanted["wakmrv_of"],
            ]  # fmt: skip
            assert row["cost_wak"] == (None if wanted["cost_wak"] is None else str(rounded(wanted["cost_wak"])))
            zar, wak = zar + hours[at], wak + (wanted["cost_wak"] or 0)
            assert D(balance["balance_zar"]) == rounded(zar)
            assert D(balance["balance_wak"] or 0) == rounded(wak)
    assert seen == ({"this hour", "last known", "unknown"} if prices.known["MRVZAR"] else {"unknown"})


# The originals' figures, and their bugs


def test_money_is_added_exactly_and_rounded_once(nngidi: App) -> None:
    """Rounded record by record, as one original did, data costs nothing; with 2^30 bytes, as it also did, it is 50.29."""
    rows = ask(nngidi, "totals")
    (day,) = ask(nngidi, "days")
    bytes_ = sum(r["bytes"] for r in rows)
    assert bytes_ == 1_102_089_216
    assert D(day["cost_zar"]) == rounded(Fraction(49 * bytes_, 10**9) + Fraction(892_417, 60)) == D("14927.619038")
    costs = {r["category"]: r["cost_zar"] for r in ask(nngidi, "cost_hours", day="2024-01-01")}
    assert costs == {"call": "14873.616667", "data": "54.002372"}
    assert rounded(Fraction(costs["data"]), 3) == D("54.002")
    assert rounded(Fraction(49 * bytes_, 2**30), 2) == D("50.29")
    assert {r["usage_type"]: (r["events"], r["seconds"]) for r in rows if r["category"] == "call"} == {
        "video": (480, 429_040),
        "voice": (520, 463_377),
    }
    each = [
        oracle.grouped([u], lambda _: {})[0]["cost_zar"] for u in oracle.uses(inbox(nngidi)) if u.category == "data"
    ]
    assert sum(round(c) for c in each) == 0


def test_numbers_keep_their_leading_zeros(nngidi: App) -> None:
    rows = mart(nngidi, "subscriber_days")
    assert sum(r["msisdn"].startswith("0") for r in rows) == len(
        {u.msisdn for u in oracle.uses(inbox(nngidi)) if u.msisdn.startswith("0")}
    )
    days: Row = {"start_time": "2024-01-01", "end_time": "2024-01-02"}
    (row,) = ask(nngidi, "data_usage", msisdn="0304702597428", **days)
    assert (row["usage_type"], row["total"], row["measure"]) == ("video", 923, "seconds")
    assert ask(nngidi, "data_usage", msisdn="304702597428", **days) == [], "an unknown number has no usage"
    flagged = {r["source"]: r["records"] for r in ask(nngidi, "quality") if r["reason"] == "msisdn begins with 0"}
    assert flagged == {"cdr_data": 95, "cdr_voice": 112}


def test_who_only_calls_is_there(nngidi: App) -> None:
    used = oracle.uses(inbox(nngidi))
    callers = {u.msisdn for u in used if u.category == "call"} - {u.msisdn for u in used if u.category == "data"}
    (row,) = ask(nngidi, "usage_day", msisdn=min(callers), from_="2024-01-01", to="2024-01-02")
    assert (row["calls"], row["data_events"]) == (1, 0)
    assert len(callers & {r["msisdn"] for r in mart(nngidi, "usage_15min")}) == len(callers) > 900


@pytest.mark.parametrize(
    "wrong", [{"granularity": "week"}, {"start_time": "soon"}, {"end_time": "2024-02-30"}, {"number": "1"}]
)
def test_a_question_that_makes_no_sense_is_refused(wrong: Row, nngidi: App) -> None:
    given = {"msisdn": "1", "start_time": "2024-01-01", "end_time": "2024-01-02"} | wrong
    for query in ("data_usage", "data_usage_wak"):
        with pytest.raises(ParameterError, match="HR0502"):
            ask(nngidi, query, **given)


CDR = """msisdn,tower_id,up_bytes,down_bytes,data_type,ip_address,website_url,event_datetime
0271,1,1,2,text,10.0.0.1,http://www.o'connor.com/'';DROP TABLE usage--,2024-01-01 10:00:00.000001
0271,1,1,2,text,10.0.0.1,http://www.lee.com/,2024-01-01 10:00:00
"""


def test_an_apostrophe_and_a_time_without_a_fraction_are_read(tmp_path: Path) -> None:
    app = made(tmp_path / "telecom")
    (inbox(app) / "cdr_data.csv").write_text(CDR)
    app.run(Quiet())
    (row,) = ask(app, "data_usage", msisdn="0271", start_time="2024-01-01T10:00:00", end_time="2024-01-01T11:00:00")
    assert (row["events"], row["total"]) == (2, 6)
    assert {r["website_url"][:13] for r in mart(app, "cdr_data")} == {"http://www.o'", "http://www.le"}


def test_a_record_is_one_by_two_routes(tmp_path: Path) -> None:
    """The originals' files also went to a log; reading both would have doubled everything."""
    app = made(tmp_path / "telecom")
    (inbox(app) / "cdr_data_20240101_100000.csv").write_text(CDR)
    (inbox(app) / "log").mkdir()
    lines = CDR.replace("10:00:00\n", "10:00:00.000000\n").splitlines(keepends=True)
    (inbox(app) / "log/cdr_data.csv").write_text(lines[0] + lines[2] + lines[1])
    app.run(Quiet())
    found = {r["kind"]: r["records"] for r in ask(app, "quality", source="cdr_data") if r["reason"] == ""}
    assert (found["landed"], found["clean"], found["duplicate"]) == (4, 2, 2)


@pytest.mark.slow
def test_two_equal_records_of_one_file_are_two(tmp_path: Path) -> None:
    app = made(tmp_path / "telecom")
    (inbox(app) / "cdr_data.csv").write_text(CDR + CDR.splitlines(keepends=True)[2])
    app.run(Quiet())
    assert sum(r["events"] for r in ask(app, "totals")) == 3
    shutil.copy(inbox(app) / "cdr_data.csv", inbox(app) / "cdr_data_again.csv")
    app.run(Quiet())
    assert sum(r["events"] for r in ask(app, "totals")) == 3, "the file once more, under another name"
    three = inbox(app) / "cdr_data_three.csv"
    three.write_text(CDR + CDR.splitlines(keepends=True)[2] * 2)
    app.run(Quiet())
    assert sum(r["events"] for r in ask(app, "totals")) == 4, "and one more of them"


def everything(app: App) -> dict[str, list[Row]]:
    """The marts, and some answers."""
    rows = {name: mart(app, name) for name in MARTS}
    rows["totals"] = ask(app, "totals")
    for day in ("2024-01-01", "2024-01-02"):
        rows[day] = ask(app, "top_subscribers", day=day, limit=10_000)
        rows[day + " cost"] = ask(app, "cost_hours", day=day)
    return {name: sorted(found, key=str) for name, found in rows.items()}


@pytest.mark.slow
def test_every_file_twice_changes_nothing(tmp_path: Path, ran: App) -> None:
    app = made(tmp_path / "telecom")
    shutil.copytree(inbox(ran), inbox(app), dirs_exist_ok=True)
    app.run(Quiet())
    before = everything(app)
    assert before == everything(ran)
    for file in list(inbox(app).glob("*.csv")) + list(inbox(app).glob("*.jsonl")):
        file.touch()  # the same file once more
        shutil.copy(file, file.with_name(f"{file.stem}_copy{file.suffix}"))
    app.run(Quiet())
    assert everything(app) == before
    app.run(Quiet(), full=True)
    assert everything(app) == before


@pytest.mark.slow
def test_shuffled_and_late_records_count_alike(tmp_path: Path, ran: App) -> None:
    """Ten files in four runs: quarters of an hour that are half filled, and records from before what was counted."""
    app = made(tmp_path / "telecom")
    rnd = random.Random(5)
    arrivals: list[list[tuple[str, str]]] = [[] for _ in range(4)]
    for kind, suffix in (("cdr_data", "csv"), ("cdr_voice", "csv"), ("tick-data", "jsonl")):
        header, lines = "", []
        for file in inbox(ran).rglob(f"{kind}*.{suffix}"):
            text = file.read_text()
            if suffix == "csv":
                header, _, text = text.partition("\n")
                header += "\n"
            lines += text.splitlines(keepends=True)
        lines = list(dict.fromkeys(lines))  # two of one file would be two events
        rnd.shuffle(lines)
        for n in range(10):
            arrivals[n % 4].append((f"{kind}_{n}.{suffix}", header + "".join(lines[n::10])))
    for files in arrivals:
        for name, text in files:
            (inbox(app) / name).write_text(text)
        app.run(Quiet())
    assert everything(app) == everything(ran)


def test_a_bucket_that_was_half_filled_is_filled(tmp_path: Path) -> None:
    """One original went on behind the last bucket it had written: what came for that one was lost, or replaced it."""
    app = made(tmp_path / "telecom")
    header, first, second = CDR.splitlines(keepends=True)
    (inbox(app) / "cdr_data_1.csv").write_text(header + first)
    app.run(Quiet())
    assert [r["events"] for r in ask(app, "totals")] == [1]
    (inbox(app) / "cdr_data_2.csv").write_text(
        header + second.replace("10:00:00", "10:14:59") + second.replace("10:00:00", "09:59:59")
    )
    app.run(Quiet())
    assert [(r["start"].hour, r["events"]) for r in sorted(mart(app, "usage_15min"), key=lambda r: r["start"])] == [
        (9, 1),
        (10, 2),
    ]


# The stream


def stream(app: App) -> None:
    command = [sys.executable, "-m", "headrace", "--project", str(app.folder), "stream", "--until-caught-up", "-q"]
    environment = {**os.environ, "HEADRACE_INBOX__QUIET": "0", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_is_streamed_as_it_arrives_is_what_the_batch_counts(tmp_path: Path) -> None:
    batch, streamed = made(tmp_path / "batch"), made(tmp_path / "streamed")
    batch.generate(0.05, 3, None)
    files = sorted(f.relative_to(inbox(batch)) for f in inbox(batch).rglob("cdr_*.csv"))
    files += sorted(f.relative_to(inbox(batch)) for f in inbox(batch).rglob("calls*.csv"))
    files += sorted(f.relative_to(inbox(batch)) for f in inbox(batch).glob("tick-data*"))
    batch.run(Quiet())
    streamed.run(Quiet())
    for n in range(3):
        for file in files[n::3]:
            target = inbox(streamed) / file
            target.parent.mkdir(exist_ok=True)
            shutil.copy(inbox(batch) / file, target)
        stream(streamed)
    assert streamed.status()["generation"] == 1, "nothing but the stream has counted them"
    used = oracle.uses(inbox(batch))
    questions: list[tuple[str, Row]] = [
        ("totals", {}),
        ("days", {}),
        ("quality", {}),
        ("usage_days", {"month": "2024-01-01"}),
    ]
    for day in ("2024-01-01", "2024-01-02", "2024-01-03"):
        for query in ("usage_hours", "summary", "data_types", "call_types", "quality_of_day"):
            questions.append((query, {"day": day}))
        questions.append(("top_subscribers", {"day": day, "limit": 10_000}))
    span = {"from_": "2024-01-01", "to": "2024-01-05"}
    for pair in oracle.PAIRS:
        questions.append(("forex", {"pair": pair, **span}))
    for msisdn in some_subscribers(used, 10):
        questions += [
            (query, {"msisdn": msisdn, **span}) for query in ("usage_15min", "usage_30min", "usage_1h", "usage_day")
        ]
        questions.append(("data_usage", {"msisdn": msisdn, "start_time": "2024-01-01", "end_time": "2024-01-05"}))
    for query, parameters in questions:
        wanted = ask(batch, query, **parameters)
        assert wanted
        assert ask(streamed, query, **parameters) == wanted, (query, parameters)
    # Prices of an hour's own ticks are streamed; which price was the last known one, only the batch can say.
    for msisdn in some_subscribers(used, 10):
        both = [ask(app, "usage_in_wak", msisdn=msisdn, **span) for app in (batch, streamed)]
        for wanted_row, row in zip(*both, strict=True):
            if wanted_row["price_of"] == "this hour":
                assert row == wanted_row
            else:
                assert row["price_of"] in {"last known", "unknown"}
                assert row["cost_zar"] == wanted_row["cost_zar"]
    streamed.run(Quiet())
    assert everything(streamed) == everything(batch)


# Sample data


@pytest.mark.parametrize(("scale", "seed"), [(0.03, 7), (0.2, 1)])
def test_the_truth_about_generated_data_is_what_is_found(scale: float, seed: int, tmp_path: Path) -> None:
    app = made(tmp_path / "telecom")
    app.generate(scale, seed, None)
    app.run(Quiet())
    truth = json.loads((inbox(app) / "_truth/truth.json").read_text())
    assert (truth["seed"], truth["scale"]) == (seed, scale)
    totals = {(r["category"], r["usage_type"]): r for r in ask(app, "totals")}
    assert len(totals) == len(truth["totals"]) == 7
    for row in truth["totals"]:
        found = totals[row["category"], row["usage_type"]]
        for column in ("events", "up_bytes", "down_bytes", "seconds"):
            assert found[column] == row[column]
        assert D(found["cost_zar"]) == rounded(Fraction(row["due_zar"], row["divided_by"]))
    for source in ("cdr_data", "cdr_voice"):
        planted = truth[source]
        found_of = {(r["kind"], r["reason"]): r["records"] for r in ask(app, "quality", source=source)}
        again = planted["again"]
        assert found_of["clean", ""] == planted["records"] - planted["damaged"]
        assert found_of["landed", ""] == planted["records"] + planted["duplicates"] + again["rows"]
        assert found_of["duplicate", ""] == planted["duplicates"] + again["rows"] - again["damaged"]
        damaged = {reason: count for (kind, reason), count in found_of.items() if kind == "quarantined"}
        assert sum(damaged.values()) == planted["damaged"] + again["damaged"]
        assert damaged.keys() == (planted["damage"] or {}).keys()
        assert planted["late"] > 0
        assert planted["duplicates"] > 0
        assert planted["whole_seconds"] > 0


def test_sample_data_is_that_of_its_seed_and_named_as_the_originals(tmp_path: Path) -> None:
    app = made(tmp_path / "telecom")
    texts = []
    for place, seed in (("one", 1), ("again", 1), ("other", 2)):
        folder = app.generate(0.01, seed, str(tmp_path / place))
        texts.append({f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()})
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].keys() == texts[2].keys()
    for file in texts[0]:
        if file.name.startswith("cdr_") and file.parent == Path():
            kind, _, made_at = file.stem.rpartition("_20")
            assert kind in {"cdr_data", "cdr_voice"}
            assert moment("20" + made_at.replace("_", "T")) > datetime(2024, 1, 1)


def sampled(folder: Path, **knobs: float) -> list[Row]:
    """Calls and sessions of one set of sample data."""
    from headrace import Samples, wiring

    generate = runpy.run_path(str(PROJECT / "samples.py"))["generate"]
    app = made(folder)
    with wiring.scratch(app.folder, app.settings, inbox(app)) as run_sql:
        generate(Samples(run_sql, inbox(app), seed=1, scale=0.1), **knobs)
    rows: list[Row] = []
    for file in sorted(inbox(app).glob("cdr_*.csv")):
        rows += csv.DictReader(io.StringIO(file.read_text()))
    return rows


def share_of_the_first(rows: list[Row]) -> float:
    counts: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["msisdn"]] += 1
    return max(counts.values()) / len(rows)


def test_sample_data_follows_its_knobs(tmp_path: Path) -> None:
    none = {"late": 0.0, "duplicates": 0.0, "corrupt": 0.0}
    even, skewed = (
        sampled(tmp_path / "even", skew=0.0, **none),
        sampled(tmp_path / "skewed", skew=1.5, roaming=1.0, **none),
    )
    assert share_of_the_first(even) < 0.02
    assert share_of_the_first(skewed) > 0.2
    truth = json.loads((tmp_path / "even/landing/_truth/truth.json").read_text())
    assert [truth["cdr_data"][k] for k in ("late", "duplicates", "damaged")] == [0, 0, 0]
    times = sorted((row["msisdn"], row.get("start_time") or row["event_datetime"], row["tower_id"]) for row in skewed)
    near = [
        (a[2] == b[2])
        for a, b in itertools.pairwise(times)
        if a[0] == b[0] and moment(b[1]) - moment(a[1]) < timedelta(minutes=20)
    ]
    assert sum(near) / len(near) > 0.8, "who was here a moment ago is still here"
    by_hour: defaultdict[int, int] = defaultdict(int)
    for _, at, _ in times:
        by_hour[moment(at).hour] += 1
    assert by_hour[18] > 4 * by_hour[3], "days are busier than nights"


@pytest.mark.slow
@pytest.mark.parametrize(("index", "files"), [(23, "nngidi"), (2, "jermaine-beea")])
def test_the_original_generator_bit_for_bit(index: int, files: str) -> None:
    faker = pytest.importorskip("faker", reason="the original files need Faker: the extra `original`")
    original = runpy.run_path(str(PROJECT / "original.py"))
    if original["FAKER"] != faker.VERSION:
        pytest.skip(f"Faker is {faker.VERSION}, not {original['FAKER']}")
    folder = landing("telecom", files)
    drawn = original["cdr_files"]()
    for _ in range(2 * index):
        next(drawn)
    for kind in ("cdr_data", "cdr_voice"):
        name, text = next(drawn)
        at = datetime(2024, 1, 1) + timedelta(seconds=1005 * (index + 1))
        assert name == f"{kind}_{at:%Y%m%d_%H%M%S}.csv"
        # One of the two repositories keeps its files with other ends of lines.
        assert text.replace("\r\n", "\n") == (folder / f"{kind}.csv").read_text().replace("\r\n", "\n")


def test_the_original_ticks_are_what_their_contract_says() -> None:
    original = runpy.run_path(str(PROJECT / "original.py"))
    drawn = original["ticks"]()
    ticks = [next(drawn) for _ in range(2000)]
    assert [t["pair_name"] for t in ticks[:2]] == ["MRVZAR", "WAKMRV"]
    assert all(1 <= t["bid_price"] <= 2 and round(t["bid_price"] + t["spread"], 4) == t["ask_price"] for t in ticks)
    last = moment(ticks[-1]["timestamp"])
    assert timedelta(seconds=490) < last - datetime(2024, 1, 1) < timedelta(seconds=510)


def test_the_original_files_are_written_whole(tmp_path: Path) -> None:
    original = runpy.run_path(str(PROJECT / "original.py"))
    inside = original["write"].__globals__
    inside["TICKS"] = 7300
    inside["cdr_files"] = lambda *, production: iter([(f"cdr_data_{production}.csv", "a\r\n")])
    original["write"](lambda name, text: (tmp_path / name).write_bytes(text.encode()), production=True)
    assert (tmp_path / "cdr_data_True.csv").read_bytes() == b"a\r\n"
    files = ["tick-data_20240101_00.jsonl", "tick-data_20240101_01.jsonl"]
    assert sorted(f.name for f in tmp_path.glob("*.jsonl")) == files
    lines = [json.loads(line) for name in files for line in (tmp_path / name).read_text().splitlines()]
    assert lines == list(original["ticks"]())
