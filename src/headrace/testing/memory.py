"""A lake in memory: versions are kept here, only the Parquet files are on disk."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.errors import ConflictError
from headrace.ports import Snapshot


class MemoryLake:
    """Tables of one process; files go below ``folder``."""

    _lakes: dict[Path, MemoryLake] = {}  # noqa: RUF012 - shared on purpose, see ``at``

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions: dict[str, list[Snapshot]] = {}
        self._ends: dict[str, list[dict[str, int]]] = {}
        self._lock = threading.Lock()
        self._number = itertools.count()

    @classmethod
    def at(cls, folder: Path) -> MemoryLake:
        """The one lake of a folder."""
        return cls._lakes.setdefault(folder, cls(folder))

    def snapshot(self, table: str, version: int | None = None) -> Snapshot | None:
        versions = self._versions.get(table)
        return versions[-1 if version is None else version] if versions else None

    def new_file(self, table: str) -> str:
        return str(self.folder / table / f"{next(self._number):08d}.parquet")

    def commit(
        self,
        table: str,
        add: Sequence[tuple[str, int]],
        *,
        keep: Sequence[str] | None,
        base: Snapshot | None,
        transactions: Mapping[str, int] | None = None,
    ) -> int:
        with self._lock:
            known = self._versions.get(table, [])
            if (known[-1].version if known else None) != (base.version if base else None):
                raise ConflictError("HR0404", f"{table} changed while it was being written", help="headrace run")
            versions, ends = self._versions.setdefault(table, []), self._ends.setdefault(table, [])
            ends.append({**(ends[-1] if ends else {}), **(transactions or {})})
            kept = keep if keep is not None else (base.files if base else ())
            versions.append(Snapshot(len(versions), (*sorted(kept), *(path for path, _ in add)), ends[-1].get))
            return len(versions) - 1

    def tables(self) -> Sequence[str]:
        return sorted(self._versions)

    def forget(self, table: str, keep_versions: Sequence[int], older_than_hours: float) -> int:
        newest = self.snapshot(table)
        if newest is None:
            return 0
        used = {*newest.files, *(file for v in keep_versions for file in self._versions[table][v].files)}
        horizon = time.time() - older_than_hours * 3600
        files = (self.folder / table).glob("*.parquet")
        unused = [str(f) for f in files if str(f) not in used and f.stat().st_mtime < horizon]
        for file in unused:
            os.unlink(file)
        return len(unused)
