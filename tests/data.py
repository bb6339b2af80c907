"""Where the real input files of a project are found, for the tests that need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_VARIABLE = "HEADRACE_TEST_DATA"
STRICT_VARIABLE = "HEADRACE_TEST_STRICT"


def landing(project: str, part: str = "landing") -> Path:
    """Return the landing folder of a project, or skip the calling test when it is not there.

    The folder is `<HEADRACE_TEST_DATA>/<project>/<part>`. With HEADRACE_TEST_STRICT=1 a
    missing folder is a failure, so that a release run cannot pass by skipping everything.
    """
    root = os.environ.get(DATA_VARIABLE, "")
    if not root:
        reason = f"{DATA_VARIABLE} is not set: it must name a folder that holds {project}/{part}"
    else:
        folder = Path(root) / project / part
        if folder.is_dir():
            return folder
        reason = f"{DATA_VARIABLE} is set, but it holds no {project}/{part} folder"
    if os.environ.get(STRICT_VARIABLE) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
