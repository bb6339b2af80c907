"""What the PostgreSQL store does beyond its port: servers that go away, roles, encryption, and what it cannot hold."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headrace.adapters import postgres_store
from headrace.adapters.postgres_session import parameters
from headrace.adapters.postgres_store import PostgresStore
from headrace.errors import MissingExtraError, NotReadyError, OutOfReachError, OutsideError, SettingError
from headrace.model.mart import Part
from headrace.model.serving import ServingTable
from headrace.ports import Store
from headrace.settings import load
from headrace.testing.parallel import error_of
from headrace.testing.store import INTEGER, NO_PARTITION, SALES, sale
from headrace.wiring import store as wired
from tests.flow import shop
from tests.http.conftest import running
from tools.services import Postgres

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs/postgres.md"
SECRET = "hush"


def outside(work: Callable[[], Any]) -> OutsideError:
    error = error_of(work)
    assert isinstance(error, OutsideError), error
    return error


def sql(server: Postgres, *statements: str, url: str = "") -> list[Any]:
    """The rows of the last one."""
    with psycopg.connect(url or server.address, autocommit=True) as connection:
        for statement in statements[:-1]:
            connection.execute(statement.encode())
        cursor = connection.execute(statements[-1].encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def schema(tmp_path: Path) -> str:
    return "s" + re.sub(r"\W", "_", tmp_path.name.lower())[-60:]


@pytest.fixture
def store(postgres: Postgres, schema: str) -> PostgresStore:
    made = PostgresStore(postgres.address, schema=schema)
    made.create(SALES)
    made.put(SALES, [sale("a", "d", 0, "1", 1)])
    made.set_control("pointer", "1")
    return made


# A server that goes away


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_server_that_is_gone_is_out_of_reach_and_the_next_call_heals(
    end: str, store: PostgresStore, postgres: Postgres
) -> None:
    for is_held in (False, True):
        if is_held:
            store.hold()
            assert store.control("pointer") == "1"
        getattr(postgres, end)()
        for call in (
            lambda: store.control("pointer"),
            lambda: store.fetch(SALES, ("a",)),
            lambda: list(store.walk(SALES)),
            lambda: store.put(SALES, [sale("a", "d", 0, "1", 1)]),
            lambda: store.compare_and_set("pointer", "1", "2"),
        ):
            error = outside(call)
            assert (type(error), error.code, error.retry) == (OutOfReachError, "HR0424", True)
        store.release()
        postgres.start()
        assert store.control("pointer") == "1"
        assert len(store.fetch(SALES, ("a",))) == 1
        assert store.put(SALES, [sale("a", "d", n, "1", 1) for n in range(2000)]) == 2000
        store.put(SALES, [sale("a", "d", 0, "1", 1)])
        store.clear_below(SALES, "hour", 2000, 1)
        store.put(SALES, [sale("a", "d", 0, "1", 1)])


@pytest.mark.parametrize("rows", [1, 3000])
def test_a_connection_that_broke_unnoticed_is_made_anew_and_nothing_is_told(
    rows: int, store: PostgresStore, postgres: Postgres
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.control("pointer") == "1",
        lambda: store.put(SALES, (sale("a", "d", n, "2", 2, gen=2) for n in range(rows))) == rows,
        lambda: store.fetch(SALES, ("a",))[0][3] == "2",
        lambda: store.compare_and_set("pointer", "1", "2"),
        lambda: store.compare_and_set("pointer", "1", "3") is False,
        lambda: not store.raise_control("progress", 7),  # type: ignore[func-returns-value]
    ]
    for call in calls:
        cut(postgres)
        assert call()
    store.hold()
    cut(postgres)
    assert store.control("pointer") == "2"
    sql(postgres, f"UPDATE {store.schema}.control SET value = '4' WHERE name = 'pointer'")
    assert store.control("pointer") == "2", "it is held again"
    cut(postgres)
    store.release()
    assert store.control("pointer") == "4"


def cut(server: Postgres) -> None:
    """Ends all sessions of stores."""
    ended = sql(
        server, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'headrace'"
    )
    assert ended
    assert all(row == (True,) for row in ended)


def test_a_conditional_write_whose_answer_was_lost_is_known_to_have_been_done(
    store: PostgresStore, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = psycopg.Connection.execute
    lost: list[str] = []

    def execute(connection: Any, query: bytes, *more: Any, **named: Any) -> Any:
        found = true(connection, query, *more, **named)
        if b"control" in query and not query.startswith(b"SELECT") and not lost:
            lost.append(query.decode())
            cut(postgres)
            connection.pgconn.finish()
            raise psycopg.OperationalError("the connection is lost")
        return found

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    assert store.compare_and_set("pointer", "1", "ours") is True
    assert store.compare_and_set("pointer", "1", "theirs") is False
    lost.clear()
    assert store.compare_and_set("other", None, "ours") is True
    assert len(lost) == 1
    assert (store.control("pointer"), store.control("other")) == ("ours", "ours")


def test_writers_that_wait_for_each_other_are_sorted_out(store: PostgresStore, postgres: Postgres) -> None:
    """A transaction of somebody else that holds what a put needs, and wants what the put has."""
    store.put(SALES, [sale("a", "d", n, "1", 1) for n in (1, 2)])
    row = f'UPDATE {store.schema}."sales_1" SET visits = visits WHERE hour = %s'
    with psycopg.connect(postgres.address) as other:
        other.execute("SET deadlock_timeout = '20s'")  # so that the put is the one that is told
        other.execute(row.encode(), [2])
        put = threading.Thread(target=lambda: store.put(SALES, [sale("a", "d", n, "5", 5, gen=5) for n in (1, 2)]))
        put.start()
        while not sql(
            postgres, "SELECT 1 FROM pg_stat_activity WHERE application_name = 'headrace' AND wait_event_type = 'Lock'"
        ):
            assert put.is_alive()
        other.execute(row.encode(), [1])
        other.commit()
    put.join(30)
    assert [r[3] for r in store.fetch(SALES, ("a",)) if r[2]] == ["5", "5"]


@pytest.mark.slow
def test_the_api_answers_503_until_the_server_is_back(postgres: Postgres, schema: str, tmp_path: Path) -> None:
    project = shop.make(tmp_path)
    project.write(
        "headrace.toml", f"[inbox]\nquiet = 0.0\n[postgres]\nurl = '{postgres.address}'\nschema = '{schema}'\n"
    )
    for name, text in shop.waves()[0].items():
        project.land(name, text)
    project.run()
    with running(project, tmp_path / "users.json") as site:
        wanted = site.get("/v1/queries/total").json()
        postgres.kill()
        for _ in range(2):
            response = site.get("/v1/queries/total")
            assert (response.status_code, response.json()["type"]) == (503, "/docs/errors/HR0424")
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in response.text
        postgres.start()
        assert site.get("/v1/queries/total").json() == wanted


def test_a_project_that_changes_its_store_has_its_answers_after_a_run(
    postgres: Postgres, schema: str, tmp_path: Path
) -> None:
    project, other = shop.make(tmp_path / "moved"), shop.make(tmp_path / "stayed")
    for number, wave in enumerate(shop.waves()):
        for name, text in wave.items():
            project.land(name, text)
            other.land(name, text)
        for one in (project, other):
            one.run()
        assert shop.answers(project.app) == shop.answers(other.app)
        if number == 0:
            toml = f"{shop.FILES['headrace.toml']}[postgres]\nurl = '{postgres.address}'\nschema = '{schema}'\n"
            project.write("headrace.toml", toml)
            error = error_of(lambda: project.ask("total"))
            assert isinstance(error, NotReadyError), error
            project.run()
            assert shop.answers(project.app) == shop.answers(other.app)


# What is read together


def test_a_held_reader_sees_one_moment_whatever_is_published_or_dropped(store: PostgresStore) -> None:
    def elsewhere(work: Callable[[], Any]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()

    store.hold()
    assert store.control("pointer") == "1"
    elsewhere(lambda: store.set_control("pointer", "2"))
    elsewhere(lambda: store.put(SALES, [sale("a", "d", 0, "2", 2, gen=2)]))
    assert (store.control("pointer"), store.fetch(SALES, ("a",))[0][-1]) == ("1", 1)
    store.release()
    store.hold()
    assert store.control("pointer") == "2"
    elsewhere(lambda: store.drop(SALES.name))
    assert outside(lambda: store.fetch(SALES, ("a",))).code == "HR0407"
    elsewhere(lambda: store.set_control("pointer", "3"))
    assert store.control("pointer") == "3", "who was refused looks again, and sees what is now"
    store.release()


def test_a_walk_sees_one_moment_and_does_not_mind_writes_meanwhile(
    store: PostgresStore, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PIECE", 10)
    store.create(NO_PARTITION)
    store.put(NO_PARTITION, [(f"{n:03}", 1, 1, 0, 1) for n in range(100)])
    walked: list[Any] = []
    for rows in store.walk(NO_PARTITION):
        walked += rows
        store.put(NO_PARTITION, [(row[0], 2, 1, 0, 2) for row in rows])
        store.clear_below(NO_PARTITION, "day", "050", 1)
        others = sql(postgres, f"SELECT count(*) FROM {store.schema}.all_1 WHERE _gen = 2")
        assert others == [(len(walked),)], "what is acknowledged others see"
    assert [(row[0], row[-1]) for row in walked] == [(f"{n:03}", 1) for n in range(100)]
    assert {row[-1] for row in store.fetch(NO_PARTITION, ()) if row[0] < "050"} == {2}


@pytest.mark.parametrize("count", [3, 600])
def test_a_key_that_comes_twice_in_one_put_has_its_highest_generation(count: int, store: PostgresStore) -> None:
    rows = [sale("b", f"{n % count}", 0, str(gen), gen, gen=gen) for gen in (2, 9, 3) for n in range(count)]
    assert store.put(SALES, rows) == 3 * count
    assert {row[3] for row in store.fetch(SALES, ("b",))} == {"9"}


@pytest.mark.parametrize("count", [3, 600])
def test_what_is_written_again_touches_no_row(count: int, store: PostgresStore, postgres: Postgres) -> None:
    written = (
        f"SELECT xmin, ctid FROM {store.schema}.sales_1 UNION ALL SELECT xmin, ctid FROM {store.schema}.sales_1_speed"
    )
    seen = []
    for _ in range(2):
        store.put(SALES, [sale("b", f"{n}", 0, "5", 5, gen=5) for n in range(count)])
        store.put_speed(SALES, 1, "x", 0, 9, [("b", f"{n}", 0, "5", 5, 1) for n in range(count)])
        seen.append(sorted(sql(postgres, written)))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * count + 1


# What it cannot hold


@pytest.mark.parametrize("count", [1, 1000])
def test_a_text_with_u_0000_is_refused_by_name_and_nothing_is_written(count: int, store: PostgresStore) -> None:
    for row in (sale("b\0", "d", 0, "1", 1), sale("b", "d", 0, "1\0", 1)):
        error = outside(lambda row=row: store.put(SALES, [*(sale("b", "d", n, "1", 1) for n in range(1, count)), row]))  # type: ignore[misc]
        assert (error.code, error.retry, "U+0000" in error.what) == ("HR0407", False, True)
        assert list(store.fetch(SALES, ("b",))) == []
    assert outside(lambda: store.set_control("x", "\0")).code == "HR0407"


def test_a_key_that_is_too_long_is_told(store: PostgresStore) -> None:
    long = "".join(
        hashlib.md5(b"%d" % n, usedforsecurity=False).hexdigest() for n in range(200)
    )  # what compresses well would fit
    error = outside(lambda: store.put(SALES, [sale(long, "d", 0, "1", 1)]))
    assert (error.code, "2,700 bytes" in error.help) == ("HR0407", True)
    assert store.put(SALES, [sale(long[:2500], "d", 0, long, 1)]) == 1
    assert store.fetch(SALES, (long[:2500],))[0][3] == long


def test_tables_with_long_names_are_told_apart_and_known_by_them(store: PostgresStore) -> None:
    names = [f"{'x' * 60}_{digest}" for digest in ("0123456789", "9876543210")]
    for n, name in enumerate(names):
        table = ServingTable(name, "m", True, (), (SALES.key[1],), (Part("n", "sum", "count(*)", INTEGER),))
        store.create(table)
        store.put(table, [("d", n, 1, 0, 1)])
        store.put_speed(table, 1, "x", 0, 1, [("d", n, 1)])
    assert [name for name in store.physical() if name in names] == names
    store.drop(names[0])
    assert [name for name in store.physical() if name in names] == names[1:]
    table = ServingTable(names[1], "m", True, (), (SALES.key[1],), (Part("n", "sum", "count(*)", INTEGER),))
    assert [r[1] for r in (*store.fetch(table, ()), *store.fetch_speed(table, (), epoch=1))] == [1, 1]


def test_a_database_that_holds_no_utf_8_is_refused(postgres: Postgres) -> None:
    sql(
        postgres,
        "DROP DATABASE IF EXISTS latin",
        "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    error = outside(lambda: PostgresStore(postgres.address.removesuffix("headrace") + "latin").control("x"))
    assert (error.code, "LATIN1" in error.what) == ("HR0407", True)


@pytest.fixture
def english(postgres: Postgres) -> Iterator[str]:
    """A database whose own order of text is that of a language."""
    made = "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8' TEMPLATE template0"
    sql(postgres, f"CREATE DATABASE english {made}")
    yield postgres.address.removesuffix("headrace") + "english"
    sql(postgres, "DROP DATABASE english WITH (FORCE)")


@pytest.mark.parametrize("count", [7, 700])
def test_text_is_ordered_by_its_bytes_whatever_the_database_thinks(count: int, english: str) -> None:
    store = PostgresStore(english)
    store.create(SALES)
    days = [f"{text}/{n}" for text in ("10", "9", "Z", "a", "\u00e9", "\u4e2d", "") for n in range(count // 7)]
    store.put(SALES, [sale("a", day, 0, "1", 1) for day in days])
    store.put_speed(SALES, 1, "x", 0, 1, [("a", day, 0, "1", 1, 1) for day in days])
    ordered = sorted(days, key=lambda text: text.encode())
    assert [row[1] for row in store.fetch(SALES, ("a",))] == ordered
    assert [row[1] for row in store.fetch_speed(SALES, ("a",), epoch=1)] == ordered
    assert [row[1] for row in store.fetch(SALES, ("a",), ("Z", True, "b", True))] == [
        d for d in ordered if "Z" <= d <= "b"
    ]
    store.clear_below(SALES, "day", "a", 1)
    assert [row[1] for row in store.fetch(SALES, ("a",))] == [day for day in ordered if day >= "a"]
    store.close()


# Connections


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # that is what is tried
def test_a_thread_closes_its_connection_as_it_ends_and_a_forked_process_has_its_own(
    store: PostgresStore, postgres: Postgres
) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headrace'"
    store.control("pointer")
    before = sql(postgres, count)
    for _ in range(5):
        thread = threading.Thread(target=store.control, args=("pointer",))
        thread.start()
        thread.join(30)
    while sql(postgres, count) != before:  # the server takes a moment to see that they are gone
        pass

    def session() -> int:
        return store.connected.ask(lambda connection: connection.info.backend_pid)

    mine, (end, other_end) = session(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(other_end, f"{session()} {store.control('pointer')}".encode())
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    theirs, pointer = os.read(end, 100).decode().split()
    assert (theirs != str(mine), pointer, session()) == (True, "1", mine)
    assert store.control("pointer") == "1"
    assert session() == mine, "the child left the parent's alone"


def test_what_is_left_open_is_no_complaint_of_pythons(postgres: Postgres, schema: str) -> None:
    program = (
        "import threading\nfrom headrace.adapters.postgres_store import PostgresStore\n"
        f"store = PostgresStore({postgres.address!r}, schema={schema!r})\nstore.hold()\nstore.control('x')\n"
        "t = threading.Thread(target=store.control, args=('x',)); t.start(); t.join()"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# Settings


def test_the_store_is_chosen_by_the_url_and_says_nothing_of_the_password(tmp_path: Path) -> None:
    given = {"postgres.url": "postgresql://u@127.0.0.1:1/d", "postgres.password": "hush", "postgres.schema": "mine"}
    found = load(tmp_path, given, {})
    made: Store = wired(tmp_path, found)
    assert isinstance(made, PostgresStore)
    assert (made.schema, made.connected._parameters["password"]) == ("mine", "hush")
    assert "hush" not in str(found.shown())
    for name, value in {"postgres.schema": "a b", "postgres.url": "mysql://x"}.items():
        error = error_of(lambda n=name, v=value: wired(tmp_path, load(tmp_path, {**given, n: v}, {})))  # type: ignore[misc]
        assert isinstance(error, SettingError)
        assert value in str(error)
    two = load(tmp_path, {**given, "cassandra.hosts": "127.0.0.1"}, {})
    assert "two stores" in str(error_of(lambda: wired(tmp_path, two)))


def test_without_the_driver_the_line_that_installs_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("session", "store"):
        monkeypatch.delitem(sys.modules, f"headrace.adapters.postgres_{name}")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = error_of(lambda: wired(tmp_path, load(tmp_path, {"postgres.url": "postgresql://u@127.0.0.1:1/d"}, {})))
    assert isinstance(error, MissingExtraError)
    assert error.help == "pip install 'headrace[postgres]'"


@pytest.mark.parametrize(
    "url", ["postgresql://u:hush@h/d", "postgresql://u@h/d?password=hush", "postgresql://u@h/d?sslpassword=hush"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    error = error_of(lambda: parameters(url))
    assert isinstance(error, SettingError)
    assert "hush" not in str(error)
    assert "postgres.password" in error.help


@pytest.mark.parametrize(
    "url", ["", "db", "host=h dbname=d", "mysql://u@h/d", "postgresql://u@h/d?nonsense=1", "postgresql://u@h:x y/d"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert isinstance(error_of(lambda: parameters(url)), SettingError)


def test_a_password_goes_to_another_machine_only_in_a_way_that_was_named() -> None:
    for near in ("127.0.0.1", "localhost", "[::1]", "127.8.8.8,localhost", "%2Fvar%2Frun"):
        parameters(f"postgresql://u@{near}/d", "hush")
    for far in ("db.example", "10.0.0.1", "localhost,db.example", "127.example"):
        url = f"postgresql://u@{far}/d"
        parameters(url)
        error = error_of(lambda url=url: parameters(url, "hush"))  # type: ignore[misc]
        assert isinstance(error, SettingError), far
        assert "postgres.ca" in error.help
        for named in ("require", "disable", "verify-full"):
            assert parameters(f"{url}?sslmode={named}", "hush")["sslmode"] == named
        assert parameters(f"{url}?sslmode=disable", "hush", "ca.pem")["sslmode"] == "verify-full"
    with pytest.raises(SettingError):
        parameters("postgresql://u@127.0.0.1/d?hostaddr=10.0.0.1", "hush")


# Roles and encryption


def openssl(folder: Path, name: str, *more: str) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
        "-days",
        "2",
    ]
    command += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt", *more]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@contextmanager
def secured(server: Postgres, folder: Path, first: str) -> Iterator[Path]:
    """With TLS, and ``first`` before the other rules of who may come in; gives the folder of the certificates."""
    for authority in ("authority", "another"):
        openssl(folder, authority)
    end = ["-addext", "basicConstraints=critical,CA:FALSE", "-CA", "authority.crt", "-CAkey", "authority.key"]
    openssl(folder, "server", *end, "-addext", "subjectAltName=IP:127.0.0.1")
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    for name in ("server.crt", "server.key"):
        shutil.copy(folder / name, server.data / name)
        (server.data / name).chmod(0o600)
        if server.as_nobody():
            shutil.chown(server.data / name, "postgres", "postgres")
    try:
        rules.write_text(first + before)
        sql(server, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        while sql(server, "SHOW ssl") != [("on",)]:
            pass
        yield folder
    finally:
        rules.write_text(before)
        sql(server, "ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")


@pytest.fixture
def roles(postgres: Postgres, schema: str) -> Iterator[Callable[[str], str]]:
    """URLs of the documented roles, by their names."""
    (script,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    named = script.replace("DATABASE metrics", "DATABASE roles").replace("SCHEMA headrace", f"SCHEMA {schema}")
    url = postgres.address.removesuffix("headrace") + "roles"
    sql(postgres, "CREATE DATABASE roles ENCODING 'UTF8' TEMPLATE template0")
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(named.encode())
        yield lambda role: url.replace("headrace@", f"{role}@")
    finally:
        sql(postgres, "DROP DATABASE roles WITH (FORCE)", "DROP ROLE headrace_writer, headrace_reader")


def test_the_documented_roles_do_their_work_and_nothing_else(
    roles: Callable[[str], str], postgres: Postgres, schema: str, tmp_path: Path
) -> None:
    writer, reader = (PostgresStore(roles(f"headrace_{role}"), schema=schema) for role in ("writer", "reader"))
    for table in (SALES, NO_PARTITION):
        writer.create(table)
    assert writer.put(SALES, [sale("a", "d", n, "1", 1) for n in range(1000)]) == 1000
    writer.put_speed(SALES, 1, "x", 0, 1, [("a", "d", 0, "1", 1, 1)])
    assert writer.compare_and_set("pointer", None, "1")
    writer.clear_below(SALES, "hour", 10, 1)
    writer.clear_speed(SALES, 2, None)
    writer.drop(NO_PARTITION.name)
    reader.hold()
    assert reader.control("pointer") == "1"
    assert len(reader.fetch(SALES, ("a",))) == 990
    assert [r[-2] for r in reader.fetch_speed(SALES, ("a",), epoch=1)] == ["x"]
    reader.release()
    assert list(reader.physical()) == [SALES.name]
    refused: list[Callable[[], Any]] = [
        lambda: reader.put(SALES, [sale("a", "d", 0, "1", 1, gen=9)]),
        lambda: reader.compare_and_set("pointer", "1", "2"),
        lambda: reader.create(NO_PARTITION),
        lambda: reader.drop(SALES.name),
        lambda: PostgresStore(roles("headrace_writer"), schema="elsewhere").control("pointer"),
        lambda: PostgresStore(roles("headrace_writer"), schema="public").control("pointer"),
    ]
    for work in refused:
        error = outside(work)
        assert (error.code, error.retry) == ("HR0425", False), error
    for store in (writer, reader):
        store.close()


def test_a_server_with_certificates_and_passwords(postgres: Postgres, schema: str, tmp_path: Path) -> None:
    far = postgres.address.replace("headrace@", "guarded@")
    sql(postgres, "CREATE ROLE guarded LOGIN PASSWORD 'hush'", f"CREATE SCHEMA {schema} AUTHORIZATION guarded")
    rules = "hostssl headrace guarded 127.0.0.1/32 scram-sha-256\nhost headrace guarded 127.0.0.1/32 reject\n"

    def refused(url: str, password: str = SECRET, ca: str = "") -> str:
        error = outside(lambda: PostgresStore(url, password=password, ca=ca, schema=schema).control("x"))
        assert (error.code, error.retry, SECRET in str(error)) == ("HR0425", False, False), error
        return error.help

    try:
        with secured(postgres, tmp_path, rules) as folder:
            ca, another = (str(folder / f"{name}.crt") for name in ("authority", "another"))
            store = PostgresStore(far, password="hush", ca=ca, schema=schema)
            store.set_control("x", "1")
            used = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'guarded'"
            assert sql(postgres, used) == [(True,)]
            store.close()
            assert "postgres.password" in refused(far, "wrong", ca)
            assert "postgres.password" in refused(far, "", ca)
            assert "postgres.ca" in refused(far, ca=another)
            assert "postgres.ca" in refused(far.replace("127.0.0.1", "localhost"), ca=ca), "it names another host"
            refused(far + "?sslmode=disable")
            refused(far.replace("guarded@", "nobody@"))
            refused(far.removesuffix("headrace") + "nowhere", ca=ca)
    finally:
        sql(postgres, f"DROP SCHEMA {schema} CASCADE", "DROP ROLE guarded")
