"""Answers over HTTP: their shape, their pages, their validators, and what is wrong with a question."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.http.conftest import ITEMS, Running, amount

FEBRUARY = "from=2024-02-01&to=2024-02-29"


def test_an_answer_has_rows_as_objects_exact_decimals_and_its_generation(site: Running) -> None:
    response = site.get("/v1/queries/daily?customer=c1&from=2024-02-02&to=2024-02-03")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    expected = [
        {"day": f"2024-02-0{day}", "item": item, "amount": amount(day, i), "sales": 1}
        for day in (2, 3)
        for i, item in sorted(enumerate(ITEMS), key=lambda pair: pair[1])
    ]
    assert body == {
        "query": "daily",
        "generation": 1,
        "as_of": "2024-02-28T10:00:00Z",
        "watermark": None,
        "final": False,
        "idle": [],
        "complete": True,
        "rows": expected,
        "next_cursor": None,
    }
    assert response.headers["headrace-generation"] == "1"
    assert response.headers["headrace-as-of"] == "2024-02-28T10:00:00Z"
    assert response.headers["headrace-complete"] == "true"
    assert response.headers["cache-control"] == "no-cache"


def test_a_half_open_range_leaves_its_end_out(site: Running) -> None:
    rows = site.get("/v1/queries/week?customer=c1&from=2024-02-02&until=2024-02-03").json()["rows"]
    assert {row["day"] for row in rows} == {"2024-02-02"}


def test_cursors_walk_every_row_once(site: Running) -> None:
    seen: list[str] = []
    path: str | None = "/v1/queries/customers?limit=8"
    while path:
        response = site.get(path)
        seen += [row["customer"] for row in response.json()["rows"]]
        cursor = response.json()["next_cursor"]
        link = response.headers.get("link")
        assert (cursor is None) == (link is None)
        path = link[1 : link.index(">")] if link else None
        assert path is None or path.endswith(f"cursor={cursor}")
    assert seen == sorted(set(seen))
    assert len(seen) == 35


def test_an_etag_stays_while_nothing_is_published(site: Running) -> None:
    path = f"/v1/queries/daily?customer=c1&{FEBRUARY}"
    first = site.get(path)
    tag = first.headers["etag"]
    assert tag == site.get(path).headers["etag"]
    assert not tag.startswith("W/")
    auth = {"authorization": f"Bearer {site.token}"}
    for asked in (tag, f'"other", {tag}', "*"):
        again = site.get(path, headers={**auth, "if-none-match": asked})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert site.get(path, headers={**auth, "if-none-match": '"other"'}).status_code == 200
    assert site.get(path.replace("c1", "c2")).headers["etag"] != tag


@pytest.mark.parametrize("changed", [{"number": 2}, {"published_at": "2030-01-01T00:00:00+00:00"}])
def test_an_etag_changes_with_the_publication(site: Running, changed: dict[str, Any]) -> None:
    answers = site.server._answers
    form, generation = answers.forms["total"], answers._generation()
    assert answers._tag(form, generation, b"").decode() == site.get("/v1/queries/total").headers["etag"]
    assert answers._tag(form, dataclasses.replace(generation, **changed), b"") != answers._tag(form, generation, b"")


def test_an_answer_that_depends_on_the_clock_has_no_etag(site: Running) -> None:
    response = site.get("/v1/queries/recent?customer=c1")
    assert response.status_code == 200
    assert "etag" not in response.headers


def test_head_is_get_without_the_body(site: Running) -> None:
    path = f"/v1/queries/daily?customer=c1&{FEBRUARY}"
    got, head = site.get(path), site.request("HEAD", path)
    assert head.content == b""
    for name in ("etag", "content-length", "content-type", "headrace-generation"):
        assert head.headers[name] == got.headers[name]


WRONG = [
    ("nothing?x=1", 404, "HR0501", None),
    ("dally?customer=c1", 404, "HR0501", None),
    ("daily?customer=c1&from=2024-02-01", 400, "HR0502", "to"),
    ("daily?customer=c1&from=yesterday&to=2024-02-02", 400, "HR0502", "from"),
    ("daily?customer=c1&from=2024-02-30&to=2024-03-02", 400, "HR0502", "from"),
    ("daily?customer=&from=2024-02-01&to=2024-02-02", 400, "HR0502", "customer"),
    (f"daily?customer=c1&{FEBRUARY}&extra=1", 400, "HR0502", "extra"),
    (f"daily?customer=c1&customer=c2&{FEBRUARY}", 400, "HR0502", "customer"),
    (f"daily?customer=%ff&{FEBRUARY}", 400, "HR0502", ""),
    (f"daily?customer=a%00b&{FEBRUARY}", 400, "HR0502", "customer"),
    ("customers?limit=", 400, "HR0502", "limit"),
    ("customers?limit=0", 400, "HR0502", "limit"),
    ("customers?limit=10001", 400, "HR0502", "limit"),
    ("customers?limit=1e3", 400, "HR0502", "limit"),
    ("customers?limit=5&cursor=x", 400, "HR0503", "cursor"),
    ("customers?limit=5&cursor=WyJh", 400, "HR0503", "cursor"),
    ("customers?limit=5&cursor=WyJhIiwiYiJd", 400, "HR0503", "cursor"),
    ("customers?limit=5&cursor=a&cursor=b", 400, "HR0502", "cursor"),
    (f"daily?customer=c1&{FEBRUARY}&cursor=WyJhIiwiYiJd", 400, "HR0503", "cursor"),
    ("customers?" + "&".join(f"p{n}=1" for n in range(100)), 400, "HR0502", ""),
]  # fmt: skip


@pytest.mark.parametrize(("question", "status", "code", "parameter"), WRONG, ids=[w[0][:60] for w in WRONG])
def test_what_is_wrong_is_a_problem_document(
    site: Running, question: str, status: int, code: str, parameter: str | None
) -> None:
    response = site.get(f"/v1/queries/{question}")
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"/docs/errors/{code}"
    assert body["status"] == status
    assert body["instance"] == "/v1/queries/" + question.split("?", maxsplit=1)[0]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert [e["parameter"] for e in body.get("errors", [])] == ([] if parameter is None else [parameter])
    assert site.get(body["type"]).status_code == 200


def test_a_list_comes_with_commas_or_several_times(site: Running) -> None:
    at = "&from=2024-02-01&to=2024-02-01"
    commas = site.get(f"/v1/queries/several?customers=c1,c2{at}").json()["rows"]
    times = site.get(f"/v1/queries/several?customers=c1&customers=c2{at}").json()["rows"]
    assert commas == times
    assert {row["customer"] for row in commas} == {"c1", "c2"}


def test_a_large_answer_is_read_in_a_thread_and_is_the_same(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/queries/daily?customer=c1&{FEBRUARY}"
    site = start()
    quick = site.get(path).json()
    site.server._answers._quick.rows = 11
    reading = Mock(side_effect=site.server._answers._read)
    monkeypatch.setattr(site.server._answers, "_read", reading)
    assert site.get(path).json() == quick
    assert reading.call_count == 1


def test_before_the_first_publication_the_answer_is_503(start: Callable[..., Running], tmp_path: Path) -> None:
    site = start(**{"store.path": str(tmp_path / "empty.db")})
    response = site.get("/v1/queries/total")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["type"] == "/docs/errors/HR0402"
    ready = site.anonymous("/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "HR0402")
    assert site.anonymous("/health/live").status_code == 200
    page = site.get("/pages/sales")
    assert page.status_code == 200
    assert "Nothing published yet" in page.text


def test_a_store_that_fails_is_503_and_says_nothing_of_itself(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.errors import OutsideError

    site = start()

    def broken(*_: object, **__: object) -> None:
        raise OutsideError("HR0407", "store: unable to open /secret/place/store.db", retry=True)

    monkeypatch.setattr(site.server._answers._quick._store, "fetch", broken)
    response = site.get(f"/v1/queries/daily?customer=c1&{FEBRUARY}")
    assert response.status_code == 503
    assert "retry-after" in response.headers
    assert "secret" not in response.text


def test_the_catalogue_and_the_status(site: Running) -> None:
    catalogue = site.get("/v1/queries").json()
    assert catalogue["project"] == "shop"
    daily = next(q for q in catalogue["queries"] if q["name"] == "daily")
    assert [p["name"] for p in daily["parameters"]] == ["customer", "from", "to"]
    assert [c["type"] for c in daily["columns"]][:2] == ["DATE", "VARCHAR"]
    assert daily["pages"] is False
    assert next(q for q in catalogue["queries"] if q["name"] == "customers")["pages"] is True
    status = site.get("/v1/status").json()
    assert (status["project"], status["generation"], status["lanes"]["sales"]) == ("shop", 1, "2024-02-28T10:00:00Z")
    assert site.get("/v1/status?x=1").status_code == 400
