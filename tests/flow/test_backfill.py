"""Windows that are computed whole from bronze, and no others."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from headrace.app import App
from headrace.errors import DeclarationError, NotFoundError, OutsideError
from tests.kit import ProjectFolder, Quiet

DECLARATIONS = """
project = Project("shop")
sales = project.source("sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, amount DECIMAL(18,2)")
sales.rule("amount >= 0", "too small")
project.pin("usual")
"""
FILES = {
    "marts/daily.sql": "SELECT shop, CAST(sold_at AS DATE) AS day, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "marts/weekly.sql": "SELECT CAST(date_trunc('week', sold_at) AS DATE) AS week, median(amount) AS usual FROM sales GROUP BY ALL",
    "marts/days.sql": "SELECT day, measure(revenue) AS revenue FROM daily GROUP BY ALL",
    "marts/shops.sql": "SELECT shop, sum(amount) AS revenue FROM sales GROUP BY ALL",
    "marts/usual.sql": "SELECT shop, median(amount) AS usual FROM sales GROUP BY ALL",
    "queries/daily.sql": "SELECT day, revenue, receipts FROM daily WHERE shop = $shop ORDER BY day",
    "queries/weekly.sql": "SELECT week, usual FROM weekly ORDER BY week",
    "queries/days.sql": "SELECT day, revenue FROM days ORDER BY day",
    "queries/shops.sql": "SELECT revenue FROM shops WHERE shop = $shop",
}
DAY = dt.date


class Shop:
    """Ten days of January 2024, a receipt of 10 a day; the first is a Monday."""

    def __init__(self, folder: Path) -> None:
        self.project = ProjectFolder(folder, DECLARATIONS, FILES)
        rows = "".join(f"{d},2024-01-{d:02}T12:00:00Z,a,10\n" for d in range(1, 11))
        self.project.land("sales_1.csv", "sale_id,sold_at,shop,amount\n" + rows)
        self.app.run(Quiet())

    @property
    def app(self) -> App:
        return self.project.app

    def mend_bronze(self, amount: str) -> None:
        """Other amounts in the files of bronze, as if they had been restored."""
        app = self.app
        bronze = app.lake.snapshot("bronze/sales")
        assert bronze is not None
        for file in bronze.files:
            path = app.lake.new_file("bronze/sales")
            app.engine.write(f"SELECT * REPLACE ('{amount}' AS amount) FROM {app.engine.scan([file], [])}", path)
            Path(file).write_bytes(Path(path).read_bytes())
            Path(path).unlink()

    def backfill(self, mart: str, first: int, last: int) -> Any:
        return self.app.backfill(Quiet(), mart, DAY(2024, 1, first), DAY(2024, 1, last))

    def daily(self) -> dict[int, str]:
        return {int(row["day"][-2:]): row["revenue"] for row in self.project.ask("daily", shop="a")}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_only_the_windows_of_the_range_are_computed_anew(shop: Shop) -> None:
    shop.mend_bronze("12")
    assert shop.app.run(Quiet()).generation is None, "a run does not know of it"
    record = shop.backfill("daily", 3, 5)
    wanted = {d: "12.00" if 3 <= d <= 5 else "10.00" for d in range(1, 11)}
    assert shop.daily() == wanted
    assert {step.subject: step.counts for step in record.steps if step.verb == "publish" and step.subject.startswith("daily")} \
        == {shop.app.project.queries["daily"].tables[0].name: {"rows": 3}}  # fmt: skip
    assert {int(r["day"][-2:]): r["revenue"] for r in shop.project.ask("days")} == wanted, (
        "a mart that reads it follows"
    )
    assert shop.project.ask("shops", shop="a") == [{"revenue": "100.00"}], "a mart that does not stays"
    shop.project.land(
        "sales_2.csv", "sale_id,sold_at,shop,amount\n11,2024-01-04T12:00:00Z,a,1\n12,2024-01-09T12:00:00Z,a,1\n"
    )
    shop.app.run(Quiet())
    assert shop.daily() == {**wanted, 4: "13.00", 9: "11.00"}, "and goes on from there"
    named = {d.table: d.differing for d in shop.app.reconcile(Quiet(), ["daily"], repair=False).tables}
    assert list(named.values()) == [7], "what was left out"


def test_what_has_landed_since_is_counted_too(shop: Shop) -> None:
    shop.mend_bronze("12")
    shop.project.land(
        "sales_2.csv", "sale_id,sold_at,shop,amount\n11,2024-01-04T12:00:00Z,a,1\n12,2024-01-09T12:00:00Z,a,1\n"
    )
    shop.backfill("daily", 3, 5)
    found = shop.daily()
    assert (found[4], found[9], found[3], found[1]) == ("13.00", "11.00", "12.00", "10.00")


def test_a_window_is_computed_whole_where_a_day_of_it_is_named(shop: Shop) -> None:
    shop.mend_bronze("12")
    shop.backfill("weekly", 9, 9)
    assert [(r["week"], float(r["usual"])) for r in shop.project.ask("weekly")] == [
        ("2024-01-01", 10),
        ("2024-01-08", 12),
    ]


def test_records_that_are_rejected_now_leave_their_windows(shop: Shop) -> None:
    shop.mend_bronze("-1")
    shop.backfill("daily", 3, 5)
    assert sorted(shop.daily()) == [1, 2, 6, 7, 8, 9, 10]


def test_it_may_be_killed_repeated_and_rolled_back(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shop.daily()
    shop.mend_bronze("12")
    app = shop.app

    def killed(*_: object) -> None:
        raise OutsideError("HR0407", "killed")

    monkeypatch.setattr(app.store, "set_control", killed)
    with pytest.raises(OutsideError):
        app.backfill(Quiet(), "daily", DAY(2024, 1, 3), DAY(2024, 1, 5))
    assert shop.daily() == before
    shop.backfill("daily", 3, 5)
    wanted = shop.daily()
    assert wanted[3] == "12.00"
    again = shop.backfill("daily", 3, 5)
    assert [s.counts["rows"] for s in again.steps if s.verb == "publish" and s.counts["rows"]] == []
    assert shop.daily() == wanted
    shop.app.rollback()
    assert shop.daily() == wanted, "the repetition changed nothing"


@pytest.mark.parametrize(
    ("mart", "error", "code"),
    [("shops", DeclarationError, "HR0414"), ("usual", DeclarationError, "HR0414"), ("dayly", NotFoundError, "HR0501")],
)
def test_what_has_no_windows_is_told(shop: Shop, mart: str, error: type[Exception], code: str) -> None:
    with pytest.raises(error, match=code):
        shop.backfill(mart, 1, 2)


def test_the_command_line(shop: Shop) -> None:
    shop.mend_bronze("12")
    ended = shop.project.command("backfill", "daily", "--from", "2024-01-03", "--to", "2024-01-05")
    assert ended.returncode == 0, ended.stderr
    assert "generation 2 published" in ended.stdout
    assert shop.daily()[3] == "12.00"
    assert shop.project.command("backfill", "daily", "--from", "2024-01-05", "--to", "2024-01-03").returncode == 2
