"""docs/skew.md: its data is made by its script, and its output is what the command says of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs/skew.md").read_text()


@pytest.mark.slow
def test_the_shown_output_is_that_of_the_shown_data(tmp_path: Path) -> None:
    script, output = re.findall(r"^```(?:python|console).*?\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^\$ (.*)$", output, re.MULTILINE)
    (tmp_path / "load.py").write_text(script)
    assert commands[0] == "python load.py"
    subprocess.run([sys.executable, "load.py"], cwd=tmp_path, check=True, timeout=110)
    words = commands[1].split()
    assert words[0] == "headrace"
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=110
    )
    assert done.stdout == output.split(commands[1] + "\n")[1]
