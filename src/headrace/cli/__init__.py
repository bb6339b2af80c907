"""The command line: verbs in modules that are imported when they are called, so that help and version cost nothing."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Any

import click

COMMANDS = {
    "init": ("cli.init", "Write a new project into a folder."),
    "demo": ("cli.demo", "Make, run and serve a sample project in a temporary folder."),
    "check": ("cli.project", "Find everything wrong with the project, offline."),
    "explain": ("cli.project", "Explain an error code, a mart or a query."),
    "test": ("cli.project", "Run the project's own unit tests of its SQL."),
    "gen": ("cli.project", "Generate the project's sample data into its inbox."),
    "config": ("cli.project", "Show the settings and where each comes from."),
    "plan": ("cli.plan", "Show the serving tables as they are to be, and what differs now."),
    "apply": ("cli.plan", "Make the store's tables what plan says."),
    "run": ("cli.batch", "Land, refine, aggregate and publish what is new."),
    "land": ("cli.batch", "Land what has arrived; counting is for run and stream."),
    "stream": ("cli.batch", "Count records as they arrive, until stopped."),
    "reconcile": ("cli.reconcile", "Compare answers with what bronze says, and mend them."),
    "backfill": ("cli.reconcile", "Compute some windows of a mart whole from bronze."),
    "rollback": ("cli.batch", "Return to the generation before this one."),
    "status": ("cli.batch", "Freshness, lag, watermarks, drift and the last runs."),
    "quarantine": ("cli.batch", "List, show, export and replay quarantined records."),
    "lake": ("cli.batch", "Look at, compact and vacuum the lake."),
    "skew": ("cli.skew", "Find hot keys and uneven shards before the first write."),
    "export": ("cli.batch", "Write one of the project's exports to a file."),
    "table": ("cli.tables", "Look at serving tables as the store has them."),
    "cluster": ("cli.tables", "Look at the nodes of the store."),
    "query": ("cli.ask", "Answer a query of the project."),
    "why": ("cli.ask", "Show where an answer comes from."),
    "serve": ("cli.serve", "Serve the API and the pages."),
    "user": ("cli.serve", "Add, list and remove users."),
    "key": ("cli.serve", "Create, list and revoke API keys."),
    "monitor": ("cli.monitor", "Have Prometheus and Grafana watch the project."),
    "doctor": ("cli.project", "Look at the usual causes of trouble."),
    "completion": ("cli.project", "Print a shell completion script."),
}


class Verbs(click.Group):
    """A group whose commands are modules, and whose help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            from headrace.errors import nearest

            ctx.fail(f"no verb '{name}': {nearest(name, COMMANDS)}")
        command: click.Command = getattr(importlib.import_module("headrace." + COMMANDS[name][0]), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=None, version="0.1.0", prog_name="headrace", message="%(prog)s %(version)s")
@click.option("--project", "-p", "folder", metavar="DIR", help="The project folder (default: here, or above).")
@click.option("--debug", is_flag=True, help="Show stack traces.")
@click.pass_context
def root(ctx: click.Context, folder: str | None, debug: bool) -> None:
    """Declare a metric once in SQL; get the batch path, the serving table, the API and the page from it."""
    ctx.obj = {"folder": folder, "debug": debug}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its code (``docs/cli.md``)."""
    # A command makes many small objects and few circles: looking for those less often saves a twentieth of its time.
    gc.set_threshold(50_000, 20, 20)
    debug = "--debug" in (arguments if arguments is not None else sys.argv)
    code: Any = 0
    try:
        code = root.main(args=arguments, prog_name="headrace", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:  # the edge: every failure becomes a message and an exit code
        if debug:
            raise
        from headrace.cli.failure import report

        code = report(error)
    sys.exit(code if isinstance(code, int) else 0)
