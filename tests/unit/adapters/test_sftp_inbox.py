"""The SFTP inbox against a real OpenSSH server: who it trusts, what it takes as finished, and lines that break."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from headrace.adapters import sftp_inbox
from headrace.adapters.sftp_connection import Server
from headrace.adapters.sftp_inbox import SftpInbox
from headrace.errors import OutOfReachError, OutsideError, SettingError
from tests.sftp import inbox_at, line_to
from tools import services

BIG = random.Random(1).randbytes(24 << 20)


def put(sftp: services.Sftp, name: str, data: bytes = b"x", age: float = 0.0) -> Path:
    path = sftp.upload / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    when = time.time() - age
    os.utime(path, (when, when))
    return path


def names(inbox: SftpInbox, pattern: str = "*.csv") -> list[str]:
    return [f.name for f in inbox.list(pattern)]


# ── whom it trusts, and who trusts it ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_a_server_with_another_key_is_not_talked_to(sftp: services.Sftp, kind: str) -> None:
    other = asyncssh.generate_private_key(kind).export_public_key().decode()
    inbox = inbox_at(sftp, host_key=other, key="", password="must not be sent")
    with pytest.raises(OutsideError) as raised:
        inbox.list("*")
    assert raised.value.code == "HR0422"
    assert not raised.value.retry
    assert "ask its operator" in raised.value.help
    assert asyncssh.import_public_key(sftp.host_key).get_fingerprint() in str(raised.value)
    assert inbox.connection.opened == 0


def test_without_a_known_key_it_says_how_to_get_it(sftp: services.Sftp) -> None:
    with pytest.raises(SettingError, match="inbox.host_key is empty") as raised:
        inbox_at(sftp, host_key="")
    assert f"ssh-keyscan -t ed25519 -p {sftp.port} 127.0.0.1" in raised.value.help


def test_a_password_does_as_well_as_a_key(sftp: services.Sftp) -> None:
    put(sftp, "a.csv")
    assert names(inbox_at(sftp, key="", password=sftp.password)) == ["a.csv"]


def test_a_wrong_password_is_tried_once_and_never_shown(sftp: services.Sftp) -> None:
    with line_to(sftp.port) as line, pytest.raises(OutsideError) as raised:
        inbox_at(sftp, port=line.port, key="", password="hunter2").list("*")
    assert raised.value.code == "HR0423"
    assert not raised.value.retry
    assert "hunter2" not in f"{raised.value} {raised.value.help}"
    assert "user headrace" in str(raised.value)
    assert line.accepted == 1, "more would lock the account"


def test_a_key_may_have_a_passphrase(sftp: services.Sftp) -> None:
    put(sftp, "a.csv")
    locked = asyncssh.import_private_key(sftp.key.read_text()).export_private_key(passphrase="open", rounds=50).decode()
    assert names(inbox_at(sftp, key=locked, passphrase="open")) == ["a.csv"]
    for wrong in ("", "shut"):
        with pytest.raises(SettingError, match="inbox.key"):
            inbox_at(sftp, key=locked, passphrase=wrong)


def test_something_to_log_in_with_is_needed(sftp: services.Sftp) -> None:
    with pytest.raises(SettingError, match="nothing to log in with"):
        inbox_at(sftp, key="")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sftp://me@drop.example/in", Server("me", "drop.example", 22, "/in")),
        ("sftp://me%40corp@[::1]:2022/a%20b/", Server("me@corp", "::1", 2022, "/a b")),
        ("sftp://me@h", Server("me", "h", 22, "/")),
        ("sftp://me@h/~/in", Server("me", "h", 22, "in")),
        ("sftp://me@h/~", Server("me", "h", 22, ".")),
        ("sftp://me@h/~other", Server("me", "h", 22, "/~other")),
        ("sftp://me:secret@h/in", None),
        ("sftp://h/in", None),
        ("ftp://me@h/in", None),
        ("sftp://me@h:99999/in", None),
        ("sftp://me@h/in?x=1", None),
        ("me@h:/in", None),
    ],
)
def test_urls(url: str, expected: Server | None) -> None:
    if expected is not None:
        assert Server.of(url) == expected
        return
    with pytest.raises(SettingError, match="inbox.url") as raised:
        Server.of(url)
    assert "secret" not in f"{raised.value} {raised.value.help}"


# ── what is finished ───────────────────────────────────────────────────────────────────────────────────────────────


def watched(sftp: services.Sftp, meanwhile: Callable[[], object] = lambda: None, quiet: float = 5.0) -> SftpInbox:
    """An inbox whose waiting takes no time, and during which something happens."""
    waited = [0.0]

    def wait(seconds: float) -> None:
        waited[0] += seconds
        meanwhile()

    return inbox_at(sftp, quiet=quiet, now=lambda: time.time() + waited[0], wait=wait)


def test_a_file_that_grows_while_it_is_watched_is_left_out_and_named(sftp: services.Sftp) -> None:
    put(sftp, "still.csv", b"done")
    put(sftp, "grows.csv", b"half")
    inbox = watched(sftp, lambda: put(sftp, "grows.csv", b"half and"))
    assert names(inbox) == ["still.csv"]
    assert inbox.unfinished == ("grows.csv",)
    inbox = watched(sftp)
    assert names(inbox) == ["grows.csv", "still.csv"]
    assert not inbox.unfinished


def test_a_server_whose_clock_is_slow_does_not_make_a_new_file_an_old_one(sftp: services.Sftp) -> None:
    put(sftp, "grows.csv", b"half", age=600)
    inbox = watched(sftp, lambda: put(sftp, "grows.csv", b"half and", age=600))
    assert names(inbox) == []
    assert inbox.unfinished == ("grows.csv",)


def test_what_was_seen_resting_is_not_watched_again_and_old_files_never(sftp: services.Sftp) -> None:
    waits: list[float] = []
    clock = [time.time()]

    def wait(seconds: float) -> None:
        waits.append(seconds)
        clock[0] += seconds

    inbox = inbox_at(sftp, quiet=5.0, now=lambda: clock[0], wait=wait)
    put(sftp, "old.csv", age=86_400)
    assert names(inbox) == ["old.csv"]
    assert waits == []
    put(sftp, "new.csv")
    assert names(inbox) == ["new.csv", "old.csv"]
    assert names(inbox) == ["new.csv", "old.csv"]
    assert waits == [5.0]


def test_a_stream_does_not_ask_all_the_time(sftp: services.Sftp) -> None:
    clock = [1000.0]
    inbox = inbox_at(sftp, poll=5.0, done=".done", now=lambda: clock[0])
    put(sftp, "a.csv")
    assert (names(inbox), inbox.unfinished) == ([], ("a.csv",))
    put(sftp, "a.csv.done")
    clock[0] += 4.9
    assert (names(inbox), inbox.unfinished) == ([], ("a.csv",))
    assert names(inbox, "?.csv") == ["a.csv"], "that was not asked yet"
    clock[0] += 0.1
    assert (names(inbox), inbox.unfinished) == (["a.csv"], ())


def test_an_inbox_that_nobody_holds_ends_its_thread(sftp: services.Sftp) -> None:
    put(sftp, "a.csv")
    threads = []
    for _ in range(20):  # the last reference may go away in its own thread
        inbox = inbox_at(sftp)
        inbox.list("*")
        threads.append(inbox.connection._thread)
        del inbox
    for thread in threads:
        assert thread is not None
        thread.join(10)
        assert not thread.is_alive()


def test_a_name_that_becomes_final_is_read_and_not_before(sftp: services.Sftp) -> None:
    inbox = inbox_at(sftp)
    part = put(sftp, "a.csv.part", b"half")
    assert names(inbox, "*") == []
    part.write_bytes(b"half and half")
    part.rename(sftp.upload / "a.csv")
    (file,) = inbox.list("*")
    assert (file.name, inbox.read(file)) == ("a.csv", b"half and half")


def test_with_markers_a_file_is_read_once_its_marker_is_there(sftp: services.Sftp) -> None:
    inbox = inbox_at(sftp, done=".done", quiet=1e6)
    put(sftp, "a.csv")
    put(sftp, "b.csv")
    put(sftp, "b.csv.done", b"")
    put(sftp, "c.csv.done", b"")
    assert names(inbox, "*") == ["b.csv"]
    assert inbox.unfinished == ("a.csv",)
    put(sftp, "a.csv.done", b"")
    assert names(inbox, "*") == ["a.csv", "b.csv"]
    assert not inbox.unfinished


def link(path: Path) -> None:
    path.rename(path.with_name("_old"))
    path.symlink_to("_old")


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": lambda path: path.write_bytes(b"xx"),
    "as long, but later": lambda path: os.utime(path, (1, 1)),
    "a link": link,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_it_was_listed_is_not_read(sftp: services.Sftp, change: str) -> None:
    path = put(sftp, "a.csv")
    inbox = inbox_at(sftp)
    (file,) = inbox.list("*.csv")
    assert inbox.read(file) == b"x"
    CHANGES[change](path)
    with pytest.raises(OutsideError, match="a.csv is still being written") as raised:
        inbox.read(file)
    assert raised.value.retry


def test_a_file_too_large_for_memory_is_refused_before_it_is_read(sftp: services.Sftp) -> None:
    put(sftp, "a.csv", b"12345")
    inbox = inbox_at(sftp, max_file=4)
    (file,) = inbox.list("*.csv")
    with pytest.raises(OutsideError, match="a.csv has 5 bytes") as raised:
        inbox.read(file)
    assert "inbox.max_file" in raised.value.help
    assert not raised.value.retry


# ── lines that break ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_killed_in_the_middle_of_a_file_gives_the_rest_when_it_is_back(sftp: services.Sftp) -> None:
    put(sftp, "big.csv", BIG)
    with line_to(sftp.port) as line:
        inbox = inbox_at(sftp, port=line.port)
        (file,) = inbox.list("*.csv")

        def crash() -> None:
            sftp.kill()
            line.cut()
            sftp.start()

        line.after(len(BIG) // 2, crash)
        assert inbox.read(file) == BIG
    assert inbox.connection.opened == 2
    # What was on its way is sent again, and no more: at most the requests in flight, and what each side's sockets held.
    assert line.carried < len(BIG) + (12 << 20), "it went on where it was"


def test_a_line_that_breaks_again_and_again_but_gets_on_is_not_given_up(sftp: services.Sftp) -> None:
    put(sftp, "big.csv", BIG)
    with line_to(sftp.port) as line:
        inbox = inbox_at(sftp, port=line.port, pauses=(0.01,))
        (file,) = inbox.list("*.csv")

        def cut() -> None:
            line.cut()
            line.after(line.carried + (10 << 20), cut)

        line.after(6 << 20, cut)
        assert inbox.read(file) == BIG
    assert inbox.connection.opened >= 3


def test_a_file_replaced_while_the_line_was_down_is_not_put_together_from_two(sftp: services.Sftp) -> None:
    put(sftp, "big.csv", BIG, age=10)
    with line_to(sftp.port) as line:
        inbox = inbox_at(sftp, port=line.port)
        (file,) = inbox.list("*.csv")

        def replace() -> None:
            put(sftp, "big.csv", BIG[::-1])
            line.cut()

        line.after(len(BIG) // 2, replace)
        with pytest.raises(OutsideError, match="big.csv is still being written"):
            inbox.read(file)


def test_a_server_that_stays_away_is_out_of_reach_after_some_tries(sftp: services.Sftp) -> None:
    put(sftp, "a.csv")
    inbox = inbox_at(sftp)
    (file,) = inbox.list("*.csv")
    sftp.kill()
    for ask in (lambda: inbox.read(file), lambda: inbox.list("*")):
        with pytest.raises(OutOfReachError) as raised:
            ask()
        assert raised.value.code == "HR0421"
        assert raised.value.retry
        assert "(5 tries)" in str(raised.value)
        assert f"sftp -P {sftp.port} headrace@127.0.0.1" in raised.value.help
    sftp.start()
    assert inbox.read(file) == b"x", "the same inbox finds it again"


@pytest.mark.parametrize("when", ["before", "listing", "reading"])
def test_a_server_that_hangs_is_given_up_in_time(sftp: services.Sftp, when: str) -> None:
    put(sftp, "big.csv", BIG)
    with line_to(sftp.port) as line:
        inbox = inbox_at(sftp, port=line.port, timeout=0.6, pauses=(0.01,))
        files = inbox.list("*.csv") if when != "before" else []
        if when == "reading":
            line.after(len(BIG) // 2, line.frozen.set)
        else:
            line.frozen.set()
        started = time.monotonic()
        with pytest.raises(OutOfReachError) as raised:
            inbox.read(files[0]) if when == "reading" else inbox.list("*")
        assert time.monotonic() - started < 6
    assert raised.value.retry


@pytest.mark.slow
def test_one_connection_serves_a_thousand_small_files_in_order(sftp: services.Sftp) -> None:
    sent = {f"f_{i:04}.csv": b"%d" % i for i in range(1000)}
    for name in sorted(sent, reverse=True):
        put(sftp, name, sent[name])
    inbox = inbox_at(sftp)
    found = inbox.list("*.csv")
    assert [f.name for f in found] == sorted(sent)
    assert {f.name: inbox.read(f) for f in found} == sent
    assert inbox.connection.opened == 1


# ── names that mean harm ───────────────────────────────────────────────────────────────────────────────────────────


def test_names_that_no_report_can_show_are_not_read(sftp: services.Sftp) -> None:
    long = "x" * 251 + ".csv"
    for name in (
        "new\nline.csv",
        "bell\a.csv",
        "esc\x1b[2J.csv",
        "back\u2028.csv",
        "-rf.csv",
        "$(id).csv",
        "a;b.csv",
        long,
    ):
        put(sftp, name)
    Path(os.fsdecode(os.fsencode(sftp.upload) + b"/\xff.csv")).write_text("x")
    os.mkfifo(sftp.upload / "pipe.csv")
    (sftp.upload / "dir.csv").mkdir()
    deep = "/".join(["y" * 200] * 6)
    put(sftp, f"{deep}/z.csv")
    inbox = inbox_at(sftp)
    found = inbox.list("**")
    assert [f.name for f in found] == ["$(id).csv", "-rf.csv", "a;b.csv", long]
    assert {inbox.read(f) for f in found} == {b"x"}
    assert names(inbox, "../upload/*.csv") == []
    assert names(inbox, "/upload/*.csv") == []


class Hostile(asyncssh.SFTPServer):
    """Lists what no file system holds, and a folder that holds itself."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for name in (b"../../etc/passwd", b"/etc/passwd", b"..", b"", b"a/b.csv", b"nul\0.csv", b"good.csv"):
            yield asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(permissions=0o100644, **OTHERS))
        yield asyncssh.SFTPName(b"again", attrs=asyncssh.SFTPAttrs(permissions=0o040755, **OTHERS))

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(permissions=0o040755 if path.endswith((b"in", b"again")) else 0o100644, **OTHERS)


OTHERS = {"size": 4, "uid": 0, "gid": 0, "atime": 1, "mtime": 1}


class AnyLogin(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@contextmanager
def hostile(key: asyncssh.SSHKey) -> Iterator[int]:
    """The port of such a server, which runs in a thread."""

    async def serve() -> None:
        made = await asyncssh.create_server(AnyLogin, "127.0.0.1", 0, server_host_keys=[key], sftp_factory=Hostile)
        port.set_result((made.get_port(), stop := asyncio.Event(), asyncio.get_running_loop()))
        async with made:
            await stop.wait()

    port: Future[tuple[int, asyncio.Event, asyncio.AbstractEventLoop]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    number, stop, loop = port.result(10)
    yield number
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def test_a_hostile_server_gives_no_name_outside_and_no_endless_tree() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    with hostile(key) as port:
        public = key.export_public_key().decode()
        inbox = SftpInbox(url=f"sftp://x@127.0.0.1:{port}/in", host_key=public, password="x", timeout=20)
        assert names(inbox, "*.csv") == ["good.csv"]
        deep = names(inbox, "**/*.csv")
        inbox.connection.close()
    assert len(deep) == sftp_inbox.DEEPEST
    assert all(name.rpartition("/")[2] == "good.csv" for name in deep)
