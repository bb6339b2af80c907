"""The tables of docs/cloud.md that hold figures, as the answers give them. Run it to print them anew:

HEADRACE_TEST_DATA=... PYTHONPATH=src python -m tests.journeys.cloud_tables
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace import projects
from headrace.app import App
from tests.data import landing
from tests.kit import Opened, Quiet

PROJECT = Path(projects.__path__[0]) / "cloud"

Row = dict[str, Any]


def opened(folder: Path, files: Path) -> App:
    """The shipped project, copied to ``folder``, with the landing files in ``files``."""
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".headrace"))
    return Opened(folder, {"inbox.path": str(files), "inbox.quiet": 0.0})


def ask(app: App, query: str, /, **parameters: Any) -> list[Row]:
    """The rows of an answer by column; ``from_`` is the parameter ``from``."""
    given = {name.rstrip("_"): value if isinstance(value, list) else str(value) for name, value in parameters.items()}
    answer = app.reader.answer(query, given)
    return [dict(zip([c.name for c in answer.columns], row, strict=True)) for row in answer.rows]


def quality_lines(app: App) -> list[str]:
    """What was found in every source: one line of Markdown a source, kind and reason."""
    found = [row for row in ask(app, "quality") if row["kind"] != "clean"]
    return _lines([[r["source"], r["kind"], r["reason"], f"{r['records']:,}"] for r in found])


def detector_lines(app: App) -> list[str]:
    """Precision and recall of every detector: one line of Markdown each."""
    rows = [
        [
            f"`{r['detector']}`", r["role"], f"{r['landed_flags']:,}", f"{r['clean_flags']:,}", f"{r['flags']:,}",
            r["true_flags"], _percent(r["precision"]), _percent(r["recall"]),
        ]
        for r in ask(app, "detectors")
    ]  # fmt: skip
    return _lines(rows)


def label_lines(app: App) -> list[str]:
    """The same against labels."""
    rows = [
        [
            f"`{r['detector']}`", f"{r['clean_flags']:,}", r["true_labels"], r["labels"],
            _percent(r["label_precision"]), _percent(r["label_recall"]),
        ]
        for r in ask(app, "detectors")
    ]  # fmt: skip
    return _lines(rows)


def _percent(share: str | None) -> str:
    return "" if share is None else f"{float(share):.2%}"


def _lines(rows: Iterable[Iterable[Any]]) -> list[str]:
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        app = opened(Path(place) / "real", landing("cloud"))
        app.run(Quiet())
        sample = opened(Path(place) / "sample", Path(place) / "files")
        sample.generate(1.0, 1, None)
        sample.run(Quiet())
        sys.stdout.write("\n".join([*quality_lines(app), "", *detector_lines(app), "", *label_lines(sample), ""]))


if __name__ == "__main__":
    main()
