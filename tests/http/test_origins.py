"""Pages of other origins: those that ``serve.origins`` names may read answers, all others may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from headrace.errors import SettingError
from headrace.http.origins import EXPOSED, allowed
from tests.http.conftest import PASSWORD, USER, Running, running
from tests.kit import ProjectFolder

PAGE, OTHER = "http://127.0.0.1:5500", "https://app.example.org"
ORIGINS = f"{PAGE}, {OTHER}"
STRANGERS = ["https://evil.example", "http://127.0.0.1:5501", "https://127.0.0.1:5500", "http://127.0.0.1:5500.evil.example", f"{PAGE}/", "null",
             "HTTP://127.0.0.1:5500", "https://app.example.org.evil.example", "https://evil.app.example.org", "*", ""]  # fmt: skip
ASKS = {"access-control-request-method": "GET", "access-control-request-headers": "authorization,if-none-match"}
TOTAL = "/v1/queries/total"


@pytest.fixture(scope="module")
def open_site(shop: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(shop, tmp_path_factory.mktemp("users") / "users.json", **{"serve.origins": ORIGINS}) as started:
        yield started


def cors(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def bearer(site: Running, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {site.token}", **more}


@pytest.mark.parametrize("setting", ["*", "https://*.example.org", "example.org", "https://app.example.org/", "https://app.example.org/a", "null",
                                     "https://App.example.org", "https://app.example.org:443", "http://127.0.0.1:80", "ftp://a.example",
                                     "https://a.example,*", "https://a b", "https://a.example:0", "https://u@a.example"])  # fmt: skip
def test_what_is_no_origin_is_refused(setting: str) -> None:
    with pytest.raises(SettingError) as caught:
        allowed(setting)
    assert caught.value.code == "HR0601"
    assert "https://app.example.org" in caught.value.help


def test_a_server_with_a_star_does_not_start(start: Callable[..., Running]) -> None:
    with pytest.raises(SettingError):
        start(**{"serve.origins": "*"})


def test_origins_are_as_browsers_send_them() -> None:
    assert allowed(" ") == frozenset()
    assert allowed(f"{ORIGINS},http://[::1]:5500,") == {o.encode() for o in (PAGE, OTHER, "http://[::1]:5500")}


def test_without_the_setting_nobody_is_let_in(site: Running) -> None:
    for method in ("GET", "OPTIONS"):
        response = site.request(method, TOTAL, headers=bearer(site, origin=PAGE, **ASKS))
        assert not cors(response)
        assert "vary" not in response.headers
    assert site.request("OPTIONS", TOTAL, headers={"origin": PAGE, **ASKS}).status_code == 401


@pytest.mark.parametrize("origin", [PAGE, OTHER])
def test_an_allowed_page_reads_answers_and_errors(origin: str, open_site: Running) -> None:
    answer = open_site.get(TOTAL, headers=bearer(open_site, origin=origin))
    tag = answer.headers["etag"]
    others = [
        (304, open_site.get(TOTAL, headers=bearer(open_site, origin=origin, **{"if-none-match": tag}))),
        (400, open_site.get(f"{TOTAL}?x=1", headers=bearer(open_site, origin=origin))),
        (401, open_site.anonymous(TOTAL, origin=origin)),
        (200, open_site.get("/v1/status", headers=bearer(open_site, origin=origin))),
        (404, open_site.get("/v1/none", headers=bearer(open_site, origin=origin))),
        (200, open_site.request("HEAD", TOTAL, headers=bearer(open_site, origin=origin))),
    ]
    for status, response in [(200, answer), *others]:
        assert response.status_code == status
        assert cors(response) == {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": EXPOSED[1].decode(),
        }
        assert response.headers.get_list("vary") == ["Origin"]
    exposed = {name.strip().lower() for name in EXPOSED[1].decode().split(",")}
    assert {name for name in answer.headers if name.startswith("headrace-")} | {"etag", "x-request-id"} <= exposed


@pytest.mark.parametrize("origin", STRANGERS)
def test_other_pages_get_nothing(origin: str, open_site: Running) -> None:
    answer = open_site.get(TOTAL, headers=bearer(open_site, origin=origin, **ASKS))
    preflight = open_site.request("OPTIONS", TOTAL, headers={"origin": origin, **ASKS})
    assert (answer.status_code, preflight.status_code) == (200, 401)
    assert not cors(answer)
    assert not cors(preflight)
    assert answer.headers["vary"] == "Origin", "or a cache would give it to an allowed page"


@pytest.mark.parametrize("path", [TOTAL, f"{TOTAL}?x=1", "/v1/queries", "/v1/status", "/openapi.json"])
def test_a_preflight_needs_no_login(path: str, open_site: Running) -> None:
    response = open_site.request("OPTIONS", path, headers={"origin": PAGE, **ASKS})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == PAGE
    assert response.headers["access-control-allow-methods"] == "GET, HEAD"
    headers = {name.strip().lower() for name in response.headers["access-control-allow-headers"].split(",")}
    assert headers == {"authorization", "x-api-key", "if-none-match"}
    assert "access-control-allow-credentials" not in response.headers
    assert "content-length" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_preflight_tells_nobody_which_queries_there_are(open_site: Running) -> None:
    there, none = (
        open_site.request("OPTIONS", f"/v1/queries/{name}", headers={"origin": PAGE, **ASKS})
        for name in ("total", "nothing")
    )
    apart = ("date", "x-request-id")
    assert {n: v for n, v in there.headers.items() if n not in apart} == {
        n: v for n, v in none.headers.items() if n not in apart
    }


@pytest.mark.parametrize("path", ["/", "/pages/sales", "/metrics", "/nothing", "/admin"])
def test_a_preflight_of_what_is_no_answer_asks_for_credentials(path: str, open_site: Running) -> None:
    assert open_site.request("OPTIONS", path, headers={"origin": PAGE, **ASKS}).status_code == 401


def test_only_a_preflight_goes_without_a_login(open_site: Running) -> None:
    assert open_site.request("OPTIONS", TOTAL, headers={"origin": PAGE}).status_code == 401
    for method in ("GET", "HEAD", "POST"):
        assert open_site.request(method, TOTAL, headers={"origin": PAGE, **ASKS}).status_code == 401


def test_a_browsers_way_preflight_then_answer(open_site: Running) -> None:
    """On one connection, as a body that a preflight's answer should not have would be taken for the next answer."""
    for _ in range(3):
        asked = open_site.request("OPTIONS", TOTAL, headers={"origin": PAGE, **ASKS})
        answer = open_site.client.get(TOTAL, headers={"origin": PAGE}, auth=(USER.encode(), PASSWORD.encode()))
        assert (asked.status_code, answer.status_code) == (204, 200)
        assert answer.json()["rows"] != []
