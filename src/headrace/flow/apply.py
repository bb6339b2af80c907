"""apply: the store becomes what `plan` says, step by step; each may be interrupted, and is then found undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.declare import tables as declared
from headrace.errors import OutsideError
from headrace.flow.mending import Mending
from headrace.flow.plan import Change, Plan, raise_refused
from headrace.model.project import LoadedProject
from headrace.ports import Inspect, Observer

ROUNDS = 5
"""A first run tells how large partitions become, and so may ask for another one."""


@dataclass(slots=True)
class Applied:
    """What was done, and the plan then."""

    changes: list[Change] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    plan: Plan | None = None


def apply(
    project: LoadedProject,
    inspect: Inspect | None,
    observer: Observer,
    plan: Callable[[], Plan],
    run: Callable[[Mending], int | None],
) -> Applied:
    """Does what ``plan``, asked anew each time, says is to be done; ``run`` publishes a generation, having held what it
    built anew against gold. New tables stand beside those that answer, which are kept for a rollback.

    Raises RefusedError HR0429 before anything is done, and OutsideError HR0428 where a new table is not what gold says.
    """
    done = Applied()
    for _ in range(ROUNDS):
        done.plan = found = plan()
        raise_refused(found)
        if not found.changes:
            return done
        for change in found.changes:
            if change.kind == "alter" and inspect is not None:
                observer.begin("alter", change.table)
                inspect.alter(change.table, change.options)
                observer.end("alter", change.table, {}, 0.0, change.what)
        if any(change.kind == "file" for change in found.changes):
            declared.write(project.folder, found.entries)
            observer.end("write", declared.NAME, {"entries": len(found.entries)}, 0.0)
        if any(change.kind != "alter" for change in found.changes):
            lost = {change.table for change in found.changes if change.kind == "rebuild"}
            rebuilt = frozenset(p.table.name for p in found.tables if p.now is not None and p.now.name in lost)
            number = run(Mending(rebuilt=rebuilt, opens=bool(rebuilt)))
            if number is not None:
                done.generations.append(number)
        done.changes += found.changes
    left = "; ".join(f"{change.table}: {change.what}" for change in plan().changes)
    raise OutsideError("HR0428", f"after {ROUNDS} rounds there is still to do: {left}", help="headrace plan")
