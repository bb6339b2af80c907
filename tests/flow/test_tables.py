"""Tables from queries: how large partitions become, what they are cut into, what `plan` says and `apply` does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ParameterError, ProjectErrors
from headrace.flow.control import generation_of, pointer_of
from headrace.flow.plan import Plan, RefusedError
from headrace.model.run import Run
from headrace.model.serving import bucket_of, next_copy, shortened
from tests.flow import shop
from tests.kit import Opened, ProjectFolder, Quiet

DECLARATIONS = """
project = Project("tills")
sales = project.source(
    "sales", csv("sales_*.csv"), id="sale_id", event_time="sold_at", lateness="1 day",
    columns="sale_id BIGINT, sold_at TIMESTAMPTZ NOT NULL, shop VARCHAR NOT NULL, till VARCHAR NOT NULL, amount DECIMAL(18,2) NOT NULL")
"""
FILES = {
    "marts/tills.sql": (
        "SELECT shop, till, CAST(sold_at AS DATE) AS day, date_trunc('hour', sold_at) AS hour, sum(amount) AS revenue, "
        "count(*) AS receipts, max(till) AS last FROM sales GROUP BY ALL"
    ),
    "queries/days.sql": "SELECT day, sum(revenue) AS revenue FROM tills WHERE shop = $shop AND day BETWEEN $from AND $to GROUP BY day ORDER BY day",
    "queries/hours.sql": (
        "SELECT till, hour, revenue FROM tills WHERE shop = $shop AND hour >= $from AND hour < $to ORDER BY hour, till "
        "LIMIT coalesce($limit, 50)"
    ),
    "queries/by_till.sql": "SELECT till, sum(revenue) AS revenue FROM tills WHERE shop = $shop GROUP BY till ORDER BY till",
}
SHOPS, TILLS, DAYS = 30, 3, 20


def sales(days: range = range(DAYS)) -> str:
    """A sale at 9, 10 and 11 o'clock of each day at each till, some of them twice."""
    rows = ["sale_id,sold_at,shop,till,amount"]
    number = 1000 * days.start
    for day in days:
        for s in range(SHOPS):
            for till in range(TILLS):
                for hour in range(9, 12):
                    number += 1
                    rows.append(
                        f"{number},2024-01-{day + 1:02} {hour:02}:05:00Z,shop{s:02},till{till},{s + till + 1}.25"
                    )
    return "\n".join(rows) + "\n"


@pytest.fixture
def tills(tmp_path: Path) -> ProjectFolder:
    project = ProjectFolder(tmp_path, DECLARATIONS, FILES)
    project.land("sales_1.csv", sales())
    return project


class Limited(Opened):
    """A project whose partitions may have ``rows``."""

    rows = 100_000
    size = "100MB"

    def __init__(self, folder: Path, flags: Mapping[str, Any] | None = None) -> None:
        more = {"cassandra.partition_rows": self.rows, "cassandra.partition_size": self.size, "cassandra.replicas": 1}
        super().__init__(folder, {"inbox.quiet": 0.0, **more, **(flags or {})})


def limited(rows: int, size: str = "100MB") -> type[Limited]:
    return type("Limited", (Limited,), {"rows": rows, "size": size})


def buckets(plan: Plan) -> dict[str, str]:
    """What each query's table is cut into."""
    return {q: t.bucket.text if t.bucket is not None else "" for t in plan.tables for q in t.queries}


def largest(plan: Plan) -> dict[str, int]:
    return {q: t.estimate.rows for t in plan.tables for q in t.queries if t.estimate is not None}


def everything(project: ProjectFolder, app: Opened) -> list[Any]:
    asked: list[tuple[str, dict[str, Any]]] = []
    for name in ("shop00", "shop17", "nobody"):
        asked += [("days", {"shop": name, "from": "2024-01-03", "to": "2024-02-09"}), ("by_till", {"shop": name})]
        asked += [("days", {"shop": name, "from": "2024-01-31", "to": "2024-01-01"})]
        asked += [("hours", {"shop": name, "from": "2024-01-03T09:00:00Z", "to": "2024-01-17T10:00:00Z"})]
    answers = [app.reader.answer(name, given) for name, given in asked]
    pages: list[Any] = []
    cursor = None
    while cursor is not None or not pages:
        given = {"shop": "shop03", "from": "2023-12-01T00:00:00Z", "to": "2024-02-02T00:00:00Z", "limit": "7"}
        page = app.reader.answer("hours", given, cursor)
        pages += page.rows
        cursor = page.cursor
    return [[answer.rows for answer in answers], pages]


