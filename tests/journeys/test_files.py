"""Files over time: the same again, changed, damaged, killed half-way. Every record once, nothing half done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from headrace import formats
from headrace.adapters.delta_lake import DeltaLake
from headrace.adapters.folder_inbox import FolderInbox
from headrace.app import App
from headrace.errors import HeadraceError, OutsideError, ProjectErrors
from headrace.flow import manifest
from headrace.model.source import Source
from headrace.ports import InboxFile
from headrace.sql.judge import bronze_columns, silver_columns
from tests.kit import ProjectFolder

DECLARATIONS = """
project = Project("files")
sales = project.source("sales", csv("*.csv"), id="id", event_time="day", changed_file="{policy}",
    columns="id BIGINT, day DATE NOT NULL, amount DECIMAL(9,2) NOT NULL")
sales.rule("amount >= 0", "negative amount")
"""
FILES = {
    "marts/total.sql": "SELECT day, count(*) AS records, sum(amount) AS amount FROM sales GROUP BY ALL",
    "queries/total.sql": "SELECT measure(records) AS records, measure(amount) AS amount FROM total",
}


def sold(*amounts: float, first: int = 1) -> str:
    return "id,day,amount\n" + "".join(f"{first + i},2024-05-01,{a}\n" for i, a in enumerate(amounts))


def project(folder: Path, policy: str = "new version") -> ProjectFolder:
    made = ProjectFolder(folder, DECLARATIONS.format(policy=policy), FILES)
    made.land("other.csv", sold(100, first=1000))
    return made


def total(folder: ProjectFolder) -> tuple[int, float]:
    (row,) = folder.ask("total")
    return row["records"] - 1, float(row["amount"]) - 100


def landed(folder: ProjectFolder) -> list[manifest.Landed]:
    app = folder.app
    return [e for e in manifest.load(app.lake, app.engine) if e.file != "other.csv"]


def bronze_rows(folder: ProjectFolder) -> int:
    app = folder.app
    found = app.lake.snapshot("bronze/sales")
    assert found is not None
    scan = app.engine.scan(found.files, bronze_columns(app.project.sources["sales"]))
    return int(app.engine.rows(f"SELECT count(*) FROM {scan}")[0][0]) - 1


def touch(folder: ProjectFolder, name: str, seconds: int) -> None:
    os.utime(folder.folder / "landing" / name, (1_600_000_000 + seconds, 1_600_000_000 + seconds))


def test_the_same_bytes_again_change_nothing_and_the_manifest_does_not_grow(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1, 2))
    folder.run()
    for second in range(3):
        touch(folder, "a.csv", second)
        run = folder.run()
        assert run.generation is None
        assert run.total("rows", "land") == 0
        assert len(landed(folder)) == 1
    assert (bronze_rows(folder), total(folder)) == (2, (2, 3))
    assert folder.observer.alarms == []
    before = landed(folder)
    folder.run()
    assert landed(folder) == before, "its new time is known, so that it is not read again"


def test_manifest_pieces_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "PIECES", 3)
    folder = project(tmp_path)
    for i in range(6):
        folder.land(f"a{i}.csv", sold(1, first=10 * i))
        folder.run()
        snapshot = folder.app.lake.snapshot(manifest.TABLE)
        assert snapshot is not None
        assert len(snapshot.files) <= 3
    assert len(landed(folder)) == 6


def test_other_bytes_under_a_name_are_a_new_version(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1, 2))
    folder.run()
    folder.land("a.csv", sold(1, 2, 4))
    folder.run()
    assert total(folder) == (3, 7), "ids of the void version are no duplicates"
    assert [a for a in folder.observer.alarms if "HR0302" in a and "new version" in a]
    folder.land("a.csv", sold(8))
    folder.run()
    assert total(folder) == (1, 8)
    folder.land("a.csv", "id,day,amount\n")
    folder.run()
    assert total(folder) == (0, 0)


def test_a_version_that_comes_back_counts_again(tmp_path: Path) -> None:
    folder = project(tmp_path)
    for amounts in ([1, 2], [4], [1, 2], [4]):
        folder.land("a.csv", sold(*amounts))
        folder.run()
        assert total(folder) == (len(amounts), sum(amounts))
        assert folder.run().generation is None
    assert bronze_rows(folder) == 6


def test_a_damaged_version_does_not_replace_a_good_one(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1, 2))
    folder.run()
    folder.land("a.csv", "id;day;amount\n1;2024-05-01;9\n")
    run = folder.run()
    assert (run.total("rejected", "land"), total(folder)) == (1, (2, 3))
    touch(folder, "a.csv", 1)
    assert folder.run().generation is None, "it was refused before"
    folder.land("a.csv", sold(1, 2))
    assert folder.run().generation is None, "the version that counts is back"
    assert bronze_rows(folder) == 3
    folder.land("a.csv", sold(5))
    folder.run()
    assert total(folder) == (1, 5)


def test_with_the_policy_reject_the_landed_version_stands(tmp_path: Path) -> None:
    folder = project(tmp_path, "reject")
    folder.land("a.csv", sold(1, 2))
    folder.run()
    folder.land("a.csv", sold(4))
    run = folder.run()
    assert (run.total("rejected", "land"), total(folder)) == (1, (2, 3))
    assert any("HR0302" in a and "reject" in a for a in folder.observer.alarms)
    touch(folder, "a.csv", 1)
    assert folder.run().generation is None
    folder.land("a.csv", sold(1, 2))
    assert folder.run().generation is None
    assert (bronze_rows(folder), total(folder)) == (3, (2, 3))


def test_with_the_policy_reject_a_file_that_was_never_read_may_come_again(tmp_path: Path) -> None:
    folder = project(tmp_path, "reject")
    folder.land("a.csv", "nothing")
    folder.run()
    folder.land("a.csv", sold(4))
    folder.run()
    assert total(folder) == (1, 4)
    assert not any("HR0302" in a for a in folder.observer.alarms)


def test_a_landing_killed_before_the_manifest_is_found_in_bronze(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path)
    folder.run()
    folder.land("a.csv", sold(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "append", _killed)
        with pytest.raises(KeyboardInterrupt):
            folder.run()
    folder.run()
    assert (bronze_rows(folder), total(folder)) == (2, (2, 3))
    assert [(e.rows, e.size > 0) for e in landed(folder)] == [(2, True)]
    folder.land("a.csv", sold(5))
    folder.run()
    assert total(folder) == (1, 5)


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_the_inbox_raises_while_the_engine_reads_is_raised_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path)
    folder.run()
    for name in "abc":
        folder.land(f"{name}.csv", sold(1, first=ord(name)))
    read = FolderInbox.read

    def failing(inbox: FolderInbox, file: InboxFile) -> bytes:
        if file.name == "c.csv":
            raise OutsideError("HR0407", "the share is gone")
        return read(inbox, file)

    with monkeypatch.context() as patch:
        patch.setattr(FolderInbox, "read", failing)
        with pytest.raises(OutsideError, match="the share is gone") as raised:
            folder.run()
    assert raised.value.what == "the share is gone"
    assert (bronze_rows(folder), landed(folder)) == (0, []), "nothing is half landed"
    folder.run()
    assert (bronze_rows(folder), total(folder)) == (3, (3, 3))


def test_a_file_that_is_still_written_waits_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1))
    folder.land("b.csv", sold(2, first=5))
    read = FolderInbox.read

    def growing(inbox: FolderInbox, file: InboxFile) -> bytes:
        if file.name == "a.csv":
            folder.land("a.csv", sold(1, 4))
        return read(inbox, file)

    with monkeypatch.context() as patch:
        patch.setattr(FolderInbox, "read", growing)
        run = folder.run()
    assert total(folder) == (1, 2)
    assert [s.note for s in run.steps if s.verb == "land"] == ["still being written: a.csv"]
    folder.run()
    assert total(folder) == (3, 7)
    assert not folder.observer.alarms


def test_a_file_that_changes_while_it_is_watched_is_left_out_and_named(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1))
    now = time.time()
    touch(folder, "other.csv", 0)
    app = App(tmp_path)
    app.__dict__["inbox"] = FolderInbox(
        tmp_path / "landing", 1.0, now=lambda: now, wait=lambda _: folder.land("a.csv", sold(1, 2))
    )
    run = app.run(folder.observer)
    assert [s.note for s in run.steps if s.verb == "land"] == ["still being written: a.csv"]
    assert total(folder) == (0, 0)
    folder.run()
    assert total(folder) == (2, 3)


def test_a_failed_commit_leaves_nothing_half_landed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path)
    folder.run()
    folder.land("a.csv", sold(1, 2))
    commit = DeltaLake.commit

    for table in ("bronze/sales", "manifest", "silver/sales", "gold/total"):

        def full(lake: DeltaLake, name: str, *args: Any, table: str = table, **kwargs: Any) -> int:
            if name == table:
                raise OutsideError("HR0406", "no space left")
            return commit(lake, name, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(DeltaLake, "commit", full)
            with pytest.raises(OutsideError, match="HR0406"):
                folder.run()
        assert total(folder) == (0, 0), "the earlier answer stands"
    folder.run()
    assert (bronze_rows(folder), total(folder)) == (2, (2, 3))


def test_a_reader_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path)
    folder.run()
    folder.land("a.csv", sold(1, 2))

    def broken(source: Source, name: str, data: bytes) -> Iterator[pa.RecordBatch]:
        yield from formats.delimited.read(source, name, data)
        raise MemoryError("too much")

    with monkeypatch.context() as patch:
        patch.setitem(formats.READERS, "csv", broken)
        with pytest.raises(MemoryError, match="too much"):
            folder.run()
    assert bronze_rows(folder) == 0
    folder.run()
    assert total(folder) == (2, 3)


@pytest.mark.parametrize(
    "format",
    [
        'csv("../a.csv")', 'csv("/a.csv")', 'csv("x//a.csv")', 'csv("_x/a.csv")', 'csv(".a.csv")', 'csv("a", separator="||")',
        'csv("a", separator="")', 'csv("a", decimal="")', 'csv("a", encoding="nope")',
    ],
)  # fmt: skip
def test_a_format_that_nothing_could_be_read_by_is_refused(tmp_path: Path, format: str) -> None:
    folder = events(tmp_path, f'{format}, id="id", event_time="day", columns="id BIGINT, day DATE"')
    with pytest.raises(ProjectErrors) as raised:
        folder.run()
    assert [e.code for e in raised.value.errors] == ["HR0103"]


# Judging


def silver(folder: ProjectFolder, *columns: str) -> list[tuple[Any, ...]]:
    """Columns of the project's first source, in order of offset."""
    app = folder.app
    source = next(iter(app.project.sources.values()))
    found = app.lake.snapshot(f"silver/{source.name}")
    assert found is not None
    scan = app.engine.scan(found.files, silver_columns(source))
    return app.engine.rows(f"SELECT {', '.join(columns)} FROM {scan} ORDER BY _offset")


