"""A project written, run and asked in a temporary folder: what most tests start from."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from headrace.app import App
from headrace.flow.answer import Answer
from headrace.model.project import LoadedProject
from headrace.model.run import Run

LOADED: dict[tuple[tuple[str, str], ...], LoadedProject] = {}
"""Projects that were loaded in this process, by the text of all their declarations."""


class Opened(App):
    """A project opened afresh, as a new process would; but what the same declarations come to is worked out only once
    in a process, as that takes a quarter of a small run."""

    @cached_property
    def project(self) -> LoadedProject:
        places = ("*.py", "tables.toml", "silver/*.sql", "marts/*.sql", "queries/*.sql")
        files = [file for place in places for file in sorted(self.folder.glob(place))]
        said = tuple((str(file.relative_to(self.folder)), file.read_text()) for file in files)
        if said not in LOADED:
            LOADED[said] = super().project
        return dataclasses.replace(LOADED[said], folder=self.folder)


class Quiet:
    """An observer that only remembers alarms."""

    def __init__(self) -> None:
        self.alarms: list[str] = []

    def begin(self, verb: str, subject: str, total: int | None = None) -> None: ...

    def advance(self, count: int) -> None: ...

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None: ...

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None: ...

    def alarm(self, text: str) -> None:
        self.alarms.append(text)


class ProjectFolder:
    """A project in a folder; files are given as text, by their path in it."""

    def __init__(self, folder: Path, declarations: str, files: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.observer = Quiet()
        self.write(
            "project.py",
            "from headrace import Project, bar, csv, jsonl, line, number, parquet, status, table\n" + declarations,
        )
        (folder / "landing").mkdir(exist_ok=True)
        for path, text in (files or {}).items():
            self.write(path, text)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def land(self, name: str, text: str) -> None:
        self.write(f"landing/{name}", text)

    @property
    def app(self) -> App:
        """The project opened afresh, as a new process would."""
        return Opened(self.folder, {"inbox.quiet": 0.0})

    def run(self, **options: Any) -> Run:
        return self.app.run(self.observer, **options)

    def ask(self, query: str, /, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.answer(query, **parameters)
        return [dict(zip([c.name for c in answer.columns], row, strict=True)) for row in answer.rows]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line of the project, as a process of its own."""
        command = [sys.executable, "-m", "headrace", "--project", str(self.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def answer(self, query: str, /, **parameters: Any) -> Answer:
        given = {
            name.rstrip("_"): value if isinstance(value, list) else str(value) for name, value in parameters.items()
        }
        return self.app.reader.answer(query, given)
