"""Clocks of other zones in queries: against DuckDB's own edition of the tz database, around every change of this year."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import duckdb
import pytest

from headrace.errors import ParameterError, ProjectErrors
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("switch")
project.source("calls", csv("calls*.csv"), id="nr", event_time="began",
    columns="nr BIGINT, began TIMESTAMPTZ NOT NULL, written TIMESTAMP NOT NULL, shop VARCHAR NOT NULL")
"""
MART = "SELECT shop, date_trunc('minute', began) AS minute, date_trunc('minute', written) AS written, count(*) AS calls FROM calls GROUP BY ALL"
HERE = "minute AT TIME ZONE coalesce($zone, 'UTC')"
ZONES = ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "America/New_York",
         "Pacific/Apia", "Africa/Casablanca", "UTC"]  # fmt: skip
QUERIES = {
    "hours": f"SELECT extract(hour FROM {HERE}) AS hour, extract(minute FROM {HERE}) AS past, CAST({HERE} AS DATE) AS day, extract(isodow FROM {HERE}) AS weekday, "
    "measure(calls) AS calls FROM m WHERE shop = $shop GROUP BY hour, past, day, weekday ORDER BY day, hour, past",
    "fixed": "SELECT measure(calls) AS calls FROM m WHERE shop = $shop AND extract(hour FROM minute AT TIME ZONE 'Asia/Kathmandu') < 6",
}


def moments() -> list[dt.datetime]:
    """Around the hours in which some clocks are changed, and at random."""
    rnd = random.Random(1)
    near = [
        dt.datetime(2024, m, d, tzinfo=dt.UTC)
        for m, d in ((3, 10), (3, 31), (4, 6), (4, 7), (9, 28), (10, 5), (10, 27), (11, 3))
    ]
    some = [at + dt.timedelta(minutes=rnd.randrange(-180, 1620)) for at in near for _ in range(60)]
    return some + [
        dt.datetime(1971, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=rnd.randrange(28_000_000)) for _ in range(400)
    ]


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    files = {f"queries/{name}.sql": sql for name, sql in QUERIES.items()}
    folder = ProjectFolder(tmp_path_factory.mktemp("switch"), DECLARATIONS, {"marts/m.sql": MART, **files})
    lines = [f"{n},{at:%Y-%m-%dT%H:%M}:30Z,{at:%Y-%m-%dT%H:%M},a\n" for n, at in enumerate(moments())]
    folder.land("calls_1.csv", "nr,began,written,shop\n" + "".join(lines))
    folder.run()
    return folder


@pytest.mark.parametrize("zone", ZONES)
def test_hours_and_days_of_a_zone_are_those_of_its_clocks(zone: str, switch: ProjectFolder) -> None:
    con = duckdb.connect()
    con.execute("SET timezone = 'UTC'")
    con.execute("CREATE TABLE calls (began TIMESTAMPTZ)")
    con.executemany("INSERT INTO calls VALUES (?)", [(at,) for at in moments()])
    here = f"(began AT TIME ZONE '{zone}')"
    wanted = con.execute(
        f"SELECT hour({here}), minute({here}), CAST({here} AS DATE)::VARCHAR, isodow({here}), count(*) FROM calls GROUP BY ALL ORDER BY 3, 1, 2"
    ).fetchall()
    given = {} if zone == "UTC" else {"zone": zone}
    assert [tuple(row) for row in switch.answer("hours", shop="a", **given).rows] == wanted


def test_a_zone_that_the_query_names_is_reckoned_when_answering(switch: ProjectFolder) -> None:
    """Two engines would have two editions of the tz database."""
    wanted = sum(((at.hour * 60 + at.minute + offset(at)) // 60) % 24 < 6 for at in moments())
    assert switch.ask("fixed", shop="a") == [{"calls": wanted}]
    assert [table.where for table in switch.app.project.queries["fixed"].tables] == [""]


def offset(at: dt.datetime) -> int:
    """Minutes of Kathmandu: half past five until 1986, a quarter to six since."""
    return 345 if at.year >= 1986 else 330


@pytest.mark.parametrize(
    ("zone", "help"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berln", "Europe/Berlin"),
        ("../../etc/passwd", "tz database"),
        ("Q" * 99, "UTC"),
    ],
)
def test_an_unknown_zone_is_a_wrong_parameter(zone: str, help: str, switch: ProjectFolder) -> None:
    with pytest.raises(ParameterError) as raised:
        switch.ask("hours", shop="a", zone=zone)
    assert (raised.value.code, raised.value.parameter) == ("HR0502", "zone")
    assert help in raised.value.help


def test_a_zone_is_a_parameter_wherever_it_stands(switch: ProjectFolder) -> None:
    (zone,) = [p for p in switch.app.project.queries["hours"].parameters if p.zone]
    assert (zone.name, zone.required, str(zone.type)) == ("zone", False, "VARCHAR")


REFUSED = [
    ("minute AT TIME ZONE $zone AS here", "extract(hour FROM"),
    ("extract(hour FROM written AT TIME ZONE $zone) AS hour", "TIMESTAMPTZ"),
    ("extract(hour FROM minute AT TIME ZONE shop) AS hour", "parameter"),
    ("extract(hour FROM minute AT TIME ZONE 'Europe/Berln') AS hour", "did you mean 'Europe/Berlin'?"),
    ("CAST(minute AT TIME ZONE $zone AS VARCHAR) AS here", "CAST(t AT TIME ZONE zone AS DATE)"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "help"), REFUSED, ids=[help for _, help in REFUSED])
def test_a_local_time_that_would_be_taken_for_utc_is_refused(column: str, help: str, tmp_path: Path) -> None:
    sql = f"SELECT {column}, calls FROM m WHERE shop = $shop"
    folder = ProjectFolder(tmp_path, DECLARATIONS, {"marts/m.sql": MART, "queries/q.sql": sql})
    with pytest.raises(ProjectErrors) as raised:
        _ = folder.app.project
    (error,) = raised.value.errors
    assert error.code == "HR0202"
    assert help in error.help


@pytest.mark.parametrize("place", ["marts/bad.sql", "silver/bad.sql"])
def test_marts_and_silver_have_no_zones(place: str, tmp_path: Path) -> None:
    sql = "SELECT nr, began, extract(hour FROM began AT TIME ZONE 'Asia/Tokyo') AS hour FROM calls"
    sql = (
        sql.replace("nr, began,", "").replace(" FROM calls", ", count(*) AS n FROM calls GROUP BY ALL")
        if "marts" in place
        else sql
    )
    folder = ProjectFolder(tmp_path, DECLARATIONS, {"marts/m.sql": MART, place: sql})
    with pytest.raises(ProjectErrors) as raised:
        _ = folder.app.project
    assert [(e.code, "AT TIME ZONE $zone" in e.help) for e in raised.value.errors] == [("HR0202", True)]
