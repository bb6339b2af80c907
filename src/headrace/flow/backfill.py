"""backfill: some windows of a mart computed whole from bronze and published; other windows stay as they are."""

from __future__ import annotations

import datetime as dt

from headrace.errors import DeclarationError, NotFoundError, nearest
from headrace.flow.mending import Mending, Window
from headrace.flow.relations import feeding, resting_on
from headrace.model.project import LoadedProject
from headrace.sql.windows import Declared, TimeWindow, window_of


def backfilling(project: LoadedProject, name: str, first: dt.date, last: dt.date) -> Mending:
    """What a run has to do for the windows of a mart that have any of the days ``first`` to ``last`` in them.

    The sources that feed it are judged anew, and marts that read it are computed whole. Raises NotFoundError HR0501, and
    DeclarationError HR0414 where the mart has no time column in its grain, or is pinned.
    """
    mart = project.marts.get(name)
    if mart is None:
        raise NotFoundError("HR0501", f"no mart '{name}'", help=nearest(name, project.marts))
    if name in project.pins:
        raise DeclarationError("HR0414", f"'{name}' is pinned: it stays as it was fitted", help="headrace run --refit")
    window = window_of(mart, Declared(project.sources, project.datasets, project.marts))
    moments = [c.name for c in mart.grain if c.type.name == "DATE" or c.type.is_instant]
    if window is None and not moments:
        grain = ", ".join(c.name for c in mart.grain) or "nothing"
        what = f"'{name}' has no time column in its grain ({grain}), and so no windows"
        raise DeclarationError("HR0414", what, help="headrace reconcile " + name)
    window = window or TimeWindow(moments[0], "DAY")
    begin = window.begin(dt.datetime.combine(first, dt.time.min)).date()
    others = resting_on(project, {name}) - {name}
    sources, _ = feeding(project, [name])
    return Mending(
        marts=frozenset(others),
        sources=frozenset(sources),
        window=Window(name, window.column, begin.isoformat(), last.isoformat()),
    )
