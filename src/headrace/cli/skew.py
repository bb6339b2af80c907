"""skew: how rows would lie on a cluster, told as text, JSON or a page."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from headrace.cli.shared import Progress, inspected, open_app, print_json, print_table

if TYPE_CHECKING:
    from headrace.model.cluster import LiveSize
    from headrace.model.ring import Place, Ring
    from headrace.ops.skew.balance import Balance
    from headrace.ops.skew.measure import Report
    from headrace.ops.skew.subject import Subject
    from headrace.ops.skew.survey import Loads
    from headrace.ports import Engine

SHOWN = 24
"""Shards up to which each is a line."""
SIZES = {"nodes", "rf", "shards", "ignore_msb", "vnodes", "tablets"}
"""What is said of a cluster that is not asked."""
HOT = 3
"""Hot keys that are told as text; the table has them all."""


@click.command()
@click.argument("what")
@click.option("--key", metavar="COLUMN[,COLUMN]", help="The partition key; a CQL type may follow each: ssn,day:date.")
@click.option("--time", metavar="COLUMN", default="", help="When a row was written: bursts, and buckets by day.")
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(1, 1000), help="Nodes of the cluster.")
@click.option("--rf", default=3, show_default=True, type=click.IntRange(1), help="Replicas of each row.")
@click.option(
    "--shards", default=4, show_default=True, type=click.IntRange(1, 256), help="Shards of a node; 1: Cassandra."
)
@click.option(
    "--ignore-msb", default=12, show_default=True, type=click.IntRange(0, 63), help="Bits that sharding ignores."
)
@click.option("--vnodes", default=256, show_default=True, type=click.IntRange(1, 2048), help="Tokens of a node.")
@click.option(
    "--tablets", type=click.IntRange(1, 65_536), metavar="N", help="The table has N tablets, instead of vnodes."
)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1, 1000), help="Largest keys to show.")
@click.option(
    "--other", "others", multiple=True, metavar="COLUMN[,COLUMN]", help="Another key to compare with; repeatable."
)
@click.option(
    "--live", is_flag=True, help="The ring of the cluster that the project answers from, instead of sizes given here."
)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with a picture, too.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def skew(ctx: click.Context, what: str, key: str | None, time: str, nodes: int, rf: int, shards: int, ignore_msb: int, vnodes: int, tablets: int | None, top: int, others: tuple[str, ...], live: bool, page: Path | None, quiet: bool, as_json: bool) -> None:  # fmt: skip
    """Find hot keys and uneven shards before the first write, and what another key would do.

    WHAT is a query (the rows of its serving table, by its own key), a mart, a dataset, or a CSV or Parquet file. No cluster is
    asked, its size is given here; or, with --live, the project's own is.
    """
    from headrace.errors import SettingError
    from headrace.ops.skew import ring as rings
    from headrace.ops.skew.measure import measure
    from headrace.ops.skew.project import of_project, other_tables
    from headrace.ops.skew.subject import columns_of, paths

    if live and (given := sorted(n for n in SIZES if ctx.get_parameter_source(n) == ParameterSource.COMMANDLINE)):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise SettingError("HR0622", f"{named} beside --live", help="the cluster tells that itself: leave it out")
    if rf > nodes and not live:
        raise SettingError("HR0622", f"{rf} replicas on {nodes} nodes", help=f"--rf {nodes}, or more --nodes")
    files = paths(what)
    app = open_app(ctx) if live or not files else None
    with ExitStack() as stack:
        if files:
            engine, subject, further = *_file(stack, files, _split(key), time), []
        else:
            assert app is not None
            engine, subject = app.engine, of_project(app.project, app.lake, app.engine, what, _split(key), time)
            further = other_tables(app.project, what, subject.name)
        keys = [columns_of(engine, subject, _split(other)) for other in others]
        sizes: Sequence[LiveSize] = []
        if live:
            from headrace.ops.skew.live import live as asked

            assert app is not None
            ring, sizes = asked(app.project, app.store, inspected(app), subject.name)
        elif tablets:
            ring = rings.tablets(nodes, rf, shards, tablets)
        else:
            ring = rings.vnodes(nodes, rf, shards, vnodes, ignore_msb)
        report = measure(engine, subject, ring, Progress(quiet=quiet or as_json), top=top, others=keys)
    if page is not None:
        from headrace.ops.skew.page import html

        page.write_text(html(report), "utf-8")
    if as_json:
        print_json(document(report) | ({"stored": [_stored(size) for size in sizes]} if live else {}))
    else:
        _show(report, further)
        if sizes:
            click.echo("\nwhat the nodes have of it on disk, as they tell it themselves")
            print_table(list(_stored(sizes[0])), [list(_stored(size).values()) for size in sizes])
        if page is not None:
            click.echo(f"\nwritten: {page}", err=True)


def _file(stack: ExitStack, files: Sequence[Path], key: Sequence[str], time: str) -> tuple[Engine, Subject]:
    """What files have. No project is needed; what does not fit into memory goes to a folder that is gone afterwards."""
    from headrace import settings, wiring
    from headrace.ops.skew.subject import of_file

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-skew-")))
    (folder / ".headrace").mkdir()
    engine = wiring.engine(folder, settings.load(folder), files[0].parent, folder)
    return engine, of_file(engine, files, key, time, folder)


def _split(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _stored(size: LiveSize) -> dict[str, Any]:
    return {"node": size.node, "table": size.table, "partitions": size.partitions, "mean_bytes": size.mean, "largest_bytes": size.largest}  # fmt: skip


def document(report: Report) -> dict[str, Any]:
    """A report for programs."""
    from headrace.ops.skew.causes import advice, best, causes

    ring, chosen = report.ring, best(report)
    return {
        "subject": report.subject.name,
        "key": [{"column": column.name, "type": column.cql_type} for column in report.subject.key],
        "rows": report.rows,
        "bytes": report.bytes,
        "rows_without_key": report.keyless,
        "keys": report.keys,
        "unlisted_rows_at_most": max(report.unlisted, report.top[-1].rows if report.keys > len(report.top) else 0),
        "keys_estimated": report.loads.is_estimate,
        "ring": {
            "nodes": [{"name": node.name, "shards": node.shards} for node in ring.nodes], "rf": ring.replicas,
            "ranges": len(ring.ends), "tablets": ring.has_tablets, "ignore_msb": ring.ignore_msb,
        },
        "causes": [{"kind": cause.kind, "what": cause.what, "do": cause.todo} for cause in causes(report)],
        "top": [
            {
                "key": list(one.key), "rows": one.rows, "bytes": one.bytes, "share": one.share,
                "multiple_of_mean": one.multiple, "token": one.token,
                "tablet" if ring.has_tablets else "range": one.part,
                "replicas": [_place(ring, place) for place in one.replicas],
                "burst": None if one.burst is None else {
                    "by": "row" if one.burst.by_row else "time", "start": _when(one.burst.start, one.burst.by_row),
                    "end": _when(one.burst.end, one.burst.by_row), "rows": one.burst.rows,
                    "all_rows": one.burst.all_rows, "times_mean_rate": one.burst.intensity,
                },
            }
            for one in report.top
        ],
        "chance": {"max_over_mean_median": report.chance.median, "max_over_mean_95": report.chance.high},
        "advisor": {
            "score": report.advisor.score, "ceiling": report.advisor.ceiling, "threshold": report.advisor.threshold,
            "shards_needed": report.advisor.needed, "blind": report.advisor.is_blind, "what": advice(report),
        },
        **_loads(ring, report.loads),
        "variants": [
            {
                "name": variant.name, "key": list(variant.key), "recommended": variant is chosen,
                "reads_mean": variant.reads_mean, "reads_max": variant.reads_most, **_loads(ring, variant.loads),
            }
            for variant in report.variants
        ],
    }  # fmt: skip


def _loads(ring: Ring, loads: Loads) -> dict[str, Any]:
    from headrace.ops.skew.balance import balance

    rows, sizes = loads.by_node(ring)

    def told(found: Balance) -> dict[str, float]:
        return {"max_over_mean": found.max_over_mean, "cv": found.cv, "gini": found.gini}

    return {
        "partitions": loads.partitions,
        "largest_partition": {"rows": loads.largest_rows, "bytes": loads.largest_bytes},
        "nodes": [{"node": n.name, "rows": r, "bytes": b} for n, r, b in zip(ring.nodes, rows, sizes, strict=True)],
        "shards": [{**_place(ring, p), "rows": rows, "bytes": loads.bytes[p]} for p, rows in loads.rows.items()],
        "balance": {
            "node_rows": told(balance(rows)), "node_bytes": told(balance(sizes)),
            "shard_rows": told(loads.shards), "shard_bytes": told(balance(list(loads.bytes.values()))),
        },
    }  # fmt: skip


def _place(ring: Ring, place: Place) -> dict[str, Any]:
    return {"node": ring.nodes[place[0]].name, "shard": place[1]}


def _when(at: int, by_row: bool) -> int | str:
    from headrace.ops.skew.measure import moment

    return at if by_row else moment(at)


def _show(report: Report, further: Sequence[str]) -> None:
    from headrace.ops.skew.balance import balance
    from headrace.ops.skew.causes import advice, best, causes, counted, largest, percent, size
    from headrace.ops.skew.measure import LARGEST
    from headrace.ops.skew.ring import described

    ring, loads = report.ring, report.loads
    named = ", ".join(report.subject.key_names) or "one partition"
    _say("", f"{report.subject.name} by {named}: {counted(report)}", indent=0)
    if report.keyless:
        click.echo(f"{report.keyless:,} more rows have no key: a store refuses them")
    click.echo(f"ring: {described(ring)}")
    for name in further:
        click.echo(f"the query reads another table, too: headrace skew {name}")
    found = causes(report)
    click.echo()
    hot = 0
    for cause in found:
        if cause.kind in ("hot key", "fan-in burst"):
            hot += 1
            if hot > HOT:
                continue
        _say(cause.kind, cause.what)
        if cause.todo:
            _say("", f"What helps: {cause.todo}.")
    if hot > HOT:
        click.echo(f"… and {hot - HOT} more hot keys")
    if hot:
        _say("advisor", advice(report))
    click.echo("\nlargest keys")
    part = "tablet" if ring.has_tablets else "range"
    print_table(
        [named, "rows", "bytes", "share", "x mean", "burst", "token", part, "replicas"],
        [
            [", ".join(k.key), k.rows, size(k.bytes), percent(k.share), f"{k.multiple:.1f}",
             f"{k.burst.said}: {k.burst.rows} rows" if k.burst else "none" if report.subject.time or report.subject.numbered else "",
             k.token, k.part, " ".join(_named(ring, place) for place in k.replicas)]
            for k in report.top
        ],
    )  # fmt: skip
    rows, sizes = loads.by_node(ring)
    click.echo("\nload, every replica counted")
    lines = [[node.name, r, size(b)] for node, r, b in zip(ring.nodes, rows, sizes, strict=True)]
    print_table(["node", "rows", "bytes"], lines)
    has_shards = len(ring.places) > len(ring.nodes)
    if has_shards:
        click.echo()
        ordered = sorted(loads.rows, key=lambda place: -loads.rows[place])
        mean = loads.shards.mean or 1.0
        print_table(
            ["node/shard", "rows", "bytes", "x mean"],
            [
                [_named(ring, p), loads.rows[p], size(loads.bytes[p]), f"{loads.rows[p] / mean:.3f}"]
                for p in ordered[:SHOWN]
            ],
        )
        if len(ordered) > SHOWN:
            click.echo(f"… and {len(ordered) - SHOWN} more shards")
    click.echo()
    of_bytes = balance(list(loads.bytes.values()))
    measured = [("nodes", "rows", balance(rows)), ("nodes", "bytes", balance(sizes))]
    if has_shards:
        measured += [("shards", "rows", loads.shards), ("shards", "bytes", of_bytes)]
    print_table(
        ["of", "what", "max/mean", "CV", "Gini"],
        [[of, what, f"{b.max_over_mean:.3f}", f"{b.cv:.3f}", f"{b.gini:.3f}"] for of, what, b in measured],
    )
    click.echo(
        f"chance alone, {report.keys:,} equal keys: max/mean {report.chance.median:.3f} in half of all cases, above {report.chance.high:.3f} in one of twenty"
    )
    chosen = best(report)
    click.echo("\nother keys")
    print_table(
        ["key", "partitions", "largest", "max/mean", "CV", "reads, mean", "reads, most", ""],
        [
            ["as it is", loads.partitions, largest(loads).replace(",", ""), f"{loads.shards.max_over_mean:.3f}", f"{loads.shards.cv:.3f}", 1.0, 1, ""],
            *(
                [v.name, v.loads.partitions, largest(v.loads).replace(",", ""), f"{v.loads.shards.max_over_mean:.3f}", f"{v.loads.shards.cv:.3f}",
                 f"{v.about}{v.reads_mean:.1f}", f"{v.about}{v.reads_most}", "<- enough" if v is chosen else ""]
                for v in report.variants
            ),
        ],
    )  # fmt: skip
    click.echo("largest: rows of the largest partition; reads: partitions that are read for what is one today")
    if report.keys > LARGEST:
        click.echo(f"buckets and salts are worked out for the {LARGEST:,} largest keys; the others stay where they are")


def _say(kind: str, text: str, indent: int = 20) -> None:
    margin = " " * indent
    told = textwrap.fill(text, 118, initial_indent=kind.ljust(indent), subsequent_indent=margin, break_on_hyphens=False)
    click.echo(told)


def _named(ring: Ring, place: Place) -> str:
    node = ring.nodes[place[0]]
    return node.name if node.shards == 1 else f"{node.name}/{place[1]}"
