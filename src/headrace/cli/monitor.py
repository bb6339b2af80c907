"""Verbs that are about being watched: monitor export."""

from __future__ import annotations

import re
from pathlib import Path

import click

from headrace.cli.shared import open_app
from headrace.errors import SettingError, nearest


@click.group()
def monitor() -> None:
    """Have Prometheus and Grafana watch the project."""


@monitor.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--targets",
    multiple=True,
    metavar="KIND=HOST:PORT,…",
    help="Where to scrape serve, stream, run, land, cassandra or scylla; may be repeated (default: as the settings say).",
)
@click.option(
    "--interval", default=15.0, show_default=True, type=click.FloatRange(0.1, 300), help="Seconds between two scrapes."
)
@click.option("--runbooks", metavar="URL", help="Where docs/monitoring.md is read, for the links of alerts.")
@click.pass_context
def monitor_export(
    ctx: click.Context, folder: Path, targets: tuple[str, ...], interval: float, runbooks: str | None
) -> None:
    """Write scrape configuration, rules with their tests, and dashboards into FOLDER. Alerts on freshness follow from what
    project.py declares: project.fresh(MART, "5 minutes"). Files of an earlier export are replaced."""
    from headrace.ops.monitor import KEY, KINDS, RUNBOOKS, export
    from headrace.ops.rules import Pace

    app = open_app(ctx)
    at = _targets(targets, KINDS)
    if not at:
        at = {"serve": [f"{app.settings['serve.host']}:{app.settings['serve.port']}"]}
        if app.settings["metrics.port"]:
            at["stream"] = [f"{app.settings['metrics.host']}:{app.settings['metrics.port']}"]
    for file in export(app.project, folder, at, Pace(interval), runbooks or RUNBOOKS):
        click.echo(folder / file)
    if not app.project.goals:
        click.echo('no mart has a goal of freshness, and so no alert: project.fresh(MART, "5 minutes")', err=True)
    if "serve" in at:
        key = folder / "prometheus" / KEY
        click.echo(f"for the metrics of serve: headrace key create prometheus --scope metrics > {key}", err=True)


def _targets(given: tuple[str, ...], kinds: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in given:
        kind, _, places = text.partition("=")
        if kind not in kinds:
            raise SettingError("HR0601", f"--targets names '{kind}'", help=nearest(kind, kinds))
        for place in places.split(","):
            if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}", place.strip()):
                raise SettingError("HR0601", f"--targets has '{place}'", help=f"{kind}=127.0.0.1:9471,10.0.0.2:9471")
            found.setdefault(kind, []).append(place.strip())
    return found
