"""The store's control rows as what they say: the pointer, generations, epochs, and how far the stream is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.ports import Store
from headrace.seam import epoch as epochs
from headrace.seam import generation as generations
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.generation import EMPTY, Generation
from headrace.seam.pointer import Pointer

POINTER = "pointer"


def pointer_of(store: Store) -> Pointer:
    """The pointer as it is now; generation 0 where there is none."""
    text = store.control(POINTER)
    return pointers.read(text) if text is not None else pointers.FIRST


def made_pointer(store: Store) -> Pointer:
    """The pointer, which whoever comes first makes: it can only be moved once it is there."""
    text = store.control(POINTER)
    if text is not None:
        return pointers.read(text)
    store.compare_and_set(POINTER, None, pointers.FIRST.text())
    return pointer_of(store)


def change_pointer(store: Store, change: Callable[[Pointer], Pointer]) -> Pointer:
    """Moves the pointer to what ``change`` makes of it, however often others move it meanwhile; raises what that does."""
    while True:
        old = made_pointer(store)
        new = change(old)
        if new == old or store.compare_and_set(POINTER, old.text(), new.text()):
            return new


def generation_of(store: Store, number: int) -> Generation:
    """A generation; an empty one where it is not recorded."""
    text = store.control(generations.control_name(number))
    return generations.read(text) if text is not None else EMPTY


def epoch_of(store: Store, number: int) -> Epoch:
    """An epoch; where it is not recorded, one that nobody can stream in, as no code is its code."""
    text = store.control(epochs.control_name(number))
    return epochs.read(text) if text is not None else Epoch(number, 1)


def reached(store: Store, name: str) -> tuple[int, str]:
    """A row that only rises: the offset that it has reached and what is noted with it; 0 where there is none."""
    return _risen(store.control(name))


def progress_of(store: Store, epoch: int, lanes: Iterable[str]) -> dict[str, tuple[int, str, str]]:
    """How far the stream is in each lane: the offset below which everything is counted, the newest event time there, and
    the log's mark of a record below it; empty where there is none."""
    names = {lane: epochs.progress_name(epoch, lane) for lane in lanes}
    found = {}
    for lane, text in zip(names, store.controls(list(names.values())), strict=True):
        offset, noted = _risen(text)
        as_of, _, mark = noted.partition(" ")
        found[lane] = offset, as_of, mark
    return found


def _risen(text: str | None) -> tuple[int, str]:
    offset, _, noted = (text or "0").partition(" ")
    return int(offset), noted
