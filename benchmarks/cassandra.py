"""Suite ``cassandra``: rows into one node, and answers out of it, against the driver itself on the same node.

The peer that writes is a loop as a specialist would tune it: prepared, rows of one partition in one unlogged batch of as
many as Headrace takes, as many batches under way. It writes the same rows into the same table.
"""

from __future__ import annotations

import itertools
import json
import os
import pickle
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, Ran, Result, environment, run, run_command
from tools import services

ROWS = 300_000
SINGLES = 15_000
"""Rows that are written one by one: their rate does not depend on how many there are."""
A_PARTITION = 200
MANY = 5_000_000
STREAMS = {1_000: (1_000_000, None), 50_000: (250_000, 0.8)}
"""By subscribers, how many messages, and the goal: with few of them counting takes longer than writing, with many nearly
every message is a row."""
KEYSPACE = "headrace_bench"
FULL_COMPILER = {"HEADRACE_SERVICES_JAVA": "-XX:TieredStopAtLevel=4"}


def suite(work: Path, rounds: int, *, peers: bool) -> Result:
    result = Result("cassandra")
    os.environ |= FULL_COMPILER
    with services.cassandra(heap="1g") as node:
        at = [node.host, str(node.port)]
        run("benchmarks.cassandra", "put", *at, str(ROWS))  # the node's compiler has to see it once
        writing(result, work, rounds, at, peers=peers)
        reading(result, work, rounds, at)
        streaming(result, work, rounds, at)
    return result


def writing(result: Result, work: Path, rounds: int, at: list[str], *, peers: bool) -> None:
    names = {"put": "Headrace", "loop": "a tuned loop", "singles": "execute() a row"}
    rates: dict[str, list[float]] = {what: [] for what in names}
    for _ in range(rounds):
        for what, name in names.items():
            ran = run("benchmarks.cassandra", what, *at, str(SINGLES if what == "singles" else ROWS))
            result.runs.setdefault(f"publish, {name}", []).append(ran)
            rates[what].append(ran.report["rate"])
    ours, tuned, single = (statistics.median(rates[what]) for what in names)
    result.figures += [
        Figure("rows published: Headrace / a tuned loop of the driver", ours / tuned, at_least=0.9, detail=f"{ours / 1000:,.0f} k/s, {tuned / 1000:,.0f} k/s"),
        Figure("rows published: Headrace / execute() a row", ours / single, at_least=3, detail=f"{single / 1000:,.1f} k/s"),
    ]  # fmt: skip
    some, many = (run("benchmarks.cassandra", "put", *at, str(rows)) for rows in (MANY // 5, MANY))
    result.runs["publish, a million rows"], result.runs["publish, five million"] = [some], [many]
    result.figures.append(
        Figure("memory for five million rows / for one", many.rss_mb / some.rss_mb, at_most=1.1, detail=f"{many.rss_mb} MB, {some.rss_mb} MB; {many.report['rate'] / 1000:,.0f} k/s")
    )  # fmt: skip
    if peers:
        python = environment(work / "scylla-driver", "scylla-driver==3.29.12", "msgspec")
        theirs = []
        for _ in range(rounds):
            ran = run_command([python, "-m", "benchmarks.cassandra", "put", *at, str(ROWS)])
            result.runs.setdefault("publish, Headrace with scylla-driver", []).append(ran)
            theirs.append(ran.report["rate"])
        rate = statistics.median(theirs)
        result.figures.append(
            Figure("rows published: with scylla-driver / with cassandra-driver", rate / ours, detail=f"{rate / 1000:,.0f} k/s")
        )  # fmt: skip


def reading(result: Result, work: Path, rounds: int, at: list[str]) -> None:
    """20 rows of one partition, by HTTP: from Headrace, and from a handler that does nothing but ask the same."""
    from benchmarks import landing as data
    from benchmarks import rest

    folder = data.project(work / "rest-cassandra")
    settings = {
        "HEADRACE_INBOX__PATH": str(data.landing(work, 1).resolve()),
        "HEADRACE_INBOX__QUIET": "0",
        "HEADRACE_CASSANDRA__HOSTS": at[0],
        "HEADRACE_CASSANDRA__PORT": at[1],
        "HEADRACE_CASSANDRA__KEYSPACE": f"rest_{time.time_ns()}",
        "HEADRACE_CASSANDRA__REPLICAS": "1",
    }
    command = [sys.executable, "-m", "headrace", "--project", str(folder)]
    run_command([*command, "run"], environment=settings)
    token = rest.output([*command, "key", "create", "bench"], settings)
    orgs = json.loads(rest.output([*command, "query", "orgs", "--json"], settings))["rows"]
    paths = rest.paths_of(sorted({row["org_id"] for row in orgs}))
    uvicorn = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "error", "--loop", "uvloop"]
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(rest.serving(work, [*program, "--port", "{port}"], settings, paths[0], token))
            for name, program in {
                "Headrace, API key": [*command, "serve"],
                "bare ASGI": [*uvicorn, "--http", "httptools", "benchmarks.peers.rest_cassandra:app"],
            }.items()
        }
        result.notes.append(rest.same(servers, paths, token))
        loads = rest.measured(work, servers, paths, token, rounds)
        peaks = {name: server.peak.rss_mb for name, server in servers.items()}
    for name, found in loads.items():
        result.runs[f"REST, {name}"] = [Ran(rest.SECONDS, load["cpu"], peaks[name], dict(load)) for load in found]
    clock = {name: statistics.median(load["rate"] for load in found) for name, found in loads.items()}
    p99 = {name: statistics.median(load["p99_ms"] for load in found) for name, found in loads.items()}
    ours, bare = loads
    told = "; ".join(f"{name} {clock[name]:,.0f} a second, p99 {p99[name]:.1f} ms" for name in loads)
    result.figures.append(
        Figure("20 rows by REST: Headrace / a bare ASGI handler with the same statements", clock[ours] / clock[bare], at_least=0.7, detail=told)
    )  # fmt: skip


