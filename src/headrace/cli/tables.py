"""Verbs that look at a live store: table, cluster."""

from __future__ import annotations

import click

from headrace.cli.ask import FREE, parameters
from headrace.cli.shared import inspected, open_app, print_json, print_table


@click.group()
def table() -> None:
    """Serving tables as the store has them."""


@table.command("ls")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def table_ls(ctx: click.Context, as_json: bool) -> None:
    """Every serving table: what it has rows of, for which queries, by which key, in which table of the store."""
    plan = open_app(ctx).plan()
    rows = [
        {
            "table": p.table.name,
            "origin": p.table.origin,
            "queries": ", ".join(p.queries),
            "partition": ", ".join(c.name for c in p.table.partition),
            "clustering": ", ".join(c.name for c in p.table.clustering),
            "answers_from": p.now.name if p.now is not None else None,
            "bucket": p.now.bucket.text if p.now is not None and p.now.bucket is not None else None,
        }
        for p in plan.tables
    ]
    if as_json:
        print_json({"generation": plan.generation or None, "tables": rows})
    else:
        print_table(
            [name.replace("_", " ") for name in rows[0]] if rows else ["table"], [list(r.values()) for r in rows]
        )


@table.command("describe")
@click.argument("name")
@click.pass_context
def table_describe(ctx: click.Context, name: str) -> None:
    """A table's part of `headrace plan`. NAME is a table, or a query or mart that has one."""
    from dataclasses import replace

    from headrace.cli.plan import show
    from headrace.flow.advice import named

    plan = open_app(ctx).plan()
    planned = named(plan, name)
    own = {planned.table.name, planned.kept.name, *((planned.now.name,) if planned.now is not None else ())}
    changes = tuple(c for c in plan.changes if c.table.removesuffix("_speed") in own)
    show(replace(plan, tables=(planned,), changes=changes, notes=()), ())


@table.command("ddl")
@click.argument("name")
@click.pass_context
def table_ddl(ctx: click.Context, name: str) -> None:
    """The CQL that makes a table, as it is to be. NAME as for describe."""
    from headrace.flow.advice import named

    plan = open_app(ctx).plan()
    for statement in plan.create(named(plan, name)):
        click.echo(f"{statement};")


@table.command("get", context_settings=FREE)
@click.argument("query")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def table_get(ctx: click.Context, query: str, as_json: bool) -> None:
    """Rows as they are stored, of the partitions that a query reads: headrace table get QUERY name=value …

    Both slots of each key, with their generations; speed rows; where the store has them, write timestamps and times to live.
    """
    from headrace.flow.advice import rows_of

    app = open_app(ctx)
    found = rows_of(app.reader, app.inspect, query, parameters(ctx, app.project, query))
    if as_json:
        print_json({"query": query, "partitions": found})
        return
    for partition in found:
        key = ", ".join(f"{name}={value}" for name, value in partition["partition"].items()) or "its only partition"
        click.echo(f"{partition['table']}  {key}  (generation {partition['answers']['generation']} answers)")
        for kind in ("batch", "speed"):
            rows = partition.get(kind) or []
            click.echo(f"{kind}: {len(rows)} rows")
            if rows:
                print_table(list(rows[0]), [list(row.values()) for row in rows])
        click.echo()


@table.command("advise")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def table_advise(ctx: click.Context, as_json: bool) -> int:
    """What to do about the tables: large or few partitions, options, deletions, tables that nobody reads. Exits with 1
    where there is anything."""
    from dataclasses import asdict

    from headrace.flow.advice import advise

    app = open_app(ctx)
    found = advise(app.plan(), app.inspect, app.settings["cassandra.consistency"])
    if as_json:
        print_json({"advice": [asdict(one) for one in found]})
    else:
        for one in found:
            click.echo(f"{one.rule:<16} {one.table}: {one.found}\n{'':<16} do: {one.do}")
        if not found:
            click.echo("nothing to advise")
    return 1 if found else 0


@click.group()
def cluster() -> None:
    """The nodes of the store."""


@cluster.command("status")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def cluster_status(ctx: click.Context, as_json: bool) -> int:
    """Nodes, load, ownership, replication and health, as nodetool status tells them, by CQL alone. Exits with 1 where a
    node is down."""
    from headrace.flow.cluster import status

    found = status(inspected(open_app(ctx)))
    if as_json:
        print_json(found)
    else:
        for name, datacenter in found["datacenters"].items():
            click.echo(f"datacenter {name}: {datacenter['replicas']} replica(s) of keyspace {found['keyspace']}")
            columns = ["node", "status", "load", "tokens", "owns", "rack", "version", "schema", "clock", "hints"]
            rows = [[node[column] for column in columns] for node in datacenter["nodes"]]
            print_table(columns, [[*row[:2], _size(row[2]), row[3], f"{row[4]:.1%}", *row[5:]] for row in rows])
            click.echo()
        for line in found["health"]:
            click.echo(line)
    return 1 if found["down"] else 0


def _size(count: int | None) -> str:
    return "?" if count is None else f"{count / (1 << 20):,.1f} MiB"
