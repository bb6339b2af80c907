"""The tables of a project on a real Cassandra node: planned, applied, damaged by the clock, and mended."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.cassandra_session import Address, Connected
from headrace.adapters.cassandra_store import CassandraStore
from headrace.errors import OutsideError
from headrace.flow.advice import advise
from headrace.flow.canary import EVERY, Watch
from headrace.flow.control import generation_of, pointer_of
from headrace.flow.plan import Plan
from headrace.seam.generation import stored
from headrace.sql import cql
from tests.flow.test_tables import DAYS, DECLARATIONS, FILES, Limited, buckets, everything, limited, sales
from tests.kit import ProjectFolder, Quiet
from tools import services

SMALL = 60
"""Rows that a partition may have, so that tables are cut."""


class Live:
    """The project of tills with its tables in a keyspace of its own."""

    def __init__(self, folder: Path, node: services.Node) -> None:
        self.project = ProjectFolder(folder, DECLARATIONS, FILES)
        self.keyspace = f"k{abs(hash(str(folder))):x}"
        self.project.write(
            "headrace.toml",
            f'[inbox]\nquiet = 0.0\n[engine]\nmemory = "256MB"\nthreads = 1\n[cassandra]\nhosts = "{node.host}"\nport = {node.port}\n'
            f'keyspace = "{self.keyspace}"\nreplicas = 1\npartition_rows = 100000\npatience = 20.0\n',
        )
        self.project.land("sales_1.csv", sales())
        self.connected = Connected(Address((node.host,), node.port, self.keyspace, replicas=1, patience=20.0))

    def app(self, rows: int = 100_000) -> Limited:
        """The project opened afresh."""
        app = limited(rows)(self.project.folder)
        assert isinstance(app.store, CassandraStore)
        app.store.connected = self.connected  # one session is enough
        return app

    def cql(self, statement: str) -> list[Any]:
        """What ``statement`` gives; KS stands for the keyspace, and our own columns need no quotes."""
        text = re.sub(r"\b(_[a-z]+)\b", r'"\1"', statement.replace("KS", f'"{self.keyspace}"'))
        return list(self.connected.session.execute(text))

    def table(self, query: str, speed: bool = False) -> str:
        """The name in the keyspace of a query's table."""
        app = self.app()
        generation = generation_of(app.store, pointer_of(app.store).generation)
        table = app.project.queries[query].tables[0]
        name = cql.physical_name(stored(table, generation.tables[table.name]).name) + (cql.SPEED if speed else "")
        return f'KS."{name}"'

    def close(self) -> None:
        self.cql("DROP KEYSPACE IF EXISTS KS")
        self.connected.close()


@pytest.fixture
def live(tmp_path: Path, cassandra: services.Node) -> Iterator[Live]:
    made = Live(tmp_path, cassandra)
    yield made
    made.close()


def kinds(plan: Plan) -> list[str]:
    return [change.kind for change in plan.changes]


def test_a_keyspace_is_planned_and_applied_and_then_there_is_nothing_to_do(live: Live) -> None:
    app = live.app()
    plan = app.plan()
    assert kinds(plan) == ["make", "fill", "fill", "fill"]
    assert app.apply(Quiet()).generations == [1]
    answers = everything(live.project, live.app())
    assert not live.app().plan().changes
    ended = live.project.command("plan")
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "nothing to do")
    plan = live.app(SMALL).plan()
    assert buckets(plan) == {"days": "day", "hours": "day", "by_till": ""}
    assert kinds(plan) == ["file", "fill"] * 2
    assert live.app(SMALL).apply(Quiet()).generations == [2]
    assert kinds(live.app(SMALL).plan()) == []
    assert everything(live.project, live.app()) == answers
    cut = {row[-1] for row in live.cql(f"SELECT DISTINCT shop, _bucket FROM {live.table('days')}")}
    assert len(cut - {cql.CANARY}) == DAYS
    live.app().rollback()
    assert everything(live.project, live.app()) == answers
    assert live.app(SMALL).apply(Quiet()).generations == [3]
    assert everything(live.project, live.app()) == answers


