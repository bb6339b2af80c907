"""A bare ASGI application: one path, the same rows, msgspec; no authentication, no checks, no framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from benchmarks.peers.rows import COLUMNS, connect

connection, sql = connect()
Row = msgspec.defstruct("Row", [(name, Any) for name in COLUMNS], gc=False)
encode = msgspec.json.Encoder().encode
Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    given = dict(part.split("=", 1) for part in scope["query_string"].decode().split("&"))
    rows = connection.execute(sql, (given["org"], given["from"], given["to"], int(given["limit"]))).fetchall()
    body = encode({"query": "usage_page", "rows": [Row(*row) for row in rows]})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
