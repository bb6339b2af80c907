"""Who may ask about some values only: S11 to S14 and S17 to S20. There is no right to some columns only, so S16 is as in
``test_security``: nothing that is sent chooses columns."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from headrace.errors import SettingError
from headrace.flow.answer import _fingerprint
from headrace.http import credentials
from headrace.http.rights import NOBODY, bound, bounding
from headrace.model.project import LoadedProject
from tests.http.conftest import NASTY, PASSWORD, Running, running, sales_csv
from tests.http.test_telecom_routes import telecom
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id VARCHAR NOT NULL, sold_at TIMESTAMPTZ NOT NULL, customer VARCHAR NOT NULL, item VARCHAR NOT NULL, amount DECIMAL(18,2) NOT NULL")
rates = project.source("rates", csv("rates.csv"), id="day", event_time="day", columns="day DATE NOT NULL, rate DECIMAL(18,4) NOT NULL")
customers = project.reference("customers", csv("customers.csv"), key="customer", columns="customer VARCHAR NOT NULL, name VARCHAR")
project.page("Sales", number("total", y="amount"), table("daily"))
"""
DAYS = "day BETWEEN $from AND $to"
ONE = f"SELECT day, sum(amount) AS amount FROM daily_sales WHERE customer = $customer AND {DAYS} GROUP BY day"
QUERIES = {
    # All that these read is picked by $customer, or rests on other records.
    "daily": f"SELECT day, item, amount FROM daily_sales WHERE customer = $customer AND {DAYS} ORDER BY day, item",
    "listed": "SELECT day, item, amount FROM daily_sales WHERE customer = $customer ORDER BY day, item LIMIT $limit",
    "sums": "SELECT coalesce(sum(amount), 0) AS amount, coalesce(sum(sales), 0) AS sales FROM daily_sales WHERE customer = $customer",
    "told": "SELECT $customer AS asked, sum(sales) AS sales FROM daily_sales WHERE customer = $customer",
    "several": f"SELECT customer, day, item, amount FROM daily_sales WHERE customer IN $customer AND {DAYS} ORDER BY customer, day, item",
    "named": f"SELECT s.day, s.item, c.name FROM daily_sales AS s LEFT JOIN customers AS c ON c.customer = s.customer WHERE s.customer = $customer AND {DAYS} ORDER BY s.day, s.item",
    "rated": f"WITH c AS ({ONE}) SELECT c.day, c.amount, r.rate FROM c LEFT JOIN daily_rates AS r ON r.day = c.day ORDER BY c.day",
    "beside": f"WITH c AS ({ONE}), n AS (SELECT day, sum(sales) AS sales FROM daily_sales WHERE customer = $customer AND {DAYS} GROUP BY day) SELECT c.day, c.amount, n.sales FROM c LEFT JOIN n ON n.day = c.day ORDER BY c.day",
    "every_day": f"WITH r AS (SELECT day, rate FROM daily_rates WHERE {DAYS}), c AS ({ONE}) SELECT r.day, r.rate, c.amount FROM r LEFT JOIN c ON c.day = r.day ORDER BY r.day",
    # These read more, each in another way.
    "total": "SELECT sum(amount) AS amount FROM daily_sales",
    "items": "SELECT customer, sum(amount) AS amount FROM daily_sales WHERE item = $item GROUP BY customer ORDER BY customer",
    "perhaps": f"SELECT day, sum(amount) AS amount FROM daily_sales WHERE ($customer IS NULL OR customer = $customer) AND {DAYS} GROUP BY day ORDER BY day",
    "filtered": "SELECT day, sum(amount) AS amount FROM daily_sales WHERE item = $item AND ($customer IS NULL OR customer = $customer) GROUP BY day ORDER BY day",
    "from_one_on": "SELECT customer, sum(amount) AS amount FROM daily_sales WHERE customer >= $customer GROUP BY customer ORDER BY customer",
    "but_one": "SELECT customer, sum(amount) AS amount FROM daily_sales WHERE customer <> $customer GROUP BY customer ORDER BY customer",
    "spelled": "SELECT day, sum(amount) AS amount FROM daily_sales WHERE customer = lower(CAST($customer AS VARCHAR)) GROUP BY day ORDER BY day",
    "share": f"WITH c AS ({ONE}) SELECT c.day, c.amount, a.amount AS everybody FROM c LEFT JOIN all_sales AS a ON a.day = c.day ORDER BY c.day",
    "of_other": f"SELECT s.day, s.item, c.name FROM daily_sales AS s LEFT JOIN customers AS c ON c.customer = CASE WHEN s.item = '' THEN s.item ELSE $other END WHERE s.customer = $customer AND s.item <> $other AND {DAYS} ORDER BY s.day, s.item",
}  # fmt: skip
BOUND = {"daily", "listed", "sums", "told", "several", "named", "rated", "beside", "every_day"}
FILES = {
    "marts/daily_sales.sql": """-- Sales by customer, UTC day and item.
SELECT customer, CAST(sold_at AS DATE) AS day, item, sum(amount) AS amount, count(*) AS sales FROM sales GROUP BY ALL""",
    "marts/all_sales.sql": "-- Sales by UTC day.\nSELECT CAST(sold_at AS DATE) AS day, sum(amount) AS amount FROM sales GROUP BY ALL",
    "marts/daily_rates.sql": "-- What money is worth.\nSELECT day, max(rate) AS rate FROM rates GROUP BY ALL",
    "routes.py": """from headrace import Routes, column, given, parameter, rows
routes = Routes()
DAYS = {"from": parameter("from", default="2024-02-01"), "to": parameter("to", default="2024-02-29")}
ANSWER = {"sales": rows({"day": column("day"), "item": column("item"), "amount": column("amount")})}
routes.get("/of/{customer}", "daily", parameters={"customer": parameter("customer"), **DAYS}, answer={"customer": given("customer"), **ANSWER})
routes.get("/second", "daily", parameters=DAYS, customer="c2", answer=ANSWER)
routes.get("/usual", "daily", parameters={"customer": parameter("customer", default="c2"), **DAYS}, answer=ANSWER)
routes.get("/sums/{customer}", "sums", parameters={"customer": parameter("customer")}, answer={"sales": column("sales")})
routes.get("/everything", "total", parameters={}, answer={"amount": column("amount")})
""",
    **{f"queries/{name}.sql": f"-- As {name}.\n{sql}" for name, sql in QUERIES.items()},
}
FEBRUARY = "from=2024-02-01&to=2024-02-29"
OWN, FOREIGN, ABSENT = "c1", "c2", "c9"
Read = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    folder = tmp_path_factory.mktemp("rights") / "shop"
    folder.mkdir()
    project = ProjectFolder(folder, DECLARATIONS, FILES)
    project.land("sales.csv", sales_csv(5))
    project.land("rates.csv", "day,rate\n" + "".join(f"2024-02-{day:02d},1.5\n" for day in range(1, 6)))
    project.land("customers.csv", "customer,name\n" + "".join(f'{c},"{name}"\n' for c, name in NASTY.items()))
    project.run()
    return project


