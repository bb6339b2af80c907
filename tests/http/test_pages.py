"""The declared pages: as HTML, and as people meet them in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headrace.flow.answer import Answer
from headrace.http import charts, words
from headrace.model.page import Tile
from headrace.model.types import Column, Type
from tests.http.conftest import ITEMS, NASTY, PASSWORD, USER, Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FEBRUARY = "customer=c1&from=2024-02-01&to=2024-02-28"


class Elements(HTMLParser):
    """Start tags with their attributes, the text of the page, and the contents of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._in = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_page_shows_its_tiles_with_figures_freshness_and_ways_out(site: Running) -> None:
    found = Elements(site.get(f"/pages/sales?{FEBRUARY}").text)
    total = site.get("/v1/queries/total").json()["rows"][0]["amount"]
    assert f"{float(total):,.2f}" in found.text
    assert found.text.count("As of 28 Feb 2024, 10:00 UTC") == 3
    assert "Generation 1" in found.text
    links = [a["href"] or "" for a in found.named("a")]
    assert sum(".csv?" in link for link in links) == 4
    for link in links:
        if link.startswith(("/pages/", "/v1/")):
            assert site.get(link).status_code == 200, link
    data = [json.loads(script) for script in found.scripts]
    assert [d["kind"] for d in data] == ["line", "bar"]
    assert [s["name"] for s in data[0]["series"]] == sorted(["apple", "bread", "=cheese", "<b>dates</b>"])
    assert data[0]["series"][2]["points"][0] == ["2024-02-01", "10.05"]


def test_first_values_come_from_the_newest_data_and_the_project_s_own_lists(site: Running) -> None:
    found = Elements(site.get("/pages/sales").text)
    values = {i["name"]: (i["type"], i["value"]) for i in found.named("input")}
    assert values == {"from": ("date", "2024-01-30"), "to": ("date", "2024-02-28")}
    assert [s["name"] for s in found.named("select")] == ["customer"]
    options = found.named("option")
    assert len(options) == 35
    assert "Customer 7 (d007)" in found.text


def test_a_second_column_is_a_name_only_where_a_value_stands_once(site: Running) -> None:
    found = Elements(site.get("/pages/items").text)
    assert [o["value"] for o in found.named("option")] == sorted(ITEMS, key=str.casefold)
    assert "apple (" not in found.text
    assert "(apple)" not in found.text


def test_every_field_has_a_label_and_every_table_a_head(site: Running) -> None:
    found = Elements(site.get(f"/pages/sales?{FEBRUARY}").text)
    labels = {label["for"] for label in found.named("label")}
    assert {f["id"] for f in (*found.named("input"), *found.named("select"))} == labels
    assert len(found.named("h1")) == 1
    assert all(th.get("scope") == "col" for th in found.named("th"))
    for chart in (d for d in found.named("div") if d.get("role") == "img"):
        assert "the same as a table follows" in (chart["aria-label"] or "")


