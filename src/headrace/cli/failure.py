"""The edge: an error as people read it, and its exit code."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

import click

from headrace.errors import HeadraceError, Place, ProjectErrors

INTERNAL = 70


def report(error: Exception) -> int:
    """Writes an error to standard error and gives the exit code."""
    if isinstance(error, ProjectErrors):
        for one in error.errors:
            write(one)
        click.echo(f"{len(error.errors)} error{'s' if len(error.errors) > 1 else ''}", err=True)
        return error.exit_code
    if isinstance(error, HeadraceError):
        write(error)
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    with tempfile.NamedTemporaryFile("w", prefix="headrace-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    click.echo(f"error[HR0999]: {type(error).__name__}: {error}\n  help: please report it with {file.name}", err=True)
    return INTERNAL


def write(error: HeadraceError) -> None:
    """One error: what, where with the line and a caret, what to do."""
    click.echo(text_of(error), err=True)


def text_of(error: HeadraceError) -> str:
    lines = [f"error[{error.code}]: {error.what}"]
    if error.place is not None:
        lines += _place(error.place)
    if error.help:
        lines.append(f"  help: {error.help}")
    lines.append(f"  docs: headrace explain {error.code}")
    return "\n".join(lines)


def as_json(error: HeadraceError) -> str:
    place = error.place
    where = {"file": place.file, "line": place.line, "column": place.column} if place else None
    return json.dumps({"code": error.code, "what": error.what, "place": where, "help": error.help})


def _place(place: Place) -> list[str]:
    lines = [f"  --> {place}"]
    if place.text:
        number = str(place.line)
        lines.append(f"  {number} | {place.text}")
        if place.column:
            lines.append(
                f"  {' ' * len(number)} | {' ' * (place.column - 1)}{'^' * min(place.length, max(len(place.text) - place.column + 1, 1))}"
            )
    return lines
