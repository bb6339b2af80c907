"""The stream of the seam, simulated: the product's own worker steps, batch moves, rollback and answers, over lanes in memory
and a store that loses, delays and reorders writes.

What is simulated is what counts records, in place of an engine; who does it when, and what is written in which order, is
the product's code. Workers are killed, go on as zombies, share lanes and lose them; runs too; readers are slower than all
of them. One schedule is one seed. A record is one hexadecimal digit of a sum, so that an answer says which it counts.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from headrace import ports
from headrace.errors import ConflictError, HeadraceError, NotReadyError, OutsideError
from headrace.flow.answer import Answer, Reader
from headrace.flow.control import POINTER
from headrace.flow.relations import Relations
from headrace.flow.rollback import rollback
from headrace.flow.run import Batch
from headrace.flow.stream import code_of
from headrace.flow.worker import Lane, Steps
from headrace.flow.writing import Write, Writer
from headrace.model.project import LoadedProject
from headrace.model.retention import Floors
from headrace.model.run import Run
from headrace.model.serving import ServingTable
from headrace.model.source import Source
from headrace.ports import Engine, Inbox, Lake, Observer, Snapshot
from headrace.seam import epoch as epochs
from headrace.seam import generation as generations
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.generation import EMPTY, Generation, MartState, TableState
from headrace.testing.actors import Actor, KilledError, acting, point
from headrace.testing.replicas import ReplicatedStore

Row = tuple[Any, ...]
SHOPS = ("a", "b", "c")
LANES = ("north", "south", "west")
LONGEST = 128
"""Records of a lane, at most."""
DECLARATIONS = """from headrace import Project, csv
project = Project("simulated")
for name in ("north", "south", "west"):
    project.source(name, csv(name + "_*.csv"), id="id", event_time="sold", columns="id BIGINT, sold TIMESTAMP NOT NULL, shop VARCHAR NOT NULL, amount BIGINT NOT NULL")
"""
FILES = {
    "project.py": DECLARATIONS,
    "silver/sales.sql": " UNION ALL ".join(f"SELECT shop, amount FROM {name}" for name in LANES),
    "marts/by_shop.sql": "SELECT shop, sum(amount) AS revenue, count(*) AS receipts FROM sales GROUP BY ALL",
    "queries/total.sql": "SELECT measure(revenue) AS revenue, measure(receipts) AS receipts FROM by_shop",
    "queries/detail.sql": "SELECT revenue, receipts FROM by_shop WHERE shop = $shop",
    "queries/scan.sql": "SELECT shop, revenue, receipts FROM by_shop ORDER BY shop LIMIT coalesce($limit, 2)",
}


class WrongError(AssertionError):
    """An answer that it must not give."""


def weight(lane: str, offset: int) -> int:
    """A record's amount: a digit of its own, which says how often it was counted."""
    return 1 << 4 * (LANES.index(lane) * LONGEST + offset)


class Log:
    """Lanes of (shop, id). Each sum of amounts that a prefix can have is known by lane, for each shop and for all."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.records: dict[str, list[tuple[str, int]]] = {}
        self.landed: dict[str, int] = {}
        """Up to where the batch can read a lane."""
        self.counts: dict[str, list[bool]] = {}
        self.prefixes: dict[tuple[str | None, str], dict[int, int]] = {}
        self.below: dict[tuple[str | None, str], list[int]] = {}
        """How many records count below an offset."""

    def add_lane(self, lane: str) -> None:
        self.records[lane], self.landed[lane], self.counts[lane] = [], 0, []
        for shop in (*SHOPS, None):
            self.prefixes[shop, lane] = {0: 0}
            self.below[shop, lane] = [0]

    def append(self, lane: str, shop: str, id: int) -> None:
        records = self.records[lane]
        offset = len(records)
        counts = self.is_new(lane, id)
        records.append((shop, id))
        self.counts[lane].append(counts)
        for key in (*SHOPS, None):
            below, prefixes = self.below[key, lane], self.prefixes[key, lane]
            mine = counts and key in (None, shop)
            below.append(below[-1] + mine)
            if mine:
                prefixes[next(reversed(prefixes)) + weight(lane, offset)] = below[-1]

    def is_new(self, lane: str, id: int) -> bool:
        """Whether the next record of a lane is no duplicate, if it has this id."""
        return all(known != id for _, known in self.records[lane][-self.horizon :])

    def counted(self, lane: str, first: int, end: int) -> list[int]:
        """The records [first, end) that no other one within the horizon is the same as."""
        return [offset for offset in range(first, end) if self.counts[lane][offset]]

    def total(self, lane: str) -> int:
        return len(self.records[lane])


def rows_of(table: ServingTable, parts: dict[str, list[int]], only: Iterable[str] = SHOPS) -> list[Row]:
    """A table's rows of {shop: [amounts, records]}: by shop, or one over all of them."""
    found = [(shop, parts[shop]) for shop in only if shop in parts]
    if not table.key:
        sums = [sum(values) for values in zip(*parts.values(), strict=True)] if found else []
        return [(*sums, sums[1])] if sums else []
    return [(shop, revenue, receipts, receipts) for shop, (revenue, receipts) in found]