def events(folder: Path, declared: str, more: str = "") -> ProjectFolder:
    return ProjectFolder(folder, f'project = Project("p")\nevents = project.source("events", {declared})\n{more}')


def test_ids_are_compared_as_values(tmp_path: Path) -> None:
    columns = "id BIGINT, part DECIMAL(9,2), made TIMESTAMPTZ"
    folder = events(tmp_path, f'jsonl("*.jsonl"), id="id, part, made", event_time="made", columns="{columns}"')
    lines = [
        '{"id": 5, "part": 1, "made": "2024-05-01T12:00:00Z"}',
        '{"id": "05", "part": "1.00", "made": "2024-05-01T14:00:00+02:00"}',
        '{"id": 5.0, "part": 1e0, "made": "2024-05-01 12:00Z"}',
        '{"id": 6, "part": 1, "made": "2024-05-01T12:00:00Z"}',
        '{"id": null, "part": 1, "made": "2024-05-01T12:00:00Z"}',
        '{"id": null, "part": 1, "made": "2024-05-01T12:00:00Z"}',
    ]
    folder.land("a.jsonl", "\n".join(lines))
    folder.run()
    expected = ["clean", "duplicate", "duplicate", "clean", "quarantined", "quarantined"]
    assert [row[0] for row in silver(folder, "_verdict")] == expected


