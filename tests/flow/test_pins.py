"""Pinned yardsticks: fixed until refitted, and what reads them is incremental."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("prices")
project.source("sales", csv("sales_*.csv"), id="id", event_time="sold_at", columns="id BIGINT, sold_at TIMESTAMPTZ NOT NULL, kind VARCHAR NOT NULL, price DECIMAL(18,4)")
{pin}
"""
FILES = {
    "marts/usual.sql": "SELECT kind, median(price) AS usual FROM sales GROUP BY ALL",
    "silver/dear.sql": "SELECT s.* FROM sales AS s JOIN usual AS u USING (kind) WHERE s.price > 2 * u.usual",
    "marts/dear_ones.sql": "SELECT kind, count(*) AS records FROM dear GROUP BY ALL",
    "queries/dear_ones.sql": "SELECT records FROM dear_ones WHERE kind = $kind",
}


def _landing(first: int, prices: list[float]) -> str:
    return "id,sold_at,kind,price\n" + "".join(
        f"{first + i},2024-01-01T00:00:00Z,a,{p}\n" for i, p in enumerate(prices)
    )


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    folder = ProjectFolder(tmp_path, DECLARATIONS.format(pin='project.pin("usual")'), FILES)
    folder.land("sales_1.csv", _landing(0, [1, 1, 1, 5]))
    folder.run()
    return folder


def test_a_pinned_yardstick_stays_and_its_readers_add_up(folder: ProjectFolder) -> None:
    assert folder.ask("dear_ones", kind="a") == [{"records": 1}]
    folder.land("sales_2.csv", _landing(10, [9, 9, 9, 9, 9, 9]))
    run = folder.run()
    assert folder.ask("dear_ones", kind="a") == [{"records": 7}], "judged by the pinned median 1"
    notes = {s.subject: s.note for s in run.steps if s.verb == "aggregate"}
    assert notes == {"dear_ones": "added"}


def test_refit_computes_the_yardstick_anew(folder: ProjectFolder) -> None:
    folder.land("sales_2.csv", _landing(10, [9, 9, 9, 9, 9, 9]))
    folder.run()
    assert folder.run().generation is None, "nothing to do without --refit"
    folder.run(refit=True)
    assert folder.ask("dear_ones", kind="a") == [], "the median is 9 now"


def test_an_edited_yardstick_is_fitted_anew(folder: ProjectFolder) -> None:
    folder.write("marts/usual.sql", "SELECT kind, median(price + 10) AS usual FROM sales GROUP BY ALL")
    folder.run()
    assert folder.ask("dear_ones", kind="a") == []


def test_unpinned_it_follows_the_history_and_its_readers_are_batch_only(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path, DECLARATIONS.format(pin=""), FILES)
    folder.land("sales_1.csv", _landing(0, [1, 1, 1, 5]))
    folder.run()
    folder.land("sales_2.csv", _landing(10, [9, 9, 9, 9, 9, 9]))
    folder.run()
    assert folder.ask("dear_ones", kind="a") == []
    assert "median" in folder.app.project.marts["dear_ones"].batch_only
