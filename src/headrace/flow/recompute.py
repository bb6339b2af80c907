"""recompute: a generation's verdicts and parts once more, from bronze alone, without anything that runs have left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from headrace.errors import NotReadyError
from headrace.flow import manifest
from headrace.flow.lanes import lanes_of
from headrace.flow.manifest import Landed
from headrace.flow.refine import Voids, contract_hash, judging, voids_of
from headrace.flow.relations import Relations, feeding, is_fitted
from headrace.model.project import LoadedProject
from headrace.model.source import Source
from headrace.ports import Engine, Lake, Observer
from headrace.seam.generation import Generation
from headrace.sql.judge import bronze_columns, silver_columns


def scratch_file(lake: Lake, table: str, stack: ExitStack) -> str:
    """A file that no version of the lake will name, gone at the end; a process that is killed leaves it to `lake vacuum`."""
    path = lake.new_file(table)
    stack.callback(Path(path).unlink, missing_ok=True)
    return path


def voids_at(source: Source, lake: Lake, engine: Engine, landed: list[Landed], contract: int, cut: int) -> Voids | None:
    """What was void when a generation was made: what has landed since may have replaced some of it. None where the
    generation was judged by another contract than today's."""
    known = list(landed)
    while True:
        voids = voids_of(source, lake, engine, known)
        if contract_hash(source, voids) == contract:
            return voids
        last = next((e for e in reversed(known) if e.source == source.name and e.first >= cut), None)
        if last is None:
            return None
        known.remove(last)


def judged(
    source: Source, lake: Lake, engine: Engine, observer: Observer, ranges: Mapping[str, tuple[int, int]], voids: Voids,
    stack: ExitStack,
) -> str:  # fmt: skip
    """A file of the verdicts on bronze records [first, end) of a source's lanes."""
    bronze = lake.snapshot(f"bronze/{source.name}")
    path = scratch_file(lake, f"silver/{source.name}", stack)
    observer.begin("judge", source.name, sum(end - first for first, end in ranges.values()))
    scan = engine.scan(bronze.files if bronze is not None else (), bronze_columns(source), grown=True)
    if bronze is None:
        engine.write(f"SELECT * FROM {engine.scan([], silver_columns(source))}", path)
    else:
        engine.write(judging(source, scan, ranges, voids, engine), path)
    observer.end("judge", source.name, {}, 0.0)
    return path


class Recomputed:
    """Relations as a generation has them, with silver and gold computed anew from bronze up to its cut.

    Raises NotReadyError HR0403 where the project was edited since, so that there is nothing to compare with.
    """

    def __init__(
        self, project: LoadedProject, lake: Lake, engine: Engine, observer: Observer, generation: Generation,
        names: Sequence[str], stack: ExitStack,
    ) -> None:  # fmt: skip
        self.project = project
        self.generation = generation
        sources, marts = feeding(project, names)
        landed = manifest.load(lake, engine)
        files: dict[str, tuple[str, ...]] = {}
        for name, source in project.sources.items():
            ranges = {
                lane: (0, generation.cut[lane]) for lane in lanes_of(source, lake, engine) if lane in generation.cut
            }
            if name not in sources or not ranges:
                continue
            voids = voids_at(source, lake, engine, landed, generation.contracts[name], ranges.get(name, (0, 0))[1])
            if voids is None:
                raise NotReadyError("HR0403", f"the contract of {name} changed since the last run", help="headrace run")
            files[name] = (judged(source, lake, engine, observer, ranges, voids, stack),)
        self.relations = Relations(project, lake, engine, generation.cut, generation.contracts, files)
        self.relations.define()
        if edited := sorted(marts & self.relations.edited(generation)):
            raise NotReadyError("HR0403", f"mart {edited[0]} is new or changed since the last run", help="headrace run")
        for mart in project.marts.values():
            if mart.name not in marts:
                continue
            if is_fitted(project, generation, mart):  # a yardstick is what it was fitted to be
                found = lake.snapshot(f"gold/{mart.name}", generation.marts[mart.name].version)
                self.relations.define_mart(mart, found.files if found is not None else ())
                continue
            observer.begin("recompute", mart.name)
            path = scratch_file(lake, f"gold/{mart.name}", stack)
            groups = engine.write(mart.parts_sql, path)
            self.relations.define_mart(mart, (path,))
            observer.end("recompute", mart.name, {"groups": groups}, 0.0)