@pytest.mark.slow
def test_what_somebody_changed_is_named_and_set_back(live: Live) -> None:
    live.app().run(Quiet())
    days, hours = live.table("days"), live.table("hours", speed=True)
    live.cql(f"ALTER TABLE {days} WITH default_time_to_live = 60")
    live.cql(f"ALTER TABLE {days} WITH compaction = {{'class': 'SizeTieredCompactionStrategy'}}")
    live.cql(f"ALTER TABLE {hours} WITH gc_grace_seconds = 0 AND comment = 'mine'")
    plan = live.app().plan()
    said = [f"{change.kind} {change.what}" for change in plan.changes]
    assert sorted(s.partition(", not")[0] for s in said if s.startswith("alter")) == [
        "alter compaction is {'class': 'SizeTieredCompactionStrategy', 'max_threshold': '32', 'min_threshold': '4'}",
        "alter default_time_to_live is 60",
        "alter gc_grace_seconds is 0",
    ]
    assert next(c.lost for c in plan.changes if "time_to_live" in c.what).startswith(
        "rows written while it was set expire"
    )
    with pytest.raises(OutsideError, match="HR0426.*default_time_to_live is 60"):
        live.app().reader.answer("by_till", {"shop": "shop00"})
    live.app().apply(Quiet())
    assert not live.app().plan().changes
    assert live.app().reader.answer("by_till", {"shop": "shop00"}).rows


@pytest.mark.slow
@pytest.mark.fault("F13")
def test_without_read_repair_nothing_starts(live: Live) -> None:
    live.app().run(Quiet())
    for table in (live.table("days"), "KS.control"):
        live.cql(f"ALTER TABLE {table} WITH read_repair = 'NONE'")
        with pytest.raises(OutsideError, match="HR0426.*read_repair is NONE"):
            live.app().reader.answer("by_till", {"shop": "shop00"})
        with pytest.raises(OutsideError, match="HR0426"):
            live.app().run(Quiet())
        ended = live.project.command("plan")
        assert ended.returncode == 1
        assert "read_repair is 'NONE', not 'BLOCKING'" in ended.stdout
        assert live.project.command("apply").returncode == 0
        assert live.app().reader.answer("by_till", {"shop": "shop00"}).rows


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "column", "truncated"])
def test_a_table_that_is_not_what_it_was_is_rebuilt_beside(live: Live, how: str) -> None:
    live.app().run(Quiet())
    answers = everything(live.project, live.app())
    days = live.table("days")
    live.cql(
        {
            "gone": f"DROP TABLE {days}",
            "column": f'ALTER TABLE {days} DROP "revenue"',
            "truncated": f"TRUNCATE {days}",
        }[how]
    )
    plan = live.app().plan()
    assert "rebuild" in kinds(plan)
    live.app().apply(Quiet())
    assert live.table("days") == days[:-1] + '_1"'
    assert not live.app().plan().changes
    assert everything(live.project, live.app()) == answers


# Foreign timestamps (F29)


def delete_a_partition(live: Live) -> None:
    table = live.table("days")
    live.cql(f"DELETE FROM {table} WHERE shop = 'shop17' AND _bucket = 0")


def overwrite_a_row(live: Live) -> None:
    live.cql(
        f"INSERT INTO {live.table('days')} (shop, _bucket, day, _slot, revenue, _records, _gen, _nulls) "
        "VALUES ('shop17', 0, '2024-01-05', 0, '1.00', 1, 1, 0)"
    )


@pytest.mark.slow
@pytest.mark.fault("F29")
@pytest.mark.parametrize("harm", [delete_a_partition, overwrite_a_row])
def test_reconcile_finds_a_foreign_timestamp_and_repairs_it(live: Live, harm: Callable[[Live], None]) -> None:
    live.app().run(Quiet())
    answers = everything(live.project, live.app())
    before = live.table("days")
    harm(live)
    assert everything(live.project, live.app()) != answers
    found = live.app().reconcile(Quiet())
    drifts = [d for d in found.tables if d.drifted]
    assert [d.repaired for d in drifts] == [d.drifted for d in drifts]
    assert found.drifted
    # What was deleted looks like rows that got lost: a generation writes them in vain, and another in a new table.
    assert found.mended_by == (2 if harm is overwrite_a_row else 3)
    assert live.table("days") == before[:-1] + '_1"'
    assert everything(live.project, live.app()) == answers
    assert live.app().reconcile(Quiet()).drifted == 0
    live.project.land("sales_2.csv", sales(range(DAYS, DAYS + 3)))
    live.app().run(Quiet())
    assert live.app().reconcile(Quiet()).drifted == 0


