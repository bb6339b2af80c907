"""However files are split into runs, and whatever changes between them: the same rows as a project that starts anew
over the files as they are at the end; and only what depends on a change is built again."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.flow import aggregate, publish
from headrace.model.run import Run
from tests.flow import shop
from tests.kit import ProjectFolder, Quiet

EDITS: dict[str, list[str]] = {
    "marts/daily.sql": [
        shop.FILES["marts/daily.sql"],
        shop.FILES["marts/daily.sql"].replace("FROM sales", "FROM sales WHERE amount > 100"),
        shop.FILES["marts/daily.sql"].replace("avg(amount) AS basket", "avg(amount) * 2 AS basket"),
    ],
    "marts/good_days.sql": [
        shop.FILES["marts/good_days.sql"],
        "SELECT shop, count(*) AS days, sum(CAST(basket AS DECIMAL(18,2))) AS revenue FROM daily WHERE basket > 300 GROUP BY ALL",
    ],
    "silver/regional.sql": [
        shop.FILES["silver/regional.sql"],
        shop.FILES["silver/regional.sql"] + " WHERE r.region <> 'west'",
    ],
    "queries/total.sql": [shop.FILES["queries/total.sql"], shop.FILES["queries/total.sql"] + " WHERE shop <> 'a'", ""],
    "queries/big_days.sql": [
        shop.FILES["queries/big_days.sql"],
        shop.FILES["queries/big_days.sql"].replace("1500", "4000"),
        "",
    ],
}
DECLARED = [
    shop.DECLARATIONS,
    shop.DECLARATIONS.replace('"amount >= 0"', '"amount >= 200"'),
    shop.DECLARATIONS.replace("horizon=500", "horizon=3"),
    shop.DECLARATIONS.replace("amount > 900", "amount > 500"),
]


def edit(project: ProjectFolder, path: str, text: str) -> None:
    if text:
        project.write(path, text)
    else:
        (project.folder / path).unlink(missing_ok=True)


def declare(project: ProjectFolder, text: str) -> None:
    project.write("project.py", "from headrace import Project, bar, csv, jsonl, line, number, parquet, table\n" + text)


def from_scratch(project: ProjectFolder, place: Path) -> dict[str, Any]:
    """What the same folder holds when it is run for the first time."""
    shutil.copytree(project.folder, place, ignore=shutil.ignore_patterns(".headrace"))
    other = ProjectFolder.__new__(ProjectFolder)
    other.folder, other.observer = place, Quiet()
    other.run()
    return shop.everything(other.app)


def same(project: ProjectFolder, place: Path) -> None:
    """Serving rows are not compared: some hold offsets, and those tell a project's own history."""
    found, wanted = shop.everything(project.app), from_scratch(project, place)
    assert not shop.differences(*({"answers": all_["answers"], "marts": all_["marts"]} for all_ in (found, wanted)))


def notes(run: Run, verb: str = "aggregate") -> dict[str, str]:
    return {step.subject: step.note for step in run.steps if step.verb == verb}


@st.composite
def stories(draw: st.DrawFn) -> list[list[tuple[str, ...]]]:
    """Runs, each with what happens before it. Files have the order of their names: who duplicates whom, and which
    version of a reference is the latest, is told by that order, in one run as in many."""
    runs = []
    sales = visits = shops = rates = 0
    for _ in range(draw(st.integers(2, 4))):
        events: list[tuple[str, ...]] = []
        for _ in range(draw(st.integers(0, 3))):
            kind = draw(
                st.sampled_from(
                    ["sales", "sales", "visits", "shops", "rates", "replace", "edit", "declare", "full", "rollback"]
                )
            )
            if kind == "sales":
                sales += 1
                events.append(("sales", str(sales), str(draw(st.integers(0, 60)))))
            elif kind == "visits":
                visits += 1
                events.append(("visits", str(visits), str(draw(st.integers(1, 40)))))
            elif kind == "shops":
                shops += 1
                events.append(
                    ("shops", str(shops), str(draw(st.integers(0, 99))), draw(st.sampled_from(["abcd", "ab", "be"])))
                )
            elif kind == "rates":
                rates += 1
                events.append(("rates", str(rates), str(draw(st.integers(0, 99)))))
            elif kind == "replace" and visits:
                events.append(("visits", str(visits), str(draw(st.integers(41, 80)))))
            elif kind == "edit":
                path = draw(st.sampled_from(sorted(EDITS)))
                events.append(("edit", path, str(draw(st.integers(0, len(EDITS[path]) - 1)))))
            elif kind == "declare":
                events.append(("declare", str(draw(st.integers(0, len(DECLARED) - 1)))))
            elif kind in ("full", "rollback"):
                events.append((kind,))
        runs.append(events)
    return runs


