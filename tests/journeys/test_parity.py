"""The shipped projects answer the same from every store, by changing headrace.toml alone: from batch, from batch and stream,
and rolled back; all pages of every query with many choices of its parameters, and every stored row.

Projects, queries and values are found, not named: a new one is covered as it stands. A store that is new is a fixture that
gives its lines of headrace.toml, and a line of STORES.
"""

from __future__ import annotations

import datetime as dt
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.cassandra_session import Address
from headrace.adapters.cassandra_store import CassandraStore
from headrace.app import App
from headrace.cli import init
from headrace.flow.answer import Answer
from headrace.flow.run import serving_tables
from headrace.flow.stream import Worker
from headrace.model.run import Run
from headrace.model.serving import ServingTable
from headrace.sql.query import Query
from tests.flow import shop
from tests.kit import Opened, Quiet
from tools.services import Node, Postgres

pytestmark = pytest.mark.slow
STORES = [
    pytest.param("on_postgres", marks=pytest.mark.postgres),
    pytest.param("on_cassandra", marks=pytest.mark.cassandra),
]
PROJECTS = [name for name in init.templates() if name != "blank"]  # which has no samples
COMMON = "[inbox]\nquiet = 0.0\n[stream]\nrange = 300\n[engine]\nmemory = '256MB'\nthreads = 2\n"
WAVES = 3
CHOICES = 6
"""Ways in which the parameters of each query are chosen."""
OTHERWISE = {"granularity": ("hour", "day"), "from_hour": ("3", "22"), "to_hour": ("4", "20")}
"""Values of parameters that no key has."""
Question = tuple[str, tuple[tuple[str, Any], ...]]


@pytest.fixture
def on_postgres(postgres: Postgres, tmp_path: Path) -> str:
    return f"[postgres]\nurl = '{postgres.address}'\nschema = '{tmp_path.name.lower()}'\n"


@pytest.fixture
def on_cassandra(cassandra: Node, tmp_path: Path) -> Iterator[str]:
    address = Address((cassandra.host,), cassandra.port, f"p{abs(hash(tmp_path))}", replicas=1)
    yield f"[cassandra]\nhosts = '{cassandra.host}'\nport = {address.port}\nkeyspace = '{address.keyspace}'\nreplicas = 1\n"
    store = CassandraStore(address)
    store.connected.define(f"DROP KEYSPACE IF EXISTS {address.keyspace}")
    store.close()


@dataclass
class Scene:
    """What a store says at one moment of the story."""

    answers: dict[Question, list[Answer]]
    rows: dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module", params=PROJECTS)
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its sample files."""
    folder: Path = tmp_path_factory.mktemp(request.param) / request.param
    init.write(folder, request.param)
    Opened(folder, {"inbox.path": str(folder / "samples")}).generate(0.02, 1, str(folder / "samples"))
    return folder


@pytest.fixture(scope="module")
def embedded(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """What is wanted: what SQLite says."""
    told = {}
    for name, app in story(samples, tmp_path_factory.mktemp("embedded"), ""):
        rnd = random.Random(name)
        rows = stored(app)
        keys = {table.name: table for table in tables(app)}
        asked = [q for query in app.project.queries.values() for q in questions(query, keys, rows, rnd)]
        told[name] = Scene({question: pages(app, question) for question in asked}, rows)
    return told


def story(samples: Path, folder: Path, toml: str) -> Iterator[tuple[str, App]]:
    """The scenes of a project: each with its name, as a process that starts then would find it."""
    shutil.copytree(samples, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("samples"))
    (folder / "headrace.toml").write_text(COMMON + toml)
    waves = arrivals(samples)

    left: list[App] = []

    def opened() -> App:
        close()
        left.append(Opened(folder))
        return left[-1]

    def close() -> None:
        while left:
            store: Any = left.pop().store
            store.close()

    def land(number: int) -> None:
        for file in waves[number]:
            target = folder / "landing" / file.relative_to(samples / "samples")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)

    def stream() -> None:
        app = opened()
        worker = Worker(app.project, app.log, app.lake, app.engine, app.store, Quiet(), "w")
        worker.run(partial(app.batch(Quiet()).land, Run("")), until_caught_up=True, stopped=lambda: False)

    land(0)
    opened().run(Quiet())
    yield "run", opened()
    land(1)
    stream()
    yield "streamed", opened()
    opened().run(Quiet())
    yield "run again", opened()
    opened().rollback()
    yield "rolled back", opened()
    land(2)
    stream()
    yield "streamed after that", opened()
    assert opened().reconcile(Quiet(), repair=False).drifted == 0
    opened().run(Quiet())
    yield "run in the end", opened()
    close()


def arrivals(samples: Path) -> list[list[Path]]:
    """Files in waves: what comes in several files has some in each, all else is in the first."""
    waves: list[list[Path]] = [[] for _ in range(WAVES)]
    for source in Opened(samples).project.sources.values():
        files = sorted(f for f in (samples / "samples").glob(source.format.pattern) if f.is_file())
        for number, file in enumerate(files):
            waves[number % WAVES if source.role != "reference" else 0].append(file)
    return waves


def tables(app: App) -> list[ServingTable]:
    return serving_tables(app.project)


def stored(app: App) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the store: batch rows by table, and speed rows."""
    generation = app.reader.generation(shop.pointer(app).generation)
    found = {}
    for table in tables(app):
        found[table.name] = sorted((tuple(row) for rows in app.store.walk(table) for row in rows), key=repr)
        if table.of_mart:
            speed = app.store.walk_speed(table, generation.epoch)
            found[f"{table.name}, speed"] = sorted((tuple(row) for rows in speed for row in rows), key=repr)
    return found


