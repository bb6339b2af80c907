"""The OpenAPI document: valid, complete, and kept by the server that serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from headrace.http import credentials
from headrace.http.auth import Authenticator
from headrace.http.openapi import PROTECTED, ranges
from headrace.http.throttle import Throttle
from tests.http.conftest import DECLARATIONS, FILES, Running
from tests.kit import ProjectFolder

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(site: Running) -> dict[str, object]:
    found: dict[str, object] = json.loads(site.anonymous("/openapi.json", host="localhost").content)
    return found


def test_it_is_openapi_3_1(document: dict[str, object]) -> None:
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


def test_every_query_has_an_operation_with_an_example_and_every_error(site: Running) -> None:
    document = site.get("/openapi.json").json()
    names = {Path(file).stem for file in FILES if file.startswith("queries/")}
    assert {path.removeprefix("/v1/queries/") for path in document["paths"] if path.startswith("/v1/queries/")} == names
    ids = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method == "get"
            ids.append(operation["operationId"])
            assert operation["summary"]
            if path.startswith("/v1/"):
                assert {str(status) for status in PROTECTED} <= set(operation["responses"])
            if path.startswith("/v1/queries/"):
                assert {"200", "304", "404", "503"} <= set(operation["responses"])
                assert (
                    operation["responses"]["200"]["content"]["application/json"]["example"]["query"]
                    == path.rsplit("/", 1)[-1]
                )
                assert all("example" in p for p in operation["parameters"] if "$ref" not in p)
    assert len(ids) == len(set(ids))


def test_summaries_are_whole_sentences_and_examples_are_values(tmp_path: Path) -> None:
    from headrace.http.openapi import document

    first = "Who bought how much of an item, of every kind and at every place, on each of the days that anybody ever asks for"
    files = FILES | {
        "queries/of_item.sql": f"-- {first},\n-- and more. Not this.\n" + FILES["queries/of_item.sql"].split("\n", 1)[1]
    }
    folder = ProjectFolder(tmp_path, DECLARATIONS + 'project.page("E", table("of_item", item=""))', files)
    operation = json.loads(document(folder.app.project, 10))["paths"]["/v1/queries/of_item"]["get"]
    assert operation["summary"] == f"{first}, and more"
    assert operation["parameters"][0]["example"] == "<item>"


def test_the_same_declarations_give_the_same_document(site: Running) -> None:
    from headrace.http.openapi import document

    assert document(site.app.project, 10_000) == document(site.app.project, 10_000)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("daily", "The range `[from, to]` is inclusive: `from` is included and `to` is included."),
        ("week", "The range `[from, until)` is half-open: `from` is included and `until` is not included."),
        ("total", ""),
    ],
)
def test_a_query_says_what_its_range_includes(site: Running, query: str, says: str) -> None:
    operation = site.get("/openapi.json").json()["paths"][f"/v1/queries/{query}"]["get"]
    assert says in operation["description"]
    assert ("range" in operation["description"]) == bool(says)


RANGES = [
    ("d BETWEEN $from AND $to", {"from": ("low", True), "to": ("high", True)}),
    ("d >= $from AND d < $to", {"from": ("low", True), "to": ("high", False)}),
    ("d > $from AND d <= $to", {"from": ("low", False), "to": ("high", True)}),
    ("$from <= d AND $to > d", {"from": ("low", True), "to": ("high", False)}),
    ("d>=CAST($from AS DATE) and d<CAST($to AS TIMESTAMP)", {"from": ("low", True), "to": ("high", False)}),
    ("d >= date_trunc('month', $from)", {"from": ("low", True)}),
    ("d between CAST($a AS DATE) AND CAST($b AS DATE) AND x = $x", {"a": ("low", True), "b": ("high", True)}),
    ("x = $x AND ($y IS NULL OR y = $y) LIMIT $n", {}),
    ("x = '< $no' -- >= $not\n AND d > $yes", {"yes": ("low", False)}),
    ("x <> $x AND y != $y", {}),
]


@pytest.mark.parametrize(("where", "found"), RANGES, ids=[r[0] for r in RANGES])
def test_ranges_are_read_from_the_comparisons(where: str, found: dict[str, tuple[str, bool]]) -> None:
    assert ranges(f"SELECT a FROM b WHERE {where}") == found


@pytest.mark.slow
def test_s38_schemathesis_finds_nothing(start: Callable[..., Running], tmp_path: Path) -> None:
    class Patient(Throttle):
        """Wrong logins are part of what is tried, and would soon be answered by 429."""

        def wait(self, user: str, address: str) -> float:
            return 0.0

    site = start()
    site.server.gateway._auth = Authenticator(site.users, throttle=Patient())
    token = credentials.create_key(site.users, "everything", ("read", "metrics"))
    command = [
        "-m", "schemathesis.cli", "run", f"{site.url}/openapi.json", "--header", f"Authorization: Bearer {token}",
        "--checks", "all", "--max-examples", "60", "--seed", "20240201", "--no-color",
    ]  # fmt: skip
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"Tested: {len(site.get('/openapi.json').json()['paths'])}" in done.stdout
    assert "WARNINGS" not in done.stdout, done.stdout