@pytest.fixture(scope="module")
def site(shop: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(shop, tmp_path_factory.mktemp("users") / "users.json") as started:
        yield started


class Limited:
    """Somebody who may ask about some values only."""

    def __init__(self, site: Running, **only: tuple[str, ...]) -> None:
        self.site = site
        self.token = credentials.create_key(site.users, "limited", only=only)

    def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        sent = {"authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.site.request(method, path, headers=sent)


@pytest.fixture(scope="module")
def limited(site: Running) -> Limited:
    return Limited(site, customer=(OWN,))


@contextmanager
def reading(site: Running) -> Iterator[Read]:
    """What is asked of the store, with how many rows came back."""
    store, asked = site.app.store, Read()
    fetch = store.fetch

    def spy(table: Any, partition: Any, *args: Any, **more: Any) -> Any:
        rows = fetch(table, partition, *args, **more)
        asked.append((table.name, partition, args, sorted(more.items()), len(rows)))
        return rows

    store.fetch = spy  # type: ignore[method-assign]  # the store itself answers; this only looks
    try:
        yield asked
    finally:
        store.fetch = fetch  # type: ignore[method-assign]


def told(response: httpx.Response, asked: str) -> tuple[Any, ...]:
    """All that a response says, but for what was asked; the tag names the question, so each has its own."""
    apart = ("x-request-id", "etag", "date")
    headers = [(name, value.replace(asked, "…")) for name, value in response.headers.items() if name not in apart]
    return response.status_code, headers, response.text.replace(asked, "…")


def keys_of(read: Read) -> set[Any]:
    return {value for _, partition, *_ in read for value in partition}


def alike(get: Callable[[str], httpx.Response], site: Running, foreign: str, absent: str, path: str) -> Read:
    """What was read for a foreign value: the same as for one that nobody has, with an answer that says the same."""
    with reading(site) as of_foreign:
        one = get(path.format(foreign))
    with reading(site) as of_absent:
        other = get(path.format(absent))
    assert one.status_code == 200
    assert told(one, foreign) == told(other, absent)
    assert of_foreign == of_absent != []
    assert foreign not in keys_of(of_foreign)
    return of_foreign


# What bounds a query


@pytest.fixture(scope="module")
def project(shop: ProjectFolder) -> LoadedProject:
    return shop.app.project


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_bound_where_all_that_it_reads_is_picked(name: str, project: LoadedProject) -> None:
    query = project.queries[name]
    found = {variant: bound(project, query, plan) for variant, plan in query.plans.items()}
    if name == "perhaps":  # only where it is given
        assert found == {frozenset(): frozenset(), frozenset({"customer"}): {"customer"}}
    else:
        assert ("customer" in found[frozenset()]) == (name in BOUND)


def test_a_right_is_about_texts_that_pick(project: LoadedProject) -> None:
    assert bounding(project) == {"customer", "item"}


# S11: a foreign value is as an absent one


PATHS = [
    f"/v1/queries/daily?customer={{}}&{FEBRUARY}",
    "/v1/queries/listed?customer={}&limit=3",
    "/v1/queries/sums?customer={}",
    "/v1/queries/told?customer={}",
    f"/v1/queries/several?customer={{}}&{FEBRUARY}",
    f"/v1/queries/named?customer={{}}&{FEBRUARY}",
    f"/v1/queries/rated?customer={{}}&{FEBRUARY}",
    f"/v1/queries/beside?customer={{}}&{FEBRUARY}",
    f"/v1/queries/every_day?customer={{}}&{FEBRUARY}",
    f"/v1/queries/perhaps?customer={{}}&{FEBRUARY}",
    "/of/{}",
    "/usual?customer={}",
    "/sums/{}",
]


@pytest.mark.parametrize("path", PATHS)
def test_s11_a_foreign_value_is_as_an_absent_one(path: str, limited: Limited, site: Running) -> None:
    read = alike(limited.get, site, FOREIGN, ABSENT, path)
    with reading(site) as unlimited:
        assert told(site.get(path.format(ABSENT)), ABSENT)[2] == told(limited.get(path.format(FOREIGN)), FOREIGN)[2]
    assert [(table, args, rows) for table, _, args, _, rows in read] == [
        (table, args, rows) for table, _, args, _, rows in unlimited[: len(read)]
    ]
    there = site.get(path.format(FOREIGN)).text
    assert there != site.get(path.format(ABSENT)).text.replace(ABSENT, FOREIGN), "it is there, for others"
    assert limited.get(path.format(OWN)).text == site.get(path.format(OWN)).text, "and one's own is whole"


def test_s11_a_total_of_nothing_is_a_row_that_says_what_was_asked(limited: Limited) -> None:
    assert limited.get(f"/v1/queries/told?customer={FOREIGN}").json()["rows"] == [{"asked": FOREIGN, "sales": None}]
    assert limited.get(f"/v1/queries/sums?customer={FOREIGN}").json()["rows"] == [{"amount": "0.00", "sales": 0}]


def test_s11_presets_and_defaults_of_routes_are_values_like_any_other(limited: Limited, site: Running) -> None:
    for path in ("/second", "/usual"):
        with reading(site) as read:
            assert limited.get(path).json() == {"sales": []}
        assert keys_of(read) == {NOBODY}
        assert site.get(path).json()["sales"] != []


# S12: what is asked in a list


def test_s12_in_a_list_foreign_values_are_as_absent_ones(limited: Limited, site: Running) -> None:
    for template in (f"customer={OWN},{{0}},{{0}}x", f"customer={{0}}&customer={OWN}"):
        path = f"/v1/queries/several?{template}&{FEBRUARY}"
        read = alike(limited.get, site, FOREIGN, ABSENT, path)
        assert len(read) == 2 + template.count("x")
        rows = limited.get(path.format(FOREIGN)).json()["rows"]
        assert {row["customer"] for row in rows} == {OWN}
        assert rows == limited.get(f"/v1/queries/several?customer={OWN}&{FEBRUARY}").json()["rows"]
        both = site.get(path.format(FOREIGN)).json()["rows"]
        assert {row["customer"] for row in both} == {OWN, FOREIGN}


@pytest.mark.parametrize("path", [f"/v1/queries/several?customer=&{FEBRUARY}", f"/v1/queries/several?{FEBRUARY}"])
def test_s12_no_list_is_not_everything(path: str, limited: Limited) -> None:
    assert limited.get(path).status_code == 400
    assert limited.get(f"/v1/queries/several?customer=,,&{FEBRUARY}").json()["rows"] == []


# S13: other ways to write a value


SPELLINGS = [
    "C1", "c1 ", " c1", "%09c1", "c1%0a", "ｃ1", "c１", "с1", "c1%E2%80%8B", "%EF%BB%BFc1", "c%31%cc%81", "c1%2500", "c%2531", "c1%2Cc2", "c1'--", "c1/", "*", "%25",
    "c1*",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_s13_what_looks_like_ones_own_is_not(spelling: str, limited: Limited, site: Running) -> None:
    for path in ("/v1/queries/sums?customer={}", "/sums/{}"):
        with reading(site) as read:
            response = limited.get(path.format(spelling))
        assert response.status_code in (200, 403)  # 403: a path with more parts than any has
        assert [partition for _, partition, *_ in read] == ([(NOBODY,)] if response.status_code == 200 else [])


def test_s13_percent_encoding_is_how_a_value_is_sent_not_what_it_is(limited: Limited) -> None:
    for query in ("customer=%63%31", "c%75stomer=c1"):
        assert limited.get(f"/v1/queries/sums?{query}").json()["rows"][0]["sales"] == 20
    assert limited.get("/sums/%631").json() == {"sales": 20}
    assert limited.get(f"/sums/{NOBODY}").json() == {"sales": 0}


@pytest.mark.parametrize(
    "query", [f"customer={OWN}&customer={FOREIGN}", f"customer={FOREIGN}&Customer={OWN}", "customer=c2%00"]
)
def test_s13_two_values_for_one_are_refused(query: str, limited: Limited, site: Running) -> None:
    with reading(site) as read:
        assert limited.get(f"/v1/queries/sums?{query}").status_code == 400
    assert read == []


# S14, S17, S20: what tells of others


@pytest.mark.parametrize("name", sorted({*QUERIES} - BOUND))
def test_s14_queries_that_read_more_are_refused(name: str, limited: Limited, site: Running) -> None:
    with reading(site) as read:
        bare = limited.get(f"/v1/queries/{name}")
        response = limited.get(f"/v1/queries/{name}?item=apple&other=c2&{FEBRUARY}")
    assert read == []
    assert bare.status_code in (400, 403)
    if name != "perhaps":  # the others are refused whatever is asked of them
        assert bare.status_code == response.status_code == 403
        assert bare.json()["type"] == "/docs/errors/HR0602"
        assert "some values of 'customer' only" in bare.json()["detail"]
        assert OWN not in bare.json()["detail"]


def test_s14_an_optional_value_that_is_left_out_is_everything(limited: Limited) -> None:
    assert limited.get(f"/v1/queries/perhaps?{FEBRUARY}").status_code == 403
    assert limited.get(f"/v1/queries/perhaps?customer={OWN}&{FEBRUARY}").json()["rows"] != []


def test_s14_several_parameters_all_have_to_bound(site: Running) -> None:
    both = Limited(site, customer=(OWN,), item=("apple",))
    assert both.get(f"/v1/queries/daily?customer={OWN}&{FEBRUARY}").status_code == 403
    assert both.get("/v1/queries/items?item=apple").status_code == 403
    item = Limited(site, item=("apple",))
    assert item.get("/v1/queries/items?item=apple").json()["rows"] != []
    assert item.get("/v1/queries/items?item=bread").json()["rows"] == []


CLOSED = ["/", "/pages/sales", "/pages/sales/tiles/1.csv?customer=c1&" + FEBRUARY, "/pages/none", "/v1/status", "/everything", "/nothing", "/v1/", "/admin", "//", "/v1/queries//../status"]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", CLOSED)
def test_s17_s20_all_that_tells_of_others_is_closed(method: str, path: str, limited: Limited, site: Running) -> None:
    with reading(site) as read:
        response = limited.get(path, method)
    assert response.status_code in ((403, 404) if path.startswith("/v1/queries/") else (403,))
    assert read == []


def test_s17_metrics_are_closed(limited: Limited, site: Running) -> None:
    assert limited.get("/metrics").status_code == 403
    known = credentials.load(site.users)
    id = limited.token.split("_")[1]
    for scopes in (("read", "metrics"), ("read",)):  # such a key cannot be made, but a file can say anything
        known.keys[id] = msgspec.structs.replace(known.keys[id], scopes=scopes)
        credentials._replace(site.users, credentials._ENCODER.encode(known))
        assert limited.get("/metrics").status_code == 403


@pytest.mark.parametrize("path", ["/v1/queries", "/openapi.json", "/docs", "/docs/errors/HR0602", "/health/ready"])
def test_s17_what_there_is_to_ask_may_be_read(path: str, limited: Limited) -> None:
    assert limited.get(path).status_code == 200


# S18: from the next request on


def test_s18_a_limited_key_ends_like_any_other(site: Running) -> None:
    path = f"/v1/queries/sums?customer={OWN}"
    one = Limited(site, customer=(OWN,))
    assert one.get(path).status_code == 200
    credentials.revoke_key(site.users, one.token.split("_")[1])
    assert one.get(path).status_code == 401
    two = Limited(site, customer=(OWN,))
    known = credentials.load(site.users)
    id = two.token.split("_")[1]
    past = credentials.now() - dt.timedelta(seconds=1)
    known.keys[id] = msgspec.structs.replace(known.keys[id], expires=past)
    credentials._replace(site.users, credentials._ENCODER.encode(known))
    assert two.get(path).status_code == 401


def test_s18_a_changed_right_holds_from_the_next_request_on(site: Running) -> None:
    """Also where the password is the same and was verified before."""

    def sales(customer: str) -> int:
        found = site.get(f"/sums/{customer}", auth=(b"bob", PASSWORD.encode()))
        return int(found.json()["sales"])

    credentials.add_user(site.users, "bob", PASSWORD, {"customer": (OWN,)})
    assert (sales(OWN), sales(FOREIGN)) == (20, 0)
    known = credentials.load(site.users)
    known.users["bob"] = msgspec.structs.replace(known.users["bob"], only={"customer": (FOREIGN,)})
    credentials._replace(site.users, credentials._ENCODER.encode(known))
    assert (sales(OWN), sales(FOREIGN)) == (0, 20)


# S19: other methods


def test_s19_head_and_options_tell_no_more(limited: Limited, site: Running) -> None:
    path = f"/v1/queries/daily?customer={{}}&{FEBRUARY}"
    alike(lambda asked: limited.get(asked, "HEAD"), site, FOREIGN, ABSENT, path)
    alike(lambda asked: limited.get(asked, x_http_method_override="POST"), site, FOREIGN, ABSENT, path)
    for customer in (FOREIGN, ABSENT):
        options = limited.get(path.format(customer), "OPTIONS")
        assert (options.status_code, options.content, "etag" in options.headers) == (204, b"", False)
        assert limited.get(path.format(customer), "POST").status_code == 405
    assert limited.get("/v1/status", "OPTIONS").status_code == 403


# Tags, caches, cursors


def test_a_tag_is_good_for_one_right_only(limited: Limited, site: Running) -> None:
    for customer in (OWN, FOREIGN):
        path = f"/v1/queries/daily?customer={customer}&{FEBRUARY}"
        everything, mine = site.get(path), limited.get(path)
        theirs = Limited(site, customer=(OWN, "c3")).get(path)
        tags = {r.headers["etag"] for r in (everything, mine, theirs)}
        assert len(tags) == 3
        assert Limited(site, customer=(OWN,)).get(path).headers["etag"] == mine.headers["etag"]
        for tag in tags:
            answer = limited.get(path, if_none_match=tag)
            assert answer.status_code == (304 if tag == mine.headers["etag"] else 200)
            assert answer.headers["cache-control"] == "private, no-cache"
        assert everything.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("customer", [FOREIGN, ABSENT])
def test_a_cursor_of_somebody_else_continues_nothing(customer: str, limited: Limited, site: Running) -> None:
    query = site.app.project.queries["listed"]
    path = f"/v1/queries/listed?customer={customer}&limit=3"
    key = [_fingerprint(query, {"now": 0, "customer": customer, "limit": 3}), "2024-02-01", "apple"]
    cursor = base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")
    assert bool(site.get(f"{path}&cursor={cursor}").json()["rows"]) == (customer == FOREIGN)
    with reading(site) as read:
        answer = limited.get(f"{path}&cursor={cursor}")
    assert (answer.status_code, answer.json()["rows"], answer.json()["next_cursor"]) == (200, [], None)
    assert [partition for _, partition, *_ in read] == [(NOBODY,)]
    for wrong in ("x", cursor[:-4], cursor.swapcase()):
        found = limited.get(f"{path}&cursor={wrong}")
        assert (found.status_code, found.json()["type"]) == (400, "/docs/errors/HR0503")


def test_ones_own_pages_go_on(limited: Limited) -> None:
    path, rows = f"/v1/queries/listed?customer={OWN}&limit=7", []
    while path:
        page = limited.get(path)
        rows += page.json()["rows"]
        path = page.links["next"]["url"] if "link" in page.headers else ""
    assert len(rows) == 20


def test_large_answers_in_a_thread_are_bounded_too(shop: ProjectFolder, tmp_path: Path) -> None:
    with running(shop, tmp_path / "users.json") as site:
        site.server._answers._quick.rows = 0
        mine = Limited(site, customer=(OWN,))
        assert mine.get(f"/v1/queries/sums?customer={FOREIGN}").json()["rows"][0]["sales"] == 0
        assert mine.get(f"/v1/queries/sums?customer={OWN}").json()["rows"][0]["sales"] == 20


def test_what_is_foreign_is_not_in_the_log(limited: Limited, site: Running) -> None:
    limited.get("/of/somebody-else")
    limited.get("/v1/queries/sums?customer=somebody-else")
    site.server._log.flush()  # type: ignore[union-attr]  # there is one
    assert "somebody-else" not in site.log.getvalue()
    assert NOBODY not in site.log.getvalue()


# Who is limited


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users.json"


def only(file: Path, name: str) -> Mapping[str, tuple[str, ...]] | None:
    return credentials.load(file).users[name].only


def test_a_new_password_keeps_the_limits(users: Path) -> None:
    credentials.add_user(users, "ann", PASSWORD)
    assert only(users, "ann") is None
    credentials.add_user(users, "ann", PASSWORD, {"customer": ("c2", "c1", "c1")})
    assert only(users, "ann") == {"customer": ("c1", "c2")}
    credentials.add_user(users, "ann", PASSWORD + "!")
    assert only(users, "ann") == {"customer": ("c1", "c2")}
    credentials.add_user(users, "ann", PASSWORD, {"customer": ("c3",)})
    assert only(users, "ann") == {"customer": ("c3",)}
    credentials.remove_user(users, "ann")
    credentials.add_user(users, "ann", PASSWORD)
    assert only(users, "ann") is None


@pytest.mark.parametrize("values", [(), ("",), ("c1", ""), (" c1",), ("c1\0",), ("\udcff",)])
def test_values_that_cannot_be_are_refused(values: tuple[str, ...], users: Path) -> None:
    with pytest.raises(SettingError):
        credentials.add_user(users, "ann", PASSWORD, {"customer": values})
    with pytest.raises(SettingError):
        credentials.create_key(users, "ci", only={"customer": values})
    assert not users.exists()


def test_a_limited_key_has_no_metrics(users: Path) -> None:
    with pytest.raises(SettingError) as caught:
        credentials.create_key(users, "ci", ("read", "metrics"), only={"customer": ("c1",)})
    assert "metrics" in caught.value.what


@pytest.mark.parametrize("word", ["onyl", "columns"])
def test_a_file_that_says_what_is_not_known_is_refused(word: str, users: Path) -> None:
    """A limit that is misspelled, or a later version's, must not be read as none."""
    credentials.add_user(users, "ann", PASSWORD)
    credentials.create_key(users, "ci")
    said = json.loads(users.read_text())
    for place in (said["users"]["ann"], next(iter(said["keys"].values())), said):
        place[word] = {"customer": ["c1"]}
        users.write_text(json.dumps(said))
        with pytest.raises(SettingError):
            credentials.load(users)
        del place[word]
    users.write_text(json.dumps(said))
    assert only(users, "ann") is None


def test_a_right_to_nothing_is_none(site: Running) -> None:
    nothing = Limited(site)
    assert credentials.load(site.users).keys[nothing.token.split("_")[1]].only == {}
    for path in ("/v1/queries/total", f"/v1/queries/sums?customer={OWN}", f"/sums/{OWN}", "/v1/status"):
        assert nothing.get(path).status_code == 403


@pytest.mark.slow
def test_the_command_line_limits_and_tells_how_far(shop: ProjectFolder) -> None:
    made = shop.command("user", "add", "kim", "--only", f"customer={OWN},c3", "--only", "customer=c4")
    assert made.returncode == 0, made.stderr
    assert "kim may ask about these values only: customer (3)" in made.stderr
    again = shop.command("user", "add", "kim")
    assert "customer (3)" in again.stderr
    key = shop.command("key", "create", "ci", "--only", "customer=c1")
    assert key.stdout.startswith("hr_")
    for listed in (shop.command("user", "list"), shop.command("key", "list")):
        assert "customer (" in listed.stdout
        assert OWN not in listed.stdout.split()
    (user,) = json.loads(shop.command("user", "list", "--json").stdout)["users"]
    assert user["only"] == {"customer": 3}
    wrong = shop.command("user", "add", "lee", "--only", "custommer=c1")
    assert (wrong.returncode, "did you mean 'customer'?" in wrong.stderr) == (2, True)
    assert shop.command("key", "create", "ci", "--only", "customer").returncode == 2
    assert "lee" not in shop.command("user", "list").stdout


# The telecom project


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("network")
    project = telecom(folder / "telecom")
    project.app.generate(0.02, 1, None)
    project.run()
    with running(project, folder / "users.json", **{"serve.routes": "nngidi, jermaine_beea, msisdns"}) as started:
        yield started


@pytest.fixture(scope="module")
def numbers(network: Running) -> tuple[str, str, str]:
    """One's own, another one's, and one that nobody has."""
    own, foreign = [row["msisdn"] for row in network.get("/v1/queries/msisdns?day=2024-01-02&limit=2").json()["rows"]]
    return own, foreign, "27".ljust(len(foreign), "0")


SPAN = "from=2024-01-01&to=2024-01-04"
NETWORK = [
    "/data_usage?msisdn={}&start_time=20240101000000&end_time=20240104000000&limit=5",
    "/data_usage?msisdn={}&start_time=20240101000000&end_time=20240104000000&granularity=day",
    "/nngidi/data_usage?msisdn={}&start_time=20240101000000&end_time=20240104000000",
    "/jermaine-beea/api/usage/{}",
    "/jermaine-beea/api/usage/{}/summary?start_date=2024-01-01&end_date=2024-01-02",
    f"/v1/queries/usage_types?msisdn={{}}&{SPAN}",
    f"/v1/queries/usage_in_wak?msisdn={{}}&{SPAN}",
    "/v1/queries/balance?msisdn={}&to=2024-01-04",
    "/v1/queries/calls_summary?msisdn={}&start_time=2024-01-01&end_time=2024-01-04",
]


@pytest.mark.parametrize("path", NETWORK)
def test_s11_a_subscriber_asks_for_another(path: str, network: Running, numbers: tuple[str, str, str]) -> None:
    own, foreign, absent = numbers
    mine = Limited(network, msisdn=(own,))
    alike(mine.get, network, foreign, absent, path)
    assert mine.get(path.format(own)).text == network.get(path.format(own)).text
    assert network.get(path.format(foreign)).text.replace(foreign, "…") != mine.get(path.format(foreign)).text.replace(foreign, "…")  # fmt: skip


def test_s13_a_number_is_its_digits(network: Running, numbers: tuple[str, str, str]) -> None:
    own, foreign, _ = numbers
    asked = "/jermaine-beea/api/usage/{}"
    mine = Limited(network, msisdn=(own, f"0{foreign}", f"+{foreign}", f"00{foreign}"))
    for number in (f"+{own}", f"%2B{own}", f"0{own}", f"00{own}", own.lstrip("0")[1:], f"{own}%20", f"%20{own}",
                   f"{own[:5]}%20{own[5:]}", f"{own[:5]}-{own[5:]}", own.translate({48 + n: 0x660 + n for n in range(10)})):  # fmt: skip
        with reading(network) as read:
            answer = mine.get(asked.format(number))
        assert answer.status_code == 400 or answer.json()["usage"] == []
        assert {partition for _, partition, *_ in read} <= {(NOBODY,)}
    for number in (foreign, f"0{foreign}", f"00{foreign}"):
        assert mine.get(asked.format(number)).json()["usage"] == []
    assert mine.get(asked.format(own)).json()["usage"] != []


def test_s17_a_subscriber_learns_of_no_other(network: Running, numbers: tuple[str, str, str]) -> None:
    mine = Limited(network, msisdn=numbers[:1])
    bound = {name for name in network.app.project.queries if mine.get(f"/v1/queries/{name}").status_code != 403}
    takes = {q.name for q in network.app.project.queries.values() if "msisdn" in [p.name for p in q.parameters]}
    assert bound == takes != set()
    for path in ("/nngidi/msisdns", "/pages/one-subscriber", "/pages/network/tiles/0.csv", "/v1/status", "/"):
        assert mine.get(path).status_code == 403


def test_s17_of_a_question_about_one_phone_or_all_the_first_is_open(network: Running) -> None:
    mine = Limited(network, phone_number=("+15550001",))
    span = "start_time=2024-01-01&end_time=2024-01-04"
    for query in ("call_success_rate", "call_success_hours", "calls"):
        asked = f"/v1/queries/{query}?{span}&phone_number=%2B{{}}"
        own, foreign = asked.format(15550001), asked.format(15550002)
        alike(mine.get, network, "15550002", "15559999", asked)
        assert mine.get(own).text == network.get(own).text
        assert network.get(own).json()["rows"] != network.get(foreign).json()["rows"]
    for query in ("call_success_rate", "call_success_hours"):
        assert network.get(f"/v1/queries/{query}?{span}").status_code == 200
        assert mine.get(f"/v1/queries/{query}?{span}").status_code == 403