def tell(project: ProjectFolder, events: list[tuple[str, ...]]) -> dict[str, bool]:
    """Makes one run's events happen; gives the run's options."""
    options = {}
    for kind, *told in events:
        if kind == "sales":
            number = int(told[0])
            project.land(f"sales_{number:03}.csv", shop.sales_file(random.Random(number), number * 60, int(told[1])))
        elif kind == "visits":
            number = int(told[0])
            project.land(f"visits_{number:03}.jsonl", shop.visits_file(number * 100, int(told[1])))
        elif kind == "shops":
            project.land(f"shops_{int(told[0]):03}.csv", shop.shops_file(random.Random(told[1]), tuple(told[2])))
        elif kind == "rates":
            project.land(f"rates_{int(told[0]):03}.csv", shop.rates_file(random.Random(told[1])))
        elif kind == "edit":
            edit(project, told[0], EDITS[told[0]][int(told[1])])
        elif kind == "declare":
            declare(project, DECLARED[int(told[0])])
        elif kind == "full":
            options["full"] = True
        elif kind == "rollback" and shop.pointer(project.app).predecessor:
            project.app.rollback()
    return options


def follow(story: list[list[tuple[str, ...]]]) -> None:
    with tempfile.TemporaryDirectory(prefix="headrace-story-") as place:
        project = shop.make(Path(place) / "project")
        for name, text in shop.waves()[0].items():
            project.land(name.replace("_1", "_000"), text)
        project.run()
        for events in story:
            project.run(**tell(project, events))
        same(project, Path(place) / "anew")


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW, print_blob=True)
@given(stories())
def test_any_story_ends_as_if_told_at_once(story: list[list[tuple[str, ...]]]) -> None:
    follow(story)


# Only what depends on a change is built again


@pytest.fixture
def project(run_once: Callable[[Path], ProjectFolder], tmp_path: Path) -> ProjectFolder:
    return run_once(tmp_path / "project")


MORE_SALES = shop.sales_file(random.Random(9), 500, 30)
MARTS = {"daily", "usual", "regions", "taxes", "traffic", "quality", "good_days"}


def test_nothing_new_is_nothing_to_do(project: ProjectFolder) -> None:
    run = project.run()
    assert (run.generation, [s for s in run.steps if s.verb in ("refine", "aggregate", "publish")]) == (None, [])


def test_new_facts_are_added_where_parts_merge(project: ProjectFolder, tmp_path: Path) -> None:
    project.land("sales_2.csv", MORE_SALES)
    run = project.run()
    assert notes(run, "refine") == {"sales": ""}
    assert notes(run) == {
        "daily": "added",
        "usual": "whole",
        "regions": "added",
        "taxes": "added",
        "quality": "added",
        "good_days": "whole",
    }
    assert not {t.split("_")[0] for t in notes(run, "publish")} & {"traffic", "shops"}
    same(project, tmp_path / "anew")


def test_another_source_touches_its_own_marts_only(project: ProjectFolder, tmp_path: Path) -> None:
    project.land("visits_2.jsonl", shop.visits_file(900, 20))
    assert notes(project.run()) == {"traffic": "added", "quality": "added"}
    same(project, tmp_path / "anew")


def test_a_reference_touches_those_who_join_it(project: ProjectFolder, tmp_path: Path) -> None:
    project.land("shops_2.csv", "shop,region,title\na,east,A\n")
    assert notes(project.run()) == {"regions": "whole", "quality": "whole"}
    project.land("sales_2.csv", MORE_SALES)
    assert notes(project.run())["quality"] == "added", "the references' own verdicts are not counted again"
    same(project, tmp_path / "anew")


def test_an_edited_mart_touches_its_readers(project: ProjectFolder, tmp_path: Path) -> None:
    edit(project, "marts/daily.sql", EDITS["marts/daily.sql"][1])
    assert notes(project.run()) == {"daily": "whole", "good_days": "whole"}
    same(project, tmp_path / "anew")


def test_a_finisher_touches_those_who_read_it_finished(project: ProjectFolder, tmp_path: Path) -> None:
    """The mart's stored parts stay as they are; what another mart makes of the finished values does not."""
    edit(project, "marts/good_days.sql", EDITS["marts/good_days.sql"][1])
    project.run()
    edit(project, "marts/daily.sql", EDITS["marts/daily.sql"][2])
    assert notes(project.run()) == {"good_days": "whole"}
    same(project, tmp_path / "anew")


def test_an_edited_dataset_touches_its_readers(project: ProjectFolder, tmp_path: Path) -> None:
    edit(project, "silver/regional.sql", EDITS["silver/regional.sql"][1])
    assert notes(project.run()) == {"regions": "whole"}
    same(project, tmp_path / "anew")


