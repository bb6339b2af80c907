"""Faults on three real nodes of Cassandra, all with hints off: what a node missed while it was away it gets by reads alone.

Each begins at a fresh seed, and `./dev soak` repeats all of them at many.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from headrace.adapters.cassandra_store import CassandraStore
from headrace.errors import OutOfReachError
from headrace.flow.control import generation_of
from headrace.flow.rollback import rollback
from tests.flow.clocks import Clocks, off_by, other
from tests.flow.logged import Crew
from tests.flow.tills import DECLARATIONS, FILES, SHOPS, Tills
from tests.kit import Opened, ProjectFolder, Quiet
from tests.proxy import EXECUTE, RESULT, Proxies, is_move_reply, is_write_reply
from tests.services import started
from tools import services

pytestmark = [pytest.mark.slow, pytest.mark.cassandra, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def proxied_nodes() -> Iterator[tuple[services.Nodes, Proxies]]:
    given = services.cassandra3(heap="384m", settings={"hinted_handoff_enabled": "false"}, proxied=True)
    for nodes in started(given):
        with Proxies(nodes) as proxies:
            yield nodes, proxies


@pytest.fixture
def nodes(proxied_nodes: tuple[services.Nodes, Proxies]) -> services.Nodes:
    return proxied_nodes[0]


@pytest.fixture
def proxies(proxied_nodes: tuple[services.Nodes, Proxies]) -> Proxies:
    return proxied_nodes[1]


@pytest.fixture
def tills(tmp_path: Path, nodes: services.Nodes, proxies: Proxies, seed: int) -> Iterator[Tills]:
    made = Tills(tmp_path / "tills", nodes, seed)
    yield made
    for proxy in proxies:
        proxy.heal()
    nodes.heal()
    made.close()


@pytest.fixture
def crew(tills: Tills) -> Iterator[Crew]:
    found = Crew(tills)  # type: ignore[arg-type]
    yield found
    found.end()


def counts(tills: Tills, story: str) -> None:
    """That what arrives is counted just now."""
    tills.sell(30)
    tills.settle(story)


# Nodes


@pytest.mark.fault("F7")
def test_a_node_that_is_killed_is_not_missed(tills: Tills, crew: Crew, nodes: services.Nodes) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        with tills.load():
            time.sleep(tills.rnd.uniform(0.5, 2))  # anywhere in what they do
            gone = tills.rnd.choice(nodes.members)
            gone.kill()
            tills.run()
            time.sleep(2)
        counts(tills, "without it")
        gone.start()
        counts(tills, "it is back")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F8")
def test_without_a_quorum_nothing_is_said_nor_written_and_all_heals(
    tills: Tills, crew: Crew, nodes: services.Nodes
) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched(may_refuse=True) as watch:
        with tills.load():
            time.sleep(tills.rnd.uniform(0.5, 2))
            gone = tills.rnd.sample(nodes.members, 2)
            for node in gone:
                node.kill()
            # One who asked between the two may be answered still, and even be told no before.
            deadline, refusals = time.monotonic() + 30, watch.refusals
            while watch.refusals == refusals:
                assert time.monotonic() < deadline, "who asks is told"
                time.sleep(0.05)
            answers = watch.answers
            deadline, refusals = time.monotonic() + 60, watch.refusals
            while watch.refusals < refusals + 3:
                assert time.monotonic() < deadline, "and again"
                time.sleep(0.05)
            assert watch.answers == answers, "nobody is answered from one replica"
        with pytest.raises(OutOfReachError, match="HR0424"):
            Opened(tills.logged.folder, {"cassandra.patience": 1.0}).run(Quiet())
        for node in gone:
            node.start()
        tills.settle("they are back")
        assert watch.answers > answers
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F9")
def test_all_nodes_are_restarted_one_after_another(tills: Tills, crew: Crew, nodes: services.Nodes) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        with tills.load():
            for node in tills.rnd.sample(nodes.members, 3):
                node.stop()
                node.start()
                nodes.start()  # which waits until they all see each other
        counts(tills, "all are new")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F10")
def test_a_node_that_is_paused(tills: Tills, crew: Crew, nodes: services.Nodes) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        with tills.load():
            time.sleep(tills.rnd.uniform(0.5, 2))
            node = tills.rnd.choice(nodes.members)
            node.pause()
            tills.run()
            time.sleep(tills.rnd.uniform(8, 14))  # longer than every timeout on the way
        counts(tills, "without it")
        node.resume()  # what it was told before, it does now
        counts(tills, "it is back")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F12")
def test_replicas_that_missed_writes_are_in_every_quorum(tills: Tills, crew: Crew, nodes: services.Nodes) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        for node in tills.rnd.sample(nodes.members, 2):
            with tills.load():
                node.pause()
                time.sleep(tills.rnd.uniform(3, 6))
                tills.run()
                node.resume()  # and now another one goes: reads need this one, which has not heard of what was written
        counts(tills, "both are back")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F13")
def test_where_reads_mend_nothing_totals_are_right_and_nobody_new_begins(
    tills: Tills, crew: Crew, nodes: services.Nodes
) -> None:
    """Every write was acknowledged by a quorum, so that what was counted is there; who asks may see what is not yet
    acknowledged and then not, which is why nobody begins on such a table."""
    crew.start()
    counts(tills, "before")
    tables = [name for name, _ in tills.store._tables()]
    for table in (*tables, "control"):
        tills.store.connected.define(f"ALTER TABLE {tills.keyspace}.\"{table}\" WITH read_repair = 'NONE'")
    try:
        done = tills.logged.command("stream", "--until-caught-up", "-q")
        assert done.returncode == 3
        assert "HR0426" in done.stderr
        with tills.load():
            node = tills.rnd.choice(nodes.members)
            node.pause()
            time.sleep(tills.rnd.uniform(3, 6))
            node.resume()
        tills.settle("it is back")
        crew.work_on()
        crew.leave()
    finally:
        for table in (*tables, "control"):
            tills.store.connected.define(f"ALTER TABLE {tills.keyspace}.\"{table}\" WITH read_repair = 'BLOCKING'")
    tills.close_books()


@pytest.mark.parametrize("level", ["ONE", "LOCAL_ONE", "TWO", "THREE", "ANY", "quorum"])
def test_a_weak_consistency_is_refused(tmp_path: Path, level: str) -> None:
    project = ProjectFolder(tmp_path, DECLARATIONS, FILES)
    project.write("headrace.toml", f"[cassandra]\nhosts = '127.0.0.1'\nconsistency = '{level}'\n")
    done = project.command("run")
    assert done.returncode == 2
    assert "HR0601" in done.stderr
    assert "cassandra.consistency" in done.stderr


# What goes between


@pytest.mark.fault("F11")
def test_replies_to_writes_are_swallowed(tills: Tills, crew: Crew, proxies: Proxies) -> None:
    crew.start()
    counts(tills, "before")
    lost = [proxy.lost for proxy in proxies]
    with tills.watched():
        for proxy in proxies:
            proxy.replies = lambda kind, body: (
                None if (is_write_reply(kind, body) or is_move_reply(kind, body)) and tills.rnd.random() < 0.2 else 0.0
            )
        with tills.load():
            time.sleep(tills.rnd.uniform(3, 6))
            tills.run()
            deadline = time.monotonic() + 90
            while sum(proxy.lost for proxy in proxies) < sum(lost) + 6:
                assert time.monotonic() < deadline, (tills.seed, "some are lost")
                time.sleep(0.1)
        # Each of them takes a timeout: all of it would take minutes.
        for proxy in proxies:
            proxy.heal()
        counts(tills, "all arrive")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F11slow")
def test_messages_are_late_connections_are_cut_and_one_falls_silent(tills: Tills, crew: Crew, proxies: Proxies) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        with tills.load():
            for proxy in proxies:
                proxy.replies = lambda kind, body: tills.rnd.choice([0.0, 0.0, 0.0, 0.2, tills.rnd.uniform(0, 3)])
            time.sleep(tills.rnd.uniform(2, 4))
            for proxy in proxies:
                proxy.heal()
            for _ in range(6):
                tills.rnd.choice(proxies.each).cut()
                time.sleep(tills.rnd.uniform(0, 1))
            dumb = tills.rnd.choice(proxies.each)
            dumb.silent = True
            time.sleep(tills.rnd.uniform(4, 10))
            tills.run()
            dumb.heal()
        counts(tills, "as if nothing had been")
    crew.work_on()
    crew.leave()
    tills.close_books()


# The pointer's moves, of which the answer is lost


@pytest.fixture
def stores(tills: Tills) -> Iterator[list[CassandraStore]]:
    """Three that move the same rows, with a session each."""
    made = [Opened(tills.logged.folder, {"cassandra.timeout": 1.0}).store for _ in range(3)]
    found = [store for store in made if isinstance(store, CassandraStore)]
    for store in found:
        assert store.compare_and_set("any", "x", "y") is False, "each has its session"
    yield found
    for store in found:
        store.close()


class Once:
    """A rule for the first message in which something stands: it is lost, or late by some seconds. Holds for all proxies."""

    def __init__(self, what: bytes, late: float | None, *, kind: int = EXECUTE) -> None:
        self.what, self.late, self.kind = what, late, kind
        self.met = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, kind: int, body: bytes) -> float | None:
        with self._lock:
            if kind != self.kind or self.what not in body or self.met.is_set():
                return 0.0
            self.met.set()
            return self.late

    def on(self, proxies: Proxies, *, replies: bool = False) -> Once:
        for proxy in proxies:
            if replies:
                proxy.replies = self
            else:
                proxy.requests = self
        return self


@pytest.mark.fault("F11move")
def test_a_move_whose_answer_is_lost_is_known_for_what_it_was(stores: list[CassandraStore], proxies: Proxies) -> None:
    ours, theirs, _ = stores
    assert ours.compare_and_set("p", None, "a")
    with ThreadPoolExecutor(1) as thread:
        # It was made.
        lost = Once(b"[applied]", None, kind=RESULT).on(proxies, replies=True)
        assert ours.compare_and_set("p", "a", "b") is True
        assert lost.met.is_set()
        assert theirs.control("p") == "b"

        # It was made, and others have moved on from it before it could be told.
        lost = Once(b"[applied]", None, kind=RESULT).on(proxies, replies=True)
        move = thread.submit(ours.compare_and_set, "p", "b", "c")
        assert lost.met.wait(10)
        assert theirs.compare_and_set("p", "c", "d") is True
        assert move.result(60) is True
        assert ours.control("p") == "d"

        # It was not made: others came first, and made the same of it.
        late = Once(b"same\x1e", 3.0).on(proxies)
        move = thread.submit(ours.compare_and_set, "p", "d", "same")
        assert late.met.wait(10)
        assert theirs.compare_and_set("p", "d", "same") is True
        assert move.result(60) is False, "two would believe that they had taken one number"

        # It is made the second time; and when the first one arrives, things are as they were before both.
        late = Once(b"there\x1e", 5.0).on(proxies)
        assert ours.compare_and_set("p", "same", "there") is True
        assert theirs.compare_and_set("p", "there", "same") is True
        time.sleep(5)
        assert theirs.control("p") == "same"
        assert theirs.connected.serially(f"SELECT value FROM {theirs._control} WHERE name = ?", ("p",))[0][
            0
        ].startswith("same\x1e")


@pytest.mark.fault("F11moves")
def test_of_many_contenders_each_move_is_made_once(
    stores: list[CassandraStore], proxies: Proxies, seed: int, tills: Tills
) -> None:
    """Each adds its own mark to a row: those that it was told are there, once, and no others."""
    rnd, told = tills.rnd, [[] for _ in stores]  # type: ignore[var-annotated]
    assert stores[0].compare_and_set("many", None, "")
    for proxy in proxies:
        proxy.replies = lambda kind, body: None if is_move_reply(kind, body) and rnd.random() < 0.3 else 0.0
        proxy.requests = lambda kind, body: 2.0 if kind == EXECUTE and b"\x1e" in body and rnd.random() < 0.1 else 0.0

    def contend(which: int) -> None:
        store = stores[which]
        for i in range(6):
            while True:
                old = store.control("many") or ""
                if store.compare_and_set("many", old, f"{old} {which}.{i}"):
                    told[which].append(f"{which}.{i}")
                    break

    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(contend, range(len(stores))))
    for proxy in proxies:
        proxy.heal()
    time.sleep(2)  # what is late has arrived
    found = (stores[0].control("many") or "").split()
    assert sorted(found) == sorted(mark for marks in told for mark in marks), seed
    assert len(found) == 18


# Runs beside it


@pytest.mark.fault("F25x3")
def test_all_is_computed_anew_while_it_is_streamed(tills: Tills, crew: Crew) -> None:
    crew.start()
    counts(tills, "before")
    with tills.watched():
        with tills.load():
            for _ in range(2):
                before = tills.pointer.generation
                assert (tills.run(full=True).generation or 0) > before
        counts(tills, "beside two runs")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F26x3")
def test_a_run_that_is_killed_half_way(tills: Tills, crew: Crew) -> None:
    command = [sys.executable, "-m", "headrace", *crew.project, "run", "--full", "-q"]
    began = time.monotonic()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    took = time.monotonic() - began
    crew.start()
    counts(tills, "before")
    with tills.watched():
        before = tills.pointer.generation
        tills.sell(100)
        run = crew.run(command)
        try:
            run.wait(took * tills.rnd.uniform(0.4, 0.9))
        except subprocess.TimeoutExpired:
            crew.kill(signal.SIGKILL, run)
            assert tills.pointer.generation in (before, before + 1)
        else:
            crew.running.remove(run)
        counts(tills, "the stream goes on")
        assert tills.run(full=True).generation is not None
        counts(tills, "run again")
    crew.work_on()
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F27x3")
def test_back_to_the_generation_before(tills: Tills, crew: Crew, proxies: Proxies) -> None:
    for _ in range(2):
        tills.sell(tills.rnd.randint(20, 60))
        before, _ = tills.recount()
        tills.run()
        assert tills.answered() == before
        tills.sell(30)
        tills.run()
        assert tills.answered() != before
        # Its answer is lost, and tried again it would go back further.
        lost = Once(b"[applied]", None, kind=RESULT).on(proxies, replies=True)
        number = tills.pointer.generation
        assert rollback(tills.store) < number
        assert lost.met.is_set()
        assert number in tills.pointer.abandoned
        assert tills.answered() == before, tills.seed
    crew.start()
    counts(tills, "streamed on from there")
    crew.leave()
    tills.close_books()


@pytest.mark.fault("F28x3")
@pytest.mark.clock
def test_clocks_of_clients_decide_nothing(tills: Tills, tmp_path: Path, clocks: Clocks) -> None:
    """One after another they write the same rows, each at its own time, the first ones at a later one."""
    day = 86_400
    for seconds in (day, -day):
        crew = Crew(tills)  # type: ignore[arg-type]
        try:
            crew.start(env=other(clocks, tmp_path, seconds))
            counts(tills, f"at {seconds} seconds")
            tills.sell(20)
            command = [sys.executable, "-m", "headrace", *crew.project, "run", "-q"]
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, **other(clocks, tmp_path, -seconds)},
            )
            assert done.returncode == 0, done.stderr
            counts(tills, f"beside a run at {-seconds} seconds")
            crew.work_on()
            crew.leave()
        finally:
            crew.end()
    crew = Crew(tills)  # type: ignore[arg-type]
    try:
        jump = tmp_path / "jump"
        crew.start(env=clocks(off_by(jump, 0)))
        counts(tills, "at the right time")
        off_by(jump, tills.rnd.choice([day, -day]))
        counts(tills, "it has jumped")
        crew.work_on()
        crew.leave()
    finally:
        crew.end()
    tills.close_books()


# What others do to the tables


@pytest.mark.fault("F29x3")
def test_what_the_clock_deleted_is_found_and_mended_while_it_is_streamed(tills: Tills, crew: Crew) -> None:
    crew.start()
    counts(tills, "before")
    tills.run()
    table = next(name for name, _ in tills.store._tables() if "_speed" not in name)
    place = tills.rnd.choice(SHOPS)
    assert tills.answered() == tills.recount()[0]
    tills.store.connected.session.execute(
        f'DELETE FROM {tills.keyspace}."{table}" WHERE shop = \'{place}\' AND "_bucket" = 0'  # as cqlsh would
    )
    assert tills.answered()[place] != tills.recount()[0][place]
    with tills.load():
        found = tills.app.reconcile(Quiet())
    assert found.drifted
    counts(tills, "mended")
    assert tills.app.reconcile(Quiet()).drifted == 0
    crew.work_on()
    crew.leave()
    tills.close_books()


# Windows that have ended


@pytest.mark.fault("F30")
def test_what_is_late_for_its_window_changes_nothing_and_nothing_expires(
    tmp_path: Path, nodes: services.Nodes, proxies: Proxies, seed: int
) -> None:
    declared = (
        DECLARATIONS.replace("horizon=500", 'horizon=500, lateness="1 day"') + 'project.keep("daily", "3 days")\n'
    )
    tills = Tills(tmp_path / "tills", nodes, seed, declarations=declared)
    crew = Crew(tills)  # type: ignore[arg-type]
    try:
        tills.land([f"new{s}{i},2024-01-1{i}T12:00:00Z,{s},1.00" for i in range(10) for s in SHOPS])
        tills.run()
        kept = {s: [(f"2024-01-{day}", Decimal("1.00"), 1) for day in range(15, 20)] for s in SHOPS}
        assert tills.answered() == kept, "earlier days have ended"
        crew.start()
        with tills.watched():
            before = generation_of(tills.store, tills.pointer.generation).late
            late = [f"late{s}{i},2024-01-0{1 + i}T12:00:00Z,{s},5.00" for i in range(6) for s in SHOPS]
            tills.land([*late, *(f"last{s},2024-01-19T13:00:00Z,{s},2.00" for s in SHOPS)])
            kept = {s: [*rows[:-1], ("2024-01-19", Decimal("3.00"), 2)] for s, rows in kept.items()}
            tills.settle("what came last is counted, and so is what came before it", kept)
            tills.run()
            assert tills.answered() == kept, (seed, "run")
            tills.run(full=True)
            assert tills.answered() == kept, (seed, "all computed anew")
        crew.work_on()
        crew.leave()
        tills.run()
        assert tills.answered() == kept, seed
        now = generation_of(tills.store, tills.pointer.generation).late
        assert sum(now.values()) == sum(before.values()) + len(late), "they are told of"
        sql = "SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = ?"
        assert {lives for _, lives in tills.store.connected.rows(sql, (tills.keyspace,))} == {0}
    finally:
        crew.end()
        tills.close()
