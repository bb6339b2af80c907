"""The store's contract with the driver of the extra `scylla`, a fork that has the name of the one that is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dev

SUITE = "tests/conformance/test_store.py"


@pytest.mark.slow
@pytest.mark.cassandra
@pytest.mark.timeout(600)  # a node, and all that stands in the contract
def test_the_contract_holds_with_scylla_s_driver(tmp_path: Path) -> None:
    dev.install("scylla", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", "import cassandra; print(cassandra.__file__)"],
        env=environment, cwd=dev.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE, "-k", "TestCassandra"]
    ended = subprocess.run(command, env=environment, cwd=dev.ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr
    if "passed" not in ended.stdout:
        pytest.skip(ended.stdout[-500:])
