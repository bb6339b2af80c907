"""Every row of docs/bad-input.md as real files through a run: no crash, a reason, the rest loaded, all of it counted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from headrace.errors import HeadraceError
from headrace.model.run import Run
from headrace.sql.judge import bronze_columns, silver_columns
from tests.journeys.bad_inputs import CASES, COST, FILES, MESSAGES, Case
from tests.kit import ProjectFolder

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
REQUIRED = {
    f"B{n}"
    for first, last in ((1, 24), (36, 42), (45, 55), (57, 58), (60, 60), (63, 66))
    for n in range(first, last + 1)
}
VERDICTS = {"accepted", "repaired", "row quarantined", "file rejected", "run refused"}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    code: str
    verdict: str
    what: str

    @property
    def reason(self) -> str:
        return self.what.split("`")[1]


def table() -> list[Row]:
    rows = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in PAGE.read_text().splitlines()]
    return [Row(cells[0], cells[2], cells[3]) for cells in rows if re.fullmatch(r"B\d+[a-z]?", cells[0])]


ROWS = {row.code: row for row in table()}


def test_every_code_has_a_row_and_every_row_a_case() -> None:
    assert len(table()) == len(ROWS), "a code stands twice"
    assert {f"B{n}" for n in range(1, 67)} <= set(ROWS)
    assert set(ROWS) == set(CASES) | set(MESSAGES)
    assert not set(MESSAGES) & REQUIRED
    assert {row.verdict for row in ROWS.values()} == VERDICTS


def write(folder: ProjectFolder, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder.folder / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def of(run: Run, verb: str) -> dict[str, int]:
    return next((s.counts for s in run.steps if s.verb == verb), {})


def project(tmp_path: Path, case: Case) -> ProjectFolder:
    folder = ProjectFolder(tmp_path, case.declarations, FILES)
    write(folder, case.files)
    return folder


@pytest.mark.parametrize("code", [c for c in CASES if ROWS[c].verdict != "run refused"])
def test_the_verdict_is_the_documented_one(code: str, tmp_path: Path) -> None:
    case, row = CASES[code](), ROWS[code]
    folder = project(tmp_path, case)
    runs = [folder.run()]
    if case.later:
        write(folder, case.later)
        runs.append(folder.run())
    app = folder.app
    source = app.project.sources["calls"]

    landed = [of(run, "land") for run in runs]
    assert sum(c["rows"] for c in landed) == case.rows
    assert sum(c["bronze"] + c["unreadable"] for c in landed) == case.rows, "rows in files = bronze + unreadable"
    assert sum(c["rejected"] for c in landed) == case.rejected
    bronze, silver = app.lake.snapshot("bronze/calls"), app.lake.snapshot("silver/calls")
    assert bronze is not None
    assert silver is not None
    bronze_scan = app.engine.scan(bronze.files, bronze_columns(source))
    silver_scan = app.engine.scan(silver.files, silver_columns(source))
    rows, readable, offsets, end = app.engine.rows(
        f"SELECT count(*), count(*) FILTER (WHERE _error IS NULL), count(DISTINCT _offset), max(_offset) + 1 FROM {bronze_scan}"
    )[0]
    assert (rows, offsets, end) == (case.rows, case.rows, case.rows), "each record once, at an offset of its own"
    assert readable == sum(c["bronze"] for c in landed)

    verdicts: dict[str, int] = dict(app.engine.rows(f"SELECT _verdict, count(*) FROM {silver_scan} GROUP BY 1"))
    bad = verdicts.get("quarantined", 0) + verdicts.get("unreadable", 0)
    assert sum(verdicts.values()) == case.rows - case.void
    assert (verdicts.get("clean", 0), bad) == (case.clean, case.bad)
    assert case.clean + case.bad + case.void == case.rows
    refined = of(runs[-1], "refine")
    kinds = ("clean", "quarantined", "duplicate", "superseded", "unreadable")
    if not case.later:
        assert refined["landed"] == sum(refined[k] for k in kinds) == case.rows
    assert refined["repaired"] == case.repaired

    if row.verdict == "accepted":
        assert (case.bad, case.repaired, case.rejected) == (0, 0, 0)
    elif row.verdict == "repaired":
        assert (case.bad, case.rejected) == (0, 0)
        assert case.repaired > 0
        found = app.engine.rows(f"SELECT DISTINCT unnest(_repairs).reason FROM {silver_scan}")
        assert found == [(row.reason,)]
    else:
        assert case.bad > 0
        assert (row.verdict == "file rejected") == (case.rejected > 0)
        reasons = app.engine.rows(f"SELECT DISTINCT _reasons FROM {silver_scan} WHERE _reasons IS NOT NULL")
        assert reasons == [([row.reason],)]
        kept = app.engine.rows(f"SELECT count(*) FROM {bronze_scan} WHERE _error IS NOT NULL AND _bytes IS NULL")
        assert kept == [(0,)], "unreadable bytes are kept"
    assert any("HR0301" in a for a in folder.observer.alarms) == (case.rejected > 0)
    assert any("HR0302" in a for a in folder.observer.alarms) == bool(case.void)

    (total,) = folder.ask("totals")
    expected = case.cost if case.cost is not None else COST * case.clean
    assert (total["records"], Decimal(total["cost"])) == (case.clean, expected)
    for number, records in case.numbers.items():
        assert sum(r["records"] for r in folder.ask("numbers", msisdn=number)) == records
    assert sum(r["records"] for r in folder.ask("quality", kind="quarantined")) == case.bad

    again = folder.run()
    assert again.generation is None, "nothing is new"


@pytest.mark.parametrize("code", [c for c in CASES if ROWS[c].verdict == "run refused"])
def test_a_run_is_refused_and_earlier_answers_stay(code: str, tmp_path: Path) -> None:
    case = CASES[code]()
    folder = project(tmp_path, case)
    folder.run()
    before = folder.ask("totals")
    write(folder, case.later)
    for _ in range(2):
        with pytest.raises(HeadraceError) as raised:
            folder.run()
        assert raised.value.code in ROWS[code].what
        assert folder.ask("totals") == before
    for name in case.later:
        (folder.folder / "landing" / name).write_bytes(b"id,made_at,msisdn,volume,cost\n")
    folder.run()
    assert folder.ask("totals") == before, "the file was mended"
