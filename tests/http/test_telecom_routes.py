"""The usage API of the telecom project, as a client over HTTP sees it, against the oracle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from headrace.cli import init
from headrace.http import credentials
from headrace.http.auth import Authenticator
from headrace.http.throttle import Throttle
from tests.data import landing
from tests.http.conftest import PASSWORD, USER, Running, running
from tests.kit import ProjectFolder
from tests.oracle import telecom as oracle

Row = dict[str, Any]
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
ROOT = Path(__file__).parents[2]
PACKS = "nngidi, jermaine_beea, jermaine_beea_calls, msisdns"
SHOWN = "%Y-%m-%d %H:%M:%S"
TARIFFS = """category,valid_from,price_zar,per,step
call,2020-01-01T00:00:00,1,60,1
data,2020-01-01T00:00:00,49,1000000000,1
"""


def telecom(folder: Path) -> ProjectFolder:
    init.write(folder, "telecom")
    return ProjectFolder(folder, (folder / "project.py").read_text())


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Some sample data, with all routes."""
    folder = tmp_path_factory.mktemp("routes")
    project = telecom(folder / "telecom")
    project.app.generate(0.02, 1, None)
    project.run()
    with running(project, folder / "users.json", **{"serve.routes": PACKS}) as started:
        yield started


@pytest.fixture(scope="module")
def nngidi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The originals' own sample file, with the routes that are on by themselves."""
    folder = tmp_path_factory.mktemp("nngidi")
    project = telecom(folder / "telecom")
    project.land("tariffs.csv", TARIFFS)
    for file in landing("telecom", "nngidi").glob("*.csv"):
        shutil.copy(file, project.folder / "landing")
    project.run()
    with running(project, folder / "users.json") as started:
        yield started


def inbox(site: Running) -> Path:
    return site.app.folder / "landing"


def usage(site: Running, path: str = "/data_usage", **parameters: str) -> httpx.Response:
    asked = {"msisdn": "2712345678901", "start_time": "20240101000000", "end_time": "20240104000000"} | parameters
    return site.client.get(path, params=asked, auth=(USER, PASSWORD))


def expected(site: Running, msisdn: str, low: datetime, high: datetime, *, by_day: bool = False) -> list[Row]:
    """What ``usage`` must be: calls and sessions by the quarter of an hour in which they began."""
    prices = oracle.Prices(inbox(site))

    def floor(at: datetime) -> datetime:
        return oracle.hour(at).replace(hour=0) if by_day else oracle.hour(at)

    rows = oracle.grouped(
        (u for u in oracle.uses(inbox(site)) if u.msisdn == msisdn and low <= oracle.quarter(u.at) < high),
        lambda u: {"start_time": floor(u.at), "category": u.category, "usage_type": u.usage_type},
    )
    found = []
    for row in sorted(rows, key=lambda r: (r["start_time"], r["category"], r["usage_type"])):
        call = row["category"] == "call"
        one = {
            "category": row["category"], "usage_type": row["usage_type"],
            "total": row["seconds"] if call else row["bytes"], "measure": "seconds" if call else "bytes",
            "start_time": row["start_time"].strftime(SHOWN),
        }  # fmt: skip
        wak = None if by_day else prices.in_wak(row["start_time"], row["cost_zar"])["cost_wak"]
        found.append(one if wak is None else {**one, "cost_wak": rounded(wak)})
    return found


def rounded(value: Fraction) -> Decimal:
    return Decimal(int(value * 10**6 + Fraction(1, 2))).scaleb(-6)


def exact(response: httpx.Response) -> Row:
    """The body, with numbers as they were written."""
    found: Row = json.loads(response.text, parse_float=Decimal)
    return found


def subscribers(site: Running, count: int = 12) -> list[str]:
    return sorted({u.msisdn for u in oracle.uses(inbox(site))})[:count]


@pytest.mark.parametrize("by_day", [False, True], ids=["hour", "day"])
def test_data_usage_is_the_oracles(by_day: bool, generated: Running) -> None:
    priced = 0
    for msisdn in ["2712345678901", *subscribers(generated)]:
        answer = usage(generated, msisdn=msisdn, granularity="day" if by_day else "hour")
        assert answer.status_code == 200
        rows = expected(generated, msisdn, datetime(2024, 1, 1), datetime(2024, 1, 4), by_day=by_day)
        assert exact(answer) == {
            "msisdn": msisdn, "start_time": "2024-01-01 00:00:00", "end_time": "2024-01-04 00:00:00", "usage": rows,
        }  # fmt: skip
        priced += sum("cost_wak" in row for row in rows)
    assert (priced > 0) == (not by_day)