@pytest.mark.slow
def test_a_duplicate_is_measured_from_the_last_passing_record_counted_or_not(tmp_path: Path) -> None:
    declared = 'csv("*.csv"), id="id", event_time="day", horizon=2, columns="id BIGINT, day DATE, amount BIGINT"'
    folder = events(tmp_path, declared, 'events.rule("amount > 0", "nothing")')
    # 7 passes at 0, 2 (duplicate) and 4 (of the duplicate); at 7 it is 3 further on. The 8 at 1 fails, so 3 is the first.
    sequence = [(7, 1), (8, 0), (7, 1), (8, 1), (7, 1), (9, 1), (9, 0), (7, 1), (9, 1)]
    expected = ["clean", "quarantined", "duplicate", "clean", "duplicate", "clean", "quarantined", "clean", "clean"]
    for i, (id, amount) in enumerate(sequence):
        folder.land(f"{i}.csv", f"id,day,amount\n{id},2024-05-01,{amount}\n")
        folder.run()
    assert [row[0] for row in silver(folder, "_verdict")] == expected


def test_of_a_reference_the_latest_version_stands(tmp_path: Path) -> None:
    declarations = (
        'project = Project("p")\nproject.reference("events", csv("*.csv"), key="k", valid_from="since", '
        'columns="k VARCHAR, since DATE, v BIGINT NOT NULL")'
    )
    folder = ProjectFolder(tmp_path, declarations)
    folder.land("1.csv", "k,since,v\na,2024-01-01,1\na,2024-02-01,2\nb,2024-01-01,3\n")
    folder.land("2.csv", "k,since,v\na,2024-01-01,4\na,2024-02-01,x\n")
    run = folder.run()
    assert silver(folder, "v", "_verdict") == [
        (1, "superseded"), (2, "clean"), (3, "clean"), (4, "clean"), (None, "quarantined"),
    ]  # fmt: skip
    assert run.total("superseded", "refine") == 1


