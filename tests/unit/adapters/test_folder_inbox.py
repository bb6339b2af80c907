"""The folder inbox: which files are read, and when a young one counts as finished."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.adapters.folder_inbox import FolderInbox
from headrace.errors import OutsideError

NOW = 1_700_000_000.0


class Clock:
    """Time that passes only when it is waited for; then what is planned happens."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.events: list[Callable[[], object]] = []

    def now(self) -> float:
        return NOW + sum(self.waits)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        for event in self.events:
            event()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def put(folder: Path, name: str, *, age: float = 100.0, data: str = "x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


def inbox(folder: Path, clock: Clock, quiet: float = 1.0) -> FolderInbox:
    return FolderInbox(folder, quiet, now=clock.now, wait=clock.wait)


def names(folder: Path, pattern: str) -> list[str]:
    return [f.name for f in FolderInbox(folder).list(pattern)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv.gz"]),
        ("x/*.csv", ["x/c.csv"]),
        ("*/*.csv", ["x/c.csv", "y/d.csv"]),
        ("**/*.csv", ["a.csv", "b.csv.gz", "x/c.csv", "x/z/e.csv", "y/d.csv"]),
        ("x/**", ["x/c.csv", "x/z/e.csv"]),
        ("**/x*.csv", []),
        ("**/x?c.csv", []),
        ("?.csv", ["a.csv", "b.csv.gz"]),
        ("[xy]/[!c].csv", ["y/d.csv"]),
        ("[a-b].csv", ["a.csv", "b.csv.gz"]),
        ("a.csv", ["a.csv"]),
        ("a[.]csv", ["a.csv"]),
        ("aXcsv", []),
        ("x", []),
        ("../x/c.csv", []),
        ("x/../a.csv", []),
        ("/etc/passwd", []),
        ("x//c.csv", []),
        ("**", ["a.csv", "b.csv.gz", "x/c.csv", "x/z/e.csv", "y/d.csv"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    for name in ("a.csv", "b.csv.gz", "x/c.csv", "y/d.csv", "x/z/e.csv"):
        put(tmp_path, name)
    assert names(tmp_path, pattern) == expected


def test_names_that_are_not_final_or_not_printable_are_never_read(tmp_path: Path) -> None:
    bad = [
        ".a.csv",
        "_a.csv",
        "~a.csv",
        "a.csv.part",
        "a.csv.tmp",
        "a.csv.swp",
        "_temporary/a.csv",
        ".b/a.csv",
        "~c/a.csv",
    ]
    for name in [*bad, "new\nline.csv", "bell\a.csv", "back\u2028.csv"]:
        put(tmp_path, name)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).write_text("x")
    put(tmp_path, "fine é.csv")
    for pattern in ("**", "*", "*.csv", "*/*.csv", "_temporary/*.csv", "_a.csv"):
        assert set(names(tmp_path, pattern)) <= {"fine é.csv"}
    assert names(tmp_path, "**") == ["fine é.csv"]


def test_links_and_special_files_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path, "outside/secret.csv")
    landing = tmp_path / "landing"
    put(landing, "in/a.csv")
    (landing / "link.csv").symlink_to(tmp_path / "outside/secret.csv")
    (landing / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(landing / "pipe.csv")
    (landing / "dir.csv").mkdir()
    assert names(landing, "**") == ["in/a.csv"]
    assert names(landing, "folder/*.csv") == []


def test_old_files_cost_no_waiting(tmp_path: Path, clock: Clock) -> None:
    put(tmp_path, "a.csv", age=1.0)
    assert [f.name for f in inbox(tmp_path, clock).list("*.csv")] == ["a.csv"]
    assert clock.waits == []


def test_young_files_are_waited_for_until_they_have_rested(tmp_path: Path, clock: Clock) -> None:
    put(tmp_path, "a.csv")
    put(tmp_path, "b.csv", age=0.75)
    put(tmp_path, "c.csv", age=0.5)
    assert [f.name for f in inbox(tmp_path, clock).list("*.csv")] == ["a.csv", "b.csv", "c.csv"]
    assert clock.waits == pytest.approx([0.25, 0.25], abs=1e-6)


def test_a_file_from_the_future_is_watched_for_the_whole_time(tmp_path: Path, clock: Clock) -> None:
    put(tmp_path, "a.csv", age=-3600)
    assert [f.name for f in inbox(tmp_path, clock).list("*.csv")] == ["a.csv"]
    assert clock.waits == [1.0]


def test_what_still_changes_is_left_out_and_named(tmp_path: Path, clock: Clock) -> None:
    put(tmp_path, "done.csv", age=0.5)
    growing = put(tmp_path, "growing.csv", age=0.5)
    gone = put(tmp_path, "gone.csv", age=0.5)
    clock.events += [lambda: put(tmp_path, "growing.csv", age=0, data="xx"), lambda: gone.unlink(missing_ok=True)]
    box = inbox(tmp_path, clock)
    assert [f.name for f in box.list("*.csv")] == ["done.csv"]
    assert list(box.unfinished) == ["growing.csv"]
    assert sum(clock.waits) <= 1.0
    clock.events.clear()
    assert growing.name in {f.name for f in box.list("*.csv")}
    assert not box.unfinished


def link(path: Path) -> Path:
    """A link to a file that looks the same."""
    other = path.with_name("link")
    other.symlink_to(put(path.parent, "_elsewhere/a.csv"))
    return other


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: put(path.parent, path.name, data="xx"),
    "as long, but later": lambda path: put(path.parent, path.name, data="y", age=50),
    "gone": lambda path: path.unlink(),
    "a link": lambda path: link(path).replace(path),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_it_was_listed_is_not_read(tmp_path: Path, clock: Clock, change: str) -> None:
    path = put(tmp_path, "a.csv")
    box = inbox(tmp_path, clock)
    (file,) = box.list("*.csv")
    assert box.read(file) == b"x"
    CHANGES[change](path)
    with pytest.raises(OutsideError) as raised:
        box.read(file)
    assert raised.value.retry


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="HR0407") as raised:
        FolderInbox(tmp_path / "none").list("*")
    assert "inbox.path" in raised.value.help
