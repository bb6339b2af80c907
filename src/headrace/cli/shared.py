"""What verbs share: opening the project, showing progress, and writing tables or JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from headrace.app import App
from headrace.ports import Inspect

SCHEMA_VERSION = 1
"""Of every JSON document that the command line prints."""


def open_app(ctx: click.Context, **flags: Any) -> App:
    """The project that ``--project`` or the current folder names; raises DeclarationError HR0101."""
    from headrace.declare.folder import find

    named = (ctx.find_root().obj or {}).get("folder")
    folder = Path(named).resolve() if named else Path.cwd()
    return App(folder if named and (folder / "project.py").is_file() else find(folder), flags)


def inspected(app: App) -> Inspect:
    """What looks at the project's cluster; raises SettingError HR0601 where it has none."""
    from headrace.errors import SettingError

    if app.inspect is None:
        raise SettingError("HR0601", "the store is no cluster: cassandra.hosts is empty", help="cassandra.hosts = ...")
    return app.inspect


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2, default=str, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows in aligned columns on standard output; numbers to the right."""
    texts = [["" if v is None else str(v) for v in row] for row in rows]
    widths = [max([len(c), *(len(row[i]) for row in texts)]) for i, c in enumerate(columns)]
    right = [bool(texts) and all(_is_number(row[i]) for row in texts if row[i]) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)).rstrip()

    click.echo(line(columns))
    click.echo("  ".join("-" * w for w in widths))
    for row in texts:
        click.echo(line(row))


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


class Progress:
    """Shows what a run does: a moving line on a terminal, plain lines elsewhere, always on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.moving = sys.stderr.isatty() and not quiet
        self.alarms: list[str] = []
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._shown = 0.0
        self._turn = threading.Lock()
        """A run writes behind, and so ends things in another thread than it begins the next ones in."""

    def begin(self, verb: str, subject: str, total: int | None = None) -> None:
        self._what, self._total, self._done = f"{verb} {subject}", total, 0
        self._show()

    def advance(self, count: int) -> None:
        self._done += count
        if self.moving and time.monotonic() - self._shown > 0.1:
            self._show()

    def end(self, verb: str, subject: str, counts: Mapping[str, int], seconds: float, note: str = "") -> None:
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        tail = f" ({note})" if note else ""
        with self._turn:
            if self.moving:
                sys.stderr.write("\r\033[K")
            if said and not self.quiet:
                click.echo(f"{verb:<10} {subject:<34} {said}{tail}  {seconds:.2f} s", err=True)

    def counted(self, source: str, outcomes: Mapping[str, int], seconds: float, newest: str) -> None:
        """Nothing: there are many a second."""

    def alarm(self, text: str) -> None:
        self.alarms.append(text)
        click.echo(f"alarm      {text}", err=True)

    def _show(self) -> None:
        if self.moving:
            share = f" {100 * self._done // self._total}%" if self._total and self._done else ""
            with self._turn:
                sys.stderr.write(f"\r\033[K{self._what}{share} …")
                sys.stderr.flush()
            self._shown = time.monotonic()
