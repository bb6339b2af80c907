"""Verbs of the server: serve, and who may log in: user, key."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from headrace.cli.shared import open_app, print_json, print_table
from headrace.errors import SettingError, nearest

if TYPE_CHECKING:
    from headrace.app import App
    from headrace.http.credentials import Only


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on (default: serve.host, 127.0.0.1).")
@click.option("--port", type=int, metavar="N", help="Port to listen on; 0: any free one (default: serve.port, 8000).")
@click.option("--insecure-http", is_flag=True, help="Serve plain HTTP on an address that is not loopback.")
@click.pass_context
def serve(ctx: click.Context, host: str | None, port: int | None, insecure_http: bool) -> int:
    """Serve the API and the pages until SIGTERM or Ctrl-C. Requests under way are finished first."""
    app = open_app(ctx, **{"serve.host": host, "serve.port": port})
    run_server(app, insecure_http=insecure_http, ready=lambda url: click.echo(f"serving {url}", err=True))
    return 0


def run_server(
    app: App, *, insecure_http: bool = False, ready: Callable[[str], None] | None = None, once: bool = False
) -> None:
    """``headrace.http.server.serve`` at the address of the settings, with metrics."""
    from headrace.http.server import serve as serve_http
    from headrace.ops.metrics import Metrics

    host, port = app.settings["serve.host"], app.settings["serve.port"]
    serve_http(app, host=host, port=port, insecure_http=insecure_http, ready=ready, once=once, meter=Metrics(app))


ONLY = click.option(
    "--only",
    multiple=True,
    metavar="NAME=VALUES",
    help="Limit to questions about these values of a parameter, with commas; may be given for several parameters.",
)


@click.group()
def user() -> None:
    """Add, list and remove users, who log in with a password."""


@user.command("add")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of making one.")
@ONLY
@click.pass_context
def add_user(ctx: click.Context, name: str, password_stdin: bool, only: tuple[str, ...]) -> int:
    """Add a user, or give one a new password. Without --password-stdin one is made and printed, this once. Who is there
    already stays limited as before, unless --only says otherwise; to lift limits, remove the user first."""
    from headrace.http import credentials, server

    app = open_app(ctx)
    file = server.users_file(app)
    given = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    password = credentials.add_user(file, name, given, _limits(app, only))
    limits = credentials.load(file).users[name].only
    if limits is not None:
        click.echo(f"{name} may ask about these values only: {_counted(limits)}", err=True)
    if given is None:
        click.echo(f"The password of {name}, which is shown only now:", err=True)
        click.echo(password)
    return 0


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_users(ctx: click.Context, as_json: bool) -> int:
    """List the users, with how many values each is limited to."""
    from headrace.http import credentials, server

    users = sorted(credentials.load(server.users_file(open_app(ctx))).users.items())
    if as_json:
        found = [{"name": name, "created": u.created.isoformat(), "only": _counts(u.only)} for name, u in users]
        print_json({"users": found})
    else:
        print_table(("user", "created", "only"), [(n, u.created.isoformat(), _counted(u.only)) for n, u in users])
    return 0


@user.command("remove")
@click.argument("name")
@click.pass_context
def remove_user(ctx: click.Context, name: str) -> int:
    """Remove a user, at once."""
    from headrace.http import credentials, server

    credentials.remove_user(server.users_file(open_app(ctx)), name)
    return 0


@click.group()
def key() -> None:
    """Create, list and revoke API keys, for programs."""


@key.command("create")
@click.argument("name")
@click.option(
    "--scope",
    default="read",
    show_default=True,
    metavar="LIST",
    help="What it may do: read, metrics, or both with a comma.",
)
@click.option("--expires", metavar="TIME", help="How long it holds: 12h, 90d (default: until revoked).")
@ONLY
@click.pass_context
def create_key(ctx: click.Context, name: str, scope: str, expires: str | None, only: tuple[str, ...]) -> int:
    """Create a key and print it, this once."""
    from headrace.http import credentials, server

    app = open_app(ctx)
    scopes = tuple(part.strip() for part in scope.split(",") if part.strip())
    lasting = _lasting(expires) if expires else None
    token = credentials.create_key(server.users_file(app), name, scopes, lasting, _limits(app, only))
    click.echo(f"The key {name}, which is shown only now:", err=True)
    click.echo(token)
    return 0


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def list_keys(ctx: click.Context, as_json: bool) -> int:
    """List the keys with what each may do, how many values it is limited to, until when, and when it was last used."""
    from headrace.http import credentials, server

    file = server.users_file(open_app(ctx))
    known, uses, now = credentials.load(file).keys, credentials.load_uses(file), credentials.now()
    names = ("id", "name", "scopes", "only", "state", "created", "expires", "last_used")
    rows: list[tuple[object, ...]] = []
    for id, one in sorted(known.items(), key=lambda item: item[1].created):
        state = "valid" if one.valid(now) else "revoked" if one.revoked else "expired"
        expires = one.expires.isoformat() if one.expires else None
        only = _counts(one.only) if as_json else _counted(one.only)
        rows.append((id, one.name, ",".join(one.scopes), only, state, one.created.isoformat(), expires, uses.get(id)))
    if as_json:
        print_json({"keys": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        print_table([name.replace("_", " ") for name in names], rows)
    return 0


@key.command("revoke")
@click.argument("id")
@click.pass_context
def revoke_key(ctx: click.Context, id: str) -> int:
    """Revoke a key, at once. Its id is the middle part of hr_ID_SECRET."""
    from headrace.http import credentials, server

    credentials.revoke_key(server.users_file(open_app(ctx)), id)
    return 0


def _lasting(text: str) -> dt.timedelta:
    found = re.fullmatch(r"([1-9]\d{0,5})([hd])", text)
    if not found:
        raise SettingError("HR0601", f"--expires is '{text}'", help="a number and h or d: 12h, 90d")
    return dt.timedelta(hours=int(found[1])) if found[2] == "h" else dt.timedelta(days=int(found[1]))


def _limits(app: App, texts: tuple[str, ...]) -> Only | None:
    """What ``--only`` says; raises SettingError HR0601 for a parameter by which no query picks what it reads."""
    from headrace.http.rights import bounding

    known = bounding(app.project) if texts else set()
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name not in known:
            help = nearest(name, known) if known else "no query of this project does"
            raise SettingError("HR0601", f"--only names '{name}', by which no query picks all that it reads", help=help)
        found[name] = (*found.get(name, ()), *values.split(","))
    return found or None


def _counts(only: Only | None) -> dict[str, int] | None:
    return None if only is None else {name: len(values) for name, values in only.items()}


def _counted(only: Only | None) -> str:
    """Limits for people: how many values, and not which, as they may be numbers of subscribers."""
    if only is None:
        return ""
    return ", ".join(f"{name} ({len(values)})" for name, values in only.items()) or "nothing"