def test_what_is_small_is_not_cut(tills: ProjectFolder) -> None:
    plan = Limited(tills.folder).plan()
    assert [c.kind for c in plan.changes] == ["fill"] * 3, "nothing is published"
    assert all(t.estimate is None for t in plan.tables)
    tills.run()
    plan = Limited(tills.folder).plan()
    assert not plan.changes
    assert buckets(plan) == dict.fromkeys(("days", "hours", "by_till"), "")


def test_the_largest_partition_is_measured_with_both_slots_and_a_year(tills: ProjectFolder) -> None:
    """By hand: 20 days of 9 keys a shop by hour and till, and a year more of them, twice each."""
    tills.run()
    plan = Limited(tills.folder).plan()
    assert largest(plan) == {"days": 2 * (20 + 365), "hours": 2 * 9 * (20 + 365), "by_till": 2 * 3}
    assert {q: t.estimate.partitions for t in plan.tables for q in t.queries if t.estimate} == dict.fromkeys(
        largest(plan), SHOPS
    )
    tills.write("project.py", (tills.folder / "project.py").read_text() + 'project.keep("tills", "90 days")\n')
    tills.run()
    assert largest(Limited(tills.folder).plan()) == {"days": 2 * 90, "hours": 2 * 9 * 90, "by_till": 2 * 3}


def test_a_partition_of_one_day_does_not_grow(tills: ProjectFolder) -> None:
    tills.write(
        "queries/one_day.sql",
        "SELECT hour, sum(revenue) AS revenue FROM tills WHERE shop = $shop AND day = $day GROUP BY hour ORDER BY hour",
    )
    tills.run()
    assert largest(Limited(tills.folder).plan())["one_day"] == 2 * 3


@pytest.mark.parametrize(
    ("rows", "days", "hours"),
    [(700, "month", "month"), (560, "month", "month"), (500, "month", "day"), (60, "day", "day")],
)
def test_each_kind_of_bucket_where_it_takes_it(tills: ProjectFolder, rows: int, days: str, hours: str) -> None:
    """A month of days is 62 rows, of hours 558; a day of hours is 18."""
    tills.write("queries/by_till.sql", "SELECT sum(revenue) AS revenue FROM tills WHERE shop = $shop AND till = $till")
    tills.run()
    found = buckets(limited(rows)(tills.folder).plan())
    assert found == {"days": days, "hours": hours, "by_till": ""}


def test_what_no_bucket_makes_small_enough_is_refused(tills: ProjectFolder) -> None:
    """A day of hours is 18 rows, and 256 buckets of all 6,930 are 34 each, as hashes are uneven."""
    tills.run()
    refused = {t.queries: t.refused for t in limited(17)(tills.folder).plan().refused}
    assert "one partition would have 6,930 rows" in refused["hours",]


