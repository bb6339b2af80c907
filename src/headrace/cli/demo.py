"""demo: a sample project made, run and served in a temporary folder, with what to try next."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from headrace.app import App
from headrace.cli import init
from headrace.cli.shared import Progress

USER = "demo"
LIVE_SCALE = 0.3
AT_ONCE = 48
"""Files that are there before the first run, where a project goes on making them."""
EVERY = 1.0
"""Seconds between two new files."""
RUN_EVERY = "20s"
PATIENCE = 60.0
"""Seconds in which records must have been counted."""


@click.command()
@click.argument("template", default="cloud")
@click.option("--once", is_flag=True, help="Fetch the page and one answer, print them, stop.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False), help="A landing folder of yours instead of generated data."
)
@click.option("--port", default=0, show_default=True, help="Port to serve on; 0: any free one.")
def demo(template: str, once: bool, data: str | None, port: int) -> None:
    """Make, run and serve a sample project in a temporary folder. Where its samples.py defines live(samples, number), new
    records keep arriving, and are streamed."""
    from headrace.cli.serve import run_server
    from headrace.http import credentials, server

    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    arrivals: Arrivals | None = None
    try:
        project = folder / template
        init.write(project, template)
        landing = str(Path(data).resolve()) if data else None
        app = App(
            project,
            {"inbox.url": "", "inbox.path": landing, "inbox.quiet": 0.0, "serve.port": port, "serve.access_log": False},
        )
        if data is None:
            click.echo("generating sample data …", err=True)
            is_live = "live" in app.samples()
            app.generate(LIVE_SCALE if is_live else 1.0, 1, None)
            if is_live:
                arrivals = Arrivals(app)
                arrivals.begin()
        progress = Progress()
        app.run(progress)
        password = credentials.add_user(server.users_file(app), USER)

        def ready(url: str) -> None:
            visit = Visit(url, password)
            if arrivals is not None:
                arrivals.go()
                if not once:
                    arrivals.repeat_runs()
            page = url + _page(app)
            answer = url + _question(visit.get(page))
            click.echo(f"\nserving after {time.monotonic() - started:.0f} s. The project is in {project}\n")
            click.echo(f"  page      {page}")
            click.echo(f"  user      {USER}")
            click.echo(f"  password  {password}")
            click.echo(f"  answer    curl -u {USER}:{password} '{answer}'")
            route = _route(app)
            if route:
                click.echo(f"  route     curl -u {USER}:{password} '{url}{route}'")
            if once:
                click.echo(
                    f"\ntry next: {os.environ.get('HEADRACE_PROGRAM', 'headrace')} demo"
                    f"{'' if template == 'cloud' else f' {template}'}, which keeps all this until you stop it"
                )
                if arrivals is not None:
                    _both_paths(arrivals, visit, answer)
                for what, address in [("page", page), ("answer", answer), *([("route", url + route)] if route else [])]:
                    visit.show(what, address)
                return
            told = f"{os.environ.get('HEADRACE_PROGRAM', 'headrace')} --project {project}"
            question = answer.removeprefix(f"{url}/v1/queries/").replace("?", " ").replace("&", " ")
            if arrivals is not None:
                click.echo("\na new file lands every second, the stream counts it, and a run follows every "
                           f"{RUN_EVERY.removesuffix('s')} seconds: watch the page.")  # fmt: skip
            click.echo("\ntry next, in another terminal:")
            for verb in ("query", f"why {question}", "quarantine ls", "status"):
                click.echo(f"  {told} {verb}")
            click.echo("\nCtrl-C stops it and deletes the folder.")

        run_server(app, ready=ready, once=once)
    finally:
        if arrivals is not None:
            arrivals.end()
        shutil.rmtree(folder, ignore_errors=True)


class _EndError(Exception):
    """The demo ends."""


class Arrivals:
    """New files of a project, one after another, with the stream that counts them and the runs beside it.

    A target of samples, too: it holds each file back until its time has come.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._landing = app.folder / str(app.settings["inbox.path"])
        self._filled = threading.Event()
        self._going = threading.Event()
        self._ended = threading.Event()
        self._files = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._others: list[subprocess.Popen[bytes]] = []
        self._log = (app.folder / ".headrace-demo.log").open("ab")

    def begin(self) -> None:
        """Makes the files that are there before the first run."""
        self._thread.start()
        self._filled.wait()
        self.check()

    def go(self) -> None:
        """From now on files arrive, and are streamed."""
        self._going.set()
        self._others.append(self._start("stream", "--quiet"))

    def repeat_runs(self) -> None:
        self._others.append(self._start("run", "--quiet", "--every", RUN_EVERY))

    def stop_arriving(self) -> None:
        """Nothing new comes any more; what has come is counted when this returns."""
        self._ended.set()
        self._thread.join()
        self._stop_others()
        self.do("stream", "--quiet", "--until-caught-up")

    def do(self, *words: str) -> None:
        """A verb of the project, as a process of its own."""
        code = self._start(*words).wait(PATIENCE)
        if code:
            raise click.ClickException(f"headrace {' '.join(words)} ended with {code}:\n{self.said()}")

    def check(self) -> None:
        """Raises what went wrong with the files, or with a process."""
        if self._failure is not None:
            raise self._failure
        ended = [other.args for other in self._others if other.poll() is not None]
        if ended:
            raise click.ClickException(f"{ended[0]!r} ended:\n{self.said()}")

    def said(self) -> str:
        """What the processes said last."""
        return Path(self._log.name).read_text("utf-8", "replace")[-2000:]

    def end(self) -> None:
        self._ended.set()
        self._going.set()
        self._thread.join(PATIENCE)
        self._stop_others()
        self._log.close()

    # Target

    def has(self, path: str) -> bool:
        return False

    def take(self, path: str, file: Path) -> None:
        if self._files >= AT_ONCE:
            self._filled.set()
            self._going.wait()
            if self._ended.wait(EVERY):
                raise _EndError
        self._files += 1
        place = self._landing / path
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)

    def _make(self) -> None:
        try:
            number = 0
            while True:
                self._app.generate(LIVE_SCALE, 1, None, number, what="live", target=self)
                number += 1
        except _EndError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self._failure = error
            self._filled.set()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "headrace", "--project", str(self._app.folder), *words]
        given = {"HEADRACE_INBOX__URL": "", "HEADRACE_INBOX__QUIET": "0"}
        return subprocess.Popen(command, env={**os.environ, **given}, stdout=self._log, stderr=self._log)  # noqa: S603  this very program

    def _stop_others(self) -> None:
        for other in self._others:
            other.terminate()
        for other in self._others:
            other.wait(PATIENCE)
        self._others.clear()


