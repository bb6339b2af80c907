"""What a Lake promises, as tests."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import ConflictError
from headrace.ports import Engine, Lake, Snapshot
from headrace.testing.parallel import error_of, in_processes, in_threads


class LakeSuite:
    """``open(place)`` opens a lake; the same place is the same lake, also from another process. ``engine()`` gives an
    engine that can write its files."""

    checkpoint = 120
    """Commits after which the adapter's own bookkeeping has surely changed form at least once."""

    def open(self, place: Path) -> Lake:
        raise NotImplementedError

    def engine(self) -> Engine:
        raise NotImplementedError

    def file(self, lake: Lake, table: str, *numbers: int) -> tuple[str, int]:
        path = lake.new_file(table)
        values = ", ".join(f"({n})" for n in numbers) or "(0)"
        rows = self.engine().write(
            f"SELECT n FROM (VALUES {values}) AS t(n){'' if numbers else ' WHERE false'} ORDER BY n", path
        )
        return path, rows

    def numbers(self, snapshot: Snapshot | None) -> list[int]:
        assert snapshot is not None
        engine = self.engine()
        return [
            row[0] for row in engine.rows(f"SELECT n FROM {engine.scan(snapshot.files, [('n', 'INTEGER')])} ORDER BY n")
        ]

    def test_a_table_is_none_until_its_first_commit(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        assert lake.snapshot("bronze/sales") is None
        assert list(lake.tables()) == []
        path, rows = self.file(lake, "bronze/sales", 1, 2)
        assert lake.snapshot("bronze/sales") is None, "a file is not yet a table"
        assert list(lake.tables()) == []
        version = lake.commit("bronze/sales", [(path, rows)], keep=None, base=None)
        found = self.open(tmp_path).snapshot("bronze/sales")
        assert found is not None
        assert (found.version, found.files) == (version, (path,))
        assert os.path.isabs(path)
        assert self.numbers(found) == [1, 2]

    def test_new_files_have_names_of_their_own(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        assert len(set(in_threads(4, lambda _: lake.new_file("gold/x")))) == 4
        assert len({lake.new_file("gold/x") for _ in range(200)}) == 200

    def test_tables_are_listed_by_name(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        for table in ("silver/b", "bronze/a", "manifest", "bronze/b"):
            lake.commit(table, [self.file(lake, table, 1)], keep=None, base=None)
        assert sorted(self.open(tmp_path).tables()) == ["bronze/a", "bronze/b", "manifest", "silver/b"]

    def test_a_commit_keeps_all_or_what_it_says(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        a, b, c, d = (self.file(lake, "t", n) for n in (1, 2, 3, 4))
        lake.commit("t", [a], keep=None, base=None)
        lake.commit("t", [b], keep=None, base=lake.snapshot("t"))
        assert self.numbers(lake.snapshot("t")) == [1, 2]
        lake.commit("t", [c], keep=[b[0]], base=lake.snapshot("t"))
        assert self.numbers(lake.snapshot("t")) == [2, 3]
        lake.commit("t", [d], keep=(), base=lake.snapshot("t"))
        assert self.numbers(lake.snapshot("t")) == [4]
        lake.commit("t", [], keep=None, base=lake.snapshot("t"), transactions={"x": 1})
        assert self.numbers(lake.snapshot("t")) == [4]

    def test_a_first_commit_of_several_files(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        lake.commit("t", [self.file(lake, "t", 1), self.file(lake, "t", 2), self.file(lake, "t")], keep=None, base=None)
        assert self.numbers(lake.snapshot("t")) == [1, 2]

    def test_older_versions_stay_readable_and_as_they_were(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        versions = [lake.commit("t", [self.file(lake, "t", 0)], keep=None, base=None)]
        for n in range(1, 5):
            versions.append(
                lake.commit("t", [self.file(lake, "t", n)], keep=() if n == 3 else None, base=lake.snapshot("t"))
            )
        assert versions == sorted(set(versions))
        wanted = [[0], [0, 1], [0, 1, 2], [3], [3, 4]]
        found = [self.open(tmp_path).snapshot("t", version) for version in versions]
        assert [self.numbers(s) for s in found] == wanted
        assert [s.version for s in found if s] == versions

    def test_a_snapshot_taken_before_a_commit_stays_as_it_was(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        lake.commit("t", [self.file(lake, "t", 1)], keep=None, base=None, transactions={"lane": 1})
        before = lake.snapshot("t")
        assert before is not None
        self.open(tmp_path).commit("t", [self.file(lake, "t", 2)], keep=(), base=before, transactions={"lane": 2})
        assert self.numbers(before) == [1]
        assert before.transaction("lane") == 1

    def test_files_of_an_older_version_may_return(self, tmp_path: Path) -> None:
        """A run builds on the version that its generation names, whatever was committed since."""
        lake = self.open(tmp_path)
        a, b, c = (self.file(lake, "t", n) for n in (1, 2, 3))
        named = lake.commit("t", [a], keep=None, base=None)
        lake.commit("t", [b], keep=(), base=lake.snapshot("t"))
        older = lake.snapshot("t", named)
        assert older is not None
        for _ in range(3):
            version = lake.commit("t", [c], keep=older.files, base=lake.snapshot("t"))
            assert self.numbers(self.open(tmp_path).snapshot("t")) == [1, 3]
            lake.commit("t", [b], keep=(), base=lake.snapshot("t"))
            assert self.numbers(self.open(tmp_path).snapshot("t")) == [2]
            assert self.numbers(self.open(tmp_path).snapshot("t", version)) == [1, 3]
        assert self.numbers(lake.snapshot("t", named)) == [1]

    def test_all_of_it_holds_over_many_commits(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        files = [self.file(lake, "t", n) for n in range(4)]
        wanted: dict[int, list[int]] = {}
        version = lake.commit("t", [files[0]], keep=None, base=None, transactions={"lane": 0, "once": 7})
        wanted[version] = [0]
        for i in range(1, self.checkpoint):
            kept = [n for n in range(4) if (i >> n) & 1]
            base = lake.snapshot("t")
            version = lake.commit(
                "t", [], keep=[files[n][0] for n in kept] or [files[0][0]], base=base, transactions={"lane": i}
            )
            wanted[version] = kept or [0]
        reopened = self.open(tmp_path)
        for version in [*list(wanted)[::17], *list(wanted)[-25:]]:
            assert self.numbers(reopened.snapshot("t", version)) == wanted[version], version
        newest = reopened.snapshot("t")
        assert newest is not None
        assert (newest.transaction("lane"), newest.transaction("once"), newest.transaction("other")) == (
            self.checkpoint - 1,
            7,
            None,
        )

    def test_a_transaction_is_kept_until_it_is_named_again(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        lake.commit("t", [self.file(lake, "t", 1)], keep=None, base=None, transactions={"a": 5, "b": 2**59})
        lake.commit("t", [self.file(lake, "t", 2)], keep=None, base=lake.snapshot("t"))
        lake.commit("t", [self.file(lake, "t", 3)], keep=None, base=lake.snapshot("t"), transactions={"a": 3})
        found = self.open(tmp_path).snapshot("t")
        assert found is not None
        assert [found.transaction(name) for name in ("a", "b", "c")] == [3, 2**59, None]

    # Conflicts

    def test_a_stale_base_is_refused_and_changes_nothing(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        lake.commit("t", [self.file(lake, "t", 1)], keep=None, base=None)
        stale = lake.snapshot("t")
        lake.commit("t", [self.file(lake, "t", 2)], keep=None, base=stale)
        for base in (stale, None):
            error = error_of(lambda base=base: lake.commit("t", [self.file(lake, "t", 9)], keep=None, base=base))  # type: ignore[misc]
            assert isinstance(error, ConflictError)
            assert error.code == "HR0404"
            assert self.numbers(lake.snapshot("t")) == [1, 2]

    def test_a_base_that_only_gained_a_transaction_is_stale_too(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        lake.commit("t", [self.file(lake, "t", 1)], keep=None, base=None, transactions={"lane": 1})
        stale = lake.snapshot("t")
        lake.commit("t", [], keep=None, base=stale, transactions={"lane": 2})
        assert isinstance(
            error_of(lambda: lake.commit("t", [self.file(lake, "t", 9)], keep=None, base=stale)), ConflictError
        )

    def test_of_threads_with_one_base_one_wins(self, tmp_path: Path) -> None:
        self.race(tmp_path, lambda work: in_threads(6, work))

    def test_of_processes_with_one_base_one_wins(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        won = in_processes(self.append_elsewhere, [(tmp_path, number * 100) for number in range(3)])
        assert self.numbers(lake.snapshot("t")) == sorted(number for numbers in won for number in numbers)

    def append_elsewhere(self, place: Path, first: int) -> list[int]:
        """Appends numbers while others do; gives those whose commit was made."""
        lake, made = self.open(place), []
        for number in range(first, first + 12):
            base, file = lake.snapshot("t"), self.file(lake, "t", number)
            error = error_of(lambda base=base, file=file: lake.commit("t", [file], keep=None, base=base))  # type: ignore[misc]
            assert error is None or isinstance(error, ConflictError), error
            if error is None:
                made.append(number)
        return made

    def race(self, place: Path, start: object) -> None:
        lake = self.open(place)
        wanted: list[int] = []
        for turn in range(6):
            base = lake.snapshot("t")
            files = [self.file(lake, "t", turn * 10 + n) for n in range(6)]
            errors = start(lambda n: error_of(lambda: self.open(place).commit("t", [files[n]], keep=None, base=base)))  # type: ignore[operator] # noqa: B023
            assert all(e is None or isinstance(e, ConflictError) for e in errors), errors
            assert errors.count(None) == 1, "of all that prepared on one snapshot, one commits"
            wanted.append(turn * 10 + errors.index(None))
            assert self.numbers(lake.snapshot("t")) == wanted

    # Forgetting

    def test_forget_deletes_what_no_kept_version_uses(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        files = [self.file(lake, "t", n) for n in range(4)]
        versions = [lake.commit("t", [files[0]], keep=None, base=None)]
        versions += [lake.commit("t", [file], keep=(), base=lake.snapshot("t")) for file in files[1:]]
        stray = self.file(lake, "t", 9)
        other = self.file(lake, "u", 9)
        lake.commit("u", [other], keep=None, base=None)
        assert lake.forget("t", [versions[1]], 0) == 3, "files of versions 0 and 2, and one that never was committed"
        assert [os.path.exists(path) for path, _ in (*files, stray, other)] == [False, True, False, True, False, True]
        assert self.numbers(lake.snapshot("t")) == [3]
        assert self.numbers(lake.snapshot("t", versions[1])) == [1]
        assert lake.forget("t", [versions[1]], 0) == 0

    def test_forget_keeps_what_is_younger(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        a, b = self.file(lake, "t", 1), self.file(lake, "t", 2)
        lake.commit("t", [a], keep=None, base=None)
        lake.commit("t", [b], keep=(), base=lake.snapshot("t"))
        assert lake.forget("t", [], 1) == 0
        assert lake.forget("t", [], 0) == 1
        assert os.path.exists(b[0])

    def test_forget_keeps_files_that_several_versions_share(self, tmp_path: Path) -> None:
        lake = self.open(tmp_path)
        a, b = self.file(lake, "t", 1), self.file(lake, "t", 2)
        kept = lake.commit("t", [a, b], keep=None, base=None)
        lake.commit("t", [], keep=[b[0]], base=lake.snapshot("t"))
        assert lake.forget("t", [kept], 0) == 0
        assert lake.forget("t", [], 0) == 1
        assert self.numbers(lake.snapshot("t")) == [2]

    def test_forgetting_a_table_that_is_not_there_is_fine(self, tmp_path: Path) -> None:
        assert self.open(tmp_path).forget("t", [], 0) == 0