def test_what_no_range_is_given_of_is_salted(tills: ProjectFolder) -> None:
    tills.write(
        "queries/days.sql",
        "SELECT day, sum(revenue) AS revenue FROM tills WHERE shop = $shop AND day >= $from GROUP BY day",
    )
    tills.run()
    plan = limited(200)(tills.folder).plan()
    assert buckets(plan)["days"] == "salt 8"
    assert largest(plan)["days"] == -(-385 * 5 // 32) * 2, "an eighth, and a quarter more as hashes are uneven"


def test_bytes_count_as_rows_do(tills: ProjectFolder) -> None:
    tills.run()
    rows = largest(Limited(tills.folder).plan())["days"]
    plan = limited(100_000, "20kB")(tills.folder).plan()
    assert buckets(plan)["days"] == "month"
    planned = next(t for t in plan.tables if "days" in t.queries)
    assert planned.estimate is not None
    assert 20 <= planned.estimate.bytes / planned.estimate.rows <= 20_000 / rows * 10


def test_a_partition_key_of_few_values_is_refused_where_the_table_is_large(tills: ProjectFolder) -> None:
    tills.write(
        "queries/all.sql",
        "SELECT day, sum(revenue) AS revenue FROM tills WHERE till = $till AND day BETWEEN $from AND $to GROUP BY day",
    )
    tills.run()
    assert not Limited(tills.folder).plan().refused, "a small table is fine with three partitions"
    app = limited(70)(tills.folder)
    (refused,) = app.plan().refused
    assert refused.queries == ("all",)
    assert "3 partition(s) by till" in refused.refused
    assert "salt 4" in refused.help
    with pytest.raises(RefusedError, match="HR0429"):
        app.apply(Quiet())
    assert not (tills.folder / "tables.toml").exists()
    columns = {"of": "tills", "partition": ["till"], "clustering": ["day"], "bucket": "salt 64"}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in columns.items())
    tills.write("tables.toml", f"[[table]]\n{text}")
    assert not limited(70)(tills.folder).plan().refused, "what a person wrote is accepted"


def test_what_is_expected_is_planned_before_there_is_data(tills: ProjectFolder) -> None:
    declared = (tills.folder / "project.py").read_text()
    tills.write("project.py", declared + 'project.expect("tills", shop=500, till=40, hour=24)\n')
    plan = Limited(tills.folder).plan()
    assert largest(plan) == {"days": 2 * 365, "by_till": 2 * 40, "hours": 2 * 31 * 24 * 40}
    assert buckets(plan) == {"days": "", "by_till": "", "hours": "month"}, "a year of them is 700,800"
    assert {t.estimate.source.split(",")[0] for t in plan.tables if t.estimate} == {"declared by expect()"}
    assert buckets(limited(300)(tills.folder).plan())["days"] == "month"
    for wrong in ('"tilsl", shop=1', '"tills", shopp=1', '"tills", shop=0'):
        tills.write("project.py", declared + f"project.expect({wrong})\n")
        with pytest.raises(ProjectErrors, match="HR0103"):
            _ = tills.app.project


def test_apply_builds_beside_compares_and_switches_and_then_there_is_nothing_to_do(tills: ProjectFolder) -> None:
    tills.write(
        "queries/receipts.sql",
        "SELECT sold_at, amount FROM sales WHERE shop = $shop AND sold_at >= $from AND sold_at < $to ORDER BY sold_at",
    )
    tills.run()
    before, answers = generation_of(tills.app.store, 1), everything(tills, Limited(tills.folder))
    small = limited(60)
    done = small(tills.folder).apply(Quiet())
    assert done.generations == [2]
    assert not small(tills.folder).plan().changes
    assert not small(tills.folder).apply(Quiet()).changes
    assert small(tills.folder).run(Quiet()).generation is None, "all is as that generation left it"
    app = small(tills.folder)
    after = generation_of(app.store, pointer_of(app.store).generation)
    assert after.cut == before.cut
    assert Counter(state.bucket for state in after.tables.values()) == {"day": 3, "": 1}
    assert {state.name(base) for base, state in {**before.tables}.items()} <= set(app.store.physical())
    assert everything(tills, app) == answers
    tills.land("sales_2.csv", sales(range(DAYS, DAYS + 4)))
    small(tills.folder).run(Quiet())
    grown = everything(tills, small(tills.folder))
    small(tills.folder).rollback()
    assert everything(tills, small(tills.folder)) == answers
    tills.run()
    assert everything(tills, small(tills.folder)) == grown
    assert small(tills.folder).reconcile(Quiet()).drifted == 0


def test_a_server_follows_the_generation_to_another_table_and_back(tills: ProjectFolder) -> None:
    """It was started before, and has not read tables.toml anew; nor does one that has, before the run."""
    tills.run()
    app = Limited(tills.folder)
    reader, answers = app.reader, everything(tills, app)
    limited(60)(tills.folder).apply(Quiet())
    assert everything(tills, app) == answers
    assert reader.answer("by_till", {"shop": "shop00"}).generation == 2
    limited(60)(tills.folder).rollback()
    assert everything(tills, app) == answers
    assert everything(tills, limited(60)(tills.folder)) == answers
    assert reader.answer("by_till", {"shop": "shop00"}).generation == 1