def test_a_key_that_one_file_has_twice_is_told(tmp_path: Path) -> None:
    declarations = 'project = Project("p")\nproject.reference("events", csv("*.csv"), key="k", columns="k VARCHAR, v BIGINT NOT NULL")'
    folder = ProjectFolder(tmp_path, declarations)
    folder.land("1.csv", "k,v\na,1\nb,2\na,3\nc,x\nc,5\n")
    folder.run()
    assert folder.observer.alarms == [
        "HR0303: events has keys more than once in a file; the last row of each stands: k=a (1.csv, rows 1, 3)"
    ]
    assert silver(folder, "v", "_verdict") == [
        (1, "superseded"), (2, "clean"), (3, "clean"), (None, "quarantined"), (5, "clean"),
    ]  # fmt: skip
    folder.land("2.csv", "k,v\nb,4\n")
    folder.land("3.csv", "k,v\n" + "".join(f"d{i},1\nd{i},2\n" for i in range(8)))
    folder.run()
    assert "k=b" not in folder.observer.alarms[-1], "a later file corrects an earlier one"
    assert folder.observer.alarms[-1].endswith("; and 4 more")


def test_a_rule_repair_or_flag_that_fails_with_an_error_judges_its_record_only(tmp_path: Path) -> None:
    declared = 'csv("*.csv"), id="id", event_time="day", columns="id BIGINT, day DATE, kind VARCHAR, amount BIGINT"'
    more = """
events.rule("CAST(kind AS INTEGER) > 0", "kind is no number")
events.rule("amount * amount > 0", "amount is nothing")
events.repair("amount", "amount * CAST(left(kind, 1) AS INTEGER)", "by kind")
events.flag("CAST(right(kind, 1) AS INTEGER) = 9", "nine")
"""
    folder = events(tmp_path, declared, more)
    rows = [
        "1,2024-05-01,1,5",
        "2,2024-05-01,x,5",
        "3,2024-05-01,1x,5",
        "4,2024-05-01,1,9000000000000000000",
        "5,2024-05-01,19,5",
        "6,2024-05-01,,5",
    ]
    folder.land("a.csv", "\n".join(["id,day,kind,amount", *rows, ""]))
    folder.run()
    assert silver(folder, "_verdict", "_reasons", "_flags") == [
        ("clean", None, None),
        ("quarantined", ["amount cannot be repaired: by kind"], None),
        ("quarantined", ["kind is no number"], None),
        ("quarantined", ["amount is nothing"], None),
        ("clean", None, ["nine"]),
        ("clean", None, None),
    ]