def test_an_edited_rule_judges_its_source_again(project: ProjectFolder, tmp_path: Path) -> None:
    declare(project, DECLARED[1])
    run = project.run()
    assert notes(run, "refine") == {"sales": "whole"}
    assert set(notes(run).values()) == {"whole"}
    assert set(notes(run)) == MARTS - {"traffic"}
    same(project, tmp_path / "anew")


def test_another_event_time_changes_the_days_of_verdicts(tmp_path: Path) -> None:
    declared = 'project = Project("x")\nproject.source("s", csv("s_*.csv"), id="id", event_time="sold", columns="id BIGINT, sold TIMESTAMP NOT NULL, paid TIMESTAMP NOT NULL")\n'
    files = {
        "marts/quality.sql": "SELECT day, kind, count(*) AS records FROM verdicts GROUP BY ALL",
        "queries/quality.sql": "SELECT day, kind, records FROM quality ORDER BY day, kind",
    }
    project = ProjectFolder(tmp_path, declared, files)
    project.land("s_1.csv", "id,sold,paid\n1,2024-01-01T00:00:00,2024-02-02T00:00:00\n")
    project.run()
    assert {row[0] for row in project.answer("quality").rows} == {"2024-01-01"}
    declare(project, declared.replace('event_time="sold"', 'event_time="paid"'))
    assert notes(project.run()) == {"quality": "whole"}
    assert {row[0] for row in project.answer("quality").rows} == {"2024-02-02"}


@pytest.mark.slow
def test_a_file_replaced_by_a_shorter_one_takes_keys_away(project: ProjectFolder, tmp_path: Path) -> None:
    before = project.ask("sales", shop="a", first="2024-01-01", last="2024-01-31")
    project.land("sales_1.csv", "sale_id,sold_at,shop,customer,amount\ns1,2024-01-03T00:00:00Z,b,x,5\n")
    run = project.run()
    assert before
    assert project.ask("sales", shop="a", first="2024-01-01", last="2024-01-31") == []
    assert project.ask("total") == [{"revenue": "5.00", "receipts": 1, "customers": 1}]
    assert notes(run)["daily"] == "whole"
    same(project, tmp_path / "anew")
    project.land("sales_2.csv", MORE_SALES)
    project.run()
    assert project.ask("sales", shop="a", first="2024-01-01", last="2024-01-31"), "keys come back"
    same(project, tmp_path / "again")


def test_full_computes_the_same_rows(project: ProjectFolder) -> None:
    project.land("sales_2.csv", MORE_SALES)
    project.run()
    before = shop.everything(project.app)
    run = project.run(full=True)
    assert run.generation == 3
    assert notes(run) == dict.fromkeys(MARTS, "whole")
    assert run.total("rows", "publish") == 0, "what did not change is not written again"
    assert not shop.differences(shop.everything(project.app), before)