def test_the_hour_is_the_default_and_an_end_is_not_included(generated: Running) -> None:
    low, high = datetime(2024, 1, 1, 9, 15), datetime(2024, 1, 2, 11, 30)
    part = usage(generated, start_time="20240101091500", end_time="20240102113000")
    assert exact(part)["usage"] == expected(generated, "2712345678901", low, high) != []


def test_the_cost_of_data_is_54_002_zar(nngidi: Running) -> None:
    """Over all subscribers of the file: the bytes that the route gives, times 49 ZAR for 10^9."""
    seconds = bytes_ = 0
    for msisdn in sorted({u.msisdn for u in oracle.uses(inbox(nngidi))}):
        asked = f"/data_usage?msisdn={msisdn}&start_time=20240101000000&end_time=20240102000000&granularity=day"
        for row in nngidi.get(asked).json()["usage"]:
            bytes_ += row["total"] if row["category"] == "data" else 0
            seconds += row["total"] if row["category"] == "call" else 0
    assert (bytes_, seconds) == (1_102_089_216, 892_417)
    assert round(Decimal(49 * bytes_) / 10**9, 3) == Decimal("54.002")


def test_numbers_keep_their_zeros(nngidi: Running) -> None:
    (row,) = usage(nngidi, msisdn="0304702597428").json()["usage"]
    assert (row["usage_type"], row["total"], row["measure"]) == ("video", 923, "seconds")
    assert "cost_wak" not in row, "no exchange rate is known"
    assert usage(nngidi, msisdn="304702597428").json()["usage"] == []


WRONG = [
    ({"start_time": "soon"}, "start_time"),
    ({"start_time": "2024-01-01"}, "start_time"),
    ({"start_time": "2024013100000"}, "start_time"),
    ({"end_time": "20240230000000"}, "end_time"),
    ({"end_time": "20240101246000"}, "end_time"),
    ({"end_time": "20231231235959"}, "end_time"),
    ({"end_time": "20240201000001"}, "end_time"),
    ({"end_time": ""}, "end_time"),
    ({"msisdn": "27 1"}, "msisdn"),
    ({"msisdn": "' OR 1=1 --"}, "msisdn"),
    ({"granularity": "week"}, "granularity"),
    ({"limit": "0"}, "limit"),
    ({"limit": "1e9"}, "limit"),
    ({"cursor": "x"}, "cursor"),
    ({"nobody": "1"}, "nobody"),
]


@pytest.mark.parametrize(("wrong", "parameter"), WRONG, ids=[str(w) for w, _ in WRONG])
def test_a_wrong_question_is_400_and_names_the_parameter(wrong: Row, parameter: str, generated: Running) -> None:
    answer = usage(generated, **wrong)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["parameter"] == parameter
    assert answer.json()["instance"] == "/data_usage"


def test_what_is_missing_or_twice_is_400(generated: Running) -> None:
    missing = generated.get("/data_usage?msisdn=1&start_time=20240101000000")
    twice = generated.get("/data_usage?msisdn=1&msisdn=2&start_time=20240101000000&end_time=20240102000000")
    assert [a.json()["errors"][0]["parameter"] for a in (missing, twice)] == ["end_time", "msisdn"]
    assert {missing.status_code, twice.status_code} == {400}


def test_a_month_is_the_longest_range(generated: Running) -> None:
    assert usage(generated, end_time="20240201000000").status_code == 200


def test_who_does_not_log_in_learns_nothing(generated: Running) -> None:
    asked = "/data_usage?msisdn=2712345678901&start_time=20240101000000&end_time=20240102000000"
    nobody = generated.anonymous(asked)
    wrong = generated.client.get(asked, auth=(USER, "wrong"))
    assert nobody.status_code == wrong.status_code == 401
    assert any("Basic" in value for value in nobody.headers.get_list("www-authenticate"))
    assert b"2712345678901" not in nobody.content
    only_metrics = {"authorization": f"Bearer {generated.metrics_token}"}
    assert generated.get(asked, headers=only_metrics).status_code == 403