@pytest.mark.slow
@pytest.mark.fault("F29")
def test_a_foreign_timestamp_on_a_row_that_nobody_reads_is_found(live: Live) -> None:
    """It would stand in the way of a later generation."""
    live.app().run(Quiet())
    live.cql(
        f"INSERT INTO {live.table('days')} (shop, _bucket, day, _slot, revenue, _records, _gen, _nulls) "
        "VALUES ('shop17', 0, '2024-01-05', 1, '1.00', 1, 0, 0)"
    )
    found = live.app().reconcile(Quiet())
    assert (found.drifted, found.mended_by) == (0, 2)
    assert list(found.damaged.values()) == ["1 row(s) have a timestamp that is not ours"]
    found = live.app().reconcile(Quiet())
    assert (found.drifted, found.damaged, found.mended_by) == (0, {}, None)


@pytest.mark.slow
@pytest.mark.fault("F29")
def test_the_canary_tells_of_what_befell_the_whole_table(live: Live) -> None:
    live.app().run(Quiet())
    answers = everything(live.project, live.app())
    app = live.app()
    tables = [
        stored(t, generation_of(app.store, 1).tables[t.name]) for q in app.project.queries.values() for t in q.tables
    ]
    assert app.inspect is not None
    assert not app.inspect.damaged(tables)
    harms = {
        "were deleted by the clock, or truncated": f"DELETE FROM {live.table('days')} WHERE shop = '' AND _bucket = {cql.CANARY}",
        "expire": f"UPDATE {live.table('hours')} USING TTL 100 AND TIMESTAMP 1 SET _nulls = 0 WHERE shop = '' AND _bucket = {cql.CANARY} AND hour = 0 AND till = '' AND day = '' AND _slot = 0",
        "were written with the timestamp": f"INSERT INTO {live.table('by_till', speed=True)} (shop, _bucket, _epoch, till, _lane, _start, _nulls) VALUES ('', {cql.CANARY}, 0, '', '', 0, 0)",
    }
    for statement in harms.values():
        live.cql(statement)
    found = app.inspect.damaged(tables)
    assert len(found) == 3
    for what in harms:
        assert sum(what in text for text in found.values()) == 1
    assert [d["what"] for d in live.app().status()["damaged"]] == sorted(found.values()) or live.app().status()[
        "damaged"
    ]
    assert [f.check for f in live.app().doctor() if not f.ok] == ["canary"]
    said: list[str] = []
    moment = [0.0]
    watch = Watch(app.project, app.store, app.inspect, said.append, clock=lambda: moment[0])
    for moment[0] in (0.0, EVERY - 1, EVERY + 1):
        watch.look()
    assert len(said) == 3, "each is said once"
    quiet = Quiet()
    live.app().run(quiet)  # which heals them all
    assert len(quiet.alarms) == 3
    assert "HR0427" in quiet.alarms[0]
    assert all(f.ok for f in live.app().doctor())
    assert everything(live.project, live.app()) == answers
    assert live.app().reconcile(Quiet()).drifted == 0


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(3))
def test_an_apply_that_is_killed_is_done_by_the_next(live: Live, moment: int, seed: int) -> None:
    """At any call of a port: answers stay, and the next one ends with nothing to do."""
    live.app().run(Quiet())
    answers = everything(live.project, live.app())
    rnd = random.Random(f"{seed} {moment}")
    at = 18 * moment + rnd.randrange(18)
    child = multiprocessing.get_context("spawn").Process(target=apply_and_die, args=(live.project.folder, at))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL, (seed, at)
    assert everything(live.project, live.app()) == answers, (seed, at)
    live.app(SMALL).apply(Quiet())
    assert not live.app(SMALL).plan().changes, (seed, at)
    assert everything(live.project, live.app()) == answers, (seed, at)
    live.app(SMALL).rollback()
    assert everything(live.project, live.app()) == answers, (seed, at)


