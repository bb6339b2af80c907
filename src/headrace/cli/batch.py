"""Verbs that work on the lake and the store: run, rollback, status, quarantine, lake, export."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.shared import Progress, open_app, print_json, print_table
from headrace.errors import HeadraceError, SettingError
from headrace.model.retention import spelled

if TYPE_CHECKING:
    from headrace.app import App
    from headrace.model.run import Run
    from headrace.ops.exporter import Exporter
    from headrace.ports import Observer


METRICS_PORT = click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Show metrics there (default: metrics.port, 0: not).",
)


@click.command()
@click.option("--full", is_flag=True, help="Recompute every mart whole.")
@click.option("--refit", is_flag=True, help="Compute pinned yardsticks anew.")
@click.option("--take-over", is_flag=True, help="Do without stream workers that are registered but dead.")
@click.option("--every", metavar="TIME", help="Repeat: 30s, 5m, 1h.")
@METRICS_PORT
@click.option("--quiet", "-q", is_flag=True, help="No line a step.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's record as JSON.")
@click.pass_context
def run(ctx: click.Context, full: bool, refit: bool, take_over: bool, every: str | None, metrics_port: int | None, quiet: bool, as_json: bool) -> int:  # fmt: skip
    """Land, refine, aggregate and publish what is new. Safe to kill and to repeat at any moment."""
    wait = _seconds(every) if every else None
    exporter = _exporter(open_app(ctx, **{"metrics.port": metrics_port}), "run") if every else None
    with exporter or nullcontext():
        return _run(ctx, exporter, wait, full=full, refit=refit, take_over=take_over, quiet=quiet, as_json=as_json)


def _run(
    ctx: click.Context, exporter: Exporter | None, wait: float | None, *, full: bool, refit: bool, take_over: bool,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    while True:
        app = open_app(ctx)  # anew each time, as an engine remembers every file that it has read
        progress = Progress(quiet=quiet or as_json)
        if exporter is not None:
            exporter.watch(app)
        try:
            observer = exporter.observe(progress) if exporter is not None else progress
            record = app.run(observer, full=full, refit=refit, take_over=take_over)
            if exporter is not None:
                exporter.ran(app, record)
        except HeadraceError as error:
            _on_failure(app, error)
            if wait is None:
                raise
            from headrace.cli import failure

            failure.write(error)
        else:
            _show(record, progress.alarms, as_json=as_json)
        if wait is None:
            return 0
        time.sleep(wait)


@click.command()
@click.option("--accept-gaps", is_flag=True, help="Go on behind records that are gone from the log.")
@click.option("--every", metavar="TIME", help="Repeat: 1s, 5m.")
@METRICS_PORT
@click.option("--quiet", "-q", is_flag=True, help="No line a step.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of what landed as JSON.")
@click.pass_context
def land(ctx: click.Context, accept_gaps: bool, every: str | None, metrics_port: int | None, quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Land what the inbox has, and copy what the log has to bronze; counting is for `run` and `stream`."""
    wait = _seconds(every) if every else None
    exporter = _exporter(open_app(ctx, **{"metrics.port": metrics_port}), "land") if every else None
    with exporter or nullcontext():
        while True:
            app, progress = open_app(ctx), Progress(quiet=quiet or as_json)
            record = app.land(exporter.observe(progress) if exporter else progress, accept_gaps=accept_gaps)
            if exporter is not None:
                exporter.worked()
            if as_json:
                print_json({"steps": [{"source": s.subject, "note": s.note, **s.counts} for s in record.steps]})
            if wait is None:
                return
            time.sleep(wait)


@click.command()
@click.option("--until-caught-up", is_flag=True, help="Stop when everything that has arrived is counted.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that share the lanes."
)
@METRICS_PORT
@click.option("--quiet", "-q", is_flag=True, help="No line for what lands.")
@click.pass_context
def stream(ctx: click.Context, until_caught_up: bool, workers: int, metrics_port: int | None, quiet: bool) -> int:
    """Count records as they arrive, until stopped. Safe to kill at any moment; SIGTERM finishes what is under way. Of several
    workers each shows its metrics at a port of its own, the one that follows."""
    app = open_app(ctx, **{"metrics.port": metrics_port})
    if workers > 1 and app.log.is_bronze:
        raise SettingError(
            "HR0601", f"--workers is {workers}", help="several workers share the partitions of a log: set kafka.brokers"
        )
    exporter, progress = _exporter(app, "stream"), Progress(quiet=quiet)
    with exporter or nullcontext():
        if exporter is None:
            return _stream(app, progress, until_caught_up=until_caught_up, workers=workers)
        exporter.watch(app)
        return _stream(app, exporter.observe(progress), until_caught_up=until_caught_up, workers=workers)


