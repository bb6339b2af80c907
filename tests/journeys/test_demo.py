"""The demo, as whoever tries Headrace first meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_live_demo_ends_by_itself_with_the_same_answer_by_both_paths(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace", "demo", "telecom", "--once"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if line.startswith(("published", "streamed")))
    assert said["published"] != said["streamed"]
    assert f"after a run {said['streamed']}" in done.stdout
    assert "0 waiting" in done.stdout
    assert "the same by both paths" in done.stdout
    assert "curl -u demo:" in done.stdout
    assert "/data_usage?msisdn=" in done.stdout
    assert "route: 200" in done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("headrace-demo-*")) == []
