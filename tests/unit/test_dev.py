"""The chores' own logic, and the rules of tests/conftest.py, run in small folders of their own."""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import dev

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["-m", "not slow"]),
        (["-k", "x"], ["-k", "x", "-m", "not slow"]),
        (["-m", "browser", "-x"], ["-m", "(browser) and (not slow)", "-x"]),
        (["-m", "a", "-m", "b or c"], ["-m", "a", "-m", "(b or c) and (not slow)"]),
    ],
)
def test_fast_narrows_what_the_user_selects(args: list[str], expected: list[str]) -> None:
    assert dev.also_marked(args, "not slow") == expected


@pytest.mark.parametrize("args", [["-n0"], ["--pdb"], ["-s"], ["tests/unit/test_dev.py"], ["tests/x.py::test_y"]])
def test_a_run_that_wants_the_terminal_or_one_file_is_not_spread(args: list[str]) -> None:
    assert dev.workers(args) == []


@pytest.mark.parametrize("fails", ["", "collect", "update"])
def test_a_run_installs_what_its_tests_need_and_only_that(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    ran: list[str] = []

    def run(command: list[str], **given: object) -> subprocess.CompletedProcess[bytes]:
        line = " ".join(command)
        ran.append(line)
        wrong = {"collect": "--collect-only", "update": "apt-get -qq update"}.get(fails)
        return subprocess.CompletedProcess(command, int(wrong is not None and wrong in line))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(dev, "starts_servers", lambda packages: False)
    monkeypatch.setattr(shutil, "which", lambda name: None if "sshd" in name else name)
    dev.prepare("python", ["-k", "x"])
    expected = ["python -m pytest --collect-only -qq -k x -m sftp"]
    if fails != "collect":
        expected.append("apt-get -qq update")
    if not fails:
        expected.append("apt-get -qq install -y --no-install-recommends openssh-server")
    assert ran == [*expected, "python -m tools.services fetch --dry"]


def test_help_lists_every_command() -> None:
    done = subprocess.run([sys.executable, ROOT / "dev.py", "help"], capture_output=True, text=True, check=True)
    assert all(f"./dev {name}" in done.stdout for name in dev.COMMANDS)


def test_an_unknown_command_names_the_nearest() -> None:
    done = subprocess.run([sys.executable, ROOT / "dev.py", "tset"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'test'?" in done.stderr


def path_with(folder: Path, **scripts: str) -> str:
    """A PATH with just these commands, and what `./dev` itself needs."""
    folder.mkdir()
    (folder / "dirname").symlink_to(str(shutil.which("dirname")))
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.skipif(os.name == "nt", reason="./dev is for POSIX shells; Windows uses dev.py")
@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({}, "none was found"),
        ({"python3": "test $1 = --version && echo Python 3.9.2; exit 1"}, "python3 here is Python 3.9.2"),
    ],
    ids=["none", "old"],
)
def test_without_a_new_enough_python_dev_says_so(tmp_path: Path, scripts: dict[str, str], said: str) -> None:
    shutil.copy(ROOT / "dev", tmp_path / "dev")
    env = {"PATH": path_with(tmp_path / "bin", **scripts)}
    done = subprocess.run(["/bin/sh", tmp_path / "dev", "demo"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs Python 3.11 or newer" in done.stderr
    assert said in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="./dev is for POSIX shells; Windows uses dev.py")
def test_a_named_python_that_is_none_is_an_error_even_if_others_would_do() -> None:
    env = {**os.environ, "HEADRACE_PYTHON": "no-such-python"}
    done = subprocess.run([ROOT / "dev", "help"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "HEADRACE_PYTHON=no-such-python" in done.stderr


def test_the_locks_have_hashes_for_everything_and_name_no_host() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        text = lock.read_text("utf-8")
        entries = [entry for entry in text.split("\n") if entry and entry[0] not in " #"]
        assert entries, lock.name
        assert all("==" in entry and entry.endswith("\\") for entry in entries), lock.name
        assert text.count(" \\\n    --hash=sha256:") >= len(entries), lock.name
        assert "://" not in text, lock.name
        assert "--index" not in text, lock.name
        assert "--find-links" not in text, lock.name


def pins(name: str) -> set[str]:
    lines = (ROOT / "requirements" / f"{name}.lock").read_text("utf-8").splitlines()
    return {line.split(" ")[0] for line in lines if line and line[0] not in " #"}


def test_the_locks_agree_so_that_one_environment_can_hold_them() -> None:
    assert pins("base") <= pins("dev")
    versions = [dict(pin.split("==") for pin in pins(name)) for name in ("dev", "bench")]
    assert {name for name in versions[0].keys() & versions[1] if versions[0][name] != versions[1][name]} == set()


SAMPLE = """
import pytest

def test_passes(): assert True

@pytest.mark.parametrize("n", [1, 2])
def test_skips(n): pytest.skip("no server here")

@pytest.mark.xfail(reason="not yet", strict=True)
def test_is_not_done(): assert False
"""
SAMPLE_MODULE = "import pytest\npytest.skip('not on this machine', allow_module_level=True)\n"


def run_sample(folder: Path, *args: str, strict: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests/conftest.py", folder)
    (folder / "test_sample.py").write_text(SAMPLE)
    (folder / "test_module.py").write_text(SAMPLE_MODULE)
    env = {**os.environ, "HEADRACE_TEST_STRICT": strict, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args, f"--rootdir={folder}", str(folder)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("args", [[], pytest.param(["-n", "2"], marks=pytest.mark.slow)], ids=["alone", "spread"])
def test_a_run_ends_with_what_was_skipped_and_why(tmp_path: Path, args: list[str]) -> None:
    done = run_sample(tmp_path, *args, strict="")
    assert done.returncode == 0, done.stdout
    assert "3 skipped ===" in done.stdout
    assert "no server here\n     2 in test_sample.py\n" in done.stdout
    assert "not on this machine\n     1 in test_module.py\n" in done.stdout
    assert "1 passed, 3 skipped, 1 xfailed in" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("args", [[], pytest.param(["-n", "2"], marks=pytest.mark.slow)], ids=["alone", "spread"])
def test_a_strict_run_fails_for_each_skip(tmp_path: Path, args: list[str]) -> None:
    done = run_sample(tmp_path, "--continue-on-collection-errors", *args, strict="1")
    assert done.returncode == 1, done.stdout
    assert "HEADRACE_TEST_STRICT=1 does not allow: no server here" in done.stdout
    assert "HEADRACE_TEST_STRICT=1 does not allow: not on this machine" in done.stdout
    closing = done.stdout.splitlines()[-1]
    assert "2 failed, 1 passed, 1 xfailed, 1 error" in closing


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served as a package index."""
    folder = tmp_path / "index"
    (folder / "pip").mkdir(parents=True)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None: ...


def test_without_pip_the_pinned_one_is_fetched_and_checked(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, wheel = "pip-0.0-py3-none-any.whl", b"not really a wheel"
    monkeypatch.setattr(dev, "VENV", tmp_path)
    monkeypatch.setattr(dev, "PIP", (name, hashlib.sha256(wheel).hexdigest()))
    with pytest.raises(SystemExit):
        dev.fetch_pip()
    assert "apt install python3-venv" in capsys.readouterr().err
    (index / "pip/index.html").write_text(f'<a href="../files/{name}#sha256=0">{name}</a>')
    (index / "files").mkdir()
    (index / "files" / name).write_bytes(wheel)
    assert dev.fetch_pip().read_bytes() == wheel
    (index / "files" / name).write_bytes(b"another one")
    with pytest.raises(SystemExit):
        dev.fetch_pip()
    assert "hash" in capsys.readouterr().err
