"""The pointer and its moves. Each move takes a pointer and gives the next; the store's compare-and-set makes it real."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec

from headrace.errors import ConflictError


@dataclass(frozen=True, slots=True)
class Pointer:
    """What readers and writers agree on.

    ``generation`` is the one that answers; ``predecessor`` the one a rollback returns to; ``next`` a run that is going
    on, which ``opens`` an epoch or does not, and which ``holds`` the workers while it moves the pointer; ``abandoned`` generations that were given up and may have left rows;
    ``highest`` the last number given out; ``workers`` the stream workers that are registered, and ``streamed`` the
    epochs that may have speed rows.
    """

    generation: int
    predecessor: int | None = None
    next: int | None = None
    abandoned: tuple[int, ...] = ()
    highest: int = 0
    opens: bool = False
    holds: bool = False
    workers: tuple[str, ...] = ()
    streamed: tuple[int, ...] = ()

    def text(self) -> str:
        return _encode(self).decode()


def read(text: str) -> Pointer:
    """The inverse of ``Pointer.text``."""
    return _decode(text)


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Pointer).decode

FIRST = Pointer(0)
"""Generation 0 counts nothing."""


def begin(pointer: Pointer, *, opens: bool = True) -> Pointer:
    """Takes a new number, never used before, and abandons an unfinished run (Batch run, 1)."""
    if pointer.next is not None:
        pointer = give_up(pointer, pointer.next, wrote=True)
    return replace(pointer, next=pointer.highest + 1, highest=pointer.highest + 1, opens=opens, holds=False)


def register(pointer: Pointer, worker: str, epoch: int) -> Pointer:
    """Lets a stream worker begin in an epoch; raises ConflictError HR0409 while a run is opening the next one (Worker, 1)."""
    if pointer.next is not None and pointer.opens:
        raise ConflictError("HR0409", "a run is about to open an epoch", help="wait until it has ended")
    workers = tuple(sorted({*pointer.workers, worker}))
    return replace(pointer, workers=workers, streamed=tuple(sorted({*pointer.streamed, epoch})))


def count_ahead(pointer: Pointer, generation: int) -> Pointer:
    """A run is about to write speed rows of the epoch that it opens; raises ConflictError HR0404 where another took over."""
    _going_on(pointer, generation)
    return replace(pointer, streamed=tuple(sorted({*pointer.streamed, generation})))


def hold(pointer: Pointer, generation: int) -> Pointer:
    """Asks all workers to deregister between two micro-batches, until the run has ended (Batch run, 4)."""
    _going_on(pointer, generation)
    return replace(pointer, holds=True)


def deregister(pointer: Pointer, worker: str) -> Pointer:
    """A clean stop: from here on a run may cut wherever it likes."""
    return replace(pointer, workers=tuple(name for name in pointer.workers if name != worker))


def take_over(pointer: Pointer) -> Pointer:
    """Does without the workers that are registered: they are dead, or will find themselves in an epoch that is past."""
    return replace(pointer, workers=())


def forget(pointer: Pointer, epochs: Collection[int]) -> Pointer:
    """Epochs whose speed rows are gone."""
    return replace(pointer, streamed=tuple(epoch for epoch in pointer.streamed if epoch not in epochs))


def publish(pointer: Pointer, generation: int) -> Pointer:
    """Moves to ``generation``; raises ConflictError where another run took over (Batch run, 4)."""
    _going_on(pointer, generation)
    return replace(pointer, generation=generation, predecessor=pointer.generation, next=None, opens=False, holds=False)


def give_up(pointer: Pointer, generation: int, *, wrote: bool) -> Pointer:
    """Abandons an unfinished run.

    One that ``wrote`` rows, or may have, wrote them over rows that only the predecessor has, so that nobody can read
    or return to the predecessor any more; and its number is named, as its rows stay. One that did not is as if it had
    never been, its number aside.
    """
    if pointer.next != generation:
        return pointer
    if not wrote:
        return replace(pointer, next=None, opens=False, holds=False)
    return replace(
        pointer, next=None, opens=False, holds=False, predecessor=None, abandoned=(*pointer.abandoned, generation)
    )


def roll_back(pointer: Pointer) -> Pointer:
    """Returns to the predecessor, once, while no run is going on (Rollback)."""
    if pointer.predecessor is None or pointer.next is not None:
        why = "a run is going on" if pointer.next is not None else "there is no predecessor"
        raise ConflictError("HR0405", f"cannot roll back: {why}", help="headrace run")
    return replace(
        pointer, generation=pointer.predecessor, predecessor=None, abandoned=(*pointer.abandoned, pointer.generation)
    )


def still_valid(seen: int, now: Pointer) -> bool:
    """The reader's second look: rows read at generation ``seen`` are whole (Reader, 3)."""
    return now.generation == seen or (now.predecessor == seen and now.next is None and seen not in now.abandoned)


def _going_on(pointer: Pointer, generation: int) -> None:
    if pointer.next != generation:
        raise ConflictError("HR0404", f"generation {generation} was abandoned by another run", help="headrace run")
