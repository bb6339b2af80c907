"""FastAPI as its tutorial shows it: async, a response_model, no authentication."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel

from benchmarks.peers.rows import COLUMNS, connect

connection, sql = connect()
app = FastAPI()


class Row(BaseModel):
    usage_date: str
    service: str
    cost_usd: str | None
    requests: str | None
    cpu_hours: str | None
    storage_gb_hours: str | None
    carbon_kg: str | None
    genai_tokens: int | None


class Answer(BaseModel):
    query: str
    rows: list[Row]


@app.get("/v1/queries/usage_page", response_model=Answer)
async def usage_page(
    org: str, since: Annotated[dt.date, Query(alias="from")], to: dt.date, limit: int = 20
) -> dict[str, object]:
    rows = connection.execute(sql, (org, since.isoformat(), to.isoformat(), limit)).fetchall()
    return {"query": "usage_page", "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}
