"""What a stream worker does, in which order (seam: Worker). What it counts with is another's: the engine's over bronze
(``flow/stream.py``), or the simulator's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from headrace.errors import ConflictError
from headrace.flow.control import POINTER, epoch_of, generation_of, made_pointer, pointer_of, progress_of, reached
from headrace.model.serving import ServingTable
from headrace.ports import Store
from headrace.seam import epoch as epochs
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.generation import Generation
from headrace.seam.pointer import Pointer
from headrace.seam.ranges import start_of

Row = tuple[Any, ...]


@dataclass(slots=True)
class Lane:
    """Where a worker is in a lane: the open range begins at ``start``; all before ``position`` is counted."""

    name: str
    start: int
    position: int
    acknowledged: int
    """Up to here an earlier worker had written everything: what is counted again need not be written again."""
    as_of: str = ""
    mark: str = ""
    """The log's, of a record that is counted."""
    attempted: int = 0
    """Up to here rows may have been written, acknowledged or not."""


class Steps(ABC):
    """The order of a worker's steps. Who fulfils it says what they work on."""

    store: Store
    name: str
    epoch: Epoch | None
    generation: Generation
    lanes: dict[str, Lane]

    @abstractmethod
    def code(self) -> str:
        """The hash of what this worker counts with; an epoch of another one is not its own."""

    @abstractmethod
    def prepare(self, epoch: Epoch) -> Iterable[str]:
        """Makes ready for an epoch; gives the names of the lanes to count."""

    @abstractmethod
    def open_range(self, lane: str) -> None:
        """Forgets what was counted of a lane: a range begins."""

    @abstractmethod
    def ready(self, lane: Lane) -> int:
        """The offset up to which the next micro-batch may count."""

    @abstractmethod
    def count(self, lane: Lane, end: int) -> None:
        """Judges the records [position, end) and adds them to what the open range has counted."""

    @abstractmethod
    def touched(self, lane: Lane) -> Iterator[tuple[ServingTable, list[Row]]]:
        """By table, the whole rows that the last ``count`` changed."""

    @abstractmethod
    def step(self, wait: float = 0.0) -> int:
        """Counts what has come, or comes within ``wait`` seconds; gives how many records there were."""

    @property
    @abstractmethod
    def is_caught_up(self) -> bool:
        """Whether all there is of its lanes is counted."""

    def run(self, arrivals: Callable[[], object], *, until_caught_up: bool, stopped: Callable[[], bool], pause: float = 0.2) -> int:  # fmt: skip
        """Counts what is there and what comes, until ``stopped``; gives the number of records that were counted.

        ``arrivals`` lands what has arrived. Raises ConflictError HR0410 where the epoch belongs to other code, and
        HR0409 where a run is opening an epoch just now.
        """
        counted = 0
        self.register()
        try:
            while not stopped():
                arrivals()
                self.follow()
                new = self.step(0.0 if until_caught_up else pause)
                counted += new
                if until_caught_up and not new and self.is_caught_up:
                    break
        finally:
            self.leave()
        return counted

    def leave(self) -> None:
        """Deregisters. Rows that were not acknowledged may have been read all the same: how far they reach is said
        first, so that no run opens an epoch below it. Where not even that can be said, the worker stays registered."""
        for lane in self.lanes.values():
            if self.epoch is not None and lane.attempted > lane.position:
                self.store.raise_control(epochs.attempted_name(self.epoch.number, lane.name), lane.attempted)
        self.move(lambda pointer: pointers.deregister(pointer, self.name))

    # The pointer

    def move(self, change: Callable[[Pointer], Pointer]) -> None:
        while True:
            old = made_pointer(self.store)
            new = change(old)
            if new == old or self.store.compare_and_set(POINTER, old.text(), new.text()):
                return

    def register(self) -> None:
        self.move(
            lambda pointer: pointers.register(pointer, self.name, generation_of(self.store, pointer.generation).epoch)
        )

    def follow(self) -> None:
        """Goes where the pointer's epoch is, to its checkpoints, else to its origins (Worker, 1 and 2)."""
        pointer = pointer_of(self.store)
        if self.epoch is not None and pointer.generation == self.generation.number:
            if self.name not in pointer.workers and not pointer.opens:
                self.register()  # it was taken for dead by a run that then came to nothing
            return
        self.generation = generation_of(self.store, pointer.generation)
        if self.epoch is not None and self.epoch.number == self.generation.epoch:
            return
        epoch = epoch_of(self.store, self.generation.epoch)
        if epoch.code != self.code():
            raise ConflictError(
                "HR0410", "what is published was computed by other code than this worker's", help="headrace run"
            )
        self.epoch = epoch
        if epoch.number not in pointer.streamed or self.name not in pointer.workers:
            self.move(lambda p: pointers.register(p, self.name, epoch.number))
        self.lanes = {name: self.take(name) for name in self.prepare(epoch)}

    # A lane

    def take(self, lane: str, retained: int = 0) -> Lane:
        """A lane at its checkpoint, or its origin: whoever takes it begins the open range anew. One that is new begins
        at the first offset that is ``retained``, in the middle of a range perhaps."""
        assert self.epoch is not None
        checkpoint, _ = reached(self.store, epochs.checkpoint_name(self.epoch.number, lane))
        written, as_of, mark = progress_of(self.store, self.epoch.number, lane)
        origin = self.epoch.origin(lane)
        position = max(checkpoint, origin, 0 if lane in self.epoch.origins else retained)
        self.open_range(lane)
        return Lane(lane, start_of(position, origin, self.epoch.size), position, max(written, position), as_of, mark)

    def advance(self, lane: Lane) -> int:
        """Counts the next records of a lane, and writes every row that they change; then progress rises, and at the end
        of the range the checkpoint (Worker, 3). Gives how many records there were."""
        assert self.epoch is not None
        end = min(self.ready(lane), lane.start + self.epoch.size)
        if end <= lane.position:
            return 0
        self.count(lane, end)
        if end > lane.acknowledged:
            lane.attempted = end
            for table, rows in self.touched(lane):
                self.store.put_speed(table, self.epoch.number, lane.name, lane.start, end, rows)
            noted = f"{lane.as_of} {lane.mark}" if lane.mark else lane.as_of
            self.store.raise_control(epochs.progress_name(self.epoch.number, lane.name), end, noted)
        count, lane.position = end - lane.position, end
        if end == lane.start + self.epoch.size:
            self.store.raise_control(epochs.checkpoint_name(self.epoch.number, lane.name), end)
            lane.start = end
            self.open_range(lane.name)
        return count
