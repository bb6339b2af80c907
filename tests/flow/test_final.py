"""What an answer says of its windows: final where nothing more is expected of them; and what comes late is counted."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from headrace.app import App
from headrace.errors import ProjectErrors
from headrace.flow.stream import Worker
from headrace.http.answers import Answers
from headrace.model.run import Run
from headrace.sql.windows import Declared, TimeWindow, window_of
from tests.kit import Opened, ProjectFolder, Quiet

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", lateness="1 hour",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, sent_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL")
visits = project.source("visits", csv("visits_*.csv"), id="visit_id", event_time="came_at", {visits}
    columns="visit_id BIGINT, came_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL")
"""
FILES = {
    "silver/renamed.sql": "SELECT s.sold_at AS moment, s.sent_at AS sold_at, s.shop FROM sales AS s",
    "silver/both.sql": "SELECT sold_at AS moment, shop FROM sales UNION ALL SELECT came_at AS moment, shop FROM visits",
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/sent.sql": "SELECT CAST(sent_at AS DATE) AS day, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/monthly.sql": "SELECT CAST(date_trunc('month', moment) AS DATE) AS month, count(*) AS receipts FROM renamed GROUP BY ALL",
    "marts/wrong.sql": "SELECT CAST(sold_at AS DATE) AS day, count(*) AS receipts FROM renamed GROUP BY ALL",
    "marts/hourly.sql": "SELECT date_trunc('hour', moment) AS hour, shop, count(*) AS seen FROM both GROUP BY ALL",
    "marts/days.sql": "SELECT day, measure(receipts) AS receipts FROM daily GROUP BY ALL",
    "marts/shops.sql": "SELECT shop, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/daily.sql": "SELECT day, receipts FROM daily WHERE shop = $shop ORDER BY day LIMIT $limit",
    "queries/between.sql": "SELECT measure(receipts) AS receipts FROM daily WHERE shop = $shop AND day BETWEEN $from AND $to",
    "queries/total.sql": "SELECT measure(receipts) AS receipts FROM daily",
    "queries/hourly.sql": "SELECT hour, seen FROM hourly WHERE shop = $shop ORDER BY hour LIMIT $limit",
    "queries/shops.sql": "SELECT receipts FROM shops WHERE shop = $shop",
}


class Shop:
    def __init__(self, folder: Path, visits: str = 'lateness="2 hours",') -> None:
        self.project = ProjectFolder(folder, DECLARATIONS.format(visits=visits), FILES)
        self.numbers = itertools.count(1)

    @property
    def app(self) -> App:
        return Opened(self.project.folder, {"inbox.quiet": 0.0})

    def sell(self, *moments: str) -> None:
        rows = "".join(f"{next(self.numbers)},{m},2024-01-09T00:00:00Z,a\n" for m in moments)
        self.project.land(f"sales_{next(self.numbers):03}.csv", "sale_id,sold_at,sent_at,shop\n" + rows)

    def visit(self, *moments: str) -> None:
        rows = "".join(f"{next(self.numbers)},{m},a\n" for m in moments)
        self.project.land(f"visits_{next(self.numbers):03}.csv", "visit_id,came_at,shop\n" + rows)

    def final(self, query: str, **given: str) -> tuple[bool, str | None]:
        answer = self.app.reader.answer(query, given)
        return answer.final, answer.watermark

    def source(self, name: str = "sales") -> dict[str, object]:
        return next(s for s in self.app.status()["sources"] if s["source"] == name)


