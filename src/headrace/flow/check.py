"""What `check` and `explain` tell of a project that has no errors."""

from __future__ import annotations

from typing import Any

from headrace.errors import NotFoundError, nearest
from headrace.model.project import LoadedProject
from headrace.model.retention import spelled
from headrace.sql.query import MOST


def report(project: LoadedProject) -> dict[str, Any]:
    """Marts with the path that serves them, serving tables with their keys and how far a fetch is bounded, and routes."""
    marts = [
        {
            "name": m.name,
            "grain": [c.name for c in m.grain],
            "path": "batch only" if m.batch_only else "batch and speed",
            "why": m.batch_only,
        }
        for m in project.marts.values()
    ]
    tables = []
    for query in project.queries.values():
        for plan in query.plans.values():
            table = plan.table
            bound = "one partition" if table.partition else "the whole table"
            if plan.in_key_order and query.limit:
                bound = f"at most {MOST} rows"
            elif table.clustering and plan.bounds(_Anything()) != (None, True, None, True):
                bound = f"a range of {table.clustering[0].name}"
            tables.append(
                {"query": query.name, "table": table.name, "partition": ", ".join(c.name for c in table.partition) or "(one)",
                 "clustering": ", ".join(c.name for c in table.clustering), "fetch": bound}
            )  # fmt: skip
    counts = {
        "sources": len(project.sources),
        "datasets": len(project.datasets),
        "marts": len(project.marts),
        "queries": len(project.queries),
        "pages": len(project.pages),
    }
    routes = [{"path": r.path, "query": r.query or None, "pack": r.pack or None} for r in project.routes]
    if routes:
        counts["routes"] = len(routes)
    retention = [
        {
            "mart": name,
            "window": keep.column,
            "kept": spelled(keep.span),
            "not_limited": sorted(
                {
                    f"{query.name} ({table.name})"
                    for query in project.queries.values()
                    for table in query.tables
                    if table.origin == name and keep.column not in [c.name for c in table.key]
                }
            ),
        }
        for name, keep in project.retention.items()
    ]
    return {"marts": marts, "tables": tables, "retention": retention, "routes": routes, "counts": counts}


class _Anything(dict[str, Any]):
    """Parameters that all have a value: bounds are asked for their shape only."""

    def __missing__(self, key: str) -> Any:
        return 0


def explained(project: LoadedProject, name: str) -> str:
    """How a mart or query was read: the SQL that computes its parts, its finishers, the code that answers it."""
    if name in project.marts:
        mart = project.marts[name]
        parts = "\n".join(f"  {p.name:<28} {p.merge:<8} {p.type!s:<16} {p.expression}" for p in mart.parts)
        finishers = "\n".join(f"  {m.name:<28} {m.type!s:<16} {m.finisher}" for m in mart.measures)
        path = f"batch only: {mart.batch_only}" if mart.batch_only else "batch and speed"
        return f"mart {name}: {mart.doc}\n\npath: {path}\nreads: {', '.join(mart.inputs)}\n\nparts\n{parts}\n\nfinishers\n{finishers}\n\nSQL of the parts\n  {mart.parts_sql}"
    if name in project.queries:
        query = project.queries[name]
        plans = []
        for given, plan in query.plans.items():
            when = f" with {', '.join(sorted(given))}" if given else ""
            keys = f"partition ({', '.join(c.name for c in plan.table.partition)}), clustering ({', '.join(c.name for c in plan.table.clustering)})"
            plans.append(f"table{when}: {plan.table.name}, {keys}\n\n{plan.source}")
        return f"query {name}: {query.doc}\n\n" + "\n".join(plans)
    raise NotFoundError(
        "HR0501",
        f"no mart or query '{name}', and no error code",
        help=nearest(name, [*project.marts, *project.queries]),
    )
