"""Exports are of what was computed; where the project was edited since, they say so and are not written."""

from __future__ import annotations

import csv
import random
from decimal import Decimal
from pathlib import Path

import pytest

from headrace.errors import NotReadyError
from tests.flow import shop
from tests.kit import ProjectFolder

EXPORTS = {
    "exports/revenue.sql": "SELECT shop, sum(revenue) AS revenue FROM daily GROUP BY ALL",
    "exports/good.sql": "SELECT shop, revenue FROM good_days",
    "exports/visits.sql": "SELECT sum(visits) AS visits FROM traffic",
}
SOLD = shop.sales_file(random.Random(3), 1, 300)


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    made = ProjectFolder(tmp_path, shop.DECLARATIONS, shop.FILES | EXPORTS)
    for name, text in shop.waves()[0].items():
        made.land(name, text if not name.startswith("sales") else SOLD)
    made.run()
    return made


def export(project: ProjectFolder, name: str) -> list[dict[str, str]]:
    file = project.folder / f"{name}.csv"
    project.app.export(name, file)
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def edit(project: ProjectFolder, path: str, one: str, another: str) -> None:
    file = project.folder / path
    text = file.read_text()
    assert one in text
    file.write_text(text.replace(one, another))


def test_an_export_is_what_the_files_come_to(project: ProjectFolder) -> None:
    wanted: dict[str, Decimal] = {}
    for row in {row["sale_id"]: row for row in csv.DictReader(SOLD.splitlines())}.values():
        if row["amount"] != "oops" and Decimal(row["amount"]) >= 0:
            wanted[row["shop"]] = wanted.get(row["shop"], Decimal()) + Decimal(row["amount"])
    assert {row["shop"]: Decimal(row["revenue"]) for row in export(project, "revenue")} == wanted


def test_what_was_edited_is_told_and_what_was_not_goes_on(project: ProjectFolder) -> None:
    edit(project, "marts/daily.sql", "sum(amount) AS revenue", "sum(amount * 2) AS revenue")
    for name, mart in (("revenue", "daily"), ("good", "good_days")):
        with pytest.raises(NotReadyError, match=f"HR0403.*{mart} was edited since the last run"):
            export(project, name)
        assert not (project.folder / f"{name}.csv").exists()
    with pytest.raises(NotReadyError, match=r"HR0403.*daily was edited"):
        project.app.why("total", {}, whole=1)
    assert export(project, "visits")
    project.app.plan()
    project.run()
    assert export(project, "revenue")


def test_a_contract_that_was_edited_is_told(project: ProjectFolder) -> None:
    edit(project, "project.py", "seconds BIGINT", "seconds BIGINT, door VARCHAR")
    with pytest.raises(NotReadyError, match=r"HR0403.*a contract was edited since the last run: .*door"):
        export(project, "visits")
    ended = project.command("skew", "sales", "--key", "shop")
    assert (ended.returncode, "HR0403" in ended.stderr) == (3, True), ended.stderr
    assert project.app.plan().tables
    project.run()
    assert export(project, "visits")


def test_skew_leaves_out_a_mart_that_has_other_parts_than_the_lake(project: ProjectFolder) -> None:
    looked = ("skew", "daily", "--key", "shop")
    assert project.command(*looked).returncode == 0
    edit(project, "marts/daily.sql", "sum(amount) AS revenue", "sum(amount) AS revenue, max(amount) AS dearest")
    ended = project.command(*looked)
    assert (ended.returncode, "HR0403" in ended.stderr, "no run has made daily" in ended.stderr) == (3, True, True), (
        ended
    )
