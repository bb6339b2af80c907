"""What an Inbox promises, as tests."""

from __future__ import annotations

from pathlib import Path

from headrace.errors import OutsideError
from headrace.ports import Inbox, InboxFile
from headrace.testing.parallel import error_of


class InboxSuite:
    """``open(place)`` opens an inbox that takes a file as complete at once; ``deliver`` puts a file there as a sender
    would, ``withdraw`` takes one away."""

    def open(self, place: Path) -> Inbox:
        raise NotImplementedError

    def deliver(self, place: Path, name: str, data: bytes) -> None:
        raise NotImplementedError

    def withdraw(self, place: Path, name: str) -> None:
        raise NotImplementedError

    def names(self, place: Path, pattern: str) -> list[str]:
        return [file.name for file in self.open(place).list(pattern)]

    def test_files_are_listed_by_name_and_read_whole(self, tmp_path: Path) -> None:
        sent = {"sales_2.csv": b"b\n", "sales_10.csv": b"", "sales_1.csv": bytes(range(256)) * 5000}
        for name, data in sent.items():
            self.deliver(tmp_path, name, data)
        inbox = self.open(tmp_path)
        found = inbox.list("sales_*.csv")
        assert [f.name for f in found] == ["sales_1.csv", "sales_10.csv", "sales_2.csv"]
        assert {f.name: inbox.read(f) for f in found} == sent
        assert {f.name: f.size for f in found} == {name: len(data) for name, data in sent.items()}

    def test_a_file_as_it_was_is_listed_as_it_was(self, tmp_path: Path) -> None:
        self.deliver(tmp_path, "a.csv", b"x")
        first = self.open(tmp_path).list("*.csv")
        assert first == self.open(tmp_path).list("*.csv")
        self.deliver(tmp_path, "a.csv", b"longer")
        assert first != self.open(tmp_path).list("*.csv")

    def test_only_names_that_match_are_listed(self, tmp_path: Path) -> None:
        for name in ("a.csv", "b.csv.gz", "c.CSV", "d.jsonl", "xa.csv", "sub/e.csv", "sub/deep/f.csv"):
            self.deliver(tmp_path, name, b"1")
        assert self.names(tmp_path, "?.csv") == ["a.csv", "b.csv.gz"]
        assert self.names(tmp_path, "sub/*.csv")[:1] == ["sub/deep/f.csv"] or self.names(tmp_path, "sub/*.csv") == [
            "sub/e.csv"
        ]
        assert "sub/e.csv" in self.names(tmp_path, "sub/*.csv")
        assert self.names(tmp_path, "none_*.csv") == []

    def test_names_may_have_any_letters(self, tmp_path: Path) -> None:
        names = sorted(["a b.csv", "ü.csv", "it's.csv", "a%20b.csv"])
        for name in names:
            self.deliver(tmp_path, name, name.encode())
        inbox = self.open(tmp_path)
        assert {f.name: inbox.read(f) for f in inbox.list("*.csv")} == {name: name.encode() for name in names}

    def test_files_that_are_still_being_written_are_left_out(self, tmp_path: Path) -> None:
        for name in (
            "a.csv.part",
            "b.csv.tmp",
            ".c.csv",
            "_d.csv",
            "~e.csv",
            "f.csv.filepart",
            "_temporary/g.csv",
            ".hidden/h.csv",
            "i.csv",
        ):
            self.deliver(tmp_path, name, b"1")
        assert self.names(tmp_path, "*.csv") == ["i.csv"]
        assert self.names(tmp_path, "*") == ["i.csv"]

    def test_a_file_that_grew_since_it_was_listed_is_not_read(self, tmp_path: Path) -> None:
        self.deliver(tmp_path, "a.csv", b"half")
        inbox = self.open(tmp_path)
        (file,) = inbox.list("*.csv")
        self.deliver(tmp_path, "a.csv", b"half and half")
        error = error_of(lambda: inbox.read(file))
        assert isinstance(error, OutsideError)
        assert error.retry, "the next run reads it"

    def test_a_file_that_is_gone_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        self.deliver(tmp_path, "a.csv", b"x")
        inbox = self.open(tmp_path)
        (file,) = inbox.list("*.csv")
        self.withdraw(tmp_path, "a.csv")
        error = error_of(lambda: inbox.read(file))
        assert isinstance(error, OutsideError)
        assert "a.csv" in str(error)
        assert isinstance(error_of(lambda: inbox.read(InboxFile("never.csv", 1, 1))), OutsideError)
