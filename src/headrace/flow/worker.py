"""What a stream worker does, in which order (seam: Worker). What it counts with is another's: the engine's over bronze
(``flow/stream.py``), or the simulator's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import ConflictError
from headrace.flow.control import change_pointer, epoch_of, generation_of, made_pointer, progress_of, reached
from headrace.flow.writing import Writer
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
    """Up to here everything is written, by whomever: what is counted again need not be written again."""
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
    writer: Writer
    patience: int
    """How often it waits for a run that holds it, before it abandons that run."""

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

    @abstractmethod
    def wait(self, tries: int) -> None:
        """Waits a moment, for the ``tries``-th time, for a run that opens an epoch."""

    @abstractmethod
    def checkpointed(self, lane: str, offset: int) -> None:
        """Is told that a checkpoint has risen, perhaps by the writer's thread."""

    @abstractmethod
    def overtaken(self, lane: str) -> None:
        """Is told, perhaps by the writer's thread, that somebody else counts a lane, too, which does no harm."""

    def run(self, arrivals: Callable[[], object], *, until_caught_up: bool, stopped: Callable[[], bool], pause: float = 0.2) -> int:  # fmt: skip
        """Counts what is there and what comes, until ``stopped``; gives the number of records that were counted.

        ``arrivals`` lands what has arrived. While a run opens an epoch, it waits. Raises ConflictError HR0410 where the
        epoch belongs to other code.
        """
        counted, waited = 0, 0
        try:
            while not stopped():
                arrivals()
                if not self.follow(waited):
                    waited += 1
                    self.wait(waited)
                    continue
                waited = 0
                new = self.step(0.0 if until_caught_up else pause)
                counted += new
                if until_caught_up and not new and self.is_caught_up:
                    break
            self.writer.settle()
        finally:
            self.leave()
        return counted

    def leave(self) -> None:
        """Deregisters. Rows that were not acknowledged may have been read all the same: how far they reach is said
        first, so that no run opens an epoch below it. Where not even that can be said, the worker stays registered."""
        self.writer.close()
        for lane in self.lanes.values():
            if self.epoch is not None and lane.attempted > lane.acknowledged:
                self.store.raise_control(epochs.attempted_name(self.epoch.number, lane.name), lane.attempted)
        change_pointer(self.store, lambda pointer: pointers.deregister(pointer, self.name))

    def told(self, lane: Lane) -> Callable[[], None]:
        """What tells whoever observes of the records that ``count`` counted last; called once they are answered."""
        return lambda: None

    # The pointer

    def follow(self, waited: int = 0) -> bool:
        """Goes where the pointer's epoch is (Worker, 1). False while a run that opens an epoch has it wait: one that
        counts goes on until it is held, one that does not yet count cannot begin."""
        pointer = made_pointer(self.store)
        if pointer.holds:
            self.give_way(pointer, waited)
            return False
        generation, epoch = self.generation, self.epoch
        if epoch is None or generation.number != pointer.generation:
            generation = generation_of(self.store, pointer.generation)
            if epoch is None or epoch.number != generation.epoch:
                epoch = epoch_of(self.store, generation.epoch)
                if epoch.code != self.code():
                    raise ConflictError(
                        "HR0410", "what is published was computed by other code than this worker's", help="headrace run"
                    )
        if self.name not in pointer.workers or epoch.number not in pointer.streamed:
            try:
                # Also one that a run took for dead, where that run then came to nothing.
                change_pointer(self.store, lambda p: pointers.register(p, self.name, epoch.number))
            except ConflictError:
                return False  # a run is opening an epoch
        if epoch is not self.epoch:
            self.enter(epoch, generation)
        self.generation = generation
        return True

    def give_way(self, pointer: Pointer, waited: int) -> None:
        """Deregisters between two micro-batches, so that a run can move the pointer knowing how far all have counted. A
        run that does not end is abandoned: it can then no more move the pointer than one that was killed."""
        self.writer.settle()
        if self.name in pointer.workers:
            change_pointer(self.store, lambda p: pointers.deregister(p, self.name))
        if waited >= self.patience:
            change_pointer(self.store, lambda p: pointers.give_up(p, pointer.highest, wrote=True) if p.holds else p)

    def enter(self, epoch: Epoch, generation: Generation) -> None:
        """Begins to count in an epoch, at its checkpoints, else at its origins (Worker, 2)."""
        self.writer.settle()
        self.epoch, self.generation = epoch, generation
        self.lanes = {name: self.take(name) for name in self.prepare(epoch)}

    def catch_up(self, offsets: Mapping[str, int]) -> bool:
        """Counts until all records before these offsets are counted, and acknowledged; False where there are no more."""
        assert self.epoch is not None
        cut, number = self.generation.cut, self.epoch.number
        while True:
            self.writer.settle()
            reach = {lane: reached(self.store, epochs.progress_name(number, lane))[0] for lane in offsets}
            if all(max(cut.get(lane, 0), reach[lane]) >= offset for lane, offset in offsets.items()):
                return True
            if not self.step(0.1) and self.is_caught_up:
                return False

    # A lane

    def take(self, lane: str, retained: int = 0) -> Lane:
        """A lane at its checkpoint, or its origin: whoever takes it begins the open range anew. One that is new begins
        at the first offset that is ``retained``, in the middle of a range perhaps."""
        assert self.epoch is not None
        self.writer.settle()
        checkpoint, _ = reached(self.store, epochs.checkpoint_name(self.epoch.number, lane))
        written, as_of, mark = progress_of(self.store, self.epoch.number, [lane])[lane]
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
        number, name, start = self.epoch.number, lane.name, lane.start
        noted = f"{lane.as_of} {lane.mark}" if lane.mark else lane.as_of
        count, lane.position = end - lane.position, end
        whole = end == start + self.epoch.size
        if end > lane.acknowledged:
            lane.attempted = end
            touched, tell = list(self.touched(lane)), self.told(lane)

            def write() -> None:
                for table, rows in touched:
                    self.store.put_speed(table, number, name, start, end, rows)
                self.store.raise_control(epochs.progress_name(number, name), end, noted)
                lane.acknowledged = end
                tell()

            self.writer(write)
        if whole:

            def rise() -> None:
                if reached(self.store, epochs.progress_name(number, name))[0] > lane.acknowledged:
                    self.overtaken(name)
                self.store.raise_control(epochs.checkpoint_name(number, name), end)
                self.checkpointed(name, end)

            self.writer(rise)
            lane.start = end
            self.open_range(name)
        return count