class LateWriter:
    """Writes up to two writes late, or when it has to settle, and nothing after what failed."""

    goes_on = False

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.pending: deque[Write] = deque()
        self.failed = False

    def __call__(self, write: Write) -> None:
        self.pending.append(write)
        self._write_until(self.rnd.choice([0, 0, 1, 2]))

    def settle(self) -> None:
        self._write_until(0)

    def close(self) -> None:
        with suppress(OutsideError):
            self.settle()

    def _write_until(self, left: int) -> None:
        while len(self.pending) > left and not self.failed:
            try:
                self.pending.popleft()()
            except BaseException:
                self.failed = not self.goes_on
                raise


class SimulatedWorker(Steps):
    """A worker for the lanes that it believes are its own; without a name's owner, as a run's own one, for all."""

    def __init__(self, schedule: Schedule, name: str, *, hosted: bool = False) -> None:
        self.schedule = schedule
        self.store = schedule.store
        self.name = name
        self.epoch: Epoch | None = None
        self.generation: Generation = EMPTY
        self.lanes: dict[str, Lane] = {}
        self.parts: dict[str, dict[str, list[int]]] = {}
        self.opened: dict[str, int] = {}
        """Where it took up each lane."""
        self.changed: set[str] = set()
        self.deaf = self.stopping = False
        self.hosted = hosted
        self.mine: set[str] = set()
        self.writer = LateWriter(schedule.rnd)
        self.patience = schedule.rnd.choice([2, 20, 200])

    def work(self) -> None:
        if self.schedule.reader().pointer().generation:
            self.run(self.rebalance, until_caught_up=False, stopped=lambda: self.stopping, pause=0)

    def owned(self) -> list[str]:
        return list(self.schedule.log.records) if self.hosted else self.schedule.lanes_of(self.name)

    def rebalance(self) -> None:
        point()
        if self.epoch is None or self.deaf:
            return
        before, self.mine = self.mine, set(self.owned())
        for name in self.owned():
            if name not in before:
                self.lanes[name] = self.take(name)

    def code(self) -> str:
        return code_of(self.schedule.project)

    def prepare(self, epoch: Epoch) -> list[str]:
        self.schedule.counts["epochs followed"] += 1
        if not self.deaf:
            self.mine = set(self.owned())
        return sorted(self.mine)

    def wait(self, tries: int) -> None:
        self.schedule.counts["worker waits"] += 1
        point()

    def checkpointed(self, lane: str, offset: int) -> None: ...

    def overtaken(self, lane: str) -> None:
        self.schedule.counts["two count a lane"] += 1

    def step(self, wait: float = 0.0) -> int:
        if self.hosted:
            self.rebalance()
        counted = sum(self.advance(lane) for name, lane in list(self.lanes.items()) if name in self.mine)
        if not counted:
            self.writer.settle()  # whoever writes does not wait for more
        return counted

    @property
    def is_caught_up(self) -> bool:
        return True

    def take(self, lane: str, retained: int = 0) -> Lane:
        taken = super().take(lane, retained)
        self.opened[lane] = taken.position
        return taken

    def open_range(self, lane: str) -> None:
        self.parts[lane] = {}

    def ready(self, lane: Lane) -> int:
        return min(self.schedule.log.total(lane.name), lane.position + self.schedule.rnd.randint(1, 5))

    def count(self, lane: Lane, end: int) -> None:
        self.changed = set()
        parts, records = self.parts[lane.name], self.schedule.log.records[lane.name]
        for offset in self.counted(lane, end):
            shop = records[offset][0]
            part = parts.setdefault(shop, [0, 0])
            part[0] += weight(lane.name, offset)
            part[1] += 1
            self.changed.add(shop)

    def counted(self, lane: Lane, end: int) -> list[int]:
        return self.schedule.log.counted(lane.name, lane.position, end)

    def touched(self, lane: Lane) -> Iterator[tuple[ServingTable, list[Row]]]:
        for table in self.schedule.tables if self.changed else ():
            rows = rows_of(table, self.parts[lane.name], sorted(self.changed))
            self.schedule.rnd.shuffle(rows)
            yield table, rows


