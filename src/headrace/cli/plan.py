"""Verbs that look at the store's tables: plan, apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headrace.cli.shared import Progress, open_app, print_json

if TYPE_CHECKING:
    from headrace.flow.plan import Plan, Planned


@click.command()
@click.argument("names", nargs=-1)
@click.option("--role", is_flag=True, help="Print the CQL that makes roles with the least rights, and nothing else.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def plan(ctx: click.Context, names: tuple[str, ...], role: bool, as_json: bool) -> int:
    """Show the serving tables as they are to be: keys, buckets, how large they become, CQL; and what differs now.

    NAMES are queries or marts; all where none is given. Exits with 1 where `headrace apply` has something to do, or where
    a table is refused. Without Cassandra it plans offline: buckets, and the CQL that it would be.
    """
    app = open_app(ctx)
    if role:
        from headrace.sql.cql import roles_sql

        settings = app.settings
        click.echo(
            roles_sql(settings["cassandra.keyspace"], settings["cassandra.datacenter"], settings["cassandra.replicas"])
        )
        return 0
    found = app.plan()
    if as_json:
        print_json(document(found))
    else:
        show(found, names)
    return 1 if found.changes or found.refused else 0


@click.command()
@click.option("--quiet", "-q", is_flag=True, help="No line a step.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def apply(ctx: click.Context, quiet: bool, as_json: bool) -> int:
    """Do what `headrace plan` says: set options back, write tables.toml, build changed tables beside those that answer,
    compare them, and switch. Safe to kill and to repeat; `headrace rollback` returns to the tables before."""
    done = open_app(ctx).apply(Progress(quiet=quiet or as_json))
    if as_json:
        changes = [{"kind": c.kind, "table": c.table, "what": c.what, "lost": c.lost} for c in done.changes]
        print_json({"changes": changes, "generations": done.generations})
        return 0
    for change in done.changes:
        click.echo(f"{change.kind:<8} {change.table}: {change.what}")
    click.echo(
        "nothing to do" if not done.changes else f"{len(done.changes)} changes; `headrace plan` says nothing to do"
    )
    return 0


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "keyspace": plan.keyspace,
        "offline": not plan.live,
        "nodes": plan.nodes,
        "generation": plan.generation or None,
        "limits": {"rows": plan.limits.rows, "bytes": plan.limits.bytes},
        "tables": [_table(plan, planned) for planned in plan.tables],
        "changes": [{"kind": c.kind, "table": c.table, "what": c.what, "lost": c.lost or None} for c in plan.changes],
        "notes": list(plan.notes),
        "nothing_to_do": not plan.changes and not plan.refused,
    }


def _table(plan: Plan, planned: Planned) -> dict[str, Any]:
    kept, found = planned.kept, planned.estimate
    return {
        "table": kept.name,
        "origin": kept.origin,
        "queries": list(planned.queries),
        "partition": {c.name: str(c.type) for c in kept.partition},
        "clustering": {c.name: str(c.type) for c in kept.clustering},
        "order": "ascending",
        "bucket": planned.bucket.text if planned.bucket is not None else None,
        "declared_bucket": planned.declared.text if planned.declared is not None else None,
        "why": planned.why or None,
        "largest_partition": None
        if found is None
        else {"rows": found.rows, "bytes": found.bytes, "source": found.source},
        "partitions": None if found is None else found.partitions,
        "rows": None if found is None else found.total,
        "compaction": plan.option.compaction,
        "retention": planned.retention or None,
        "answers_from": planned.now.name if planned.now is not None else None,
        "refused": planned.refused or None,
        "instead": planned.help or None,
        "cql": plan.create(planned),
    }


def show(plan: Plan, names: tuple[str, ...]) -> None:
    for planned in plan.tables:
        if names and planned.table.origin not in names and not set(names) & set(planned.queries):
            continue
        kept, found = planned.kept, planned.estimate
        click.echo(f"{kept.name}  (rows of {kept.origin}, for {', '.join(planned.queries)})")
        _line("partition", ", ".join(f"{c.name} {c.type}" for c in kept.partition) or "one for all")
        _line("clustering", ", ".join(f"{c.name} {c.type}" for c in kept.clustering) or "none: one row a partition")
        _line(
            "bucket", (planned.bucket.text if planned.bucket else "none") + (f": {planned.why}" if planned.why else "")
        )
        if found is None:
            _line("largest", "not known before there is data: project.expect(...) tells it, or the first run")
        else:
            _line("largest", f"{found.rows:,} rows, {found.bytes / 1e6:,.1f} MB of {plan.limits.rows:,} and {plan.limits.bytes / 1e6:,.0f} MB;"
                             f" {found.partitions:,} partitions, {found.total:,} rows in all")  # fmt: skip
            _line("estimate", f"{found.source}; both slots of a key, speed rows of two days")
        _line("compaction", plan.option.compaction)
        _line("retention", f"{planned.retention}, by a floor that readers go by; never a TTL" if planned.retention else "all windows, as nothing else is declared; never a TTL")  # fmt: skip
        if planned.refused:
            click.echo(f"  REFUSED     HR0429: {planned.refused}\n              instead: {planned.help}")
        for statement in plan.create(planned):
            click.echo("".join(f"    {line}\n" for line in f"{statement};".splitlines()), nl=False)
        click.echo()
    if not plan.live:
        click.echo("offline: the store is no cluster; this is what it would be in Cassandra")
    for note in plan.notes:
        click.echo(f"note: {note}")
    for change in plan.changes:
        click.echo(f"to do: {change.kind:<8} {change.table}: {change.what}")
        if change.lost:
            click.echo(f"       destructive: {change.lost}")
    if not plan.changes and not plan.refused:
        click.echo("nothing to do")


def _line(name: str, text: str) -> None:
    click.echo(f"  {name:<11} {text}")