def test_unknown_and_foreign_numbers_cannot_be_told_apart(generated: Running) -> None:
    """Alike in body, in headers and in what is read: an answer that reads the same takes the same time."""
    store = generated.app.store
    fetches: list[str] = []
    fetch = store.fetch

    def counted(table: Any, *args: Any, **more: Any) -> Any:
        fetches.append(table.name)
        return fetch(table, *args, **more)

    numbers = ("2700000000000", "4915112345678", "0000000000000")
    answers, read = [], []
    try:
        store.fetch = counted  # type: ignore[method-assign]  # the store itself answers; this only counts
        for msisdn in numbers:
            fetches.clear()
            answers.append(usage(generated, msisdn=msisdn))
            read.append(list(fetches))
    finally:
        store.fetch = fetch  # type: ignore[method-assign]
    assert read[0] == read[1] == read[2] != []
    for msisdn, answer in zip(numbers, answers, strict=True):
        assert answer.status_code == 200
        assert answer.json() == {
            "msisdn": msisdn, "start_time": "2024-01-01 00:00:00", "end_time": "2024-01-04 00:00:00", "usage": [],
        }  # fmt: skip
    apart = ("x-request-id", "etag", "date")
    assert len({str([p for p in a.headers.items() if p[0] not in apart]) for a in answers}) == 1


@pytest.mark.parametrize("by", ["hour", "day"])
@pytest.mark.parametrize("limit", [1, 5, 7])
def test_pages_hold_whole_hours_and_together_everything(limit: int, by: str, generated: Running) -> None:
    msisdn = "2712345678901"
    whole = usage(generated, granularity=by)
    assert "link" not in whole.headers
    asked = (
        f"/data_usage?msisdn={msisdn}&start_time=20240101000000&end_time=20240104000000&limit={limit}&granularity={by}"
    )
    rows: list[Row] = []
    pages = 0
    while asked:
        answer = generated.get(asked)
        page = exact(answer)["usage"]
        assert page
        assert not rows or page[0]["start_time"] > rows[-1]["start_time"]
        assert len(page) <= limit or len({row["start_time"] for row in page}) == 1
        rows += page
        pages += 1
        asked = answer.links["next"]["url"] if "link" in answer.headers else ""
    assert rows == exact(whole)["usage"]
    assert pages > 2