def test_an_error_in_a_tile_stays_in_the_tile(
    site: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = Elements(site.get("/pages/sales?customer=c1&from=soon&to=2024-02-03").text)
    assert wrong.text.count("parameter 'from' is 'soon'") == 2
    assert "Customer 7" in wrong.text
    inner = site.server._answers.ask

    async def ask(name: str, *more: Any) -> Any:
        if name == "daily":
            raise ZeroDivisionError("a secret of ours")
        return await inner(name, *more)

    monkeypatch.setattr(site.server._answers, "ask", ask)
    response = site.get(f"/pages/sales?{FEBRUARY}")
    assert response.status_code == 200
    assert "This tile could not be made." in response.text
    assert "secret of ours" not in response.text
    assert "secret of ours" in capfd.readouterr().err
    assert "Customer 7" in response.text


def test_what_is_missing_is_asked_for(site: Running) -> None:
    page = Elements(site.get("/pages/b-odd-b-7-7").text)
    assert "No rows for this choice." in page.text
    asked = Elements(site.get("/pages/b-odd-b-7-7?customers=").text)
    assert "Choose Customers to see this." in asked.text


def test_a_table_goes_on_by_cursor(start: Callable[..., Running]) -> None:
    site = start(**{"serve.max_rows": 10})
    seen: list[str] = []
    path: str | None = "/pages/sales"
    while path:
        html = site.get(path).text
        seen += re.findall(r"<td>([cd]\d+)</td>", html)
        following = re.search(r'<a href="([^"]+)"[^>]*>Next rows', html)
        path = following[1].replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == 35


def test_s26_stored_values_are_text_wherever_they_are_shown(site: Running) -> None:
    for path in (
        "/pages/sales",
        f"/pages/sales?{FEBRUARY}",
        "/pages/sales?customer=%3Cscript%3Ealert(2)%3C/script%3E&from=%22%3E%3Cimg%20src=x%3E&to=x",
    ):
        response = site.get(path)
        found = Elements(response.text)
        assert not found.named("img")
        for script in found.named("script"):
            assert script.get("type") == "application/json" or (script.get("src") or "").startswith("/static/")
        assert not [
            name for _, attributes in found.tags for name in attributes if name.startswith("on") or name == "style"
        ]
        assert NASTY["c1"] in found.text
        assert NASTY["c4"] in found.text


def test_series_are_aligned_in_order_and_keep_their_colours() -> None:
    def drawn(kind: Literal["line", "bar"], x: Type, rows: list[tuple[Any, ...]]) -> Any:
        columns = (Column("x", x), Column("by", Type("VARCHAR")), Column("y", Type("BIGINT")))
        chart = charts.chart(Tile(kind, "q", x="x", y="y", by="by"), Answer("q", columns, rows, 1, None, complete=True))
        return chart["places"], {s["name"]: s["points"] for s in chart["series"]}, chart["stacked"]

    days = [("2024-02-03", "b", 1), ("2024-02-01", "b", 2), ("2024-02-02", "a", 3)]
    gapless = {"a": [["2024-02-01", None], ["2024-02-02", 3], ["2024-02-03", None]],
               "b": [["2024-02-01", 2], ["2024-02-02", None], ["2024-02-03", 1]]}  # fmt: skip
    assert drawn("bar", Type("DATE"), days) == ([], gapless, True)
    _, lines, stacked = drawn("line", Type("DATE"), days)
    assert (list(lines.items()), stacked) == (
        [("a", [["2024-02-02", 3]]), ("b", [["2024-02-01", 2], ["2024-02-03", 1]])], False,
    )  # fmt: skip
    moments = [("2024-02-01T10:00:00.5Z", "a", 1), ("2024-02-01T10:00:00Z", "a", 2)]
    assert drawn("line", Type("TIMESTAMPTZ"), moments)[1] == {"a": [list(m[::2]) for m in reversed(moments)]}
    numbers = [(10, "a", 1), (9, "b", 2), (None, "b", 3)]
    assert drawn("line", Type("BIGINT"), numbers)[0] == [None, 9, 10]
    assert drawn("bar", Type("BIGINT"), numbers)[0] == [10, 9, None]
    many = [(f"{2000 + n}-01-01", str(n), 1) for n in range(400)]
    _, series, stacked = drawn("bar", Type("DATE"), many)
    assert (stacked, sum(map(len, series.values()))) == (False, 400)


def test_s26_data_cannot_leave_its_script_element() -> None:
    text = charts.embedded({"a": "</script><!-- <script> & \u2028 \u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": "</script><!-- <script> & \u2028 \u2029"}


def test_s27_names_are_never_templates(site: Running) -> None:
    page = Elements(site.get("/pages/b-odd-b-7-7").text)
    assert "<b>Odd</b> {{ 7*7 }}" in page.text
    assert "<i>tile</i>" in page.text
    assert NASTY["c2"] in Elements(site.get("/pages/sales").text).text
    for path in ("/pages/sales", "/pages/b-odd-b-7-7"):
        assert "49" not in re.sub(
            r"[\d,]*\.\d+|\d{2,}-\d+|\d+:\d+", "", Elements(site.get(path).text).text.replace(" 49", "")
        )


def test_the_page_has_no_inline_code_and_names_no_other_host(site: Running) -> None:
    for path in ("/pages/sales", "/docs", "/docs/errors/HR0502", "/"):
        html = site.client.get(path, headers={"authorization": f"Bearer {site.token}"}, follow_redirects=True).text
        assert not re.search(r'(src|href|action)="(https?:)?//', html)
        assert "<style" not in html


@pytest.mark.parametrize(
    ("value", "places", "shown"),
    [("1234567.8912", 2, "1,234,567.89"), ("-0.5", None, "-0.5"), ("12.3400", None, "12.3400"), (5, 2, "5"), (float("nan"), 2, "nan"), ("1e30", 2, "1" + ",000" * 10)],
)  # fmt: skip
def test_numbers_are_shown_with_thousands_apart(value: Any, places: int | None, shown: str) -> None:
    assert words.number(value, places) == shown


@pytest.mark.parametrize(
    ("name", "shown"), [("cost_usd", "Cost USD"), ("org_id", "Org ID"), ("from", "From"), ("_", "_")]
)
def test_names_are_shown_as_words(name: str, shown: str) -> None:
    assert words.label(name) == shown


def test_somebody_with_a_browser_gets_an_error_as_a_page(site: Running) -> None:
    headers = {"authorization": f"Bearer {site.token}", "accept": "text/html,*/*"}
    missing = site.get("/nothing", headers=headers)
    assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "default-src 'self'" in missing.headers["content-security-policy"]
    refused = site.anonymous("/", accept="text/html")
    assert (refused.status_code, "www-authenticate" in refused.headers) == (401, True)
    assert site.get("/v1/nothing", headers=headers).headers["content-type"] == "application/problem+json"


# In a browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, site: Running) -> Iterator[Callable[..., Page]]:
    """Opens a page; at the end there was no message on the console, and no request to anybody else."""
    contexts, said, asked = [], [], []

    def open_page(path: str, *, width: int = 1280, height: int = 900, scheme: Any = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            http_credentials={"username": USER, "password": PASSWORD},
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(site.url + path)
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith((site.url + "/", "data:", "blob:"))] == []


def drawn(page: Page) -> int:
    """Charts that have something on their canvas."""
    count: int = page.evaluate(
        """() => [...document.querySelectorAll('.chart canvas')].filter(c => new Uint32Array(
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer).some(v => v !== 0)).length"""
    )
    return count


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_is_drawn_without_a_message_or_an_outside_request(
    visit: Callable[..., Page], tmp_path: Path, scheme: str, width: int, height: int
) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}", width=width, height=height, scheme=scheme)
    page.wait_for_selector(".chart canvas")
    assert drawn(page) == 2
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.screenshot(path=tmp_path / "page.png", full_page=True)
    page.hover(".chart-line canvas", position={"x": 120, "y": 150})
    page.wait_for_selector(".tip dt")
    assert page.locator(".tip img, .tip b, .tip script").count() == 0


@pytest.mark.browser
def test_an_axis_tells_its_steps_apart(visit: Callable[..., Page]) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}")
    page.wait_for_selector(".chart canvas")
    shown = page.evaluate(
        """() => [0, 0.05, 0.1, 0.15000000000000002, 0.0004, 250, 12500, 1250000].map(
            echarts.getInstanceByDom(document.querySelector('.chart-line .canvas')).getOption().yAxis[0].axisLabel.formatter)"""
    )
    assert shown == ["0", "0.05", "0.1", "0.15", "0.0004", "250", "12.5K", "1.25M"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_colours_follow_the_system_and_the_button(visit: Callable[..., Page]) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}", scheme="dark")
    page.wait_for_selector(".chart canvas")

    def look() -> tuple[str, str]:
        ground: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        picture: str = page.evaluate("document.querySelector('.chart-line canvas').toDataURL()")
        return ground, picture

    page.wait_for_timeout(500)  # the first drawing is animated
    dark = look()
    page.get_by_role("button", name="Use light colours").click()
    page.wait_for_timeout(500)
    light = look()
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.reload()
    page.wait_for_selector(".chart canvas")
    assert look()[0] == light[0]
    page.get_by_role("button", name="Use dark colours").click()
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")