def questions(
    query: Query, keys: Mapping[str, ServingTable], rows: Mapping[str, list[tuple[Any, ...]]], rnd: random.Random
) -> Iterator[Question]:
    """Ways to ask a query: with values that its tables' keys have, between two of them, and with some that they have not."""
    texts: dict[str, set[str]] = {}
    moments: set[str] = set()
    for table in query.tables:
        for place, column in enumerate(keys[table.name].key):
            values = {row[place] for row in rows[table.name]}
            if column.type.name == "VARCHAR":
                texts.setdefault(column.name, set()).update(values)
            elif column.type.name == "DATE":
                moments |= values
            elif column.type.is_instant:
                moments |= {instant(value) for value in values}
    everything = sorted(set().union(*texts.values()))
    for number in range(CHOICES):
        days = sorted(rnd.choices(sorted(moments), k=2)) if moments else ["2000-01-01", "2100-01-01"]
        if number == 0:
            days = [min(moments, default=days[0]), "2100-01-01"]
        if days[0] == days[1]:  # some queries refuse an empty range
            days[1] = "2100-01-01"
        given: dict[str, Any] = {}
        for parameter in query.parameters:
            if not parameter.required and rnd.random() < 0.5:
                continue
            value: Any
            if parameter.name in OTHERWISE:
                value = rnd.choice(OTHERWISE[parameter.name])
            elif parameter.zone:
                value = rnd.choice(("UTC", "Asia/Kolkata", "America/St_Johns"))
            elif parameter.type.name == "VARCHAR":
                named = [v for name, some in texts.items() if name.startswith(parameter.name.rstrip("s")) for v in some]
                some = sorted(named) or everything
                value = rnd.choice(some) if some and number != CHOICES - 1 else "nobody's"
                if parameter.many:
                    value = rnd.sample(some, min(3, len(some)))
            elif parameter.type.name == "DATE" or parameter.type.is_instant:
                value = days.pop(0) if days else "2100-01-01"
                value = value[:10] if parameter.type.name == "DATE" else value
            else:
                value = str(rnd.choice([1, 3, 50]))
            given[parameter.name] = value
        yield query.name, tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in given.items())


def instant(microseconds: int) -> str:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=microseconds)).isoformat()


def pages(app: App, question: Question) -> list[Answer]:
    """An answer and what follows it."""
    name, given = question
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in given}
    found = [app.reader.answer(name, asked)]
    while found[-1].cursor is not None and len(found) < 5:
        found.append(app.reader.answer(name, asked, found[-1].cursor))
    return found


def test_the_embedded_story_has_something_to_compare(embedded: dict[str, Scene]) -> None:
    for name, scene in embedded.items():
        asked = {query for query, _ in scene.answers}
        told = {query for (query, _), answers in scene.answers.items() if answers[0].rows}
        assert len(told) > 0.8 * len(asked), (name, sorted(asked - told))
        assert any(len(answers) > 1 for answers in scene.answers.values()), "several pages"
        has_speed_rows = any(rows for table, rows in scene.rows.items() if "speed" in table)
        assert has_speed_rows == ("run" not in name), name
        assert any(answers[0].streamed for answers in scene.answers.values()) == has_speed_rows, name


@pytest.mark.parametrize("store", STORES)
def test_every_answer_and_every_row_is_sqlites(
    store: str, samples: Path, embedded: dict[str, Scene], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seen = []
    for name, app in story(samples, tmp_path / "project", request.getfixturevalue(store)):
        wanted = embedded[name]
        assert type(app.store).__name__ != "SQLiteStore"
        for question, answers in wanted.answers.items():
            assert pages(app, question) == answers, (name, question)
        assert stored(app) == wanted.rows, name
        seen.append(name)
    assert seen == list(embedded)
