"""Every code block of the README: files are the template's files, console blocks are run and their output compared."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, file, body) for kind, file, body in BLOCK.findall((ROOT / "README.md").read_text())]
EXECUTED = {"console", "python", "sql", "sh"}


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {kind for kind, _, _ in BLOCKS} <= {*EXECUTED, "text"}


@pytest.mark.parametrize(("file", "body"), [(f, b) for _, f, b in BLOCKS if f], ids=[f for _, f, _ in BLOCKS if f])
def test_a_file_that_is_shown_is_the_file_that_init_writes(file: str, body: str) -> None:
    assert (ROOT / "src/headrace/projects/blank" / Path(file).relative_to("shop")).read_text() == body


def test_the_shown_project_is_under_40_lines() -> None:
    assert sum(len(body.splitlines()) for _, file, body in BLOCKS if file) < 40


def test_the_commands_of_dev_exist() -> None:
    told = subprocess.run([ROOT / "dev", "--help"], capture_output=True, text=True, check=False).stdout
    for _, _, body in (b for b in BLOCKS if b[0] == "sh"):
        for line in body.splitlines():
            program, verb = shlex.split(line, comments=True)[:2]
            assert program == "./dev"
            assert verb in told


def _commands(body: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block."""
    found: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, output = found[-1]
            found[-1] = (command, output + line + "\n")
    return found


def _matches(expected: str, found: str) -> bool:
    """``…`` alone on a line stands for any lines, within a line for any text."""
    pattern = ""
    for line in expected.splitlines():
        pattern += "(?:.*\n)*?" if line.strip() == "…" else ".*".join(re.escape(p) for p in line.split("…")) + "\n"
    return re.fullmatch(pattern, found) is not None


def test_the_console_blocks_do_what_they_show(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "headrace"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m headrace "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    here = tmp_path
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    ran = 0
    for body in [b for kind, _, b in BLOCKS if kind == "console"]:
        for command, expected in _commands(body):
            if command.startswith("cd "):
                here = here / command[3:]
                continue
            done = subprocess.run(
                shlex.split(command), cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            assert _matches(expected, done.stdout), f"$ {command}\n{done.stdout}"
            ran += 1
    assert ran >= 7


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!https?:)[^)#]+)\)", (ROOT / "README.md").read_text()))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