@pytest.mark.slow
def test_many_pieces_are_merged_and_stay_right(project: ProjectFolder, tmp_path: Path) -> None:
    pieces = []
    for n in range(2, 2 + aggregate.PIECES + publish.PIECES // 2 + 2):
        project.land(f"sales_{n:03}.csv", shop.sales_file(random.Random(n), n * 100, 8))
        assert notes(project.run())["daily"] == "added"
        pieces.append(len(project.app.lake.snapshot("gold/daily").files))  # type: ignore[union-attr]
    assert max(pieces) == aggregate.PIECES
    assert 1 in pieces
    same(project, tmp_path / "anew")


def test_a_condition_on_a_measure_holds_for_the_whole_not_for_what_was_added(tmp_path: Path) -> None:
    """A key may come to satisfy it, or cease to, by records that alone say nothing of the kind."""
    project = ProjectFolder(
        tmp_path,
        'project = Project("x")\nproject.source("s", csv("s_*.csv"), id="id", event_time="sold", columns="id BIGINT, sold TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount BIGINT")\n',
        {
            "marts/m.sql": "SELECT shop, sum(amount) AS revenue FROM s GROUP BY ALL",
            "queries/rich.sql": "SELECT shop, revenue FROM m WHERE revenue > 100 ORDER BY shop",
        },
    )
    wanted = [[], [("a", 110)], [], [("a", 101), ("b", 200)]]
    for n, rows in enumerate(["1,a,60\n2,b,5\n", "3,a,50\n", "4,a,-20\n", "5,a,11\n6,b,195\n"]):
        stamped = "".join(
            f"{i},2024-01-01T00:00:00,{rest}\n" for i, _, rest in (line.partition(",") for line in rows.splitlines())
        )
        project.land(f"s_{n}.csv", "id,sold,shop,amount\n" + stamped)
        project.run()
        assert project.answer("rich").rows == wanted[n]


# Upkeep, rollback, and queries that come and go


def grown(project: ProjectFolder) -> ProjectFolder:
    for n in range(2, 5):
        project.land(f"sales_{n:03}.csv", shop.sales_file(random.Random(n), n * 100, 8))
        project.run()
    return project


@pytest.mark.slow
def test_compact_and_vacuum_change_no_answer(project: ProjectFolder, tmp_path: Path) -> None:
    grown(project)
    before = shop.everything(project.app)
    merged = {name: (old, new) for name, old, new in project.app.compact(Quiet())}
    assert merged["bronze/sales"] == merged["silver/sales"] == (4, 1)
    assert not shop.differences(shop.everything(project.app), before)
    files = sum(t["files"] for t in project.app.housekeeping.tables())
    assert project.app.vacuum(0) > 0
    assert project.app.vacuum(0) == 0
    assert sum(t["files"] for t in project.app.housekeeping.tables()) == files
    assert not shop.differences(shop.everything(project.app), before)
    assert project.run().generation is None
    project.land("sales_9.csv", MORE_SALES)
    assert notes(project.run())["daily"] == "added"
    same(project, tmp_path / "anew")


@pytest.mark.slow
def test_rollback_after_vacuum_gives_the_earlier_answers_and_runs_forward(
    project: ProjectFolder, tmp_path: Path
) -> None:
    grown(project)
    earlier = shop.answers(project.app), shop.marts(project.app)
    project.land("sales_1.csv", "sale_id,sold_at,shop,customer,amount\ns1,2024-01-03T00:00:00Z,b,x,5\n")
    edit(project, "queries/total.sql", EDITS["queries/total.sql"][1])
    project.run()
    later = shop.answers(project.app)
    project.app.vacuum(0)
    edit(project, "queries/total.sql", EDITS["queries/total.sql"][0])
    generation = project.app.rollback()
    assert (shop.answers(project.app), shop.marts(project.app)["daily"]) == (earlier[0], earlier[1]["daily"])
    edit(project, "queries/total.sql", EDITS["queries/total.sql"][1])
    assert project.run().generation == generation + 2
    assert shop.answers(project.app) == later
    same(project, tmp_path / "anew")


@pytest.mark.slow
def test_a_query_that_returns_does_not_bring_its_old_rows(project: ProjectFolder, tmp_path: Path) -> None:
    gone = project.folder / "queries/sales.sql"
    text = gone.read_text()
    gone.unlink()
    project.land("sales_1.csv", "sale_id,sold_at,shop,customer,amount\ns1,2024-01-03T00:00:00Z,b,x,5\n")
    project.run()
    project.land("sales_2.csv", "sale_id,sold_at,shop,customer,amount\ns2,2024-01-04T00:00:00Z,b,x,5\n")
    project.run()
    gone.write_text(text)
    project.run()
    assert project.ask("sales", shop="a", first="2024-01-01", last="2024-01-31") == []
    same(project, tmp_path / "anew")
    project.land("sales_3.csv", MORE_SALES)
    project.run()
    same(project, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("vacuumed", [True, False])
def test_the_table_of_a_query_that_is_gone_is_dropped_by_vacuum(
    vacuumed: bool, project: ProjectFolder, tmp_path: Path
) -> None:
    (name,) = [t.name for t in project.app.project.queries["sales"].tables]
    edit(project, "queries/sales.sql", "")
    project.run()
    project.app.vacuum(0)
    assert name in project.app.store.physical(), "the predecessor still answers from it"
    project.land("sales_2.csv", MORE_SALES)
    project.run()
    if vacuumed:
        project.app.vacuum(0)
        assert name not in project.app.store.physical()
    edit(project, "queries/sales.sql", shop.FILES["queries/sales.sql"])
    project.run()
    same(project, tmp_path / "anew")


def test_a_mart_and_its_queries_may_go_and_return(project: ProjectFolder, tmp_path: Path) -> None:
    kept = {path: (project.folder / path).read_text() for path in ("marts/traffic.sql", "queries/traffic.sql")}
    for path in kept:
        edit(project, path, "")
    assert project.run().generation == 2
    project.land("visits_2.jsonl", shop.visits_file(900, 20))
    project.run()
    for path, text in kept.items():
        project.write(path, text)
    assert notes(project.run()) == {"traffic": ""}
    same(project, tmp_path / "anew")


def test_a_source_may_be_given_up(project: ProjectFolder, tmp_path: Path) -> None:
    for path in ("marts/traffic.sql", "queries/traffic.sql"):
        edit(project, path, "")
    text = shop.DECLARATIONS
    declare(project, text[: text.index("visits = ")] + text[text.index("shops = ") :])
    project.run()
    same(project, tmp_path / "anew")