def streaming(result: Result, work: Path, rounds: int, at: list[str]) -> None:
    """Kafka to Cassandra, exactly once, in rows written for a second, against a loop that does nothing but write them."""
    from benchmarks import stream

    settings = {
        "HEADRACE_CASSANDRA__HOSTS": at[0],
        "HEADRACE_CASSANDRA__PORT": at[1],
        "HEADRACE_CASSANDRA__REPLICAS": "1",
    }
    with services.kafka(heap="384m") as broker:
        for subscribers, (messages, goal) in STREAMS.items():
            name = f"{subscribers:,} subscribers"
            rates: dict[str, list[float]] = {"stream": [], "loop": []}
            for number in range(rounds):
                topic = f"calls.{number}.{time.time_ns()}"
                given = {**settings, "HEADRACE_CASSANDRA__KEYSPACE": f"stream_{time.time_ns()}"}
                folder = stream.project(work / "stream-cassandra", broker.address, topic)
                run("benchmarks.stream", "publish", folder, environment=given)
                stream.produce(broker.address, topic, subscribers, count=messages)
                run("benchmarks.stream", "record", folder, broker.address, topic, environment=given)
                loop = run("benchmarks.cassandra", "replay", *at, str(folder / stream.RECORDED))
                ours = run("benchmarks.stream", "stream", folder, broker.address, topic, environment=given)
                if ours.report["events"] != messages:
                    raise SystemExit(f"the stream counted {ours.report}, and {messages} messages were sent")
                result.runs.setdefault(f"stream, {name}", []).append(ours)
                result.runs.setdefault(f"the same rows by a tuned loop, {name}", []).append(loop)
                rates["stream"].append(ours.report["rows"] / ours.report["seconds"])
                rates["loop"].append(loop.report["rate"])
            written, tuned = (statistics.median(found) for found in rates.values())
            report = result.runs[f"stream, {name}"][-1].report
            told = f"{written / 1000:,.1f} k rows/s and {report['records'] / report['seconds'] / 1000:,.1f} k messages/s; {tuned / 1000:,.1f} k rows/s"
            result.figures.append(
                Figure(f"{name}: rows written by the stream / by a tuned loop that has them already", written / tuned, at_least=goal, detail=told)
            )  # fmt: skip


# What runs in a process of its own


