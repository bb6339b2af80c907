"""Logs keep what the port promises: bronze, and a real Kafka."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from headrace.app import App
from headrace.model.run import Run
from headrace.model.source import Source
from headrace.ports import Engine, Log
from headrace.testing.log import LogSuite
from tests.kit import ProjectFolder, Quiet
from tools.services import Broker

DECLARATIONS = """
project = Project("numbers")
project.source("numbers", csv("numbers_*.csv"), id="n", event_time="came_at", topic="{topic}", columns="n BIGINT, came_at TIMESTAMPTZ NOT NULL")
"""


class Numbers(LogSuite):
    settings = ""

    def app(self, place: Path) -> App:
        if not (place / "project.py").exists():
            declared = DECLARATIONS.format(topic=f"numbers.{time.time_ns()}")
            ProjectFolder(place, declared, {"headrace.toml": self.settings})
        return App(place, {"inbox.quiet": 0.0})

    def open(self, place: Path) -> tuple[Log, Engine]:
        app = self.app(place)
        return app.log, app.engine

    def source(self, place: Path) -> Source:
        return self.app(place).project.sources["numbers"]

    def arrive(self, place: Path, numbers: range) -> None:
        app = self.app(place)
        text = "n,came_at\n" + "".join(f"{n},2024-01-01T00:00:00Z\n" for n in numbers)
        (place / f"landing/numbers_{numbers.start}.csv").write_text(text)
        app.batch(Quiet()).land(Run(""))


class TestBronze(Numbers):
    pass


class TestKafka(Numbers):
    @pytest.fixture(autouse=True)
    def broker(self, kafka: Broker) -> None:
        self.settings = f'[kafka]\nbrokers = "{kafka.address}"\npartitions = 3\n'


del Numbers