def test_a_stream_goes_on_in_the_new_table(tills: ProjectFolder) -> None:
    """A run that moves a table opens an epoch, counts ahead what the stream had counted, and the worker follows."""
    tills.run()
    worker = shop_worker(tills)
    tills.land("sales_2.csv", sales(range(DAYS, DAYS + 2)))
    count(tills, worker)
    answers = everything(tills, tills.app)
    with shop.following(worker):
        done = limited(60)(tills.folder).apply(Quiet())
    assert done.generations
    assert everything(tills, tills.app) == answers
    tills.land("sales_3.csv", sales(range(DAYS + 2, DAYS + 5)))
    count(tills, worker)
    streamed = everything(tills, tills.app)
    assert streamed != answers
    assert tills.app.reconcile(Quiet()).drifted == 0
    worker.leave()
    tills.run()
    assert everything(tills, tills.app) == streamed


def shop_worker(project: ProjectFolder) -> Any:
    from headrace.flow.stream import Worker

    app = project.app
    return Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w1")


def count(project: ProjectFolder, worker: Any) -> None:
    project.app.batch(Quiet()).land(Run(""))
    assert worker.follow()
    while worker.step():
        pass


def test_too_wide_a_range_is_refused_whatever_the_store(tills: ProjectFolder) -> None:
    tills.run()
    limited(60)(tills.folder).apply(Quiet())
    app = Limited(tills.folder)
    wide = {"shop": "shop00", "from": "0001-01-01", "to": "9999-12-31"}
    with pytest.raises(ParameterError, match="HR0504.*3,652,059 days"):
        app.reader.answer("days", wide)
    assert len(app.reader.answer("days", {**wide, "from": "2023-12-01", "to": "2025-01-03"}).rows) == DAYS


def test_a_file_that_cannot_be_used_is_told(tills: ProjectFolder) -> None:
    entry = '[[table]]\nof = "tills"\npartition = ["shop"]\nclustering = ["till"]\nbucket = "{}"\n'
    for text in (
        "x = 1",
        "[[table]]\nof = 3",
        entry.format("salt 1"),
        entry.format("year"),
        entry.format("month"),
        "[[",
    ):
        tills.write("tables.toml", text)
        with pytest.raises(ProjectErrors, match="HR0109"):
            _ = tills.app.project
    tills.write("tables.toml", entry.format("salt 8"))
    tills.run()
    assert {s.bucket for s in generation_of(tills.app.store, 1).tables.values()} == {"salt 8", ""}
    tills.write("queries/by_till.sql", "SELECT sum(revenue) AS revenue FROM tills WHERE shop = $shop AND till = $till")
    assert any("no query has a table of tills by shop, till" in note for note in tills.app.plan().notes)


def test_buckets_are_named_and_read_alike() -> None:
    for text in ("", "month", "day", "salt 2", "salt 256"):
        bucket = bucket_of(text)
        assert (bucket.text if bucket is not None else "") == text
    for wrong in ("salt", "salt 0", "salt 257", "Month", "day 1", "salt 08x"):
        with pytest.raises(ValueError, match=wrong):
            bucket_of(wrong)


def test_names_that_are_cut_keep_what_tells_tables_apart() -> None:
    mart = "m" * 48
    ends = [
        f"0123abc{n}{bucket}{copy}"
        for n in "12"
        for bucket in ("", "_month", "_day", "_salt256")
        for copy in ("", "_1", "_12")
    ]
    for most in (42, 57, 63):
        found = [shortened(f"{mart}_{end}", most) for end in ends]
        assert all(len(name) <= most and name.endswith(f"m_{end}") for name, end in zip(found, ends, strict=True))
    assert shortened("short_0123abcd_month", 42) == "short_0123abcd_month"
    assert [
        next_copy("a_0123abcd", names) for names in ([], ["a_0123abcd_month"], ["a_0123abcd_3", "a_0123abcd_day_7"])
    ] == [1, 1, 8]
    assert next_copy("a_0123abcd", ["b_0123abcd_9"]) == 1