def rows(count: int) -> Iterator[tuple[Any, ...]]:
    """Hours of subscribers, as a run publishes them: in order of key."""
    for i in range(count):
        subscriber, hour = divmod(i, A_PARTITION)
        yield (f"27{subscriber:09d}", hour * 3_600_000_000, i * 977, i * 31, "12.3400", i % 60, 1 + i % 9, 0, 1)


def main(what: str, host: str, port: str, count: str) -> None:
    if what == "replay":
        print(json.dumps(replay(host, int(port), Path(count))))
        return
    from headrace.adapters.cassandra_session import IN_FLIGHT, Address
    from headrace.adapters.cassandra_store import TOGETHER, CassandraStore
    from headrace.model.mart import Part
    from headrace.model.serving import ServingTable
    from headrace.model.types import Column, Type
    from headrace.sql import cql

    whole = Type("BIGINT")
    parts = [Part(name, "sum", "", whole) for name in ("up", "down")]
    parts += [Part("cost", "sum", "", Type("DECIMAL", 18, 4)), Part("seconds", "sum", "", whole)]
    key = [Column("msisdn", Type("VARCHAR")), Column("hour", Type("TIMESTAMP"))]
    table = ServingTable(
        "usage_1", "usage", of_mart=True, partition=(key[0],), clustering=(key[1],), parts=tuple(parts)
    )
    store = CassandraStore(Address((host,), int(port), KEYSPACE, replicas=1))
    store.create(table)
    session, insert = store.connected.session, store.connected.prepared(cql.insert_sql(KEYSPACE, table))
    wanted = int(count)
    written = ((*row, 0, 0, 1) for row in rows(wanted))  # nulls, bucket, timestamp
    started = time.perf_counter()
    if what == "put":
        store.put(table, rows(wanted))
    elif what == "singles":
        for row in written:
            session.execute(insert, row)
    else:
        loop(session, insert, written, TOGETHER, IN_FLIGHT)
    seconds = time.perf_counter() - started
    print(json.dumps({"rate": wanted / seconds, "seconds": seconds}))
    store.close()


def replay(host: str, port: int, recorded: Path) -> dict[str, float]:
    """What a stream would have written, written."""
    from headrace.adapters.cassandra_session import IN_FLIGHT, Address
    from headrace.adapters.cassandra_store import TOGETHER, CassandraStore, whole
    from headrace.sql import cql

    store = CassandraStore(Address((host,), port, f"replay_{time.time_ns()}", replicas=1))
    puts, tables = [], set()
    with recorded.open("rb") as file:
        while True:
            try:
                table, epoch, lane, start, fence, found = pickle.load(file)  # noqa: S301  # our own
            except EOFError:
                break
            if table.name not in tables:
                store.create(table)
                tables.add(table.name)
            key = len(table.key)
            written = [
                (*row[:key], *whole(table, row[key:-1])[0], row[-1], lane, start, fence, 0, epoch, 0, fence)
                for row in found
            ]
            insert = store.connected.prepared(cql.insert_sql(store.address.keyspace, table, speed=True))
            within = len(table.partition)
            puts.append((insert, within, sorted(written, key=lambda row: row[:within])))
    started, count = time.perf_counter(), 0
    for insert, within, written in puts:
        loop(store.connected.session, insert, iter(written), TOGETHER, IN_FLIGHT, within)
        count += len(written)
    seconds = time.perf_counter() - started
    store.close()
    return {"rate": count / seconds, "rows": count, "seconds": seconds}


def loop(
    session: Any, insert: Any, written: Iterator[tuple[Any, ...]], together: int, in_flight: int, within: int = 1
) -> None:
    from cassandra.query import BatchStatement, BatchType

    room, errors = threading.Semaphore(in_flight), list[Exception]()

    def done(_: object) -> None:
        room.release()

    def failed(error: Exception) -> None:
        errors.append(error)
        room.release()

    for _, rows_of_one in itertools.groupby(written, key=lambda row: row[:within]):
        while some := list(itertools.islice(rows_of_one, together)):
            batch = BatchStatement(BatchType.UNLOGGED)
            for row in some:
                batch.add(insert, row)
            room.acquire()
            session.execute_async(batch).add_callbacks(done, failed)
    for _ in range(in_flight):
        room.acquire()
    if errors:
        raise errors[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