@pytest.mark.parametrize(
    ("type", "good", "bad"),
    [
        ("BIGINT", ["5", "+5", "-5", "05", "11.0", "1e3", "9223372036854775807"], ["1.5", "5.", "0x1", "1_0", "1 0", "1e-1", "٣", "5e", "--5", "9223372036854775808", "NaN", "inf", "1e19"]),
        ("SMALLINT", ["32767", "-32768"], ["32768", "1e5"]),
        ("DECIMAL(9,2)", ["1", ".5", "1.50", "1.500", "1e0", "15e-1", "1234567.89"], ["1.555", "12345678.9", "1,5", "infinity", "1e-3", "1.00000000000000000000000000001", "1.5.5", "e5", "."]),
        ("DECIMAL(38,10)", ["1.5e-7", "1e22", "0E-10", "1234567890123456789012345678.0123456789"], ["1e-11", "12345678901234567890123456789", "1234567890123456.7e-5"]),
        ("DOUBLE", ["1", "1.5e300", "-0", ".5"], ["NaN", "inf", "1e400", "1_0", " 1", "1,5", "0x1"]),
        ("DATE", ["2024-02-29", "9999-12-31", "0001-01-01"], ["2023-02-29", "2024-1-1", "2024/01/01", "infinity", "epoch", "0000-01-01", "10000-01-01", "2024-01-01 00:00:00", "2024-01-01 (BC)", "20240101"]),
        ("TIMESTAMP", ["2024-05-01T12:00:00", "2024-05-01 12:00", "2024-05-01T12:00:00Z", "2024-05-01T12:00:00.123456", "2024-05-01T12:00:00.123456000"], ["2024-05-01T12:00:00+02:00", "2024-05-01", "2024-05-01T12:00:00.1234567", "2024-05-01T5:00:00Z", "2024-05-01T 5:00:00Z", " 2024-5-01T05:00:00Z", "infinity"]),
        ("TIMESTAMPTZ", ["2024-05-01T12:00:00Z", "2024-05-01 12:00:00+02", "2024-05-01T12:00+0530", "2024-05-01T12:00:00-14:00"], ["2024-05-01T12:00:00", "2024-05-01T12:00:00+15:00", "2024-05-01T12:00:00 UTC", "2024-05-01T12:60:00Z", "now"]),
        ("BOOLEAN", ["true", "FALSE", "t", "0", "yes"], ["on", "2", "1.0", " true"]),
    ],
)  # fmt: skip
def test_a_value_is_read_exactly_or_not_at_all(tmp_path: Path, type: str, good: list[str], bad: list[str]) -> None:
    declared = f'csv("*.csv"), id="id", event_time="day", columns="id BIGINT, day DATE, x {type}"'
    folder = events(tmp_path, declared)
    lines = ["id,day,x", *(f'{i},2024-05-01,"{v}"' for i, v in enumerate([*good, *bad])), ""]
    folder.land("a.csv", "\n".join(lines))
    folder.run()
    found = dict(zip([*good, *bad], [row[0] for row in silver(folder, "_reasons")], strict=True))
    assert {v for v, reasons in found.items() if reasons is None} == set(good)
    assert all(found[v] == [f"x is not {type}"] for v in bad)


def test_a_missing_file_of_the_lake_is_no_crash(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.run()
    for file in (tmp_path / ".headrace" / "lake" / "bronze" / "sales").glob("*.parquet"):
        file.unlink()
    folder.land("a.csv", sold(1))
    with pytest.raises(HeadraceError):
        folder.run()


def test_an_older_version_that_comes_back_with_its_own_time_is_noticed(tmp_path: Path) -> None:
    folder = project(tmp_path)
    file = tmp_path / "landing/a.csv"
    folder.land("a.csv", sold(10))
    os.utime(file, ns=(1_000_000_000_000_000_000, 1_000_000_000_000_000_000))
    folder.run()
    folder.land("a.csv", sold(99))
    folder.run()
    folder.land("a.csv", sold(10))
    os.utime(file, ns=(1_000_000_000_000_000_000, 1_000_000_000_000_000_000))
    folder.run()
    assert total(folder) == (1, 10), "as cp -p and rsync bring it back"


@pytest.mark.parametrize("name", ["a b", "My Projé", "a#b", "a?b", "a'b"])
def test_a_project_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = project(tmp_path / name)
    folder.land("a.csv", sold(1, 2))
    folder.run()
    assert total(folder) == (2, 3)
    with pytest.raises(HeadraceError, match="HR0601"):
        project(tmp_path / "a%20b").run()


def typed(tmp_path: Path, columns: str) -> ProjectFolder:
    declarations = f'project = Project("files")\nproject.source("sales", parquet("*.parquet"), id="id", event_time="day", columns="id BIGINT, day TIMESTAMP, {columns}")'
    folder = ProjectFolder(tmp_path, declarations)
    (tmp_path / "landing").mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("values", "reason", "wanted"),
    [
        (pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]), "not UTF-8", "a"),
        (pa.array(["a", "b\0c"]), "contains a NUL character", "a"),
        (pa.array([b"a", b"\xff"], pa.binary_view()), "not UTF-8", "a"),
        (pa.array([0, 10**16], pa.timestamp("ms", "UTC")), "shop is out of range", "1970-01-01 00:00:00.000000Z"),
    ],
)  # fmt: skip
def test_what_parquet_only_claims_to_hold_is_quarantined_by_record(
    tmp_path: Path, values: pa.Array, reason: str, wanted: str
) -> None:
    folder = typed(tmp_path, "shop VARCHAR")
    days = pa.array([0, 0], pa.timestamp("us"))
    pa.parquet.write_table(pa.table({"id": [1, 2], "day": days, "shop": values}), tmp_path / "landing/a.parquet")
    run = folder.run()
    assert (run.total("bronze", "land"), run.total("unreadable", "land")) == (1, 1)
    assert silver(folder, "shop", "_verdict", "_reasons") == [(wanted, "clean", None), (None, "unreadable", [reason])]
    assert folder.run().generation is None


