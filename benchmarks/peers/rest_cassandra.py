"""A bare ASGI application over Cassandra: it asks what Headrace asks, the rows and then the pointer, by the same driver; no
authentication, no checks, no framework."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import tuple_factory

from benchmarks.peers.rows import COLUMNS

KEYSPACE = os.environ["HEADRACE_CASSANDRA__KEYSPACE"]
profile = ExecutionProfile(
    load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()),
    consistency_level=ConsistencyLevel.LOCAL_QUORUM,
    row_factory=tuple_factory,
)
session = Cluster(
    [os.environ["HEADRACE_CASSANDRA__HOSTS"]],
    port=int(os.environ["HEADRACE_CASSANDRA__PORT"]),
    protocol_version=5,
    execution_profiles={EXEC_PROFILE_DEFAULT: profile},
).connect(KEYSPACE)


def table() -> str:
    """The one that serves ``usage_page``."""
    columns: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    found = session.execute(
        "SELECT table_name, column_name, kind, position FROM system_schema.columns WHERE keyspace_name = %s",
        (KEYSPACE,),
    )
    for name, column, kind, position in found:
        columns.setdefault(name, set()).add(column)
        if kind == "partition_key" and position == 0:
            first[name] = column
    for name, have in columns.items():
        if first[name] == "org_id" and set(COLUMNS) <= have and "_slot" in have:
            return name
    raise SystemExit("the keyspace has no table with the rows of usage_page")


names = ", ".join(f'"{name}"' for name in [*COLUMNS, "_nulls", "_records"])
select = session.prepare(
    f'SELECT {names} FROM "{table()}" WHERE org_id = ? AND "_bucket" = 0 AND usage_date >= ? AND usage_date <= ? LIMIT ?'
)
pointer = session.prepare("SELECT value FROM control WHERE name = 'pointer'")
Row = msgspec.defstruct("Row", [(name, Any) for name in COLUMNS], gc=False)
encode = msgspec.json.Encoder().encode
Message = dict[str, Any]
ZEROS = [at for at, name in enumerate(COLUMNS) if name in {"requests", "cpu_hours", "storage_gb_hours"}]
"""Parts of which NULL is answered as zero."""


def valued(row: tuple[Any, ...]) -> list[Any]:
    values = [None if value == "" else value for value in row[: len(COLUMNS)]]
    for at in ZEROS:
        values[at] = values[at] or "0.0000"
    values[-1] = values[-1] or None  # no tokens at all is NULL
    return values


async def rows_of(statement: Any, values: tuple[Any, ...] = ()) -> Any:
    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    future = session.execute_async(statement, values)
    future.add_callbacks(
        lambda rows: loop.call_soon_threadsafe(answered.set_result, rows),
        lambda error: loop.call_soon_threadsafe(answered.set_exception, error),
    )
    return await answered


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    given = dict(part.split("=", 1) for part in scope["query_string"].decode().split("&"))
    rows = await rows_of(select, (given["org"], given["from"], given["to"], int(given["limit"])))
    await rows_of(pointer)
    body = encode({"query": "usage_page", "rows": [Row(*valued(row)) for row in rows]})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
