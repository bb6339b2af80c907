"""How `why` tells a trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from headrace.cli.shared import print_table


def show(found: Mapping[str, Any]) -> None:
    """A trace as text: answer, definition, parts, then each source's records."""
    asked = " ".join(f"{k}={v}" for k, v in found["parameters"].items())
    click.echo(f"{found['query']} {asked}\n")
    if found["rows"]:
        print_table(list(found["rows"][0]), [list(r.values()) for r in found["rows"][:20]])
    else:
        click.echo("no rows")
    click.echo(f"\ngeneration {found['generation']} of {found['published_at']}, as of {found['as_of'] or 'unknown'}")
    click.echo("cut        " + ", ".join(f"{lane}:{offset}" for lane, offset in found["cut"].items()))
    for lane, upto in found["streamed"].items():
        first = found["cut"].get(lane, 0)
        click.echo(f"streamed   {lane}: records {first:,} to {upto:,} of the lane, which no run has published yet")
    if found["kept_from"]:
        click.echo("kept       windows from {column} = {start} on; older ones are not".format(**found["kept_from"]))
    click.echo(f"table      {found['table']}, rolled up from {found['reads']}:\n")
    click.echo("\n".join("    " + line for line in found["definition"].strip().splitlines()))
    click.echo(f"\nparts: {found['parts_in_all']} stored rows behind the answer")
    if found["parts"]:
        print_table(list(found["parts"][0]), [list(p.values()) for p in found["parts"][:10]])
    for source in found["sources"]:
        _source(source)


def _source(source: Mapping[str, Any]) -> None:
    click.echo(f"\n{source['source']}: {source['records']:,} records in {len(source['files'])} files")
    for file in source["files"][:10]:
        click.echo(f"    {file['records']:>8,}  {file['file']}  rows {file['rows']}")
    if len(source["files"]) > 10:
        click.echo(f"              … and {len(source['files']) - 10} more files")
    for mark in source.get("marks", []):
        click.echo(f"    {mark['kind']:<9} {mark['records']:>8,}  {mark['reason']}")
    for kept in source.get("kept_out", []):
        click.echo(f"    kept out  {kept['records']:>8,}  {kept['reason']} (first: {kept['first']})")
    for first in source.get("first", []):
        click.echo(f"    {first['file']} row {first['row']}: {json.dumps(first['record'], ensure_ascii=False)}")
