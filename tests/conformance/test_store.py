"""The SQLite store keeps what the port promises."""

from __future__ import annotations

from pathlib import Path

from headrace.adapters.sqlite_store import SQLiteStore
from headrace.ports import Store
from headrace.testing.store import StoreSuite


class TestSQLite(StoreSuite):
    def open(self, place: Path) -> Store:
        return SQLiteStore(place / "store.db")
