"""demo: a sample project made, run and served in a temporary folder, with what to try next."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path

import click

from headrace.app import App
from headrace.cli import init
from headrace.cli.shared import Progress

USER = "demo"


@click.command()
@click.argument("template", default="cloud")
@click.option("--once", is_flag=True, help="Fetch the page and one answer, print them, stop.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False), help="A landing folder of yours instead of generated data."
)
@click.option("--port", default=0, show_default=True, help="Port to serve on; 0: any free one.")
def demo(template: str, once: bool, data: str | None, port: int) -> None:
    """Make, run and serve a sample project in a temporary folder."""
    from headrace.cli.serve import run_server
    from headrace.http import credentials, server

    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    try:
        project = folder / template
        init.write(project, template)
        landing = str(Path(data).resolve()) if data else None
        app = App(project, {"inbox.url": "", "inbox.path": landing, "inbox.quiet": 0.0, "serve.port": port})
        if data is None:
            click.echo("generating sample data …", err=True)
            app.generate(1.0, 1, None)
        progress = Progress()
        app.run(progress)
        password = credentials.add_user(server.users_file(app), USER)
        name, question = _question(app)

        def ready(url: str) -> None:
            answer = f"{url}/v1/queries/{name}" + (f"?{question}" if question else "")
            click.echo(f"\nserving after {time.monotonic() - started:.0f} s. The project is in {project}\n")
            click.echo(f"  page      {url}/")
            click.echo(f"  user      {USER}")
            click.echo(f"  password  {password}")
            click.echo(f"  answer    curl -u {USER}:{password} '{answer}'")
            if once:
                click.echo(
                    f"\ntry next: {os.environ.get('HEADRACE_PROGRAM', 'headrace')} demo, which keeps all this until you stop it"
                )
                _fetch(url, answer, password)
                return
            told = f"{os.environ.get('HEADRACE_PROGRAM', 'headrace')} --project {project}"
            click.echo("\ntry next, in another terminal:")
            for verb in ("query", f"why {name} {question.replace('&', ' ')}".rstrip(), "quarantine ls", "status"):
                click.echo(f"  {told} {verb}")
            click.echo("\nCtrl-C stops it and deletes the folder.")

        run_server(app, ready=ready, once=once)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _question(app: App) -> tuple[str, str]:
    """A question with the first values of the page that asks it, and with parameters if any has some."""
    asked = []
    for page in app.project.pages:
        for tile in page.tiles:
            known = {p.name for p in app.project.queries[tile.query].parameters}
            given = {k: v for k, v in {**page.filters, **tile.given}.items() if k in known and v}
            asked.append((tile.query, "&".join(f"{k}={v}" for k, v in given.items())))
    return next((question for question in asked if question[1]), asked[0])


def _fetch(url: str, answer: str, password: str) -> None:
    """The page and one answer, over HTTP with the generated password."""
    secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
    for what, address in (("page", f"{url}/"), ("answer", answer)):
        request = urllib.request.Request(address, headers={"Authorization": f"Basic {secret}"})  # noqa: S310  our own loopback server
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            body = response.read()
            click.echo(f"\n{what}: {response.status}, {len(body):,} bytes from {address}")
            if what == "answer":
                click.echo(json.dumps(json.loads(body), indent=2)[:600])
            else:
                click.echo(body.decode()[:400])
