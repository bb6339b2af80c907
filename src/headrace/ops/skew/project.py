"""What a project has to look at: the newest rows of its lake, whatever its store is and whether or not that can be reached."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import DeclarationError, NotFoundError, NotReadyError, nearest
from headrace.flow.export import edited_since
from headrace.flow.lanes import ends, lanes_of
from headrace.flow.relations import Relations
from headrace.model.project import LoadedProject
from headrace.model.serving import ServingTable
from headrace.ops.skew.subject import Subject, of_relation, of_table
from headrace.ports import Engine, Lake


def of_project(
    project: LoadedProject, lake: Lake, engine: Engine, name: str, key: Sequence[str] = (), time: str = ""
) -> Subject:
    """A query's serving table, or a table by its own name; a mart; a dataset or a source.

    Raises NotFoundError HR0621, NotReadyError HR0403 where no run has made it yet, and SettingError HR0622 as ``of_relation``.
    """
    tables = {table.name: table for query in project.queries.values() for table in query.tables}
    query = project.queries.get(name)
    names = [*project.queries, *project.marts, *project.datasets, *project.sources]
    if name not in {*names, *tables}:
        raise NotFoundError(
            "HR0621", f"nothing is called '{name}' here", help=f"{nearest(name, names)}; or a CSV or Parquet file"
        )
    table = tables.get(name)
    if query is not None:
        table = next((t for t in query.tables if t.partition), query.tables[0])
    made = _define(project, lake, engine)
    origin = table.origin if table is not None else name
    if origin not in made:
        raise NotReadyError("HR0403", f"no run has made {origin} yet", help="headrace run")
    if table is not None:
        subject = of_table(engine, table)
        return of_relation(engine, table.name, subject.relation, key, time) if key else subject
    return of_relation(engine, name, f'"{name}"', key, time or _time(project, name))


def other_tables(project: LoadedProject, name: str, table: str) -> list[str]:
    """The names of a query's further serving tables."""
    query = project.queries.get(name)
    found: Sequence[ServingTable] = query.tables if query is not None else ()
    return [t.name for t in found if t.name != table]


def _time(project: LoadedProject, name: str) -> str:
    """The event time of a source, or the window of a mart; empty where there is none."""
    if name in project.sources:
        return project.sources[name].event_time or ""
    grain = project.marts[name].grain if name in project.marts else ()
    return next((c.name for c in grain if c.type.name == "DATE" or c.type.is_instant), "")


def _define(project: LoadedProject, lake: Lake, engine: Engine) -> set[str]:
    """Makes the newest version of everything readable in the engine; gives the names of what there is."""
    end: dict[str, int] = {}
    files: dict[str, tuple[str, ...]] = {}
    for name, source in project.sources.items():
        silver = lake.snapshot(f"silver/{name}")
        if silver is not None:
            files[name] = silver.files
            end |= ends(silver, lanes_of(source, lake, engine))
    relations = Relations(project, lake, engine, end, {}, files)
    try:
        relations.define()
        relations.check(project.sources)
    except DeclarationError as error:
        raise edited_since("a contract", error.what) from None
    made = set(files)
    for mart in project.marts.values():
        gold = lake.snapshot(f"gold/{mart.name}")
        if gold is None:
            continue
        relations.define_mart(mart, gold.files)
        try:
            relations.check([mart.name])
        except DeclarationError:
            continue  # edited since: its parts are other ones than those that were computed
        made.add(mart.name)
    for dataset in project.datasets.values():
        if made.issuperset(project.facts_of(dataset.name)):
            made.add(dataset.name)
    return made