def test_a_column_that_is_declared_later_is_null_before(tmp_path: Path) -> None:
    folder = project(tmp_path)
    folder.land("a.csv", sold(1, 2))
    folder.run()
    text = DECLARATIONS.format(policy="new version").replace(
        "amount DECIMAL(9,2) NOT NULL", "amount DECIMAL(9,2) NOT NULL, till VARCHAR"
    )
    folder.write("project.py", "from headrace import *\n" + text)
    (tmp_path / "landing/a.csv").unlink()
    (tmp_path / "landing/other.csv").unlink()
    folder.run()
    assert total(folder) == (2, 3)
    folder.land("b.csv", "id,day,amount,till\n7,2024-05-01,4,t1\n")
    folder.run()
    assert total(folder) == (3, 7)
    assert {row[0] for row in silver(folder, "till")} == {None, "t1"}


@pytest.mark.parametrize(
    "name", ["repeats", "arrived", "alike", "fresh", "live", "touched", "candidates", "run_record", "asked", "origins"]
)
def test_no_name_collides_with_what_the_engine_holds(tmp_path: Path, name: str) -> None:
    declarations = f'project = Project("p")\nproject.source("{name}", csv("*.csv"), id="id", event_time="day", columns="id BIGINT, day DATE NOT NULL")'
    files = {
        "marts/m.sql": f"SELECT day, count(*) AS n FROM {name} GROUP BY ALL",
        "queries/q.sql": "SELECT n FROM m WHERE day = $day",
    }
    folder = ProjectFolder(tmp_path, declarations, files)
    for i in range(3):
        folder.land(f"{i}.csv", f"id,day\n{i},2024-05-01\n1,2024-05-01\n")
        folder.run()
    assert folder.ask("q", day="2024-05-01") == [{"n": 3}]
    assert folder.app.why("q", {"day": "2024-05-01"}, 1)["sources"][0]["records"] == 3


@pytest.mark.parametrize("name", ["order", "group", "table", "end"])
def test_a_reserved_word_is_no_name_of_a_source(tmp_path: Path, name: str) -> None:
    declarations = f'project = Project("p")\nproject.source("{name}", csv("*.csv"), id="id", event_time="day", columns="id BIGINT, day DATE NOT NULL")'
    with pytest.raises(ProjectErrors, match="HR0103"):
        _ = ProjectFolder(tmp_path, declarations).app.project


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ('event_time="kind"', "event_time 'kind' is VARCHAR"),
        ('event_time="day", horizon="10"', "horizon is '10'"),
        ('event_time="day", rename={"id": "kind"}', "two columns are read from 'id'"),
        ('event_time="day", rename={"_row": "kind"}', "rename takes '_row'"),
    ],
)
def test_declarations_that_cannot_work_are_refused(tmp_path: Path, declared: str, what: str) -> None:
    declarations = f'project = Project("p")\nproject.source("sales", csv("*.csv"), id="id", {declared}, columns="id BIGINT, day DATE NOT NULL, kind VARCHAR")'
    with pytest.raises(ProjectErrors) as caught:
        _ = ProjectFolder(tmp_path, declarations).app.project
    assert any(what in str(error) for error in caught.value.errors), caught.value.errors