@pytest.mark.slow
@pytest.mark.browser
def test_a_filter_changes_the_tiles_and_the_url_without_a_reload(visit: Callable[..., Page]) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}")
    page.evaluate("window.kept = true")
    with page.expect_response(lambda r: "customer=c2" in r.url and "/pages/" in r.url):
        page.get_by_label("Customer", exact=True).select_option("c2")
    page.wait_for_url("**customer=c2**")
    page.wait_for_selector(".chart canvas")
    assert page.evaluate("window.kept") is True
    assert drawn(page) == 2
    with page.expect_response(lambda r: "from=2024-02-27" in r.url):
        page.get_by_label("From").fill("2024-02-27")
        page.get_by_label("From").dispatch_event("change")
    page.wait_for_url("**from=2024-02-27**")
    page.locator("details summary").first.click()
    assert page.locator("details table").first.locator("tbody tr").count() == 8
    page.go_back()
    page.wait_for_load_state("networkidle")
    assert "from=2024-02-01" in page.url


@pytest.mark.browser
def test_everything_can_be_reached_and_used_by_keyboard(visit: Callable[..., Page]) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => { const e = document.activeElement; if (e === document.body) return null;
            const s = getComputedStyle(e); return [e.tagName, (e.getAttribute('aria-label') || e.innerText || e.name || '').trim(), s.outlineStyle !== 'none' || e.tagName === 'BODY']; }"""
        )
        if name is None:
            break
        reached.append(name)
    words_seen = {name for _, name, _ in reached}
    assert {
        "Skip to the content",
        "Sales",
        "API",
        "Use dark colours",
        "Apply",
        "Show as a table",
        "Customers, table",
        "Sales a day as CSV",
    } <= words_seen
    assert [name for _, name, outlined in reached if not outlined] == []
    page.get_by_role("button", name="Use dark colours").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(visit: Callable[..., Page], scheme: str) -> None:
    page = visit(f"/pages/sales?{FEBRUARY}", scheme=scheme)
    poor = page.evaluate(
        """() => {
        const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
        const light = ([r, g, b]) => { const f = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
        const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && !e.closest('.unseen, script, option'))
          .map(e => { const a = light(parse(getComputedStyle(e).color)), b = light(ground(e)); return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName, e.textContent.trim().slice(0, 30)]; })
          .filter(([ratio]) => ratio < 4.5); }"""
    )
    assert poor == []


@pytest.mark.slow
@pytest.mark.browser
def test_the_api_reference_is_drawn_from_the_document(visit: Callable[..., Page]) -> None:
    page = visit("/docs")
    page.wait_for_selector(".opblock-summary")
    assert page.locator(".opblock-summary-path").first.inner_text().replace("\u200b", "").startswith("/v1/queries/")
    page.locator(".opblock-summary").first.click()
    page.wait_for_selector(".opblock-description")