def test_windows_beyond_the_calendar_have_a_bucket() -> None:
    """They can be told and counted; that they are nowhere near is the contract's business."""
    for kind in ("month", "day"):
        bucket = bucket_of(kind)
        assert bucket is not None
        values = [
            -(2**63),
            -62_135_596_800_000_000,
            -1,
            0,
            86_399_999_999,
            86_400_000_000,
            253_402_300_799_999_999,
            2**63 - 1,
        ]
        found = [bucket.of((value,)) for value in values]
        assert found == sorted(found)
        assert found[2:6] == [-1, 0, 0, 1 if kind == "day" else 0]
        assert bucket.of(("10000-01-01",)) == bucket.of(("9999-12-31",))


@pytest.mark.slow
def test_plan_says_so_on_the_command_line(tills: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tills.run()
    monkeypatch.setenv("HEADRACE_CASSANDRA__PARTITION_ROWS", "300")
    monkeypatch.setenv("HEADRACE_CASSANDRA__REPLICAS", "1")
    ended = tills.command("plan")
    assert ended.returncode == 1, ended.stderr
    assert "month: uncut, one partition would have 770 rows" in ended.stdout
    assert 'PRIMARY KEY (("shop", "_bucket"), "day", "_slot")' in ended.stdout
    assert "offline" in ended.stdout
    told = json.loads(tills.command("plan", "--json").stdout)
    assert [c["kind"] for c in told["changes"]] == ["file", "fill"] * 2
    assert tills.command("apply").returncode == 0
    ended = tills.command("plan")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "nothing to do")
    monkeypatch.setenv("HEADRACE_CASSANDRA__HOSTS", "127.0.0.1")
    monkeypatch.setenv("HEADRACE_CASSANDRA__CONSISTENCY", "ONE")
    ended = tills.command("plan")  # F14
    assert ended.returncode == 2
    assert "cassandra.consistency is 'ONE'" in ended.stderr
    assert 'GRANT MODIFY ON KEYSPACE "headrace" TO "headrace_run"' in tills.command("plan", "--role").stdout


@pytest.mark.slow
def test_tables_are_listed_described_and_shown_as_they_are_stored(tills: ProjectFolder) -> None:
    tills.run()
    tills.land("sales_2.csv", sales(range(DAYS - 1, DAYS)))  # which changes no number twice over: the same ids
    listed = json.loads(tills.command("table", "ls", "--json").stdout)["tables"]
    assert sorted((t["queries"], t["partition"], t["clustering"]) for t in listed) == [
        ("by_till", "shop", "till"), ("days", "shop", "day"), ("hours", "shop", "hour, till, day"),
    ]  # fmt: skip
    name = next(t["table"] for t in listed if t["queries"] == "days")
    for said in (name, "days"):
        assert f'CREATE TABLE IF NOT EXISTS "headrace"."{name}" (' in tills.command("table", "ddl", said).stdout
    assert "partition   shop VARCHAR" in tills.command("table", "describe", name).stdout
    ended = tills.command("table", "ddl", "tills")
    assert "HR0501: 'tills' has 3 tables" in ended.stderr.replace("error[HR0501]", "HR0501")
    tills.land(
        "sales_3.csv",
        sales(range(DAYS)).replace("sale_id", "sale_id").replace(".25", ".50").replace("\n", "\n9", DAYS * 270),
    )
    tills.run()
    got = json.loads(
        tills.command("table", "get", "days", "shop=shop00", "--from", "2024-01-02", "--to=2024-01-02", "--json").stdout
    )
    (partition,) = got["partitions"]
    assert partition["partition"] == {"shop": "shop00"}
    assert [(r["day"], r["_slot"], r["_gen"]) for r in partition["batch"]] == [
        ("2024-01-02", 0, 1),
        ("2024-01-02", 1, 2),
    ]
    assert partition["speed"] == []
    assert "_gen" in tills.command("table", "get", "by_till", "shop=shop00").stdout
    ended = tills.command("table", "advise")
    assert (ended.returncode, ended.stdout) == (0, "nothing to advise\n")
    ended = tills.command("cluster", "status")
    assert ended.returncode == 2
    assert "the store is no cluster" in ended.stderr