class Visit:
    """Somebody who looks at the demo over HTTP, with the generated password."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self._secret = base64.b64encode(f"{USER}:{password}".encode()).decode()

    def get(self, address: str) -> str:
        request = urllib.request.Request(address, headers={"Authorization": f"Basic {self._secret}"})  # noqa: S310  our own loopback server
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            body: str = response.read().decode()
            return body

    def json(self, address: str) -> Any:
        return json.loads(self.get(address))

    def show(self, what: str, address: str) -> None:
        body = self.get(address)
        click.echo(f"\n{what}: 200, {len(body.encode()):,} bytes from {address}")
        click.echo(body[:400] if what == "page" else json.dumps(json.loads(body), indent=2)[:600])


def _page(app: App) -> str:
    """The page that shows itself anew, or the first one."""
    from headrace.http import words

    return next((f"/pages/{words.slug(page.title)}" for page in app.project.pages if page.refresh), "/")


def _question(page: str) -> str:
    """The first answer of the page with parameters, or its first one at all."""
    asked = [html.unescape(link) for link in re.findall(r'href="(/v1/queries/[^"]+)"', page)]
    return next((link for link in asked if not link.endswith("?")), asked[0]).rstrip("?")


def _route(app: App) -> str:
    """The first route that is served, with the examples of its parameters."""
    for route in app.project.routes:
        given = {name: one.example for name, one in route.parameters.items() if one.example}
        if route.query and not route.pack:
            query = urlencode({name: value for name, value in given.items() if name not in route.in_path})
            return route.path.format(**given) + (f"?{query}" if query else "")
    return ""


def _both_paths(arrivals: Arrivals, visit: Visit, answer: str) -> None:
    """Waits until what arrived since the first run is in the answer; then a run counts the same, and must say the same."""
    before = visit.json(answer)
    until = time.monotonic() + PATIENCE
    while visit.json(answer)["rows"] == before["rows"]:
        arrivals.check()
        if time.monotonic() > until:
            raise click.ClickException(f"nothing was streamed within {PATIENCE:.0f} seconds:\n{arrivals.said()}")
        time.sleep(0.2)
    arrivals.stop_arriving()
    progress = visit.json(f"{visit.url}/v1/status")["progress"]
    streamed = visit.json(answer)
    arrivals.do("run", "--quiet")
    counted = visit.json(answer)
    same = (
        counted["rows"] == streamed["rows"] and counted["generation"] > streamed["generation"] == before["generation"]
    )
    click.echo(f"\npublished   {json.dumps(before['rows'])[:200]}")
    click.echo(f"streamed    {json.dumps(streamed['rows'])[:200]}")
    click.echo(f"after a run {json.dumps(counted['rows'])[:200]}")
    click.echo(
        f"{progress['counted']:,} records counted, {progress['lag']:,} waiting, final before {progress['watermark']}"
    )
    if not same:
        raise click.ClickException("the stream's answer and the run's are not the same")
    click.echo("the same by both paths")
