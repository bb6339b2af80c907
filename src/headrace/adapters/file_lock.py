"""One run at a time, and one who lands at a time: an advisory lock on a file, which the system gives up when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from headrace.errors import ConflictError


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Holds the lock, or raises ConflictError HR0401 at once naming who does. Politeness: correctness does not rest on it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 100).decode(errors="replace").strip()
            raise ConflictError(
                "HR0401", f"another run is going on (process {holder})", help="wait for it: headrace status"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def waited_for(file: Path) -> Iterator[None]:
    """Holds the lock, when everybody who came before has given it back."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