@pytest.fixture
def built(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_window_is_final_when_the_watermark_has_reached_its_end(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z", "2024-01-02T00:59:59Z")
    built.app.run(Quiet())
    january = {"shop": "a", "from": "2024-01-01", "to": "2024-01-01"}
    assert built.final("between", **january) == (False, "2024-01-01T23:59:59Z")
    built.sell("2024-01-02T01:00:00Z")
    built.app.run(Quiet())
    assert built.final("between", **january) == (True, "2024-01-02T00:00:00Z")
    assert built.final("between", **{**january, "to": "2024-01-02"})[0] is False
    assert built.final("daily", shop="a")[0] is False, "it shows the second day, too"
    assert built.final("daily", shop="a", limit="1")[0] is True
    assert built.final("total")[0] is False, "a question without an end"
    assert built.final("daily", shop="nobody")[0] is False, "no rows yet, and the question has no end"
    assert built.final("between", **{**january, "shop": "nobody"})[0] is True, "none will come"
    assert built.final("shops", shop="a") == (False, "2024-01-02T00:00:00Z"), "no window at all"


def test_nothing_is_final_where_a_source_declares_no_lateness(tmp_path: Path) -> None:
    shop = Shop(tmp_path, visits="")
    shop.sell("2024-01-01T10:00:00Z", "2024-01-05T00:00:00Z")
    shop.visit("2024-01-01T10:00:00Z", "2024-01-05T00:00:00Z")
    shop.app.run(Quiet())
    assert shop.final("hourly", shop="a", limit="1") == (False, None)
    assert shop.final("daily", shop="a", limit="1") == (True, "2024-01-04T23:00:00Z")
    assert shop.source("visits")["late"] is None


def test_the_watermark_is_that_of_the_lane_that_is_furthest_behind_which_is_named(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z", "2024-01-05T00:00:00Z")
    built.app.run(Quiet())
    answer = built.app.reader.answer("hourly", {"shop": "a", "limit": "1"})
    assert (answer.final, answer.watermark, answer.idle) == (False, None, ("visits",)), "no visit has ever come"
    built.visit("2024-01-01T13:00:00Z")
    built.app.run(Quiet())
    answer = built.app.reader.answer("hourly", {"shop": "a", "limit": "1"})
    assert (answer.final, answer.watermark, answer.idle) == (True, "2024-01-01T11:00:00Z", ("visits",))
    built.visit("2024-01-04T23:30:00Z")
    built.app.run(Quiet())
    answer = built.app.reader.answer("hourly", {"shop": "a"})
    assert (answer.watermark, answer.idle) == ("2024-01-04T21:30:00Z", ())


def test_what_comes_late_is_counted_in_its_window_and_told(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z", "2024-01-03T00:00:00Z", "2024-01-02T23:00:00Z", "2024-01-01T09:00:00Z")
    built.app.run(Quiet())
    assert built.source()["late"] == 1, "one hour behind is not late yet"
    built.sell("2024-01-01T08:00:00Z", "2024-01-03T01:00:00Z", "2024-01-02T23:59:59Z")
    built.app.run(Quiet())
    assert built.source()["late"] == 3
    assert built.source()["watermark"] == "2024-01-03T00:00:00Z"
    between = {"shop": "a", "from": "2024-01-01", "to": "2024-01-01"}
    assert built.app.reader.answer("between", between).rows == [(3,)]
    built.project.write(
        "project.py", (built.project.folder / "project.py").read_text() + 'sales.flag("shop = \'b\'", "b")\n'
    )
    built.app.run(Quiet())
    assert built.source()["late"] == 3, "judged again, and counted once"


def test_the_stream_moves_the_watermark(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z")
    built.app.run(Quiet())
    day = {"shop": "a", "from": "2024-01-01", "to": "2024-01-01"}
    assert built.final("between", **day) == (False, "2024-01-01T09:00:00Z")
    app = built.app
    batch = app.batch(Quiet())
    worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")
    built.sell("2024-01-01T23:00:00Z", "2024-01-02T01:00:00Z")
    batch.land(Run(""))
    assert (built.source()["waiting"], built.source()["as_of"]) == (2, "2024-01-01T10:00:00Z")
    worker.run(lambda: None, until_caught_up=True, stopped=lambda: False)
    assert built.source()["waiting"] == 0
    assert built.final("between", **day) == (True, "2024-01-02T00:00:00Z")
    assert built.app.reader.answer("between", day).rows == [(2,)]
    told = built.source()
    assert (told["watermark"], told["as_of"]) == ("2024-01-02T00:00:00Z", "2024-01-02T01:00:00Z")
    lane = built.app.status()["stream"]["lanes"][0]
    assert (lane["lag"], lane["fan_out"], lane["watermark"]) == (0, 1, "2024-01-02T00:00:00Z")


def test_status_as_people_read_it(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z", "2024-01-05T00:00:00Z", "2024-01-01T11:00:00Z")
    built.app.run(Quiet())
    said = built.project.command("status").stdout
    row = next(line for line in said.splitlines() if line.startswith("sales"))
    assert "2024-01-04T23:00:00Z" in row
    assert row.endswith(" 1"), "one came late"
    assert " d " in row, "days behind"


def test_what_the_stream_counts_while_an_answer_is_read_does_not_make_it_final(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z")
    built.app.run(Quiet())
    app = built.app
    worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")
    worker.run(lambda: None, until_caught_up=True, stopped=lambda: False)
    reader, fetch = built.app.reader, app.store.fetch

    def later(*given: object, **named: object) -> object:
        rows = fetch(*given, **named)  # type: ignore[arg-type]
        built.sell("2024-01-01T23:00:00Z", "2024-01-02T01:00:00Z")
        worker.run(lambda: app.batch(Quiet()).land(Run("")), until_caught_up=True, stopped=lambda: False)
        return rows

    reader.store.fetch = later  # type: ignore[method-assign,assignment]
    answer = reader.answer("between", {"shop": "a", "from": "2024-01-01", "to": "2024-01-01"})
    assert answer.final is False


def test_which_column_is_a_window(built: Shop) -> None:
    project = built.app.project
    declared = Declared(project.sources, project.datasets, project.marts)
    assert {name: window_of(mart, declared) for name, mart in project.marts.items()} == {
        "daily": TimeWindow("day", "DAY"),
        "sent": None,
        "monthly": TimeWindow("month", "MONTH"),
        "wrong": None,
        "hourly": TimeWindow("hour", "HOUR"),
        "days": TimeWindow("day", "DAY"),
        "shops": None,
    }


@pytest.mark.parametrize(
    ("unit", "start", "end"),
    [
        ("DAY", "2024-02-28", "2024-02-29T00:00:00"),
        ("WEEK", "2024-12-30", "2025-01-06T00:00:00"),
        ("MONTH", "2024-12-01", "2025-01-01T00:00:00"),
        ("QUARTER", "2024-10-01", "2025-01-01T00:00:00"),
        ("YEAR", "2024-01-01", "2025-01-01T00:00:00"),
        ("HOUR", 1_704_067_200_000_000, "2024-01-01T01:00:00"),
        ("DAY", "9999-12-31", None),
        ("YEAR", "9999-01-01", None),
    ],
)
def test_when_a_window_ends(unit: str, start: object, end: str | None) -> None:
    found = TimeWindow("day", unit).end(start)
    assert (found.isoformat() if found is not None else None) == end


@pytest.mark.parametrize("lateness", ["soon", "1", "-1 hours", "1.5 hours", "hour"])
def test_a_lateness_that_is_none_is_refused(tmp_path: Path, lateness: str) -> None:
    shop = Shop(tmp_path, visits=f'lateness="{lateness}",')
    with pytest.raises(ProjectErrors, match="HR0103"):
        shop.app.project  # noqa: B018  reading it loads the project


def test_the_command_line_and_the_api_say_the_same(built: Shop) -> None:
    built.sell("2024-01-01T10:00:00Z", "2024-01-02T01:00:00Z")
    built.app.run(Quiet())
    told = json.loads(built.project.command("query", "daily", "shop=a", "limit=1", "--json").stdout)
    answers = Answers(built.app.project, built.app.store, max_rows=100, max_scan=1000)

    async def reply() -> tuple[dict[bytes, bytes], dict[str, object]]:
        found = await answers.reply("daily", b"shop=a&limit=1", None)
        return dict(found.headers), json.loads(found.body)

    headers, document = asyncio.run(reply())
    answers.close()
    assert headers[b"headrace-final"] == b"true"
    for found in (told, document):
        assert (found["final"], found["watermark"], found["idle"]) == (True, "2024-01-02T00:00:00Z", [])
    assert "final before 2024-01-02T00:00:00Z" in built.project.command("query", "daily", "shop=a").stderr