class SimulatedBatch(Batch):
    """A run whose marts and slots are kept by the schedule instead of the lake."""

    schedule: Schedule

    def host(self, name: str) -> SimulatedWorker:
        self.schedule.counts["caught up"] += 1
        return SimulatedWorker(self.schedule, name.replace("run ", "w"), hosted=True)

    def pause(self) -> None:
        point()

    def fill(self, run: Run, number: int, current: Generation, relations: Relations, tables: list[ServingTable],
             writer: Writer, floors: Floors, *, full: bool, refit: bool) -> tuple[dict[str, MartState], dict[str, TableState]]:  # fmt: skip
        log, kept = self.schedule.log, self.schedule.kept
        mart = self.project.marts["by_shop"]
        definition, lanes = relations.mart_definition(mart, {}), relations.lanes("by_shop")
        parts: dict[str, list[int]] = {}
        for lane, end in relations.end.items():
            for offset in self.counted(lane, end):
                part = parts.setdefault(log.records[lane][offset][0], [0, 0])
                part[0] += weight(lane, offset)
                part[1] += 1
        self.wrote = True
        states = {}
        for table in tables:
            before = current.tables.get(table.name)
            base = self.base(table, before.version) if before is not None else {}
            width = len(table.key)
            state, rows = dict(base), []
            for row in rows_of(table, parts):
                known, slot = base.get(row[:width], (None, 1))
                if known != row:
                    slot = self.other(slot)
                    rows.append((*row, slot, number))
                    state[row[:width]] = row, slot
            self.store.create(table)
            self.store.put(table, rows)
            kept.append(state)
            self.schedule.kept_of.append(table.name)
            states[table.name] = TableState(len(kept) - 1, definition, lanes)
        return {"by_shop": MartState(0, definition, lanes)}, states

    def counted(self, lane: str, end: int) -> list[int]:
        return self.schedule.log.counted(lane, 0, end)

    def base(self, table: ServingTable, version: int) -> dict[Row, tuple[Row, int]]:
        return self.schedule.kept[version]

    def other(self, slot: int) -> int:
        return 1 - slot

    def as_of(self, relations: Relations, current: Generation) -> dict[str, str]:
        return {}

    def voids(self, facts: Iterable[Source]) -> dict[str, Sequence[Sequence[int]]]:
        return {}


class _Lake:
    """Knows where the silver of each lane ends."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        lane = table.partition("/")[2]
        if lane not in self._log.records:
            return None
        return Snapshot(0, (), {lane: self._log.landed[lane]}.get)


class _Engine:
    """Nothing is computed by SQL."""

    def scan(self, files: object, columns: object, *, grown: bool = False) -> str:
        return ""

    def define(self, name: str, sql: str) -> None: ...


class _Question:
    """What one reader has seen, so that it never sees less."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.seen: dict[tuple[str, str | None, str], int] = {}
        self.steps_back = 0
        self.busy = False


