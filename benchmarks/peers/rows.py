"""What the servers that Headrace is compared with read: the same rows of the same SQLite file."""

from __future__ import annotations

import os
import sqlite3

COLUMNS = [
    "usage_date",
    "service",
    "cost_usd",
    "requests",
    "cpu_hours",
    "storage_gb_hours",
    "carbon_kg",
    "genai_tokens",
]
VALUES = [
    f"coalesce({c}, '0.0000')" if c in {"requests", "cpu_hours", "storage_gb_hours"} else c for c in COLUMNS
]  # as the mart has it
SQL = (
    'SELECT {} FROM "{}" WHERE org_id = ? AND usage_date >= ? AND usage_date <= ? AND _records > 0 '
    "ORDER BY org_id, usage_date, service LIMIT ?"
)  # fmt: skip


def connect() -> tuple[sqlite3.Connection, str]:
    """A connection to the store that BENCH_STORE names, and the statement for the table that serves ``usage_page``."""
    connection = sqlite3.connect(os.environ["BENCH_STORE"], check_same_thread=False, isolation_level=None)
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'org_daily_usage_by_service%'"
    ).fetchall():
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')]
        if columns[0] == "org_id" and set(COLUMNS) <= set(columns):
            return connection, SQL.format(", ".join(VALUES), name)
    raise SystemExit("the store has no table with the rows of usage_page")