def apply_and_die(folder: Path, at: int) -> None:
    """An apply that kills its process at its ``at``-th statement or file."""
    from headrace.adapters import cassandra_session
    from headrace.declare import tables as declared

    left = at

    def counted(call: Any) -> Any:
        def counting(*given: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*given, **named)

        return counting

    for name in ("define", "write", "rows", "serially"):
        setattr(cassandra_session.Connected, name, counted(getattr(cassandra_session.Connected, name)))
    declared.write = counted(declared.write)
    limited(SMALL)(folder).apply(Quiet())


@pytest.mark.slow
def test_what_is_stored_is_shown_and_advised_about(live: Live) -> None:
    live.app().run(Quiet())
    got = live.project.command("table", "get", "days", "shop=shop17", "from=2024-01-05", "to=2024-01-05", "--json")
    (partition,) = json.loads(got.stdout)["partitions"]
    (row,) = partition["batch"]
    assert (row["day"], row["_gen"], row["writetime"], row["ttl"]) == ("2024-01-05", 1, 1, None)
    app = live.app()
    assert rules(app) == ["replication"]
    days = live.table("days")
    live.cql("CREATE TABLE KS.mine (a int PRIMARY KEY)")
    live.cql(f"CREATE INDEX some ON {days} (revenue)")
    live.cql(f"ALTER TABLE {days} WITH default_time_to_live = 9")
    assert rules(app) == ["foreign mine", "foreign some", "option", "replication"]
    live.cql(f"ALTER TABLE {days} WITH default_time_to_live = 0")
    live.project.write("queries/days.sql", "SELECT day, count(*) AS n FROM tills WHERE shop = $shop GROUP BY day")
    live.app().run(Quiet())
    live.app().run(Quiet(), full=True)
    assert rules(live.app()) == ["foreign mine", "foreign some", "replication", "unused"]
    ended = live.project.command("cluster", "status")
    assert ended.returncode == 0, ended.stderr
    assert "all 1 node(s) up; answers and writes go on with 0 down" in ended.stdout
    ended = live.project.command("doctor")
    assert (ended.returncode, ended.stdout.count("ok  ")) == (0, 14), ended.stdout


def rules(app: Limited) -> list[str]:
    found = advise(app.plan(), app.inspect, "LOCAL_QUORUM")
    return sorted(f"{a.rule} {a.table}" if a.rule == "foreign" else a.rule for a in found)


@pytest.mark.slow
def test_skew_asks_the_cluster_for_its_ring(live: Live, tmp_path: Path) -> None:
    refused = live.project.command("skew", "days", "--live")
    assert "HR0403" in refused.stderr
    live.app().run(Quiet())
    found = json.loads(live.project.command("skew", "days", "--live", "--json").stdout)
    ring = live.connected.cluster.metadata.token_map.ring
    assert found["ring"] == {
        "nodes": [{"name": "127.0.0.1", "shards": 1}],
        "rf": 1,
        "ranges": len(ring),
        "tablets": False,
        "ignore_msb": 0,
    }
    tokens = {row[0]: row[1] for row in live.cql(f"SELECT shop, token(shop, _bucket) FROM {live.table('days')}")}
    for one in found["top"]:
        assert one["token"] == tokens[one["key"][0]], "what the node itself says"
        assert one["replicas"] == [{"node": "127.0.0.1", "shard": 0}]
    names = {live.table("days").split('"')[1], live.table("days", speed=True).split('"')[1]}
    assert {one["table"] for one in found["stored"]} <= names
    file = tmp_path / "some.csv"
    file.write_text("k,n\n" + "".join(f"{n % 7},{n}\n" for n in range(100)))
    said = live.project.command("skew", str(file), "--key", "k", "--live")
    assert f"ring: 1 nodes, RF 1, no shards, {len(ring)} range" in said.stdout
    refused = live.project.command("skew", "days", "--live", "--nodes", "3", "--rf", "2")
    assert "HR0622" in refused.stderr
    assert "--nodes, --rf beside --live" in refused.stderr
