"""Writes docs/reference.md: every verb with its options, every setting, every error code; and the table of metrics in
docs/monitoring.md. A test compares them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from headrace.cli import COMMANDS
from headrace.errors import CODES
from headrace.ops.names import EVERY, METRICS
from headrace.settings import SETTINGS

FILE = Path(__file__).parents[1] / "docs" / "reference.md"
MONITORING = FILE.with_name("monitoring.md")
MARK = "<!-- metrics -->\n"


def page() -> str:
    """The page as it should be."""
    lines = ["# Reference", "", "Written by `./dev python tools/reference.py`.", "", "## Exit codes", ""]
    lines += ["0 done; 1 the work ran and failed; 2 usage, settings or declarations; 3 something outside is out of reach;",
              "4 another process was first; 70 an error inside Headrace; 130 Ctrl-C; 143 SIGTERM.", "", "## Verbs"]  # fmt: skip
    for name, (module, _) in COMMANDS.items():
        command = getattr(importlib.import_module("headrace." + module), name)
        lines += _verb(f"headrace {name}", command)
    lines += ["", "## Settings", "", "Flag, then `HEADRACE_SECTION__KEY`, then `headrace.toml`, then the default.", ""]
    lines += ["| setting | default | what it is |", "|---|---|---|"]
    lines += [f"| `{s.name}` | `{s.default}` | {s.help} |" for s in SETTINGS]
    lines += ["", "## Errors", ""]
    for code, explanation in sorted(CODES.items()):
        lines += [f"### {code}", "", f"**{explanation.title}.** {explanation.means} {explanation.do}", ""]
    return "\n".join(lines).rstrip() + "\n"


def monitoring(text: str) -> str:
    """The page about monitoring, with its table of metrics as it should be."""
    before, _, after = text.split(MARK)
    lines = ["| metric | kind | labels | shown by | what it is |", "|---|---|---|---|---|"]
    for metric in METRICS:
        shown = "all" if metric.of == EVERY else ", ".join(f"`{verb}`" for verb in metric.of)
        labels = ", ".join(metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {shown} | {metric.help} |")
    return before + MARK + "\n".join(lines) + "\n" + MARK + after


def _verb(path: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    lines = ["", f"### {path}", "", "```text", command.get_help(context), "```"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                lines += _verb(f"{path} {name}", inner)
    return lines


if __name__ == "__main__":
    FILE.write_text(page())
    MONITORING.write_text(monitoring(MONITORING.read_text()))
    sys.stdout.write(f"{FILE}\n{MONITORING}\n")
