"""rollback: back to the predecessor, whose rows and versions are still there."""

from __future__ import annotations

from headrace.errors import ConflictError
from headrace.flow.control import POINTER, pointer_of
from headrace.ports import Store
from headrace.seam import pointer as pointers


def rollback(store: Store) -> int:
    """Moves the pointer back and gives the generation that answers now; raises ConflictError HR0405."""
    old = pointer_of(store)
    new = pointers.roll_back(old)
    if not store.compare_and_set(POINTER, old.text(), new.text()):
        raise ConflictError("HR0404", "the pointer moved: another run is going on", help="headrace status")
    return new.generation
