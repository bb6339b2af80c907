"""A project of ``shop`` that has run once, made once for all tests that begin with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flow import shop
from tests.flow.clocks import clocks  # noqa: F401 - a fixture
from tests.kit import ProjectFolder


@pytest.fixture(scope="session")
def first_wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = shop.make(tmp_path_factory.mktemp("first_wave"))
    for name, text in shop.waves()[0].items():
        project.land(name, text)
    project.run()
    return project.folder


@pytest.fixture
def run_once(first_wave: Path) -> Callable[[Path], ProjectFolder]:
    """Makes a new folder a project that has run over the first wave."""

    def copied(folder: Path) -> ProjectFolder:
        shutil.copytree(first_wave, folder)
        return shop.make(folder)

    return copied
