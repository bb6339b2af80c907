"""routes.py: what is wrong with it is found before anything is served, at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli import init
from headrace.errors import ProjectErrors, SettingError
from headrace.http.contracts import parsed, served
from headrace.http.openapi import time_pattern
from headrace.http.routes import Site
from headrace.model.route import RESERVED
from tests.http.conftest import DECLARATIONS, FILES
from tests.kit import ProjectFolder

HEAD = "from headrace import Routes, column, given, now, parameter, rows\nroutes = Routes()\n"
DAILY = '{"customer": parameter("customer"), "from": parameter("from"), "to": parameter("to")}'


def shop(folder: Path, routes: str | None) -> ProjectFolder:
    return ProjectFolder(folder, DECLARATIONS, FILES if routes is None else {**FILES, "routes.py": routes})


def get(path: str, query: str = "daily", parameters: str = DAILY, answer: str = "{}", more: str = "") -> str:
    return f'routes.get("{path}", "{query}", parameters={parameters}, answer={answer}{more})\n'


WRONG = {
    "an unknown query": (get("/a", "daly"), "there is no query 'daly'", "did you mean 'daily'?"),
    "an unknown parameter": (
        get("/a", parameters=DAILY.replace("{", '{"x": parameter("until"), ')),
        "query 'daily' has no parameter 'until'", "one of customer, from, to",
    ),
    "a parameter that nothing gives": (
        get("/a", parameters='{"customer": parameter("customer"), "from": parameter("from")}'),
        "parameter 'to' of query 'daily' is required, and nothing gives it", '"to": parameter("to")',
    ),
    "an unknown column": (
        get("/a", answer='{"x": rows({"day": column("dya")})}'),
        "query 'daily' has no column 'dya'", "did you mean 'day'?",
    ),
    "an unknown value": (get("/a", answer='{"x": given("form")}'), "given names 'form', which is no parameter", "did you mean 'from'?"),
    "a path that is taken": (
        get("/a/{customer}") + get("/a/b"), "'/a/b' and '/a/{customer}' can be the same path", "the other is in line 3",
    ),
    "a path that every project has": (get("/v1/a"), "'/v1/a' is below /v1, which every project has", "another path"),
    "no path": (get("a/"), "'a/' is not a path", "as /usage or /usage/{name}, without / at the end"),
    "a path of nothing": (get("/a/{shop}"), "the path has '{shop}', which is no parameter", "one of customer, from, to"),
    "a preset of nothing": (get("/a", more=', item="x"'), "query 'daily' has no parameter 'item'", "one of customer, from, to"),
    "a preset that is no value": (
        get("/a", parameters=DAILY.replace('"to": parameter("to")', ""), more=', to="soon"'),
        "parameter 'to' is 'soon'", "DATE, as 2025-08-01",
    ),
    "a time that is none": (
        get("/a", parameters=DAILY.replace('r("customer")', 'r("customer", time="%Y")')),
        "'customer' is a time, and parameter 'customer' is VARCHAR", "without time=, plus= and newest=",
    ),
    "a span that is none": (
        get("/a", parameters=DAILY.replace('r("to")', 'r("to", time="%Y-%m-%d", plus="a day")')),
        "plus of 'to' is no span", "a number and a unit, as 1 day",
    ),
    "a pattern that is none": (get("/a", parameters=DAILY.replace('r("customer")', 'r("customer", pattern="(")')), "the pattern of 'customer'", "a regular expression"),
    "a range of nothing": (get("/a", more=', between=("from", "until")'), "between names 'until', which is no parameter", "one of customer, from, to"),
    "a longest range of nothing": (get("/a", more=', longest="31 days"'), "longest needs between", 'between=("from", "to")'),
    "a longest range that is no span": (get("/a", more=', between=("from", "to"), longest="long"'), "longest is 'long'", "a number and a unit, as 31 days"),
    "pages by nothing": (get("/a", more=', between=("from", "to"), pages="month"'), "pages names 'month'", "a column of the query, and between= its range"),
    "a name of paging": (
        get("/a", "customers", '{"cursor": parameter("limit")}'), "'cursor' is a name of paging", "another name",
    ),
    "no pack's name": ('routes.pack("Old API")\n', "'Old API' is not a pack's name", "lower-case letters, digits and _"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_at_its_place(wrong: str, tmp_path: Path) -> None:
    text, what, help = WRONG[wrong]
    with pytest.raises(ProjectErrors) as raised:
        _ = shop(tmp_path, HEAD + text).app.project
    (error,) = raised.value.errors
    assert error.code == "HR0107"
    assert what in error.what
    assert error.help == help
    assert error.place is not None
    assert (error.place.file, error.place.line) == ("routes.py", 2 + text.count("\n"))
    assert error.place.text.startswith("routes.")


def test_check_tells_it_with_the_other_errors(tmp_path: Path) -> None:
    project = shop(tmp_path, HEAD + get("/a", "daly") + get("/b", answer='{"x": column("y")}'))
    project.write("queries/week.sql", "SELECT nothing FROM daily_sales")
    done = project.command("check")
    assert done.returncode == 2
    assert "routes.py:3" in done.stderr
    assert "routes.py:4" in done.stderr
    assert "queries/week.sql:1" in done.stderr
    assert "3 errors" in done.stderr


def test_a_query_with_errors_of_its_own_is_not_blamed_on_its_route(tmp_path: Path) -> None:
    project = shop(tmp_path, HEAD + get("/a"))
    project.write("queries/daily.sql", "SELECT nothing FROM daily_sales")
    with pytest.raises(ProjectErrors) as raised:
        _ = project.app.project
    assert {error.place.file for error in raised.value.errors if error.place} == {"queries/daily.sql"}


@pytest.mark.parametrize(
    ("text", "what"),
    [("1 / 0\n", "ZeroDivisionError"), ("routes = 1\n", "Routes named 'routes'"), ("def\n", "SyntaxError")],
)
def test_a_file_that_python_cannot_run_is_told(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectErrors) as raised:
        _ = shop(tmp_path, text).app.project
    (error,) = raised.value.errors
    assert error.code == "HR0102"
    assert what in error.what
    assert error.place is not None
    assert error.place.file == "routes.py"


def test_a_project_without_routes_has_none(tmp_path: Path) -> None:
    assert shop(tmp_path, None).app.project.routes == ()


def test_a_template_comes_with_its_routes(tmp_path: Path) -> None:
    init.write(tmp_path / "telecom", "telecom")
    assert (tmp_path / "telecom/routes.py").is_file()


def test_packs_are_off_unless_they_are_named(tmp_path: Path) -> None:
    text = HEAD + get("/a") + "old = routes.pack('old', prefix='/old')\n" + get("/a").replace("routes.", "old.")
    routes = shop(tmp_path, text).app.project.routes
    assert [r.path for r in served(routes, "")] == ["/a"]
    assert [r.path for r in served(routes, " old,")] == ["/a", "/old/a"]
    with pytest.raises(SettingError, match="HR0601.*'odl'") as raised:
        served(routes, "odl")
    assert raised.value.help == "did you mean 'old'?"


def test_the_paths_of_every_project_are_reserved() -> None:
    import inspect
    import re

    own = {path.strip("/").split("/")[0] for path in re.findall(r'\("(/[^"]*)", self\.', inspect.getsource(Site))}
    assert own - {""} == set(RESERVED)


@pytest.mark.parametrize("pattern", ["%Y%m%d%H%M%S", "%Y-%m-%d", "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%S.%f"])
@pytest.mark.parametrize(
    "text",
    ["20240229235959", "20240230000000", "2024022923595", "2024-02-29", "2024-2-29", "0099-01-01", "29.02.2024 23:59",
     "2024-02-29T23:59:59.000001", "2024-02-29T23:59:59.1", " 2024-02-29", "20240229\n", "٢٠٢٤-02-29", ""],
)  # fmt: skip
def test_a_time_is_taken_in_just_one_writing(text: str, pattern: str) -> None:
    import re

    taken = parsed(text, pattern) is not None
    assert not taken or re.fullmatch(time_pattern(pattern), text)
    if text in ("20240230000000", "2024022923595", "2024-2-29", " 2024-02-29", "20240229\n", "٢٠٢٤-02-29", ""):
        assert not taken
    wanted = {"%Y%m%d%H%M%S": ["20240229235959"], "%Y-%m-%d": ["2024-02-29", "0099-01-01"],
              "%d.%m.%Y %H:%M": ["29.02.2024 23:59"], "%Y-%m-%dT%H:%M:%S.%f": ["2024-02-29T23:59:59.000001"]}  # fmt: skip
    assert taken == (text in wanted[pattern])
