"""Pages that show themselves anew, and the figures of what is being counted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.errors import OutsideError, ProjectErrors
from headrace.flow.status import Progress
from headrace.http.live import FRESH, WINDOW, Live
from tests.http.conftest import DECLARATIONS, FILES, PASSWORD, USER, Running, running, sales_csv
from tests.kit import ProjectFolder

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGE = """
project.page("Now", status("lag", unit="records"), status("counted", title="Counted so far"), status("rate"), status("workers"),
    status("as_of"), status("watermark"), number("total", y="sales"), refresh="1 second")
"""


@pytest.fixture
def shop(tmp_path: Path) -> ProjectFolder:
    folder = ProjectFolder(tmp_path / "shop", DECLARATIONS.replace('event_time="sold_at"', 'event_time="sold_at", lateness="1 day"') + PAGE, FILES)  # fmt: skip
    folder.land("sales.csv", sales_csv(2))
    folder.land("customers.csv", "customer,name\nc1,One\n")
    folder.run()
    return folder


@pytest.fixture
def site(shop: ProjectFolder, tmp_path: Path) -> Iterator[Running]:
    with running(shop, tmp_path / "users.json") as started:
        yield started


def figures(site: Running) -> list[str]:
    html = site.get("/pages/now").text
    return [
        re.sub(r"(<.*?>|\s)+", " ", f).strip() for f in re.findall(r'<p class="figure"[^>]*>(.*?)</p>', html, re.DOTALL)
    ]


def test_status_tiles_show_what_is_counted_and_what_waits(site: Running, shop: ProjectFolder) -> None:
    assert figures(site)[:2] == ["0 records", "16"]
    assert figures(site)[3:] == ["0", "2 Feb 2024, 10:00 UTC", "1 Feb 2024, 10:00 UTC", "16"]
    again = ProjectFolder(
        shop.folder, (shop.folder / "project.py").read_text().split("\n", 1)[1].replace('"sales.csv"', '"sales*.csv"')
    )
    again.run()
    again.land("sales_2.csv", sales_csv(3).replace("\ns", "\nt"))
    again.app.land(again.observer)
    looked = again.app.progress()
    assert (looked.counted, looked.lag) == (16, 24)
    again.app.stream(again.observer, until_caught_up=True, stopped=lambda: False)
    looked = again.app.progress()
    assert (looked.counted, looked.lag, looked.workers) == (40, 0, 0)
    assert (looked.as_of, looked.watermark) == ("2024-02-03T10:00:00Z", "2024-02-02T10:00:00Z")
    again.run()
    assert again.app.progress() == looked


def test_status_has_the_same_figures(site: Running) -> None:
    found = site.get("/v1/status").json()["progress"]
    assert (found["counted"], found["lag"], found["workers"]) == (16, 0, 0)
    assert (found["as_of"], found["watermark"]) == ("2024-02-02T10:00:00Z", "2024-02-01T10:00:00Z")


def test_a_status_tile_has_no_rows(site: Running) -> None:
    assert site.get("/pages/now/tiles/0.csv").status_code == 404
    assert site.get("/pages/now/tiles/6.csv").status_code == 200


def test_a_rate_is_taken_over_a_window_and_looks_are_few() -> None:
    now, looks, counted = [100.0], [0], [1000]

    def look() -> Progress:
        looks[0] += 1
        return Progress(counted[0], 0, None, None, 0)

    async def rates() -> list[float | None]:
        live, found = Live(look, clock=lambda: now[0]), list[float | None]()
        for seconds, more in (
            (0, 0),
            (FRESH / 2, 500),
            (FRESH / 2, 0),
            (9, 500),
            (WINDOW, 0),
            (5, 0),
            (5, -900),
            (5, 50),
        ):
            now[0] += seconds
            counted[0] += more
            figures = await live.figures()
            assert figures is not None
            found.append(figures.rate)
        return found

    # One look a second; then 500 in 1 s, 1000 in 10 s, nothing since; a rollback is no negative rate.
    assert asyncio.run(rates()) == [None, None, 500.0, 100.0, 0.0, 0.0, None, 10.0]
    assert looks[0] == 7


def test_a_lake_out_of_reach_leaves_answers_alone() -> None:
    def look() -> Progress:
        raise OutsideError("HR0404", "the disk is gone")

    assert asyncio.run(Live(look).figures()) is None


@pytest.mark.parametrize(
    ("page", "what", "help"),
    [
        ('project.page("P", status("lagg"))', "a tile shows 'lagg', which is no figure", "did you mean 'lag'?"),
        ('project.page("P", table("total"), refresh="soon")', "refresh is 'soon'", "1 second to 1 day, as 5 seconds"),
        ('project.page("P", status("lag"), day="x")', "no tile's query has a parameter 'day'", "one of "),
    ],
)
def test_check_finds_what_a_page_cannot_show(page: str, what: str, help: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectErrors) as raised:
        _ = ProjectFolder(tmp_path, DECLARATIONS + page, FILES).app.project
    (error,) = raised.value.errors
    assert (error.code, error.help) == ("HR0106", help)
    assert what in error.what


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.browser
def test_a_page_shows_itself_anew_but_not_under_somebodys_hands(
    browser: Browser, site: Running, shop: ProjectFolder
) -> None:
    from playwright.sync_api import expect

    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
    page = context.new_page()
    page.goto(f"{site.url}/pages/now")
    total = "() => document.querySelector('.tile:last-child .figure').textContent"
    assert page.evaluate(total) == "16"
    shop.land("sales.csv", sales_csv(5))
    shop.run()
    expect(page.locator(".tile:last-child .figure")).to_have_text("40", timeout=20_000)
    assert "Generation 2" in page.inner_text("#fresh")
    page.goto(f"{site.url}/pages/sales")
    assert page.query_selector("[data-refresh]") is None
    context.close()
