"""A store of three replicas that loses, delays and reorders what it is told: what the seam is simulated on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import OutsideError
from headrace.flow.control import POINTER
from headrace.model.serving import ServingTable
from headrace.seam import pointer as pointers
from headrace.testing.actors import point

Row = tuple[Any, ...]
Place = tuple[str, Row]
"""A table and a partition of it."""
Cell = tuple[int, Any]
"""When it was written, by the stamp that decides between two writes, and what."""
SPEED = "_speed"
RISING = ("progress/", "attempted/", "checkpoint/")
"""What the names of control rows begin with that only rise."""


@dataclass(frozen=True, eq=False)
class Move:
    """One try to move a control row, which had been moved so often ``before``."""

    name: str
    old: str | None
    new: str
    before: int


class ReplicatedStore:
    """Three replicas, the write with the highest stamp wins; a write is acknowledged by two, a read asks two, one after
    the other, and mends the one that lags. Writes get lost or arrive late, also when long superseded; an acknowledgement
    may be lost, and is waited for by writing again. The other control rows are linearizable, as light-weight transactions
    are; but the answer to one may be lost, so that it is asked what became of it, and it may arrive when it is not expected
    any more."""

    is_remote = True
    needed = 2
    """Replicas that must have a write before it is acknowledged, and that a read asks."""

    arrives = 0.7
    """How likely a replica hears of a write at once."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.replicas: list[dict[Place, dict[Row, Cell]]] = [{} for _ in range(3)]
        self.tables: set[str] = set()
        self.late: list[tuple[int, Place, Row, Cell]] = []
        self.said: dict[str, str] = {}
        self.risen: dict[str, int] = {}
        """What was acknowledged of the control rows that only rise."""
        self.pointers: list[int] = [0]
        """Every generation that the pointer has named, in order."""
        self.failing = 0.0
        self.unanswered = 0.0
        """How many of the moves get no answer. One in two of them arrives late, if at all."""
        self.luck = random.Random(0)  # of moves alone: what else happens in a schedule stays as it was
        self.made: dict[str, list[object]] = {}
        """By control row, the marks of its moves."""
        self.late_moves: list[Move] = []
        self.moved: Callable[[str | None, str], None] = lambda *_: None
        """Is told of every move of the pointer."""
        self.tell: Callable[[str], None] | None = None

    # Control rows

    def compare_and_set(self, name: str, old: str | None, new: str) -> bool:
        point()
        if self.said.get(name) != old:
            if self.tell:
                self.tell(f"{name} was moved by somebody else")
            point()
            return False
        move = Move(name, old, new, len(self.made.setdefault(name, [])))
        if self.luck.random() >= self.unanswered:
            self.make(move)
            point()
            return True
        if self.luck.random() < 0.5:
            self.late_moves.append(move)
        else:
            self.make(move)
        if self.tell:
            self.tell(f"whether {name} was moved is not said")
        for _ in range(self.luck.choice([1, 5, 20, 80])):
            point()
        while not self.was_made(move):
            if not self.can_be_made(move):
                return False
            self.make(move)
        return True

    def make(self, move: Move) -> None:
        if self.can_be_made(move):
            self.made[move.name].append(move)
            self.write_control(move.name, move.new)

    def can_be_made(self, move: Move) -> bool:
        """Whether nobody has moved the row since this move began; that its value is the same again does not say so."""
        return len(self.made[move.name]) == move.before

    def was_made(self, move: Move) -> bool:
        """Whether it was; that others have moved on since, or made the same value, does not matter."""
        return any(made is move for made in self.made[move.name])

    def write_control(self, name: str, value: str) -> None:
        before = self.said.get(name)
        self.said[name] = value
        if self.tell:
            self.tell(f"{name} = {value}")
        if name == POINTER:
            number = pointers.read(value).generation
            if number != self.pointers[-1]:
                self.pointers.append(number)
            self.moved(before, value)

    def control(self, name: str) -> str | None:
        if name.startswith(RISING):
            text: str | None = self.read(("control", (name,))).get((), None)
            return text
        point()
        return self.said.get(name)

    def controls(self, names: Sequence[str]) -> list[str | None]:
        return [self.control(name) for name in names]

    def set_control(self, name: str, value: str) -> None:
        point()
        self.write_control(name, value)

    def raise_control(self, name: str, value: int, text: str = "") -> None:
        self.write(("control", (name,)), (), (value, f"{value} {text}"))
        self.risen[name] = max(self.risen.get(name, 0), value)

    # Rows

    def create(self, table: ServingTable) -> None:
        point()
        self.tables.add(table.name)

    def put(self, table: ServingTable, rows: Iterable[Row]) -> int:
        within, width, count = len(table.partition), len(table.key), 0
        for row in rows:
            self.write((table.name, row[:within]), (*row[within:width], row[-2]), (row[-1], row))
            count += 1
        return count

    def put_speed(self, table: ServingTable, epoch: int, lane: str, start: int, fence: int, rows: Iterable[Row]) -> int:
        within, width, count = len(table.partition), len(table.key), 0
        name = table.name + SPEED
        for row in rows:
            place, key = (name, row[:within]), (*row[within:width], epoch, lane, start)
            self.write(place, key, (fence, (*row, lane, start)))
            count += 1
        return count

    def write(self, place: Place, key: Row, cell: Cell) -> None:
        """Writes until it is acknowledged; raises OutsideError where the store is away."""
        while not self.send(place, key, cell):
            if self.tell:
                self.tell(f"{place} {key} at {cell[0]} is not acknowledged; again")
        if self.tell:
            self.tell(f"{place} {key} at {cell[0]} is acknowledged")

    def send(self, place: Place, key: Row, cell: Cell) -> bool:
        """One try to write; whether enough replicas said that they have it."""
        point()
        name = place[0].removesuffix(SPEED)
        if name not in self.tables and name != "control":
            raise OutsideError("HR0407", f"no table {name}")
        if self.rnd.random() < self.failing:
            raise OutsideError("HR0407", "the store is away")
        received = 0
        for replica in range(3):
            luck = self.rnd.random()
            if luck < self.arrives:
                self.apply(replica, place, key, cell)
                received += 1
            elif luck < self.arrives + 0.2:
                self.late.append((replica, place, key, cell))
        return received >= self.needed and self.rnd.random() < 0.85

    def apply(self, replica: int, place: Place, key: Row, cell: Cell) -> None:
        cells = self.replicas[replica].setdefault(place, {})
        known = cells.get(key)
        if known is None or cell[0] > known[0]:
            cells[key] = cell

    def drift(self) -> None:
        """One late write arrives, and perhaps a move that nobody waits for any more."""
        if self.late_moves and self.luck.random() < 0.3:
            self.make(self.late_moves.pop(self.luck.randrange(len(self.late_moves))))
        if self.late:
            self.apply(*self.late.pop(self.rnd.randrange(len(self.late))))

    def read(self, place: Place) -> dict[Row, Any]:
        """What two replicas have of a partition, by key, once both have the newest of it."""
        found: dict[Row, Cell] = {}
        asked = self.rnd.sample(range(3), self.needed)
        for replica in asked:
            point()
            for key, cell in self.replicas[replica].get(place, {}).items():
                if key not in found or cell[0] > found[key][0]:
                    found[key] = cell
        self.mend(asked, place, found)
        return {key: cell[1] for key, cell in found.items()}

    def mend(self, asked: Sequence[int], place: Place, found: Mapping[Row, Cell]) -> None:
        """The read's own repair, without which the next one might see less."""
        for replica in asked:
            for key, cell in found.items():
                self.apply(replica, place, key, cell)

    def fetch(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        reverse: bool = False,
        after: Row | None = None,
        limit: int | None = None,
    ) -> Sequence[Row]:
        """Without ``bounds`` and ``reverse``, which nothing that is simulated asks for."""
        if table.name not in self.tables:
            raise OutsideError("HR0407", f"no table {table.name}")
        found = self.read((table.name, partition))
        keys = sorted(key for key in found if after is None or key[:-1] > after)
        return [found[key] for key in keys[:limit]]

    def fetch_speed(
        self,
        table: ServingTable,
        partition: Row,
        bounds: tuple[Any, bool, Any, bool] = (None, True, None, True),
        *,
        epoch: int,
    ) -> Sequence[Row]:
        found = self.read((table.name + SPEED, partition))
        return [found[key] for key in sorted(found) if key[-3] == epoch]

    def walk(self, table: ServingTable) -> Iterator[Sequence[Row]]:
        raise NotImplementedError

    def walk_speed(self, table: ServingTable, epoch: int) -> Iterator[Sequence[Row]]:
        raise NotImplementedError

    def clear_speed(self, table: ServingTable, epoch: int, below: Mapping[str, int] | None) -> None:
        """Replicas that do not hear of it keep the rows, and give them back to the others when they are read."""
        for replica in self.replicas:
            point()
            if self.rnd.random() < 0.2:
                continue
            for (name, _), cells in replica.items():
                if name != table.name + SPEED:
                    continue
                past = [k for k in cells if k[-3] == epoch and (below is None or k[-1] < below.get(k[-2], 0))]
                for key in past:
                    del cells[key]

    def clear_below(self, table: ServingTable, column: str, start: Any, generation: int) -> None:
        raise NotImplementedError

    def hold(self) -> None: ...

    def release(self) -> None: ...

    def drop(self, table: str) -> None:
        point()
        self.tables.discard(table)
        names = (table, table + SPEED)
        for replica in self.replicas:
            for place in [place for place in replica if place[0] in names]:
                del replica[place]
        self.late = [write for write in self.late if write[1][0] not in names]

    def physical(self) -> Sequence[str]:
        point()
        return sorted(self.tables)
