"""Verbs that ask: query and why."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.shared import open_app, print_json, print_table
from headrace.errors import NotFoundError, ParameterError, nearest

if TYPE_CHECKING:
    from headrace.flow.answer import Answer
    from headrace.model.project import LoadedProject

FREE = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["-h", "--help"]}
"""A query's parameters are its own: ``name=value`` or ``--name value``."""


class Question(click.Command):
    """A verb that takes a query's name; its help, once the query is named, is the query's own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = [a for a in args if not a.startswith("-") and "=" not in a]
        if named and any(a in ("-h", "--help") for a in args):
            describe(open_app(ctx).project, named[0])
            ctx.exit()
        return super().parse_args(ctx, args)


def option(name: str) -> str:
    """A parameter's name as an option."""
    return "--" + name.replace("_", "-")


def parameters(ctx: click.Context, project: LoadedProject, query: str) -> dict[str, Any]:
    """What is left of the command line as the query's parameters: ``a_b=1``, ``--a-b 1`` and ``--a-b=1``; a name that is
    given twice is a list."""
    if query.startswith("-"):
        verb = ctx.command.name
        raise ParameterError("HR0502", f"{query} stands before the query's name", parameter=query, help=f"headrace {verb} NAME {query} VALUE")  # fmt: skip
    if query not in project.queries:
        raise NotFoundError("HR0501", f"no query '{query}'", help=nearest(query, project.queries))
    options = {option(p.name): p.name for p in project.queries[query].parameters}
    found: dict[str, Any] = {}
    waiting = list(ctx.args)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("-") and word.partition("=")[0].replace("_", "-") not in options:
            known = [*options, *(o for p in ctx.command.params for o in p.opts if o.startswith("--")), "--help"]
            word = word.partition("=")[0]
            raise ParameterError("HR0502", f"query '{query}' has no option {word}", parameter=word, help=nearest(word, known))  # fmt: skip
        if word.startswith("-"):
            word, given, value = word.partition("=")
            name = options[word.replace("_", "-")]
            if not given:
                if not waiting or waiting[0].startswith("--"):
                    raise ParameterError("HR0502", f"{word} needs a value", parameter=name, help=f"{word} VALUE")
                value = waiting.pop(0)
        elif "=" in word:
            name, _, value = word.partition("=")
        else:
            raise ParameterError("HR0502", f"'{word}' is not a parameter", parameter=word, help="write name=value, and quotes around a value with a space")  # fmt: skip
        found[name] = (
            value if name not in found else [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        )
    return found


@click.command(cls=Question, context_settings=FREE)
@click.argument("name", required=False)
@click.option(
    "--output", "-o", type=click.Choice(["table", "json", "ndjson", "csv"]), default="table", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option("--cursor", help="Continue after an earlier answer.")
@click.pass_context
def query(ctx: click.Context, name: str | None, output: str, as_json: bool, cursor: str | None) -> None:
    """Answer a query: headrace query NAME parameter=value …"""
    app = open_app(ctx)
    if name is None:
        rows = [
            [q.name, ", ".join(p.name if p.required else f"[{p.name}]" for p in q.parameters), q.doc]
            for q in app.project.queries.values()
        ]
        if as_json:
            print_json({"queries": [{"name": r[0], "parameters": r[1], "doc": r[2]} for r in rows]})
        else:
            print_table(["query", "parameters", "what it answers"], rows)
        return
    answer = app.reader.answer(name, parameters(ctx, app.project, name), cursor)
    _write(answer, "json" if as_json else output)


def _write(answer: Answer, output: str) -> None:
    names = [c.name for c in answer.columns]
    rows = [dict(zip(names, row, strict=True)) for row in answer.rows]
    if output == "json":
        print_json({"query": answer.query, "rows": rows, "generation": answer.generation, "as_of": answer.as_of,
                    "watermark": answer.watermark, "final": answer.final, "idle": list(answer.idle), "complete": answer.complete, "next_cursor": answer.cursor})  # fmt: skip
    elif output == "ndjson":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif output == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows(answer.rows)
    else:
        print_table(names, answer.rows)
        more = "; more: --cursor " + answer.cursor if answer.cursor else ""
        final = "" if answer.watermark is None else ", final" if answer.final else f", final before {answer.watermark}"
        idle = f", held back by {', '.join(answer.idle)}" if answer.idle and not answer.final else ""
        said = f"{len(rows)} rows, generation {answer.generation}, as of {answer.as_of or 'unknown'}{final}{idle}{more}"
        click.echo(said, err=True)


def describe(project: LoadedProject, name: str) -> None:
    """A query's own help: what it answers, its parameters, its columns."""
    from headrace.sql.parameters import example

    found = project.queries.get(name)
    if found is None:
        raise NotFoundError("HR0501", f"no query '{name}'", help=nearest(name, project.queries))
    click.echo(f"{found.doc}\n")
    asked = " ".join(f"{p.name}={example(p)}" if p.required else f"[{p.name}={example(p)}]" for p in found.parameters)
    click.echo(f"headrace query {name} {asked}\n")
    if found.parameters:
        print_table(
            ["parameter", "option", "type", "required", "default"],
            [
                [p.name, option(p.name), f"{p.type}{'[]' if p.many else ''}", "yes" if p.required else "no", p.default]
                for p in found.parameters
            ],
        )
        click.echo()
    print_table(["column", "type"], [[c.name, c.type] for c in found.columns])


@click.command(cls=Question, context_settings=FREE)
@click.argument("name")
@click.option(
    "--records", default=5, show_default=True, type=click.IntRange(0, 1000), help="Contributing records to show whole."
)
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def why(ctx: click.Context, name: str, records: int, as_json: bool) -> None:
    """Show where an answer comes from: parts, generation, contributing records by file, repairs, quarantine."""
    app = open_app(ctx)
    found = app.why(name, parameters(ctx, app.project, name), records)
    if as_json:
        print_json(found)
        return
    from headrace.cli.why import show

    show(found)
