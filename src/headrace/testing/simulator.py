"""The seam, simulated: the product's own run, publish, rollback, vacuum and answer over a store that loses, delays and
reorders writes, with runs that are killed, fail, or go on as zombies, and readers that are slower than all of them.

One schedule is one seed. ``headrace.testing.streaming`` simulates the rest of the seam, without an engine and fifty times
as fast; here it is the SQL that is put to the test: what a run computes, on which version, into which slot.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.errors import ConflictError, HeadraceError, NotReadyError, OutsideError
from headrace.flow.answer import Reader
from headrace.flow.control import POINTER
from headrace.flow.housekeeping import Housekeeping
from headrace.flow.refine import CONTRACT
from headrace.flow.rollback import rollback
from headrace.flow.run import Batch
from headrace.model.project import LoadedProject
from headrace.model.run import Run
from headrace.ports import Engine, Lake, Observer, Snapshot
from headrace.seam import generation as generations
from headrace.testing.actors import Actor, KilledError, acting, point
from headrace.testing.memory import MemoryLake
from headrace.testing.replicas import ReplicatedStore

Row = tuple[Any, ...]
SHOPS = ("a", "b", "c")
DECLARATIONS = """from headrace import Project, csv
project = Project("simulated")
project.source("sales", csv("sales_*.csv"), id="id", event_time="sold", columns="id BIGINT, sold TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount BIGINT NOT NULL")
"""
FILES = {
    "project.py": DECLARATIONS,
    "marts/by_shop.sql": "SELECT shop, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/total.sql": "SELECT measure(revenue) AS revenue, measure(receipts) AS receipts FROM by_shop",
}
DETAIL = {"queries/detail.sql": "SELECT revenue, receipts FROM by_shop WHERE shop = $shop"}
"""A query that some runs have not: its table comes and goes."""


class WrongError(AssertionError):
    """An answer that no published generation gives."""


class _Lake(MemoryLake):
    """A lake whose commits and snapshots are points, and which is away at times."""

    rnd = random.Random()
    failing = 0.0

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        point()
        return super().snapshot(table, version)

    def commit(
        self,
        table: str,
        add: Sequence[tuple[str, int]],
        *,
        keep: Sequence[str] | None,
        base: Snapshot | None,
        transactions: Mapping[str, int] | None = None,
    ) -> int:
        point()
        if acting() is not None and self.rnd.random() < self.failing:
            raise OutsideError("HR0407", "the lake is away")
        return super().commit(table, add, keep=keep, base=base, transactions=transactions)


@dataclass
class Outside:
    """What a schedule borrows: two projects that differ by one query, engines, an observer, a folder for files."""

    with_detail: LoadedProject
    without_detail: LoadedProject
    make_engine: Callable[[], Engine]
    observer: Observer
    folder: Path
    idle: list[Engine] = field(default_factory=list)
    number: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        engine = self.idle.pop() if self.idle else self.make_engine()
        try:
            yield engine
        finally:
            self.idle.append(engine)


class Schedule:
    """One seed's story. ``run`` raises WrongError where an answer is wrong."""

    def __init__(self, seed: int, outside: Outside) -> None:
        self.seed = seed
        self.rnd = random.Random(seed)
        self.outside = outside
        self.store = ReplicatedStore(self.rnd)
        self.lake = _Lake(outside.folder / str(next(outside.number)))
        self.lake.rnd = self.rnd
        self.store.failing = self.rnd.choice([0, 0.02, 0.1])
        self.lake.failing = self.rnd.choice([0, 0, 0.03])
        self.reader = Reader(outside.with_detail, self.store)
        self.contract = 1
        self.landed: list[tuple[str, int]] = []
        """(shop, amount) of everything that ever landed."""
        self.records: dict[int, list[tuple[str, int]]] = {1: []}
        """What silver holds under each contract, by offset."""
        self.patience = self.rnd.choice([0.46, 0.6, 0.8])
        """Below this, readers go on; the more seldom they do, the more happens under them."""
        self.runs: list[Actor] = []
        self.zombies: list[Actor] = []
        self.readers: list[Actor] = []
        self.counts: Counter[str] = Counter()

    # What the world does

    def land(self) -> None:
        """Silver gets more records, or is judged by another contract, so that some of them go or return."""
        known = self.records[self.contract]
        base = self.lake.snapshot("silver/sales")
        if known and self.rnd.random() < 0.3:
            self.contract += 1
            shops = self.rnd.sample(SHOPS, self.rnd.choice([1, 2, 3, 3]))
            before = list(self.records.values())[-self.rnd.choice([1, 2, 2, 3]) :][0]
            again = self.rnd.random() < 0.5
            self.records[self.contract] = (
                list(before) if again else [record for record in self.landed if record[0] in shops]
            )
            self.counts["judged anew"] += 1
            self._commit(self.records[self.contract], 0, base, whole=True)
        else:
            new = [(self.rnd.choice(SHOPS), self.rnd.randint(1, 99)) for _ in range(self.rnd.randint(1, 3))]
            known += new
            self.landed += new
            self._commit(new, len(known) - len(new), base, whole=False)

    def _commit(self, records: list[tuple[str, int]], first: int, base: Snapshot | None, *, whole: bool) -> None:
        rows = (
            ", ".join(f"({first + i}, '{shop}', {amount})" for i, (shop, amount) in enumerate(records)) or "(0, '', 0)"
        )
        sql = (
            f"SELECT '' AS _file, o AS _row, 'sales' AS _lane, o::BIGINT AS _offset, now() AS _landed_at, o::BIGINT AS id, TIMESTAMP '2024-01-01' AS sold, "
            f"s AS shop, a::BIGINT AS amount, 'clean' AS _verdict, NULL::VARCHAR[] AS _reasons, NULL::VARCHAR[] AS _flags, "
            f'NULL::STRUCT("column" VARCHAR, reason VARCHAR, before VARCHAR, after VARCHAR)[] AS _repairs FROM (VALUES {rows}) AS t(o, s, a)'
            + ("" if records else " WHERE false")
        )
        path = self.lake.new_file("silver/sales")
        with self.outside.engine() as engine:
            count = engine.write(sql, path)
        ends = {"sales": first + len(records), CONTRACT: self.contract}
        self.lake.commit("silver/sales", [(path, count)], keep=() if whole else None, base=base, transactions=ends)

    def start_run(self) -> None:
        project = self.outside.with_detail if self.rnd.random() < 0.7 else self.outside.without_detail
        full = self.rnd.random() < 0.1

        def work() -> None:
            with self.outside.engine() as engine:
                batch = Batch(project, _no_inbox, _no_inbox, self.lake, engine, self.store, self.outside.observer)  # type: ignore[arg-type]
                batch.generate(Run(""), full=full, refit=False)

        self.runs.append(Actor("run", work))

    def start_rollback(self) -> None:
        self.runs.append(Actor("rollback", lambda: rollback(self.store)))

    def start_reader(self) -> None:
        shop = self.rnd.choice([*SHOPS, None, None])
        self.readers.append(Actor("reader", lambda: self.read(shop)))

    def vacuum(self) -> None:
        """Under the lock, so while nobody else runs."""
        with self.outside.engine() as engine:
            try:
                Housekeeping(self.outside.with_detail, self.lake, engine, self.reader).vacuum(0)
            except NotReadyError:
                return  # nothing was published yet
        self.counts["vacuum"] += 1

    # What must hold

    def read(self, shop: str | None) -> None:
        """Asks a question and compares the answer with the generation that it says it is of."""
        first = len(self.store.pointers) - 1
        # One that knows an old pointer, or one that looks for the first time: each has a second look of its own.
        reader = self.reader if self.rnd.random() < 0.3 else Reader(self.outside.with_detail, self.store)
        try:
            answer = reader.answer("total", {}) if shop is None else reader.answer("detail", {"shop": shop})
        except NotReadyError as error:
            self.counts[error.code] += 1
            return
        self.counts["answers"] += 1
        named = self.store.pointers[first:]
        if answer.generation not in named:
            raise WrongError(f"answered from generation {answer.generation}, while the pointer went through {named}")
        wanted = self.expected(answer.generation, shop)
        if answer.rows != wanted:
            raise WrongError(
                f"generation {answer.generation}, {shop or 'total'}: {answer.rows} for {wanted}; pointer {self.store.said[POINTER]}"
            )

    def expected(self, number: int, shop: str | None) -> list[Row]:
        generation = generations.read(self.store.said[generations.control_name(number)])
        known = self.records.get(generation.contracts.get("sales", 0), [])[: generation.cut.get("sales", 0)]
        amounts = [amount for where, amount in known if shop in (None, where)]
        return [(sum(amounts), len(amounts))] if amounts else [(None, None)] if shop is None else []

    # The schedule

    def run(self) -> Counter[str]:
        try:
            for _ in range(self.rnd.randint(150, 450)):
                self.step()
                self.judge()
            self.end()
        finally:
            for actor in (*self.runs, *self.zombies, *self.readers):
                actor.kill()
        return self.counts

    def step(self) -> None:
        luck = self.rnd.random()
        active = [actor for actor in self.runs if not actor.done]
        runs = [actor for actor in active if actor.name == "run"]
        if luck < 0.05:
            self.land()
        elif luck < 0.12:
            if len(runs) < 2:
                self.start_run()
        elif luck < 0.15:
            if runs:
                self.stop(self.rnd.choice(runs))
        elif luck < 0.17:
            self.start_rollback()
        elif luck < 0.175:
            if not active and not self.zombies:
                self.vacuum()
        elif luck < 0.28:
            if len(self.readers) < 5:
                self.start_reader()
        elif luck < 0.31:
            self.store.drift()
        elif luck < 0.36:
            if self.zombies:
                self.rnd.choice(self.zombies).step()
        elif luck < 0.41:
            self.judge_all()
        elif luck < self.patience:
            if self.readers:
                self.rnd.choice(self.readers).step()
        elif active:
            actor = self.rnd.choice(active)
            for _ in range(self.rnd.choice([1, 1, 3, 10, 40])):
                actor.step()

    def stop(self, run: Actor) -> None:
        """Kills a run, or leaves it to wake up when nobody expects it any more."""
        self.runs.remove(run)
        if self.rnd.random() < 0.6:
            run.kill()
            self.counts["killed"] += 1
        else:
            self.zombies.append(run)
            self.counts["zombies"] += 1

    def judge(self) -> None:
        """Raises what an actor that ended must not have raised."""
        for actors in (self.runs, self.zombies, self.readers):
            for actor in [a for a in actors if a.done]:
                actors.remove(actor)
                if isinstance(actor.error, (ConflictError, OutsideError)) and actor.name != "reader":
                    self.counts[f"{actor.name} {actor.error.code}"] += 1
                elif actor.error is None:
                    self.counts[actor.name] += 1
                elif not isinstance(actor.error, KilledError):
                    raise actor.error

    def end(self) -> None:
        """All faults end; one clean run; then everything is there, and stays so when the zombies have had their say."""
        self.store.failing = self.lake.failing = 0
        for actor in (*self.runs, *self.readers):
            actor.finish()
        self.judge()
        self.land()
        with self.outside.engine() as engine:
            whole = self.outside.with_detail
            batch = Batch(whole, _no_inbox, _no_inbox, self.lake, engine, self.store, self.outside.observer)  # type: ignore[arg-type]
            batch.generate(Run(""), full=False, refit=False)
        newest = self.reader.generation(self.reader.pointer().generation)
        if (newest.cut.get("sales"), newest.contracts.get("sales")) != (
            len(self.records[self.contract]),
            self.contract,
        ):
            raise WrongError(f"a clean run did not count everything: {newest}")
        self.judge_all()
        for zombie in self.zombies:
            zombie.finish()
        while self.store.late:
            self.store.drift()
        self.judge()
        self.judge_all()

    def judge_all(self) -> None:
        for shop in (*SHOPS, None):
            self.read(shop)


_no_inbox: Lake | None = None


def simulate(seeds: Iterable[int], outside: Outside) -> tuple[dict[int, BaseException], Counter[str]]:
    """What went wrong by seed, and how often each thing happened in all."""
    wrong: dict[int, BaseException] = {}
    counts: Counter[str] = Counter()
    for seed in seeds:
        schedule = Schedule(seed, outside)
        try:
            counts += schedule.run()
        except (WrongError, HeadraceError, LookupError, ValueError, TypeError) as error:
            wrong[seed] = error
    return wrong, counts
