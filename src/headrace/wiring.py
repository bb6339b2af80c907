"""Names to adapters; the only place that imports adapters by name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.ports import Engine, Inbox, Lake, Store


def engine(folder: Path, settings: Settings) -> Engine:
    from headrace.adapters.duckdb_engine import DuckDBEngine

    spill = folder / ".headrace" / "spill"
    return DuckDBEngine(memory=settings["engine.memory"], threads=settings["engine.threads"] or None, spill=str(spill))


def binder() -> Engine:
    """An engine for names and types only: it never sees data."""
    from headrace.adapters.duckdb_engine import DuckDBEngine

    return DuckDBEngine(memory="128MB", threads=1)


def inbox(folder: Path, settings: Settings) -> Inbox:
    from headrace.adapters.folder_inbox import FolderInbox

    return FolderInbox(folder / settings["inbox.path"], settings["inbox.quiet"])


def lake(folder: Path, settings: Settings) -> Lake:
    from headrace.adapters.delta_lake import DeltaLake

    return DeltaLake(folder / settings["lake.path"])


def store(folder: Path, settings: Settings) -> Store:
    from headrace.adapters.sqlite_store import SQLiteStore

    return SQLiteStore(folder / settings["store.path"])


def run_lock(folder: Path) -> AbstractContextManager[None]:
    from headrace.adapters.file_lock import held

    return held(folder / ".headrace" / "run.lock")
