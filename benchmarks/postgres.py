"""Suite ``postgres``: publishing rows to PostgreSQL, against the driver's own ways, on one server in one run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measure import Figure, Result, run
from headrace.adapters.postgres_store import PostgresStore
from headrace.testing.store import SALES, sale
from tools import services

ROWS = 500_000
BATCH = 10_000
"""Rows at a time, as a publication has them."""
COLUMNS = (*SALES.columns, "_slot", "_gen")
KEY = ("shop", "day", "hour", "_slot")
OTHERS = ", ".join(f"{c} = excluded.{c}" for c in COLUMNS if c not in KEY)
UPSERT = f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {OTHERS} WHERE excluded._gen > t._gen"
WAYS = ("headrace", "executemany", "copy")


def suite(work: Path, rounds: int) -> Result:
    result = Result("postgres", runs={way: [] for way in WAYS})
    with services.postgres() as server:
        for _ in range(rounds):
            for way in WAYS:
                result.runs[way].append(run("benchmarks.postgres", way, server.address))
    rates = {
        way: {part: sorted(r.report[part] for r in result.runs[way])[rounds // 2] for part in ("new", "again")}
        for way in WAYS
    }
    told = f"{ROWS:,} rows in order of key, {BATCH:,} a transaction; rows/s of "
    for part, name in (("new", "new rows"), ("again", "the same rows of a later generation")):
        for peer in WAYS[1:]:
            if rates[peer][part]:
                figures = ", ".join(f"{way} {rates[way][part]:,.0f}" for way in ("headrace", peer))
                ratio = rates["headrace"][part] / rates[peer][part]
                result.figures.append(Figure(f"put / {peer}, {name}", ratio, detail=told + figures))
    result.notes.append(
        "executemany: the same upsert, pipelined; copy: into the table itself, which no second write survives"
    )
    return result


def rows(generation: int) -> list[tuple[Any, ...]]:
    """In order of key, as publications are."""
    return [sale(f"+27{n // 24:09}", "2024-01-01", n % 24, f"{n}.25", n, gen=generation) for n in range(ROWS)]


def batches(generation: int) -> Iterator[list[tuple[Any, ...]]]:
    made = rows(generation)
    return (made[first : first + BATCH] for first in range(0, ROWS, BATCH))


def main(way: str, url: str) -> None:
    """Writes all rows, and again as a later generation; reports rows a second."""
    store = PostgresStore(url, schema="bench")
    store.drop(SALES.name)
    store.create(SALES)
    connection = psycopg.connect(url, autocommit=True)
    names = ", ".join(COLUMNS)
    upsert = (
        f"INSERT INTO bench.{SALES.name} AS t ({names}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) {UPSERT}".encode()
    )

    def write(some: list[tuple[Any, ...]]) -> None:
        if way == "headrace":
            store.put(SALES, some)
        elif way == "executemany":
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(upsert, some)
        else:
            with connection.cursor() as cursor, cursor.copy(f"COPY bench.{SALES.name} FROM STDIN".encode()) as copy:
                for row in some:
                    copy.write_row(row)

    report = {"new": 0.0, "again": 0.0}
    for generation, part in enumerate(report, 1):
        if way == "copy" and generation == 2:
            continue
        waiting = list(batches(generation))
        started = time.perf_counter()
        for some in waiting:
            write(some)
        report[part] = ROWS / (time.perf_counter() - started)
        found = connection.execute(
            f"SELECT count(*), min(_gen), sum(visits) FROM bench.{SALES.name}".encode()
        ).fetchone()
        if found != (ROWS, generation, ROWS * (ROWS - 1) // 2):
            raise SystemExit(f"{way} wrote {found}")
    connection.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
