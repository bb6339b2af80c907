"""Verbs that look at the project itself: check, explain, test, gen, config, doctor, completion."""

from __future__ import annotations

import time
from pathlib import Path

import click

from headrace.cli.shared import Progress, open_app, print_json, print_table
from headrace.errors import CODES, NotFoundError, ProjectErrors, SettingError, nearest


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> int:
    """Find everything wrong with the project, offline: names, types, SQL subset, what can stream, what each fetch costs."""
    from headrace.flow.check import report

    started = time.monotonic()
    app = open_app(ctx)
    try:
        found = report(app.project)
    except ProjectErrors as errors:
        if not as_json:
            raise
        places = [{"code": e.code, "what": e.what, "file": e.place.file if e.place else None, "line": e.place.line if e.place else None,
                   "column": e.place.column if e.place else None, "help": e.help} for e in errors.errors]  # fmt: skip
        print_json({"errors": places})
        return ProjectErrors.exit_code
    if as_json:
        print_json({"errors": [], **found})
        return 0
    print_table(
        ["mart", "grain", "path", "why"],
        [[m["name"], ", ".join(m["grain"]), m["path"], m["why"]] for m in found["marts"]],
    )
    click.echo()
    print_table(
        ["query", "table", "partition", "clustering", "fetch"],
        [[t["query"], t["table"], t["partition"], t["clustering"], t["fetch"]] for t in found["tables"]],
    )
    if found["retention"]:
        click.echo()
        print_table(
            ["mart", "window", "kept", "counts all windows, as its key has none"],
            [[r["mart"], r["window"], r["kept"], ", ".join(r["not_limited"])] for r in found["retention"]],
        )
    if found["routes"]:
        click.echo()
        print_table(
            ["route", "query", "served"],
            [[r["path"], r["query"], f"serve.routes = {r['pack']}" if r["pack"] else "yes"] for r in found["routes"]],
        )
    counts = found["counts"]
    said = ", ".join(f"{n} {what}" for what, n in counts.items())
    click.echo(f"\nno errors: {said} ({time.monotonic() - started:.2f} s)", err=True)
    return 0


@click.command()
@click.argument("what", required=False)
@click.pass_context
def explain(ctx: click.Context, what: str | None) -> None:
    """Explain an error code, a mart or a query: what it means, or how it was read."""
    if what is None:
        print_table(["code", "title"], [[code, e.title] for code, e in CODES.items()])
        return
    code = what.upper()
    if code in CODES:
        found = CODES[code]
        click.echo(f"{code}: {found.title}\n\n{found.means}\n\nWhat to do: {found.do}")
        return
    if code.startswith("HR") and code[2:].isdigit():
        raise NotFoundError("HR0605", f"no error has the code {code}", help=nearest(code, CODES))
    from headrace.flow.check import explained

    click.echo(explained(open_app(ctx).project, what))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def test(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> int:
    """Run the project's own unit tests (`tests/*.toml`): rows in, expected rows out."""
    results = list(open_app(ctx).test(names))
    if as_json:
        print_json(
            {"tests": [{"name": r.name, "passed": not r.differences, "differences": r.differences} for r in results]}
        )
    else:
        for result in results:
            click.echo(f"{'ok  ' if not result.differences else 'FAIL'} {result.name}")
            for line in result.differences:
                click.echo(f"     {line}")
        failed = sum(1 for r in results if r.differences)
        click.echo(f"{len(results) - failed} passed, {failed} failed", err=True)
    return 1 if any(r.differences for r in results) else 0


@click.command()
@click.argument("project", required=False)
@click.option(
    "--scale", default=1.0, show_default=True, type=click.FloatRange(min=0.001), help="Multiplies the volume."
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--volume", help="A scale that samples.py has a name for, as dev or prod.")
@click.option(
    "--to",
    multiple=True,
    metavar="folder|sftp|kafka|DIR",
    help="Where to: the inbox's folder (default), its SFTP server, the sources' topics, or another folder; may be repeated.",
)
@click.option("--again", is_flag=True, help="Begin anew instead of going on where it was interrupted.")
@click.option("--only", metavar="NAME", help="One generator of samples.py, instead of generate.")
@click.option(
    "--original", is_flag=True, help="The very files of the system that the project replaces, if it can make them."
)
@click.pass_context
def gen(
    ctx: click.Context,
    project: str | None,
    scale: float,
    volume: str | None,
    seed: int,
    to: tuple[str, ...],
    again: bool,
    only: str | None,
    original: bool,
) -> None:
    """Generate a project's sample data (`samples.py`) into its inbox, onto its SFTP server, or into its topics.

    PROJECT is its folder; a new one is made of a project that comes with Headrace by that name. Killed and called again,
    it goes on: no file is left out, and no record comes twice.
    """
    if project is not None:
        from headrace.cli.init import templates, write

        folder = Path(project)
        if not folder.exists() and project in templates():
            write(folder, project)
            click.echo(f"{folder} is a new project", err=True)
        ctx.find_root().obj = {**(ctx.find_root().obj or {}), "folder": str(folder)}
    app = open_app(ctx)
    if volume is not None:
        volumes: dict[str, float] = app.samples().get("VOLUMES", {})
        if volume not in volumes:
            known = nearest(volume, volumes) if volumes else "samples.py has none: VOLUMES = {...}"
            raise SettingError("HR0601", f"--volume is '{volume}'", help=known)
        scale = volumes[volume]
    targets = [part for name in to or ("folder",) for part in name.split(",") if part]
    if only is not None and only not in app.generators():
        raise SettingError("HR0601", f"--only is '{only}'", help=nearest(only, app.generators()))
    started = time.monotonic()
    what = only or ("original" if original else "generate")
    counts = app.deliver(Progress(), targets, scale, seed, what=what, again=again)
    where = ", ".join(str(app.folder / app.settings["inbox.path"]) if name == "folder" else name for name in targets)
    rest = f", {counts['there already']:,} were there" if counts["there already"] else ""
    click.echo(
        f"sample data in {where}: {counts['files']:,} files{rest} ({time.monotonic() - started:.1f} s)", err=True
    )


@click.group()
def config() -> None:
    """The settings."""


@config.command("show")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def config_show(ctx: click.Context, as_json: bool) -> None:
    """Every setting, its value and where that comes from; secrets masked."""
    settings = open_app(ctx).settings
    if as_json:
        print_json({"settings": [{"name": n, "value": v, "origin": o} for n, v, o in settings.shown()]})
    else:
        print_table(
            ["setting", "value", "origin", "what it is"],
            [[n, v, o, settings.values[n].setting.help] for n, v, o in settings.shown()],
        )


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Look at the usual causes of trouble, and say how to mend each."""
    findings = open_app(ctx).doctor()
    if as_json:
        print_json({"findings": [{"check": f.check, "ok": f.ok, "found": f.found, "help": f.help} for f in findings]})
    else:
        for finding in findings:
            click.echo(
                f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:<10} {finding.found}"
                + ("" if finding.ok else f"\n     help: {finding.help}")
            )
    return 0 if all(f.ok for f in findings) else 1


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: add `eval "$(headrace completion bash)"` to your shell's start-up file."""
    from click.shell_completion import get_completion_class

    from headrace.cli import root

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(root, {}, "headrace", "_HEADRACE_COMPLETE").source())
