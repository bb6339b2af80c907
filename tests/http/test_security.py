"""The security checks that a running server must hold, each named by its number in the catalogue of checks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headrace.errors import ProjectErrors
from headrace.http import table_csv
from headrace.http.limits import LONGEST_URL, MOST_HEADERS
from tests.http.conftest import NASTY, PASSWORD, USER, Running
from tests.kit import ProjectFolder

FEBRUARY = "from=2024-02-01&to=2024-02-29"
PROTECTED = ["/", "/pages/sales", "/pages/sales/tiles/3.csv", "/v1/queries", "/v1/queries/total", "/v1/queries/none", "/v1/status", "/metrics", "/nothing", "/v1/", "/admin", "//", "/%2e%2e/etc/passwd"]  # fmt: skip


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "QUERY", "X-ODD"]
)
@pytest.mark.parametrize("path", PROTECTED)
def test_s17_every_path_asks_for_credentials_before_it_says_anything(site: Running, method: str, path: str) -> None:
    response = site.request(method, path, headers={})
    assert response.status_code in (401, 400)  # 400: the parser knows no such method
    if response.status_code == 401 and method != "HEAD":
        assert response.json()["type"] == "/docs/errors/HR0602"


@pytest.mark.parametrize(
    "path",
    ["/admin", "/reload", "/v1/admin", "/v1/run", "/v1/keys", "/v1/users", "/debug", "/.env", "/v1/queries/total/"],
)
def test_s17_there_are_no_routes_that_administrate(site: Running, path: str) -> None:
    assert site.get(path).status_code == 404
    assert site.request("POST", path).status_code == 404


@pytest.mark.parametrize(
    "name", ["columns", "fields", "select", "sort", "filter", "where", "order_by", "_gen", "_slot"]
)
def test_s16_no_parameter_chooses_columns_or_adds_predicates(site: Running, name: str) -> None:
    response = site.get(f"/v1/queries/daily?customer=c1&{FEBRUARY}&{name}=customer")
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, name)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_s19_other_methods_are_405_and_nothing_overrides_them(site: Running, method: str, header: str) -> None:
    auth = {"authorization": f"Bearer {site.token}"}
    refused = site.request(method, "/v1/queries/total", headers={**auth, header: "GET"})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert site.get("/v1/queries/total?_method=DELETE").status_code == 400
    assert site.get("/v1/queries/total", headers={**auth, header: "DELETE"}).status_code == 200


def test_s19_options_tells_methods_only_and_no_other_origin_is_let_in(site: Running) -> None:
    headers = {
        "authorization": f"Bearer {site.token}",
        "origin": "https://evil.example",
        "access-control-request-method": "GET",
    }
    response = site.request("OPTIONS", "/v1/queries/total", headers=headers)
    assert (response.status_code, response.headers["allow"], response.content) == (204, "GET, HEAD, OPTIONS", b"")
    for response in (response, site.get("/v1/queries/total", headers=headers)):
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/", "/pages/sales", "/pages/sales/tiles/3.csv", "/v1/queries/total", "/v1/queries", "/v1/status"]
)
def test_s20_pages_need_the_same_scope_as_the_api(site: Running, path: str) -> None:
    refused = site.get(path, headers={"authorization": f"Bearer {site.metrics_token}"})
    assert refused.status_code == 403
    assert "scope 'read'" in refused.json()["detail"]


INJECTIONS = [
    "c1' OR '1'='1", "c1'; DROP TABLE control; --", 'c1" OR 1=1 --', "c1' UNION SELECT value, value, value, value FROM control --",
    "c1') ALLOW FILTERING --", "{'$gt': ''}", "c1/**/OR/**/1=1", "%", "_", "c1\\", "${jndi:ldap://x}", "{{ 7*7 }}", "\u2028c1", "ｃ1", "C1", " c1", "c1 ",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS, ids=[repr(t)[:30] for t in INJECTIONS])
def test_s21_s22_values_are_bound_never_sql(site: Running, text: str) -> None:
    response = site.get(
        "/v1/queries/daily?" + str(httpx.QueryParams({"customer": text, "from": "2024-02-01", "to": "2024-02-29"}))
    )
    assert (response.status_code, response.json()["rows"]) == (200, [])
    assert site.get("/v1/queries/total").json()["rows"] != []


@pytest.mark.parametrize(
    "name",
    [
        "total;--",
        "total'",
        "Total",
        "../total",
        "total%00",
        "control",
        "daily_sales",
        "sqlite_master",
        "x" * 200,
        "total\n",
    ],
)
def test_s23_names_come_from_the_declarations_only(site: Running, name: str) -> None:
    response = site.get("/v1/queries/" + name.replace("\n", "%0a"))
    assert response.status_code == 404


def test_s24_a_request_cannot_write_lines_of_the_log(start: Callable[..., Running]) -> None:
    site = start()
    evil = "%0d%0a{%22status%22:200}%0a%e2%80%a8%c2%85"
    site.get("/v1/queries/" + evil)
    site.get(f"/v1/queries/total?x={evil}")
    site.get("/v1/status", auth=("evil\r\n{}\u2028", "x"))
    answer = site.raw(b"GET /v1/queries/\x85\xe2\x80\xa8 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 4")
    site.server.stop()
    _wait_for(lambda: len(site.log.getvalue().splitlines()) >= 3)
    lines = re.split("[\n\r\x85\u2028\u2029]", site.log.getvalue().rstrip("\n"))
    assert len(lines) in (3, 4)  # the last request may not have come past the parser
    for line in lines:
        assert line.isascii()
        assert set(json.loads(line)) >= {"at", "id", "who", "method", "path", "status", "ms", "bytes", "address"}


def test_s24_nor_can_what_a_proxy_says_of_its_client(start: Callable[..., Running]) -> None:
    site = start(**{"serve.proxies": "127.0.0.1"})
    site.raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\x85{}\r\nConnection: close\r\n\r\n")
    _wait_for(lambda: "\n" in site.log.getvalue())
    assert site.log.getvalue().isascii()
    assert json.loads(site.log.getvalue())["address"].startswith("1.2.3.4")


def test_s39_no_secret_is_in_logs_answers_files_or_representations(
    start: Callable[..., Running], capfd: pytest.CaptureFixture[str]
) -> None:
    site = start()
    pages = [
        site.get("/v1/status", auth=(USER.encode(), PASSWORD.encode())).text,
        site.get("/v1/status", auth=(USER.encode(), b"wrong-secret-1")).text,
        site.get("/v1/status", headers={"x-api-key": "hr_aaaaaaaaaaaa_wrong-secret-2"}).text,
        site.get("/v1/queries/total?key=wrong-secret-3").text,
        site.get("/v1/queries/daily?customer=wrong-secret-3").text,
        site.get("/metrics", headers={"authorization": f"Bearer {site.metrics_token}"}).text,
        site.get("/openapi.json").text,
    ]
    site.server.stop()
    _wait_for(lambda: site.log.getvalue().count("\n") >= len(pages))
    said = capfd.readouterr()
    auth = site.server._auth
    looks = [repr(auth), repr(vars(auth)["_known"]), str(auth.known({b"x-api-key": site.token.encode()}))]
    everything = "".join([*pages, site.log.getvalue(), said.out, said.err, *looks, site.users.read_text()])
    for secret in (PASSWORD, site.token, site.metrics_token, "wrong-secret-1", "wrong-secret-2"):
        assert secret not in everything
        assert secret.split("_", 2)[-1] not in everything
    assert "wrong-secret-3" not in site.log.getvalue()


CELLS = [
    ("=1+1", "'=1+1"), ("+27820001111", "'+27820001111"), ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("  =1", "'  =1"), ("\uff1d1", "'\uff1d1"), ("-5.20", "-5.20"), ("-5", "-5"), ("12.50", "12.50"),
    ("plain", "plain"), ("", ""), ("a=b", "a=b"), ("-", "'-"), ("--5", "'--5"), ("-1\n", "'-1\n"),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "safe"), CELLS, ids=[repr(c) for c, _ in CELLS])
def test_s25_a_cell_is_never_a_formula(cell: str, safe: str) -> None:
    assert table_csv.harmless(cell) == safe


def test_s25_a_csv_file_has_every_row_and_no_formula(site: Running) -> None:
    response = site.get("/pages/sales/tiles/3.csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["content-disposition"] == 'attachment; filename="customers.csv"'
    text = response.content.decode("utf-8-sig")
    lines = text.split("\r\n")
    assert lines[0] == "customer,name"
    assert len(lines) == 35 + 2
    assert "c3,'=HYPERLINK(1)" in lines
    assert f"c5,'{NASTY['c5']}" in lines
    # The API stays raw.
    assert {"customer": "c3", "name": "=HYPERLINK(1)"} in site.get("/v1/queries/customers").json()["rows"]


TARGETS = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:1/",
    "http://[::ffff:127.0.0.1]/",
    "file:///etc/passwd",
    "https://evil.example/x",
]


@pytest.mark.parametrize("target", TARGETS)
def test_s34_no_request_makes_the_server_ask_another(site: Running, target: str) -> None:
    auth = f"Authorization: Bearer {site.token}\r\nConnection: close\r\n"
    absolute = site.raw(f"GET {target} HTTP/1.1\r\nHost: 169.254.169.254\r\n{auth}\r\n".encode())
    assert re.match(rb"HTTP/1.1 (400|404|302) ", absolute)
    assert b"location: http" not in absolute.lower()
    connect = site.raw(f"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n{auth}\r\n".encode())
    assert re.match(rb"HTTP/1.1 (400|404|405) ", connect)
    for name in ("url", "callback", "next", "redirect"):
        assert site.get("/v1/queries/total?" + str(httpx.QueryParams({name: target}))).status_code == 400
    home = site.get(
        "/",
        headers={"authorization": f"Bearer {site.token}", "host": "evil.example", "x-forwarded-host": "evil.example"},
    )
    assert home.headers["location"] == "/pages/sales"


OUTSIDE = [
    "read_csv('/etc/passwd')",
    "'/etc/passwd'",
    "read_text('/etc/passwd')",
    "glob('/*')",
    "sqlite_scan('/etc/passwd', 'x')",
    "duckdb_settings()",
]


@pytest.mark.parametrize("table", OUTSIDE)
@pytest.mark.parametrize("kind", ["marts", "silver", "queries"])
def test_s35_declared_sql_reaches_nothing_outside_the_project(tmp_path: Path, kind: str, table: str) -> None:
    project = ProjectFolder(tmp_path, 'project = Project("shop")\n', {f"{kind}/leak.sql": f"SELECT * FROM {table}"})
    with pytest.raises(ProjectErrors) as caught:
        project.app.project  # noqa: B018 - reads the declarations
    assert {e.code for e in caught.value.errors} <= {"HR0201", "HR0202", "HR0203", "HR0210", "HR0211"}


def test_s36_rows_are_capped(start: Callable[..., Running]) -> None:
    site = start(**{"serve.max_rows": 20})
    assert len(site.get("/v1/queries/customers").json()["rows"]) == 20
    over = site.get("/v1/queries/customers?limit=21")
    assert (over.status_code, over.json()["errors"][0]["parameter"]) == (400, "limit")
    large = site.get(f"/v1/queries/daily?customer=c1&{FEBRUARY}")
    assert (large.status_code, large.json()["type"]) == (400, "/docs/errors/HR0607")
    assert site.get("/v1/queries/daily?customer=c1&from=2024-02-01&to=2024-02-05").status_code == 200
    assert len(site.get("/pages/sales/tiles/3.csv").text.splitlines()) == 21
    assert '"maximum":20' in site.get("/openapi.json").text


def test_s36_reading_is_capped_even_where_few_rows_come_out(start: Callable[..., Running]) -> None:
    site = start(**{"serve.max_scan": 50})
    response = site.get(f"/v1/queries/top_items?customer=c1&{FEBRUARY}&limit=1")
    assert (response.status_code, response.json()["type"]) == (400, "/docs/errors/HR0607")
    many = ",".join(f"x{n}" for n in range(200))
    assert site.get(f"/v1/queries/several?customers={many}&{FEBRUARY}").status_code == 400


def test_s36_large_answers_that_wait_are_few(start: Callable[..., Running]) -> None:
    site = start()
    site.server._answers._queue = 0
    site.server._answers._quick.rows = 0
    response = site.get("/v1/queries/total")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)


def test_s37_a_long_url_is_414_and_long_headers_are_431(site: Running) -> None:
    assert site.get("/v1/queries/total?x=" + "y" * LONGEST_URL).status_code == 414
    assert site.get("/" + "y" * 20_000).status_code == 414
    many = {f"x-{n}": "1" for n in range(MOST_HEADERS + 1)}
    assert site.get("/v1/queries/total", headers=many).status_code == 431
    assert site.get("/v1/queries/total", headers={"x-large": "y" * 20_000}).status_code == 431


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_s37_a_body_is_refused(site: Running, method: str) -> None:
    response = site.request(method, "/v1/queries/total", content=b"x" * 10)
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert site.request(method, "/v1/queries/total", content=iter([b"x"])).status_code == 413


EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/v1/queries/total", "/v1/queries/none", "/v1/status", "/pages/sales", "/static/headrace.css", "/docs", "/openapi.json", "/health/live", "/metrics", "/nothing"])  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_s42_every_response_has_the_security_headers(site: Running, path: str, known: bool) -> None:
    response = site.get(path) if known else site.anonymous(path)
    assert {name: response.headers.get(name) for name in EVERYWHERE} == EVERYWHERE
    policy = response.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert policy.startswith(
        "default-src 'self'" if response.headers["content-type"].startswith("text/html") else "default-src 'none'"
    )
    assert "server" not in response.headers


LOOPBACK = {"host": "127.0.0.1:1234"}
AWAY = [
    {"host": "data.example"}, {"host": "127.0.0.1.evil.example"}, {**LOOPBACK, "x-forwarded-for": "203.0.113.9"},
    {**LOOPBACK, "forwarded": "for=203.0.113.9"}, {**LOOPBACK, "via": "1.1 proxy"}, {**LOOPBACK, "x-real-ip": "203.0.113.9"},
]  # fmt: skip


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/errors/HR0502"])
def test_s42_documentation_is_open_on_loopback_only(site: Running, path: str) -> None:
    for host in ("127.0.0.1:1234", "localhost", "[::1]:80"):
        assert site.anonymous(path, host=host).status_code == 200
    for headers in AWAY:
        assert site.anonymous(path, **headers).status_code == 401


def test_s42_documentation_is_closed_where_the_address_is_not_loopback(start: Callable[..., Running]) -> None:
    site = start()
    site.server.gateway._loopback = False
    assert site.anonymous("/docs").status_code == 401
    assert site.get("/docs").status_code == 200


def test_s42_metrics_need_a_key_made_for_them(site: Running) -> None:
    assert site.anonymous("/metrics").status_code == 401
    assert site.get("/metrics").status_code == 403
    assert site.get("/metrics", auth=(USER.encode(), PASSWORD.encode())).status_code == 403
    response = site.get("/metrics", headers={"authorization": f"Bearer {site.metrics_token}"})
    assert response.status_code == 200
    refused = 'headrace_http_request_duration_seconds_count{method="GET",route="other",status="403"}'
    assert refused in response.text
    assert 'headrace_as_of_timestamp_seconds{mart="daily_sales"}' in response.text
    assert "headrace_generation 1.0" in response.text


def test_s42_the_metrics_labels_cannot_be_made_up(site: Running) -> None:
    for n in range(5):
        site.get(f"/v1/queries/madeup{n}")
        site.get(f"/madeup{n}")
    site.request("PURGE", "/v1/queries")
    told = site.get("/metrics", headers={"authorization": f"Bearer {site.metrics_token}"}).text
    assert "madeup" not in told
    assert "PURGE" not in told
    assert 'method="other"' in told


@pytest.mark.parametrize(
    "path",
    [
        "/static/../answers.py",
        "/static/%2e%2e/answers.py",
        "/static//etc/passwd",
        "/static/vendor/VENDORED.md",
        "/static/vendor",
        "/static/",
    ],
)
def test_static_files_are_those_that_are_meant(site: Running, path: str) -> None:
    answer = site.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1.1 (404|401) ", answer)


def test_an_error_of_ours_tells_nothing_but_where_to_look(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    site = start()
    monkeypatch.setattr(site.server._answers, "values", lambda *_: 1 / 0)
    response = site.get("/v1/queries/total")
    body = response.json()
    assert (response.status_code, body["type"]) == (500, "/docs/errors/HR0999")
    assert "division" not in response.text
    assert body["request_id"] in capfd.readouterr().err


def test_a_users_file_opened_to_others_while_serving_lets_nobody_in(start: Callable[..., Running]) -> None:
    site = start()
    assert site.get("/v1/status").status_code == 200
    site.users.chmod(0o644)
    site.users.write_bytes(site.users.read_bytes())  # as an editor would: a mode alone does not change what was read
    response = site.get("/v1/status")
    assert response.status_code == 500
    assert str(site.users) not in response.text
    site.users.chmod(0o600)
    assert site.get("/v1/status").status_code == 200


def _wait_for(done: Callable[[], bool]) -> None:
    import time

    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)