def _stream(app: App, observer: Observer, *, until_caught_up: bool, workers: int) -> int:
    command = [sys.executable, "-m", "headrace", "--project", str(app.folder), "stream", "--quiet"]
    command += ["--until-caught-up"] if until_caught_up else []
    port = app.settings["metrics.port"]
    ports = [str(port + i) if port else "0" for i in range(1, workers)]
    others = [subprocess.Popen([*command, "--metrics-port", one]) for one in ports]  # noqa: S603  # this very program
    told: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: told.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        count = app.stream(observer, until_caught_up=until_caught_up, stopped=lambda: bool(told))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for other in others:
            if told:
                other.send_signal(told[0])
            other.wait()
    click.echo(f"{count:,} records counted")
    return 128 + told[0] if told else 0


def _exporter(app: App, verb: str) -> Exporter | None:
    """What shows the metrics of this process; None where nobody wants them."""
    if not app.settings["metrics.port"]:
        return None
    from headrace.ops.exporter import Exporter

    return Exporter(app, verb)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not found:
        raise SettingError("HR0601", f"--every is '{text}'", help="a number and s, m or h: 30s, 5m, 1h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _on_failure(app: App, error: HeadraceError) -> None:
    command = app.settings["run.on_failure"]
    if command:
        from headrace.cli.failure import as_json

        # The user's own command line, from the user's own settings.
        subprocess.run(command, shell=True, input=as_json(error), text=True, check=False, timeout=60)  # noqa: S602


def _show(record: Run, alarms: list[str], *, as_json: bool) -> None:
    totals = {
        "rows in files": record.total("rows", "land"), "bronze": record.total("bronze", "land"),
        "quarantined at landing": record.total("unreadable", "land"), "landed": record.total("landed", "refine"),
        "clean": record.total("clean", "refine"), "quarantined": record.total("quarantined", "refine") + record.total("unreadable", "refine"),
        "duplicates": record.total("duplicate", "refine"), "superseded": record.total("superseded", "refine"),
        "repaired": record.total("repaired", "refine"), "flagged": record.total("flagged", "refine"),
        "published": record.total("rows", "publish"),
    }  # fmt: skip
    if as_json:
        steps = [
            {"verb": s.verb, "subject": s.subject, "seconds": round(s.seconds, 3), "note": s.note, **s.counts}
            for s in record.steps
        ]
        print_json(
            {
                "generation": record.generation,
                "seconds": round(record.seconds, 3),
                "totals": totals,
                "alarms": alarms,
                "steps": steps,
            }
        )
        return
    if record.generation is None:
        click.echo(f"nothing to do ({record.seconds:.2f} s)")
        return
    said = ", ".join(f"{count:,} {name}" for name, count in totals.items() if count)
    click.echo(f"generation {record.generation} published: {said}; {record.seconds:.2f} s")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def rollback(ctx: click.Context, yes: bool) -> None:
    """Return to the generation before this one: answers are exactly what they were."""
    app = open_app(ctx)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingError(
                "HR0601", "rollback asks first, and there is no terminal", help="headrace rollback --yes"
            )
        click.confirm("Return to the generation before this one?", abort=True)
    generation = app.rollback()
    click.echo(f"answers come from generation {generation} again; `headrace run` goes forward")


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Freshness, lag, watermarks, drift, and the last runs.

    waiting: records in bronze that nothing has counted. behind: since the newest event that is counted. late: records that
    came below the watermark. lag: of the lane, behind the log. fan_out: speed rows that an answer adds for a key.
    """
    found = open_app(ctx).status()
    if as_json:
        print_json(found)
        return
    click.echo(f"project     {found['project']}")
    click.echo(
        f"generation  {found['generation'] or 'none yet'}"
        + (f" of {found['published_at']}" if found["generation"] else "")
    )
    if found["rolled_back"]:
        click.echo(f"rolled back  from generation {found['rolled_back']}; the next run goes forward again")
    if found["running"]:
        click.echo(f"running     generation {found['running']} is being built")
    if found["sources"]:
        click.echo()
        print_table(
            ["source", "landed", "clean", "quarantined", "waiting", "as of", "behind", "watermark", "late"],
            [
                [
                    *(s[k] for k in ("source", "landed", "clean", "quarantined", "waiting", "as_of")),
                    _ago(s["behind"]),
                    s["watermark"],
                    s["late"],
                ]
                for s in found["sources"]
            ],
        )
        for s in found["sources"]:
            if s["idle"]:
                click.echo(f"idle        {', '.join(s['idle'])}: the watermark of {s['source']} waits for it")
    if found["stream"]:
        click.echo(f"\nstream: {', '.join(found['stream']['workers']) or 'nobody'}, epoch {found['stream']['epoch']}")
        columns = ["lane", "landed", "cut", "counted", "lag", "fan_out", "as_of", "watermark"]
        print_table(columns, [[lane[c] for c in columns] for lane in found["stream"]["lanes"]])
    if found["reconcile"]:
        last = found["reconcile"]
        said = (
            f"{last['drifted']:,} of {last['keys']:,} keys differed"
            if last["drifted"]
            else f"{last['keys']:,} keys, no drift"
        )
        mended = f", {last['repaired']:,} mended by generation {last['mended_by']}" if last["mended_by"] else ""
        click.echo(f"\nreconciled  {last['at']}: {said}{mended}")
    for table in found["damaged"]:
        click.echo(f"damaged     {table['table']}: {table['what']}; `headrace run` builds it anew")
    for floor in found["floors"]:
        since = f"windows from {floor['start']} on" if floor["start"] else "all windows so far"
        click.echo(f"kept        {floor['mart']}: {since} ({floor['kept']})")
    for each in found["goals"]:
        behind = "nothing is counted yet" if each["as_of"] is None else f"{_ago(round(each['behind']))} behind"
        stale = each["as_of"] is None or each["behind"] > each["goal"]
        click.echo(f"{'stale' if stale else 'fresh':<11} {each['mart']}: {behind} (goal: {spelled(each['goal'])})")
    for gap in found["gaps"]:
        click.echo(f"missing  offsets {gap['first']} to {gap['next']} of {gap['lane']}")
    for record in found["isolated"]:
        click.echo(f"isolated  offset {record['offset']} of {record['lane']}, which killed whoever counted it")
    if found["runs"]:
        click.echo()
        print_table(
            ["run", "generation", "seconds", "rows in files"],
            [[r["started_at"], r["generation"], r["seconds"], r["rows"]] for r in found["runs"]],
        )


def _ago(seconds: int | None) -> str | None:
    """A span of time as people say it."""
    if seconds is None:
        return None
    sizes = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    unit = next((u for u, size in sizes.items() if abs(seconds) >= 2 * size), "s")
    return f"{seconds // sizes[unit]} {unit}"


@click.group()
def quarantine() -> None:
    """Rejected records, with reasons and origin."""


@quarantine.command("ls")
@click.argument("source", required=False)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def quarantine_ls(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """Reasons and counts, by source."""
    rows = open_app(ctx).quarantine.reasons(source)
    if as_json:
        print_json({"reasons": [{"source": s, "reason": r, "records": n, "first": o} for s, r, n, o in rows]})
    elif not rows:
        click.echo("nothing is quarantined")
    else:
        print_table(["source", "reason", "records", "first origin"], rows)


@quarantine.command("show")
@click.argument("source")
@click.option("--reason", help="Only records with this reason.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def quarantine_show(ctx: click.Context, source: str, reason: str | None, limit: int, as_json: bool) -> None:
    """Records as they were sent, with every reason and their origin."""
    records = open_app(ctx).quarantine.records(source, reason, limit)
    if as_json:
        print_json({"records": records})
        return
    for record in records:
        click.echo(f"{record['origin']}  {record['file']} row {record['row']}")
        click.echo(f"    why   {'; '.join(record['reasons'])}")
        click.echo(f"    sent  {json.dumps(record['record'], ensure_ascii=False)}")


@quarantine.command("export")
@click.argument("source")
@click.option("--reason", help="Only records with this reason.")
@click.option("--to", "path", type=click.Path(dir_okay=False), help="File to write (default: standard output).")
@click.pass_context
def quarantine_export(ctx: click.Context, source: str, reason: str | None, path: str | None) -> None:
    """JSON lines of origin, reasons and record: mend the records, then `quarantine replay`."""
    records = open_app(ctx).quarantine.records(source, reason, 1_000_000_000)
    text = "".join(
        json.dumps({"origin": r["origin"], "reasons": r["reasons"], "record": r["record"]}, ensure_ascii=False) + "\n"
        for r in records
    )
    if path is None:
        click.echo(text, nl=False)
    else:
        with Path(path).open("w", encoding="utf-8") as file:
            file.write(text)
        click.echo(f"{len(records)} records in {path}", err=True)


@quarantine.command("replay")
@click.argument("source")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def quarantine_replay(ctx: click.Context, source: str, file: str | None) -> None:
    """Puts corrected records back: each names the origin that it replaces, which is void from then on.

    Without FILE the records of a source are only judged again by the contract as it is now (`headrace run` does so, too).
    """
    app = open_app(ctx)
    progress = Progress()
    if file is None:
        _show(app.run(progress), progress.alarms, as_json=False)
        return
    replayed, known = app.replay(source, Path(file).read_text(encoding="utf-8"))
    click.echo(f"{replayed} records replayed; the next run judges them: headrace run", err=True)
    if known:
        click.echo(f"replayed before, and so left alone: {', '.join(known)}", err=True)
        click.echo(f"a record that is still wrong has a new origin: headrace quarantine show {source}", err=True)
    _show(app.run(progress), progress.alarms, as_json=False)


@click.group()
def lake() -> None:
    """The lake's tables."""


@lake.command("ls")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def lake_ls(ctx: click.Context, as_json: bool) -> None:
    """Tables, versions, files and bytes."""
    rows = open_app(ctx).housekeeping.tables()
    if as_json:
        print_json({"tables": rows})
    else:
        print_table(
            ["table", "version", "files", "bytes"], [[r["table"], r["version"], r["files"], r["bytes"]] for r in rows]
        )


@lake.command("compact")
@click.pass_context
def lake_compact(ctx: click.Context) -> None:
    """Merge small files of bronze, silver and the manifest; offsets and answers stay as they are."""
    progress = Progress()
    for name, before, after in open_app(ctx).compact(progress):
        click.echo(f"{name}: {before} files became {after}")


@lake.command("vacuum")
@click.option(
    "--older-than",
    "hours",
    default=168.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Hours that an unused file is kept.",
)
@click.pass_context
def lake_vacuum(ctx: click.Context, hours: float) -> None:
    """Delete files that neither the current nor the previous generation uses."""
    click.echo(f"{open_app(ctx).vacuum(hours)} files deleted")


@lake.command("sql")
@click.argument("sql")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def lake_sql(ctx: click.Context, sql: str, as_json: bool) -> None:
    """Ask the lake: one SELECT over the project's sources, datasets and marts, as of the current generation."""
    columns, rows = open_app(ctx).gold.sql(sql)
    if as_json:
        print_json({"columns": columns, "rows": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        print_table(columns, rows)


@click.command()
@click.argument("name", required=False)
@click.option(
    "--to",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write; .csv, .parquet or .jsonl (default: standard output as CSV).",
)
@click.pass_context
def export(ctx: click.Context, name: str | None, path: Path | None) -> None:
    """Write one of the project's exports (`exports/NAME.sql`)."""
    app = open_app(ctx)
    if name is None:
        for known in app.exports():
            click.echo(known)
        return
    if path is not None:
        click.echo(f"{app.export(name, path):,} rows in {path}", err=True)
        return
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "export.csv")
        app.export(name, file)
        with file.open("rb") as written:
            shutil.copyfileobj(written, sys.stdout.buffer)
