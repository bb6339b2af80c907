"""Another wall clock for a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Clocks = Callable[[str], dict[str, str]]


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    """Gives the environment of a process that has another wall clock: the seconds that it is off by are in a file."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: install one (Debian, Ubuntu: apt install gcc libc6-dev)")
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda file: {"LD_PRELOAD": str(library), "HEADRACE_TEST_CLOCK": file}


def off_by(file: Path, seconds: int) -> str:
    with file.open("r+b" if file.exists() else "wb") as opened:  # in place: it is mapped
        opened.write(seconds.to_bytes(8, sys.byteorder, signed=True))
    return str(file)


def other(clocks: Clocks, folder: Path, seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is off by so many seconds, once it was seen to be."""
    clock = clocks(off_by(folder / f"clock{seconds}", seconds))
    asked = [sys.executable, "-c", "import time; print(time.time())"]
    said = subprocess.run(asked, env={**os.environ, **clock}, capture_output=True, text=True, check=True).stdout
    assert abs(float(said) - time.time() - seconds) < 60, "the clock is another one"
    return clock