def test_it_has_etag_limits_and_headers_like_every_answer(generated: Running) -> None:
    answer = usage(generated)
    assert answer.headers["headrace-generation"] == "1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-request-id"]
    tag = {"if-none-match": answer.headers["etag"], "authorization": f"Bearer {generated.token}"}
    same = generated.get(str(answer.url.copy_with(username=None, password=None)), headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    assert usage(generated, msisdn="1").headers["etag"] != answer.headers["etag"]
    assert usage(generated, "/nngidi/data_usage").headers["etag"] != answer.headers["etag"]
    assert generated.request("POST", "/data_usage").status_code == 405
    options = generated.request("OPTIONS", "/data_usage")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    head = generated.request("HEAD", str(answer.url.copy_with(username=None, password=None)))
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(answer.content)


# The originals' own


def test_nngidis_client_is_answered(generated: Running) -> None:
    """Its page asks for a day up to its last second, and shows these six fields."""
    answer = exact(usage(generated, "/nngidi/data_usage", end_time="20240101235959"))
    day = expected(generated, "2712345678901", datetime(2024, 1, 1), datetime(2024, 1, 2))
    named = {"call": "voice", "data": "data"}
    assert answer["end_time"] == "2024-01-01 23:59:59"
    assert answer["usage"] == [
        {**row, "category": named[row["category"]], "cost_wak": row.get("cost_wak")} for row in day
    ]
    assert {row["category"] for row in answer["usage"]} == {"voice", "data"}


def test_numbers_are_listed_for_those_who_log_in(generated: Running) -> None:
    assert generated.anonymous("/nngidi/msisdns").status_code == 401
    found = generated.get("/nngidi/msisdns?limit=3")
    used = {u.msisdn for u in oracle.uses(inbox(generated)) if u.at.date() == datetime(2024, 1, 3).date()}
    assert found.json() == {"msisdns": sorted(used)[:3]}, "of the newest day"
    more = generated.get(found.links["next"]["url"])
    assert more.json() == {"msisdns": sorted(used)[3:6]}
    assert len(generated.get("/nngidi/msisdns").json()["msisdns"]) == 10


def test_jermaine_beeas_client_is_answered(generated: Running) -> None:
    path = "/jermaine-beea/api/usage/2712345678901"
    days = expected(generated, "2712345678901", datetime(2024, 1, 1), datetime(2024, 1, 3), by_day=True)
    rows = [{**row, "start_time": row["start_time"][:10]} for row in days]
    asked: Row = {"msisdn": "2712345678901", "start_date": "2024-01-01", "end_date": "2024-01-02"}
    query = "?start_date=2024-01-01&end_date=2024-01-02"
    assert generated.get(path + query).json() == {**asked, "usage": rows}
    calls = [
        u for u in oracle.uses(inbox(generated))
        if u.msisdn == "2712345678901" and u.category == "call" and u.at < datetime(2024, 1, 3)
    ]  # fmt: skip
    dates = sorted({u.at.date() for u in calls})
    assert generated.get(f"{path}/summary{query}").json() == {**asked, "summary": {
        "total_calls": len(calls), "voice_calls": sum(u.usage_type == "voice" for u in calls),
        "video_calls": sum(u.usage_type == "video" for u in calls),
        "total_duration_seconds": sum(u.seconds for u in calls), "active_days": len(dates),
        "first_call": dates[0].isoformat(), "last_call": dates[-1].isoformat(),
    }}  # fmt: skip
    everything = generated.get(path).json()
    assert (everything["start_date"], everything["end_date"]) == (None, None)
    assert len(everything["usage"]) > len(rows)
    nobody = generated.get("/jermaine-beea/api/usage/1/summary").json()["summary"]
    assert (nobody["total_calls"], nobody["first_call"]) == (0, None)


def test_jermaine_beeas_other_answer_is_of_calls(generated: Running) -> None:
    path, query = "/jermaine-beea-calls/api/usage/2712345678901", "?start_date=2024-01-01&end_date=2024-01-02"
    asked: Row = {"msisdn": "2712345678901", "start_date": "2024-01-01", "end_date": "2024-01-02"}
    calls = [
        u for u in oracle.uses(inbox(generated))
        if u.msisdn == "2712345678901" and u.category == "call" and u.at < datetime(2024, 1, 3)
    ]  # fmt: skip
    data = []
    for date in sorted({u.at.date() for u in calls}, reverse=True):
        of_day = [u for u in calls if u.at.date() == date]
        seconds = sum(u.seconds for u in of_day)
        data.append({
            "date": date.isoformat(), "total_calls": len(of_day),
            "voice_calls": sum(u.usage_type == "voice" for u in of_day),
            "video_calls": sum(u.usage_type == "video" for u in of_day),
            "total_duration_seconds": seconds, "avg_duration_seconds": rounded(Fraction(seconds, len(of_day))),
        })  # fmt: skip
    assert exact(generated.get(path + query)) == {**asked, "data": data}
    assert len(data) == 2
    first, last = (pick(oracle.quarter(u.at) for u in calls) for pick in (min, max))
    assert generated.get(f"{path}/summary{query}").json() == {**asked, "summary": {
        "total_calls": len(calls), "voice_calls": sum(u.usage_type == "voice" for u in calls),
        "video_calls": sum(u.usage_type == "video" for u in calls),
        "total_duration_seconds": sum(u.seconds for u in calls), "active_days": len({u.at.date() for u in calls}),
        "first_call": first.isoformat(), "last_call": last.isoformat(),
    }}  # fmt: skip
    assert generated.get("/jermaine-beea-calls/api/usage/1").json()["data"] == []
    assert list(generated.anonymous(path).json()) == ["error"]
    assert generated.anonymous("/jermaine-beea-calls/health").json()["status"] == "healthy"


def test_a_day_with_data_and_no_calls_is_left_out_there(generated: Running) -> None:
    uses = oracle.uses(inbox(generated))
    calls = {(u.msisdn, u.at.date()) for u in uses if u.category == "call"}
    msisdn = min(u.msisdn for u in uses if (u.msisdn, u.at.date()) not in calls)
    days = {day.isoformat() for number, day in calls if number == msisdn}
    assert {row["date"] for row in generated.get(f"/jermaine-beea-calls/api/usage/{msisdn}").json()["data"]} == days
    daily = {row["start_time"] for row in generated.get(f"/jermaine-beea/api/usage/{msisdn}").json()["usage"]}
    assert daily > days


def test_the_calls_of_days_are_read_from_a_table_that_there_is(generated: Running) -> None:
    queries = generated.app.project.queries
    assert queries["calls_days"].tables == queries["calls_summary"].tables


def test_its_errors_have_one_member(generated: Running) -> None:
    path = "/jermaine-beea/api/usage/2712345678901"
    refused = generated.anonymous(path)
    assert (refused.status_code, list(refused.json())) == (401, ["error"])
    assert any("Basic" in value for value in refused.headers.get_list("www-authenticate"))
    wrong = generated.get(f"{path}?start_date=01.02.2024")
    assert (wrong.status_code, list(wrong.json())) == (400, ["error"])
    assert "start_date" in wrong.json()["error"]


def test_its_health_is_for_anybody(generated: Running, tmp_path: Path) -> None:
    found = generated.anonymous("/jermaine-beea/health")
    assert found.status_code == 200
    assert found.json()["status"] == "healthy"
    assert datetime.fromisoformat(found.json()["timestamp"]) > datetime(2024, 1, 1)
    empty = telecom(tmp_path / "telecom")
    with running(empty, tmp_path / "users.json", **{"serve.routes": "jermaine_beea"}) as site:
        waiting = site.anonymous("/jermaine-beea/health")
        assert (waiting.status_code, waiting.json()["status"]) == (503, "unhealthy")


def test_a_number_in_a_path_is_not_logged(generated: Running) -> None:
    generated.get("/jermaine-beea/api/usage/2799999999999")
    generated.server._log.flush()  # type: ignore[union-attr]  # there is one
    assert "/jermaine-beea/api/usage/{msisdn}" in generated.log.getvalue()
    assert "2799999999999" not in generated.log.getvalue()


@pytest.mark.parametrize(
    "path", ["/nngidi/data_usage", "/nngidi/msisdns", "/jermaine-beea/health", "/jermaine-beea-calls/health"]
)
def test_what_is_not_turned_on_is_not_there(path: str, nngidi: Running) -> None:
    assert nngidi.get(path).status_code == 404
    assert path not in nngidi.get("/openapi.json").json()["paths"]


# The reference


def test_the_routes_are_in_the_reference_with_examples_that_work(generated: Running) -> None:
    document = generated.get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    routes = {path: found["get"] for path, found in document["paths"].items() if "routes" in found["get"]["tags"]}
    assert set(routes) == {route.path for route in generated.app.project.routes}
    for path, operation in routes.items():
        given = {p["name"]: p["example"] for p in operation.get("parameters", []) if "$ref" not in p}
        filled = path.format(**given)
        query = {name: value for name, value in given.items() if "{" + name + "}" not in path}
        answer = generated.client.get(filled, params=query, auth=(USER, PASSWORD))
        assert answer.status_code == 200, answer.text
        example = operation["responses"]["200"]["content"]["application/json"]["example"]
        assert example.keys() == answer.json().keys()
    row = routes["/data_usage"]["responses"]["200"]["content"]["application/json"]["example"]["usage"][0]
    assert list(row) == ["category", "usage_type", "total", "measure", "start_time", "cost_wak"]


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_the_routes(generated: Running, tmp_path: Path) -> None:
    class Patient(Throttle):
        """Wrong logins are part of what is tried, and would soon be answered by 429."""

        def wait(self, user: str, address: str) -> float:
            return 0.0

    before = generated.server.gateway._auth
    generated.server.gateway._auth = Authenticator(generated.users, throttle=Patient())
    token = credentials.create_key(generated.users, "everything", ("read", "metrics"))
    command = [
        "-m", "schemathesis.cli", "run", f"{generated.url}/openapi.json", "--header", f"Authorization: Bearer {token}",
        "--include-tag", "routes", "--checks", "all", "--max-examples", "60", "--seed", "20240201", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent)}
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            timeout=110,
        )  # fmt: skip
    finally:
        generated.server.gateway._auth = before
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"Tested: {len(generated.app.project.routes)}" in done.stdout, done.stdout