class _Begun:
    """How things stood when a question was asked."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.pointer = len(schedule.store.pointers) - 1
        self.steps_back = schedule.steps_back
        self.risen = dict(schedule.store.risen)
        self.acknowledged = schedule.acknowledged(schedule.store.pointers[-1])

    def lower(self, answered: Generation) -> dict[str, int]:
        """By lane, the offset below which the answer of a generation must count everything."""
        lower = self.schedule.least(answered, self.risen)
        if self.schedule.steps_back == self.steps_back:
            lower = {lane: max(offset, self.acknowledged.get(lane, 0)) for lane, offset in lower.items()}
        return lower


class Schedule:
    """One seed's story. ``run`` raises WrongError where an answer is wrong; ``tell`` is told what happens."""

    def __init__(self, seed: int, project: LoadedProject, observer: Observer, tell: Callable[[str], None] | None = None) -> None:  # fmt: skip
        self.seed = seed
        self.rnd = rnd = random.Random(seed)
        self.project = project
        self.tables = list({t.name: t for query in project.queries.values() for t in query.tables}.values())
        self.observer = observer
        self.store = ReplicatedStore(rnd)
        self.store.moved = self.moved
        self.store.luck = random.Random(f"moves {seed}")
        self.failing = rnd.choice([0, 0, 0, 0.01])
        self.tell: Callable[[str], None] | None = None
        if tell is not None:
            self.tell = self.store.tell = lambda text: tell(f"{self.who()}: {text}")
        self.log = Log(rnd.choice([2, 4, 9]))
        for lane in LANES[: rnd.choice([1, 2])]:
            self.log.add_lane(lane)
        self.size = rnd.choice([3, 5, 8, 20])
        self.lags = rnd.random() < 0.5
        """Whether bronze lags behind the log that workers read."""
        self.kept: list[dict[Row, tuple[Row, int]]] = []
        """The rows and slots of every version of every table's state."""
        self.kept_of: list[str] = []
        """By version, the table."""
        self.names = iter(range(1, 10**6))
        self.owners: dict[str, str] = {}
        self.workers: dict[str, tuple[SimulatedWorker, Actor]] = {}
        self.zombies: list[Actor] = []
        self.runs: list[Actor] = []
        self.asking: list[Actor] = []
        self.questions = [_Question(self.reader()) for _ in range(3)]
        self.favourite = rnd.choice([*SHOPS, None, "scan"])
        """What is asked most."""
        self.alive: dict[str, Actor] = {}
        self.struck: set[str] = set()
        """Workers that were done without while they were alive, and have not registered since."""
        self.floor: dict[str, int] = {}
        """By lane, what was acknowledged up to the last move of the pointer."""
        self.taking_over = {"world"}
        self.begun: dict[int, dict[str, int]] = {}
        """By run, what its predecessor had counted of each lane when it began."""
        self.steps_back = 0
        """How often answers had leave to go back: a rollback, or a new epoch while such a worker counted."""
        self.counts: Counter[str] = Counter()

    def who(self) -> str:
        actor = acting()
        return actor.name if actor is not None else "world"

    def say(self, text: str) -> None:
        if self.tell is not None:
            self.tell(text)

    def reader(self) -> Reader:
        return Reader(self.project, self.store)

    # What the world does

    def append(self) -> None:
        lane = self.rnd.choice(list(self.log.records))
        for _ in range(self.rnd.randint(1, 6)):
            total = self.log.total(lane)
            if total == LONGEST:
                return
            if total and self.rnd.random() < 0.2:
                shop, id = self.log.records[lane][max(0, total - self.rnd.randint(1, 2 * self.log.horizon))]
            else:
                shop, id = self.rnd.choice(SHOPS), self.rnd.getrandbits(40)
            self.log.append(lane, shop, id)
            self.say(f"{lane}/{total}: {shop}{'' if self.log.counts[lane][-1] else ', a duplicate'}")

    def land(self) -> None:
        """Bronze catches up with the log, or with a part of it."""
        for lane, landed in self.log.landed.items():
            total = self.log.total(lane)
            self.log.landed[lane] = self.rnd.randint(landed, total) if self.lags else total
        self.say(f"landed {self.log.landed}")

    def add_lane(self) -> None:
        if len(self.log.records) < len(LANES):
            self.log.add_lane(LANES[len(self.log.records)])
            self.say(f"lane {list(self.log.records)[-1]} is new")
            self.deal()

    def deal(self) -> None:
        """Deals the lanes among the workers anew."""
        for lane in self.log.records:
            if self.workers:
                self.owners[lane] = self.rnd.choice(list(self.workers))
        self.say(f"lanes of workers: {self.owners}")

    def lanes_of(self, worker: str) -> list[str]:
        return [lane for lane in self.log.records if self.owners.get(lane) == worker]

    def start_worker(self) -> None:
        if len(self.workers) >= self.rnd.choice([1, 1, 2]):
            return
        name = f"w{next(self.names)}"
        worker = SimulatedWorker(self, name)
        actor = self.alive[name] = Actor(name, worker.work)
        self.workers[name] = worker, actor
        self.deal()

    def lose_worker(self) -> None:
        """A worker is killed, or told to stop, or goes on with lanes that others have been given."""
        if not self.workers:
            return
        name = self.rnd.choice(list(self.workers))
        worker, actor = self.workers[name]
        luck = self.rnd.random()
        if luck < 0.4:
            self.say(f"{name} is killed")
            actor.kill()
            self.counts["workers killed"] += 1
        elif luck < 0.6:
            self.say(f"{name} is told to stop")
            worker.stopping = True
            self.counts["workers stopped"] += 1
            return
        else:
            self.say(f"{name} is a zombie")
            worker.deaf = True
            self.zombies.append(actor)
            self.counts["zombie workers"] += 1
        del self.workers[name]
        self.deal()

    def start_run(self) -> None:
        if len(self.runs) >= self.rnd.choice([1, 1, 1, 2]):
            return
        take_over, refit = self.rnd.random() < 0.25, self.rnd.random() < 0.2
        name = f"run{next(self.names)}"

        def work() -> None:
            self.land()
            point()
            self.batch().generate(Run(""), full=False, refit=refit, take_over=take_over)

        if take_over:
            self.taking_over.add(name)
        self.say(f"{name} starts{', to take over' if take_over else ''}{', to open an epoch' if refit else ''}")
        self.runs.append(Actor(name, work))

    def batch(self) -> SimulatedBatch:
        batch = SimulatedBatch(
            self.project, cast("Inbox", None), cast("ports.Log", None), cast("Lake", _Lake(self.log)), cast("Engine", _Engine()), self.store,
            self.observer, self.size,
        )  # fmt: skip
        batch.schedule, batch.patience = self, self.rnd.choice([5, 50, 200])
        return batch

    def stop_run(self) -> None:
        """Kills a run, or leaves it to wake up when nobody expects it any more."""
        if not self.runs:
            return
        run = self.runs.pop(self.rnd.randrange(len(self.runs)))
        if self.rnd.random() < 0.5:
            self.say(f"{run.name} is killed")
            run.kill()
            self.counts["runs killed"] += 1
        else:
            self.say(f"{run.name} is a zombie")
            self.zombies.append(run)
            self.counts["zombie runs"] += 1

    def start_rollback(self) -> None:
        self.runs.append(Actor(f"rollback{next(self.names)}", lambda: rollback(self.store)))

    def start_reader(self) -> None:
        idle = [question for question in self.questions if not question.busy]
        if idle:
            question = self.rnd.choice(idle)
            question.busy = True
            what = self.favourite if self.rnd.random() < 0.5 else self.rnd.choice([*SHOPS, None, "scan"])
            times = self.rnd.choice([1, 1, 3])
            if self.rnd.random() < 0.5:
                question.reader = self.reader()  # which has seen no pointer yet; what was seen must stay all the same

            def work() -> None:
                try:
                    for _ in range(times):
                        self.ask(question, what)
                finally:
                    question.busy = False

            self.asking.append(Actor(f"reader{self.questions.index(question)}", work))

    def moved(self, old: str | None, new: str) -> None:
        """Notes when answers may go back."""
        before, now = pointers.read(old) if old else pointers.FIRST, pointers.read(new)
        for name in before.workers:
            actor = self.alive.get(name)
            if name not in now.workers and actor is not None and not actor.done and self.who() in self.taking_over:
                self.struck.add(name)
        self.struck.difference_update(now.workers)
        if now.next is not None and now.next != before.next:
            self.begun[now.next] = self.least(self.generation(now.generation))
        if before.generation == now.generation:
            return
        self.counts["published" if now.generation > before.generation else "rolled back"] += 1
        self.floor = self.acknowledged(before.generation)
        without = self.does_without(self.generation(before.generation), self.generation(now.generation))
        self.struck = {name for name in self.struck if not self.alive[name].done}
        if now.generation < before.generation or without:
            self.steps_back += 1
            self.floor = {}

    def acknowledged(self, number: int) -> dict[str, int]:
        """By lane, what was acknowledged while this generation answered, or one before it."""
        least = self.least(self.generation(number))
        return {lane: max(offset, self.floor.get(lane, 0)) for lane, offset in least.items()}

    def does_without(self, before: Generation, now: Generation) -> bool:
        """Whether a generation opens an epoch while somebody still counted in the one before, who had been done without.
        What was counted when the run began it must hold all the same."""
        if before.epoch == now.epoch or not self.struck:
            return False
        holds = self.least(now)
        return all(holds[lane] >= offset for lane, offset in self.begun.get(now.number, {}).items())

    # What must hold

    def generation(self, number: int) -> Generation:
        text = self.store.said.get(generations.control_name(number))
        return generations.read(text) if text is not None else EMPTY

    def least(self, generation: Generation, risen: dict[str, int] | None = None) -> dict[str, int]:
        """By lane, the offset below which an answer of this generation counts everything."""
        known = self.store.risen if risen is None else risen
        return {
            lane: max(generation.cut.get(lane, 0), known.get(epochs.progress_name(generation.epoch, lane), 0))
            for lane in self.log.records
        }

    def ask(self, question: _Question, what: str | None) -> None:
        """Asks, and compares the answer with the log."""
        self.say(f"asks for {what or 'total'}")
        begun = _Begun(self)
        reader = question.reader
        shops: list[str | None]
        try:
            if what == "scan":
                answer = reader.answer("scan", {})
                first: str = ""
                if answer.cursor and self.rnd.random() < 0.5:
                    point()
                    begun, first = _Begun(self), answer.rows[-1][0]
                    answer = reader.answer("scan", {}, answer.cursor)
                    self.counts["pages"] += 1
                found = {row[0]: row[1:] for row in answer.rows}
                last = answer.rows[-1][0] if answer.cursor else SHOPS[-1]
                shops = [shop for shop in SHOPS if first < shop <= last]
            elif what is None:
                answer = reader.answer("total", {})
                found, shops = {None: answer.rows[0]}, [None]
            else:
                answer = reader.answer("detail", {"shop": what})
                found, shops = dict(zip([what], answer.rows, strict=False)), [what]
        except NotReadyError as error:
            self.counts[f"reader {error.code}"] += 1
            return
        self.say(f"{what or 'total'} is answered by generation {answer.generation}")
        self.counts["answers"] += 1
        self.counts["streamed answers"] += answer.streamed
        named = self.store.pointers[begun.pointer :]
        if answer.generation not in named:
            raise WrongError(f"generation {answer.generation}, while the pointer went through {named}")
        lower = begun.lower(self.generation(answer.generation))
        if question.steps_back != self.steps_back:
            question.seen = {}
        for shop in shops:
            self.judge(question, answer, shop, found.get(shop, (None, None)), lower)
        question.steps_back = begun.steps_back

    def judge(self, question: _Question, answer: Answer, shop: str | None, row: Row, lower: dict[str, int]) -> None:
        """Holds one row against the log: of each lane a prefix, each record once, not less than ``lower``, nor than before."""
        revenue, receipts = row[0] or 0, row[1] or 0
        what = f"generation {answer.generation}, {shop or 'total'}"
        whole = 0
        for place, lane in enumerate(LANES):
            part = revenue >> 4 * LONGEST * place
            part = (part & ((1 << 4 * LONGEST) - 1)) << 4 * LONGEST * place
            if lane not in self.log.records:
                if part:
                    raise WrongError(f"{what}: records of {lane}")
                continue
            count = self.log.prefixes[shop, lane].get(part)
            if count is None:
                raise WrongError(f"{what}, {lane}: {self.explain(shop, lane, part)}")
            self.say(f"{shop or 'total'}: {count} of {lane}")
            whole += count
            if count < self.log.below[shop, lane][lower[lane]]:
                missing = self.explain(shop, lane, part)
                raise WrongError(f"{what}, {lane}: less than up to {lower[lane]}, which was acknowledged: {missing}")
            if count < question.seen.get((answer.query, shop, lane), 0):
                raise WrongError(
                    f"{what}, {lane}: {count} after {question.seen[answer.query, shop, lane]}: it went back"
                )
            question.seen[answer.query, shop, lane] = count
        if whole != receipts:
            raise WrongError(f"{what}: {receipts} receipts for {whole}")

    def explain(self, shop: str | None, lane: str, part: int) -> str:
        digits = [(part // weight(lane, offset)) & 15 for offset in range(self.log.total(lane))]
        counted = {o: n for o, n in enumerate(digits) if n}
        wanted = [o for o in self.log.counted(lane, 0, len(digits)) if shop in (None, self.log.records[lane][o][0])]
        upto = max(counted, default=-1)
        missing = [o for o in wanted if o <= upto and o not in counted]
        wrong = [o for o in counted if o not in wanted]
        return (
            f"up to {upto}, missing {missing}, twice {[o for o, n in counted.items() if n > 1]}, never to count {wrong}"
        )

    # The schedule

    def run(self) -> Counter[str]:
        try:
            temper = self.temper()
            if self.rnd.random() < 0.8:  # else workers and readers come before the first publication
                self.append()
                self.publish(take_over=False)
            self.store.failing = self.failing
            self.store.unanswered = self.store.luck.choice([0, 0, 0, 0, 0.5])
            for happens in self.rnd.choices(list(temper), list(temper.values()), k=self.rnd.randint(80, 260)):
                happens()
                self.note_ends()
            self.end()
        finally:
            for actor in (*(a for _, a in self.workers.values()), *self.runs, *self.zombies, *self.asking):
                actor.kill()
        return self.counts

    def temper(self) -> dict[Callable[[], None], float]:
        """How often each thing happens: some schedules lose many workers, some many runs, and in some nobody has time."""
        often = self.rnd.choice
        return {
            self.append: often([8, 12]),
            self.land: 3,
            self.start_worker: 5,
            self.lose_worker: often([0.5, 2.5]),
            self.deal: 1.5,
            self.add_lane: 1,
            self.start_run: often([2, 5, 25]),
            self.stop_run: often([0.5, 1, 6]),
            self.start_rollback: often([0.5, 1, 4]),
            self.start_reader: 9,
            self.store.drift: 5,
            lambda: self.go_on(self.zombies): 5,
            lambda: self.go_on(self.runs): often([12, 40]),
            lambda: self.go_on(self.asking): often([2, 6, 18]),
            lambda: self.go_on([actor for _, actor in self.workers.values()]): 20,
        }

    def go_on(self, actors: list[Actor]) -> None:
        if not actors:
            return
        actor = self.rnd.choice(actors)
        for _ in range(self.rnd.choice([1, 2, 5, 15, 40])):
            actor.step()

    def note_ends(self) -> None:
        """Raises what an actor that ended must not have raised."""
        ended = False
        for name, (_, actor) in list(self.workers.items()):
            if actor.done:
                del self.workers[name]
                ended = True
                self.judge_end(actor)
        for actors in (self.runs, self.zombies, self.asking):
            for actor in [a for a in actors if a.done]:
                actors.remove(actor)
                self.judge_end(actor)
        if ended:
            self.deal()

    def judge_end(self, actor: Actor) -> None:
        kind = actor.name.rstrip("0123456789")
        if isinstance(actor.error, (ConflictError, OutsideError, NotReadyError)) and kind != "reader":
            self.say(f"{actor.name} ends with {actor.error.code}")
            self.counts[f"{kind} {actor.error.code}"] += 1
        elif actor.error is None:
            self.say(f"{actor.name} ends")
            self.counts[kind] += 1
        elif not isinstance(actor.error, KilledError):
            raise actor.error

    def end(self) -> None:
        """All faults end; then everything is there, streamed, then published, and whatever the zombies do."""
        self.say("the faults end")
        self.store.failing = self.store.unanswered = 0
        for actor in (*self.runs, *self.asking):
            actor.finish()
        self.note_ends()
        self.lags = False
        self.let_workers_finish()
        self.catch_up()
        self.ask_all()
        for actor in self.zombies:
            actor.finish(60)
        while self.store.late:
            self.store.drift()
        self.note_ends()
        self.catch_up()  # a zombie that took over may have opened an epoch at what had landed when it began
        self.ask_all()
        for actor in self.zombies:
            actor.kill()
        self.publish(take_over=True)
        self.catch_up()
        self.ask_all()

    def let_workers_finish(self) -> None:
        """One of the workers that live is given every lane: it must come to count everything, in whatever epoch."""
        if self.workers:
            name = list(self.workers)[-1]
            worker, actor = self.workers[name]
            worker.stopping = False
            self.owners = dict.fromkeys(self.log.records, name)
            self.say(f"{name} is given every lane")
            for _ in range(400):
                for _ in range(20):
                    actor.step()
                if actor.done or self.is_caught_up():
                    break
            if not actor.done and not self.is_waiting(worker):
                self.ask_all()
        for worker, actor in self.workers.values():
            worker.stopping = True
            actor.finish()
        self.note_ends()

    def is_waiting(self, worker: SimulatedWorker) -> bool:
        """Whether a worker cannot begin, or begin in the epoch that answers, as a run that was killed was to open one."""
        pointer = self.reader().pointer()
        moved = pointer.opens and self.generation(pointer.generation).epoch not in pointer.streamed
        return worker.name not in pointer.workers or moved

    def is_caught_up(self) -> bool:
        now = self.least(self.generation(self.store.pointers[-1]))
        return all(now[lane] == self.log.total(lane) for lane in self.log.records)

    def publish(self, *, take_over: bool) -> None:
        self.land()
        self.batch().generate(Run(""), full=False, refit=False, take_over=take_over)

    def catch_up(self) -> None:
        pointer = pointers.read(self.store.said.get(POINTER, pointers.FIRST.text()))
        if pointer.opens or not pointer.generation:  # a run that was killed, or a rollback to before the first
            self.publish(take_over=True)
        worker = SimulatedWorker(self, f"w{next(self.names)}")
        self.owners = dict.fromkeys(self.log.records, worker.name)
        worker.run(worker.rebalance, until_caught_up=True, stopped=lambda: False)

    def ask_all(self) -> None:
        """Every answer counts everything."""
        for shop in (*SHOPS, None):
            question = self.rnd.choice(self.questions)
            self.ask(question, shop)
            name = "detail" if shop else "total"
            for lane in self.log.records:
                known, all_of_it = question.seen.get((name, shop, lane), -1), self.log.below[shop, lane][-1]
                if known != all_of_it:
                    raise WrongError(f"in the end {known} of {all_of_it} records, {shop or 'total'}, {lane}")


def load_simulated(folder: Path, load: Callable[[Path], LoadedProject]) -> LoadedProject:
    """The project that is simulated, out of files that are written below ``folder``."""
    for path, text in FILES.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return load(folder)


def simulate(seeds: Iterable[int], project: LoadedProject, observer: Observer) -> tuple[dict[int, BaseException], Counter[str]]:  # fmt: skip
    """What went wrong by seed, and how often each thing happened in all."""
    wrong: dict[int, BaseException] = {}
    counts: Counter[str] = Counter()
    for seed in seeds:
        schedule = Schedule(seed, project, observer)
        try:
            counts += schedule.run()
        except (WrongError, HeadraceError, LookupError, ValueError, TypeError) as error:
            wrong[seed] = error
    return wrong, counts
