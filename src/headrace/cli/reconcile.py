"""Verbs that hold answers against bronze: reconcile and backfill."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from headrace.cli.shared import Progress, open_app, print_json, print_table

if TYPE_CHECKING:
    import datetime as dt

    from headrace.flow.reconcile import Found


@click.command()
@click.argument("marts", nargs=-1)
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Look up about N keys a table, others each time.")
@click.option("--all", "whole", is_flag=True, help="Compare every key (the default), surplus ones too.")
@click.option("--dry-run", is_flag=True, help="Only tell what differs.")
@click.option("--quiet", "-q", is_flag=True, help="No line a step.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def reconcile(ctx: click.Context, marts: tuple[str, ...], sample: int | None, whole: bool, dry_run: bool, quiet: bool, as_json: bool) -> int:  # fmt: skip
    """Compute marts anew from bronze, compare key by key with what the store answers, and mend what differs.

    MARTS are names of marts or datasets that queries read; all where none is given. Exits with 1 where anything differed.
    """
    if sample is not None and whole:
        raise click.UsageError("--sample or --all, not both")
    progress = Progress(quiet=quiet or as_json)
    found = open_app(ctx).reconcile(progress, marts, sample=sample, repair=not dry_run)
    if as_json:
        tables = [{**asdict(drift), "ratio": drift.ratio} for drift in found.tables]
        print_json({**asdict(found), "drifted": found.drifted, "tables": tables})
    else:
        _show(found)
    return 1 if found.drifted or found.damaged else 0


@click.command()
@click.argument("mart")
@click.option(
    "--from", "first", required=True, type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="The first day."
)
@click.option("--to", "last", required=True, type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="The last day.")
@click.option("--quiet", "-q", is_flag=True, help="No line a step.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def backfill(ctx: click.Context, mart: str, first: dt.datetime, last: dt.datetime, quiet: bool, as_json: bool) -> None:
    """Compute the windows of a mart that have these days in them whole from bronze, and publish them; others stay.

    For when bronze was mended, or `reconcile` named windows. Safe to kill and to repeat.
    """
    if last < first:
        raise click.UsageError("--to is before --from")
    record = open_app(ctx).backfill(Progress(quiet=quiet or as_json), mart, first.date(), last.date())
    rows = record.total("rows", "publish")
    if as_json:
        print_json({"generation": record.generation, "mart": mart, "published": rows})
    else:
        click.echo(f"generation {record.generation} published: {rows:,} rows changed")


def _show(found: Found) -> None:
    columns = ["keys", "differing", "missing", "surplus", "repaired"]
    rows = [
        [d.origin, d.table, "speed" if d.speed else "batch", *(getattr(d, column) for column in columns)]
        for d in found.tables
    ]
    print_table(["mart", "serving table", "rows", *columns], rows)
    for drift in found.tables:
        for key in drift.shown:
            said = ", ".join(f"{name}={value}" for name, value in key.items() if name != "kind")
            click.echo(
                f"    {key['kind']:<9} {drift.table}{' (speed)' if drift.speed else ''}: {said or 'its only row'}"
            )
        if drift.drifted > len(drift.shown):
            click.echo(f"              … and {drift.drifted - len(drift.shown)} more keys of {drift.table}")
        if drift.unchecked:
            click.echo(f"    {drift.unchecked} ranges of {drift.table} are not whole in bronze yet: headrace land")
    for name, what in found.damaged.items():
        click.echo(f"    HR0427: {name}: {what}")
    left = sum(d.drifted - d.repaired for d in found.tables) if found.mended_by is not None else 0
    if left:
        click.echo(
            f"    {left} keys were written, but a row there says that it is newer than any run: change the query, so that it gets a new table"
        )
    if not found.drifted and not found.damaged:
        click.echo(f"generation {found.generation} answers what bronze says")
    elif found.mended_by is not None:
        click.echo(
            f"generation {found.mended_by} was published; `headrace reconcile` again tells whether anything differs still"
        )
