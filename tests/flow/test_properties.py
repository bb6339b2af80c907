"""Every mart of every shipped project that is streamed, whatever its projects' records and workers meet: what is streamed,
what is run and what is both come to what plain SQL makes of the files.

A project, a mart or a query that is new is covered as it stands: all of them are found, none is named. Records are those of
the project's own samples, brought together on three days so that they meet in one row, shuffled, repeated and damaged.
HEADRACE_TEST_EXAMPLES says how many stories each project is told; a failure prints what reproduces it.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import json
import os
import random
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.app import App
from headrace.cli import init
from headrace.errors import ConflictError, OutsideError
from headrace.flow import stream
from headrace.flow.stream import Worker, streamable, tables_of
from headrace.model.mart import Part
from headrace.model.run import Run
from headrace.model.source import Source
from headrace.seam.reader import live
from tests.flow import shop
from tests.flow.test_stream import Broken
from tests.kit import Opened, Quiet

Record = dict[str, str | None]
"""A record as sent: by column of the file its CSV field or its JSON value's text; None where there is none."""
PROJECTS = init.templates()
POOL = 60
"""Records of each fact that stories choose from: few, so that some are chosen twice."""
EXAMPLES = int(os.environ.get("HEADRACE_TEST_EXAMPLES", "4"))


# What is landed


def read(source: Source, text: str) -> list[Record]:
    if source.format.kind == "csv":
        return [
            {name: value or None for name, value in row.items()}
            for row in csv.DictReader(io.StringIO(text), delimiter=source.format.separator)
        ]
    # Numbers as they are written.
    lines = [json.loads(line, parse_float=_Number, parse_int=_Number) for line in text.splitlines()]
    return [{name: _json(value) for name, value in line.items()} for line in lines]


class _Number(str):
    __slots__ = ()


def _json(value: Any) -> str | None:
    return None if value is None else str(value) if isinstance(value, _Number) else json.dumps(value)


def written(source: Source, records: list[Record]) -> str:
    if source.format.kind == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(records[0]), delimiter=source.format.separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue()
    lines = (", ".join(f"{json.dumps(n)}: {v}" for n, v in r.items() if v is not None) for r in records)
    return "".join(f"{{{line}}}\n" for line in lines)


@dataclass(frozen=True)
class Stage:
    """A shipped project whose references are landed and published, and records of its facts to choose from."""

    folder: Path
    facts: tuple[Source, ...]
    pools: dict[str, list[Record]]


def staged(name: str, place: Path) -> Stage:
    folder = place / "project"
    init.write(folder, name)
    # Files of one name only could not come in pieces.
    declared = (folder / "project.py").read_text()
    (folder / "project.py").write_text(re.sub(r'(csv|jsonl)\("([^"*]+)\.(\w+)"\)', r'\1("\2*.\3")', declared))
    (folder / "landing").mkdir()
    app = opened(folder)
    for mart in streamable(app.project):
        grain = [c.name for c in mart.grain]
        columns = ", ".join([*grain, *(m.name for m in mart.measures)])
        order = f" ORDER BY {', '.join(grain)}" if grain else ""
        (folder / f"queries/every_{mart.name}.sql").write_text(f"SELECT {columns} FROM {mart.name}{order}")
    samples = place / "samples"
    app.generate(0.02, 1, str(samples))
    facts, pools = [], {}
    for source in app.project.sources.values():
        files = sorted(samples.glob(source.format.pattern))
        if source.role == "reference":
            for file in files:
                shutil.copy(file, folder / "landing")
        else:
            records = [record for file in files for record in read(source, file.read_text())]
            facts.append(source)
            pools[source.name] = _pool(source, records)
    opened(folder).run(Quiet())
    return Stage(folder, tuple(facts), pools)


def _pool(source: Source, records: list[Record]) -> list[Record]:
    """Neighbours: records that are alike in whatever is alike in many, on three days."""
    assert source.event_time is not None
    time = source.sent(source.event_time)
    many = [n for n in records[0] if n != time and len({r.get(n) for r in records}) < len(records) / 4]
    ranked = sorted(records, key=lambda r: ([r.get(n) or "" for n in many[:2]], r[time] or ""))[
        :: max(len(records) // 5000, 1)
    ]
    chosen = ranked[: POOL // 2] + ranked[:: max(len(ranked) // (POOL // 2), 1)][: POOL // 2]
    width = 11 if source.format.kind == "jsonl" else 10  # JSON's quotation mark
    days = sorted((r[time] or "")[:width] for r in chosen if r[time])
    three = [days[0], days[len(days) // 2], days[-1]]
    return [r | {time: three[n % 3] + (r[time] or "")[len(three[0]) :]} for n, r in enumerate(chosen)]


def opened(folder: Path, range_: int = 1000) -> App:
    return Opened(folder, {"inbox.quiet": 0.0, "stream.range": range_, "engine.memory": "256MB", "engine.threads": 1})


# What plain SQL makes of the files


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class Oracle:
    """Reads a project's files itself, judges them by what is declared, and runs the SQL of datasets and marts as it
    is written, over all records at once. Nothing of the product's own SQL is used."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sql = duckdb.connect(config={"threads": 1})
        self.sql.execute("SET TimeZone = 'UTC'")
        sources = app.project.sources.values()
        for source in sources:
            self._judge(source)
        verdicts = " UNION ALL ".join(self._verdicts(source) for source in sources)
        self.sql.execute(f"CREATE VIEW verdicts AS {verdicts}")
        self.defined: set[str] = set()
        for mart in streamable(app.project):
            self._define(mart.name)

    def _define(self, name: str) -> None:
        file = next(
            (f for kind in ("silver", "marts") if (f := self.app.folder / kind / f"{name}.sql").is_file()), None
        )
        if file is None or name in self.defined:
            return
        self.defined.add(name)
        read = self.app.project.datasets.get(name) or self.app.project.marts[name]
        for other in read.inputs:
            self._define(other)
        # Of those that are equal, the first or the last record is meant.
        sql = re.sub(r"arg_(min|max)\((\w+), (\w+)\)", r"arg_\1(\2, (\3, _offset))", file.read_text())
        self.sql.execute(f"CREATE VIEW {name} AS {sql}")

    def _judge(self, source: Source) -> None:
        name, types = source.name, {c.name: str(c.type) for c in source.columns}
        rows: list[tuple[Any, ...]] = []
        landing = self.app.folder / "landing"
        for file in sorted(landing.glob(source.format.pattern)):
            for record in read(source, file.read_text()):
                sent = [record.get(source.sent(c)) for c in types]
                rows.append((len(rows), str(file), *sent))
        columns = ", ".join(f"{c} VARCHAR" for c in types)
        self.sql.execute(f"CREATE TABLE {name}__sent (_offset BIGINT, _file VARCHAR, {columns})")
        if rows:
            self.sql.executemany(f"INSERT INTO {name}__sent VALUES ({', '.join('?' * len(rows[0]))})", rows)
        is_json = source.format.kind == "jsonl"
        numbers = {c.name for c in source.columns if c.type.is_number or c.type.name == "BOOLEAN"}

        def text(column: str) -> str:
            return f"json_extract_string({column}, '$')" if is_json else column

        raw = ", ".join(f"'{c}': {c if not is_json or c in numbers else text(c)}" for c in types)
        typed = ", ".join(f"TRY_CAST({text(c)} AS {type}) AS {c}" for c, type in types.items())
        wrong = []
        for column in source.columns:
            c, wide = column.name, "DECIMAL(38,12)"
            misfit = f"{text('s.' + c)} IS NOT NULL AND t.{c} IS NULL"
            if column.type.is_exact:
                misfit += f" OR TRY_CAST({text('s.' + c)} AS {wide}) <> t.{c}"
            wrong.append(f"CASE WHEN {misfit} THEN {_quoted(f'{c} is not {column.type}')} END")
            if not column.nullable:
                wrong.append(f"CASE WHEN s.{c} IS NULL THEN {_quoted(f'{c} is missing')} END")
        self.sql.execute(
            f"CREATE TABLE {name}__read AS SELECT t.*, list_filter([{', '.join(wrong)}], lambda x: x IS NOT NULL) AS _misfits "
            f"FROM {name}__sent AS s JOIN (SELECT _offset, _file, {{{raw}}} AS raw, {typed} FROM {name}__sent) AS t USING (_offset)"
        )
        mended = ", ".join(f"CAST({r.expression} AS {types[r.column]}) AS {r.column}" for r in source.repairs)
        self.sql.execute(
            f"CREATE TABLE {name}__mended AS SELECT * {f'REPLACE ({mended})' if mended else ''} FROM {name}__read ORDER BY _offset"
        )
        changed = [
            f"CASE WHEN m.{r.column} IS DISTINCT FROM o.{r.column} THEN {_quoted(r.reason)} END" for r in source.repairs
        ]
        failed = [f"CASE WHEN NOT ({r.condition}) THEN {_quoted(r.reason)} END" for r in source.rules]
        flown = [f"CASE WHEN {f.condition} THEN {_quoted(f.reason)} END" for f in source.flags]

        def those(cases: list[str]) -> str:
            listed = f"list_filter(CAST([{', '.join(cases)}] AS VARCHAR[]), lambda x: x IS NOT NULL)"
            return f"CASE WHEN len(_misfits) = 0 THEN {listed} ELSE [] END"

        changes = f"SELECT m._offset, {those(changed).replace('_misfits', 'm._misfits')} AS _changed FROM {name}__mended AS m JOIN {name}__read AS o USING (_offset)"
        found = f"SELECT *, list_concat(_misfits, {those(failed)}) AS _reasons, {those(flown)} AS _flags FROM {name}__mended"
        key = ", ".join(source.identity)
        occurrence = f"row_number() OVER (PARTITION BY _file, {key} ORDER BY _offset)" if source.twins else "1"
        # Whichever of a file's equal records is wrong takes its number all the same.
        numbered = f"SELECT *, {occurrence} AS _twin FROM ({found}) JOIN ({changes}) USING (_offset)"
        if source.role == "fact":
            before = f"lag(_offset) OVER (PARTITION BY {key}, _twin ORDER BY _offset)"
            again, verdict = f"_offset - {before} <= {source.horizon}", "duplicate"
        else:
            moment = f", {source.valid_from}" if source.valid_from else ""
            again, verdict = f"row_number() OVER (PARTITION BY {key}{moment} ORDER BY _offset DESC) > 1", "superseded"
        self.sql.execute(
            f"CREATE TABLE {name}__all AS SELECT *, 'quarantined' AS _verdict FROM ({numbered}) WHERE len(_reasons) > 0 "
            f"UNION ALL SELECT *, CASE WHEN {again} THEN '{verdict}' ELSE 'clean' END FROM ({numbered}) WHERE len(_reasons) = 0"
        )
        names = ", ".join(types)
        until = (
            f", coalesce(lead({source.valid_from}) OVER (PARTITION BY {key} ORDER BY {source.valid_from}), TIMESTAMP '9999-12-31') AS valid_to"
            if source.valid_from
            else ""
        )
        self.sql.execute(
            f"CREATE VIEW {name} AS SELECT {names}, _offset{until} FROM {name}__all WHERE _verdict = 'clean'"
        )
        required = "".join(f" AND {c.name} IS NOT NULL" for c in source.columns if not c.nullable)
        self.sql.execute(
            f"CREATE VIEW {name}_judged AS SELECT {names}, _verdict = 'quarantined' AS quarantined, _offset FROM {name}__all "
            f"WHERE _verdict IN ('clean', 'quarantined'){required}"
        )

    @staticmethod
    def _verdicts(source: Source) -> str:
        day = (
            f"coalesce(CAST({source.event_time} AS DATE), DATE '1970-01-01')"
            if source.event_time
            else "DATE '1970-01-01'"
        )
        kinds = {
            "'landed'": "''", "_verdict": "array_to_string(_reasons, '; ')", "'repaired'": "unnest(_changed)",
            "'flagged'": "unnest(_flags)",
        }  # fmt: skip
        return " UNION ALL ".join(
            f"SELECT '{source.name}' AS source, {day} AS day, {kind} AS kind, {reason} AS reason FROM {source.name}__all"
            for kind, reason in kinds.items()
        )

    def rows(self, mart: str, grain: list[str], measures: list[str]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        # An instant comes as its UTC time, lest fetching it need another library.
        types = {row[0]: row[1] for row in self.sql.execute(f"DESCRIBE {mart}").fetchall()}
        columns = [
            f"{c} AT TIME ZONE 'UTC'" if types[c] == "TIMESTAMP WITH TIME ZONE" else c for c in (*grain, *measures)
        ]
        found = self.sql.execute(f"SELECT {', '.join(columns)} FROM {mart}").fetchall()
        return {tuple(map(_plain, row[: len(grain)])): row[len(grain) :] for row in found}


def _plain(value: Any) -> Any:
    """A value of a key as answers give it, without what only says how it is written."""
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*", value):
        return dt.datetime.fromisoformat(value).replace(tzinfo=None).isoformat()
    return value


def is_same(found: Any, wanted: Any) -> bool:
    """To the last unit: an engine's quotient is a double, the answer that quotient rounded to six places."""
    if found is None or wanted is None:
        return found is wanted
    if isinstance(wanted, float):
        exact = Decimal(repr(wanted))
        return abs(Decimal(str(found)) - exact) <= Decimal("0.0000005") + abs(exact) * Decimal("1e-14")
    if isinstance(wanted, Decimal):
        return Decimal(str(found)) == wanted
    return bool(_plain(found) == _plain(wanted))


# What is streamed, and what is run


class World:
    """Two copies of a project that get the same files: one streams and runs, the other one runs once, in the end."""

    def __init__(self, stage: Stage, place: Path, range_: int) -> None:
        self.stage, self.place, self.range = stage, place, range_
        self.streamed, self.batch = place / "streamed", place / "batch"
        for folder in (self.streamed, self.batch):
            shutil.copytree(stage.folder, folder)
        self.names = itertools.count(1)

    @property
    def app(self) -> App:
        return opened(self.streamed, self.range)

    def land(self, seed: int) -> None:
        """A file of most facts: records of the pool, some of them again, in any order, some damaged."""
        rnd = random.Random(seed)
        for source in self.stage.facts:
            pool = self.stage.pools[source.name]
            records = [dict(record) for record in rnd.choices(pool, k=rnd.randint(0, 20))]
            if not records:
                continue
            if rnd.random() < 0.3:
                self._damage(source, rnd.choice(records), rnd)
            name = source.format.pattern.replace("**/", "").replace("*", f"{next(self.names):04}")
            for folder in (self.streamed, self.batch):
                file = folder / "landing" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(written(source, records))

    @staticmethod
    def _damage(source: Source, record: Record, rnd: random.Random) -> None:
        column = rnd.choice(source.columns)
        value = rnd.choice([None, "oops", "-7"])
        is_number = column.type.is_number or column.type.name == "BOOLEAN"
        if value is not None and source.format.kind == "jsonl" and not (is_number and value == "-7"):
            value = json.dumps(value)
        record[source.sent(column.name)] = value

    def worker(self, dies_after: int | None = None) -> None:
        app = self.app
        store = app.store if dies_after is None else Broken(app.store, dies_after)
        worker = Worker(app.project, app.log, app.lake, app.engine, store, Quiet(), f"w{next(self.names)}")
        batch = app.batch(Quiet())
        try:
            worker.run(lambda: batch.land(Run("")), until_caught_up=True, stopped=lambda: False)
        except OutsideError:
            assert dies_after is not None

    def run(self, *, take_over: bool) -> None:
        self.app.run(Quiet(), take_over=take_over)

    def roll_back(self) -> None:
        with suppress(ConflictError):
            before = shop.pointer(self.app)
            if before.predecessor:
                self.app.rollback()

    def judge(self, oracle: Oracle, when: str) -> None:
        """Every row of every streamed mart is the oracle's."""
        for folder in (self.streamed,) if when != "run once" else (self.batch,):
            app = opened(folder, self.range)
            for mart in streamable(app.project):
                grain, measures = [c.name for c in mart.grain], [m.name for m in mart.measures]
                rows = app.reader.answer(f"every_{mart.name}", {}).rows
                found = {tuple(map(_plain, row[: len(grain)])): row[len(grain) :] for row in rows}
                wanted = oracle.rows(mart.name, grain, measures)
                assert len(found) == len(rows), (when, mart.name)
                assert found.keys() == wanted.keys(), (
                    when,
                    mart.name,
                    sorted(map(str, found.keys() ^ wanted.keys()))[:5],
                )
                for key, values in wanted.items():
                    for measure, value, answer in zip(measures, values, found[key], strict=True):
                        assert is_same(answer, value), (when, mart.name, key, measure, answer, value)


def tables(app: App) -> dict[str, dict[tuple[Any, ...], list[Any]]]:
    """Every row of every serving table of a streamed mart: the live batch row, and what the epoch's ranges added."""
    pointer = shop.pointer(app)
    generation = app.reader.generation(pointer.generation)
    found = {}
    for mart in streamable(app.project):
        for table in tables_of(app.project, mart):
            width, rows = len(table.key), [row for rows in app.store.walk(table) for row in rows]
            kept: list[tuple[Any, ...]] = live(rows, width, pointer.generation, pointer.abandoned)
            if generation.epoch in pointer.streamed:
                for speed in app.store.walk_speed(table, generation.epoch):
                    kept += [row[:-3] for row in speed if row[-2] >= generation.cut.get(row[-3], 0)]
            merged: dict[tuple[Any, ...], list[Any]] = {}
            for row in kept:
                values = [*map(_stored, table.parts, row[width:-1]), row[-1]]
                old = merged.get(row[:width])
                if old is not None:
                    values = [*map(_merged, table.parts, old, values), old[-1] + row[-1]]
                merged[row[:width]] = values
            found[table.name] = merged
    return found


def _stored(part: Part, value: Any) -> Any:
    if value is None:
        return None
    if part.merge == "set":
        return frozenset(json.loads(value))
    if part.by is not None:
        best = json.loads(value)
        order = Decimal(best[0]) if part.by.name == "DECIMAL" else best[0]
        return (order, *best[1:])
    return Decimal(value) if part.type.name == "DECIMAL" else value


def _merged(part: Part, a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if part.merge == "sum":
        return a + b
    if part.merge == "set":
        return a | b
    return (min if part.merge in ("min", "bool_and", "arg_min") else max)(a, b)


# Stories


def stories() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """What lands, and what is done about it, in turns."""
    land = st.tuples(st.just("land"), st.integers(0, 10**6))
    killed = st.tuples(st.just("killed"), st.integers(1, 80))
    done = st.sampled_from([("stream",), ("stream",), ("run",), ("take over",), ("roll back",)]) | killed
    turns = st.lists(st.tuples(land, done, done), min_size=3, max_size=6)
    return turns.map(lambda several: [step for turn in several for step in turn])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, int, list[tuple[Any, ...]]]:
    """Records of a range, records of a micro-batch, and what happens."""
    return draw(st.sampled_from([7, 20, 1000])), draw(st.sampled_from([5, 17, 1000])), draw(stories())


@pytest.fixture(scope="module", params=PROJECTS)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return staged(request.param, tmp_path_factory.mktemp(request.param))


def follow(stage: Stage, told: tuple[int, int, list[tuple[Any, ...]]]) -> None:
    range_, micro_batch, story = told
    with (
        tempfile.TemporaryDirectory(prefix="headrace-story-") as place,
        patch.object(stream, "MICRO_BATCH", micro_batch),
    ):
        world = World(stage, Path(place), range_)
        for kind, *details in story:
            match kind:
                case "land":
                    world.land(*details)
                case "stream" | "killed":
                    world.worker(*details)
                case "run" | "take over":
                    world.run(take_over=kind == "take over")
                case "roll back":
                    world.roll_back()
        world.worker()
        oracle = Oracle(world.app)
        world.judge(oracle, "streamed")
        opened(world.batch).run(Quiet())
        world.judge(oracle, "run once")
        wanted = tables(opened(world.batch))
        assert tables(world.app) == wanted, "streamed"
        world.run(take_over=True)
        assert tables(world.app) == wanted, "run afterwards"


STREAMED = [("land", 1), ("stream",), ("land", 2), ("killed", 6), ("land", 3), ("stream",), ("land", 4), ("stream",)]
MIXED = [*STREAMED, ("run",), ("land", 5), ("killed", 30), ("land", 6), ("stream",), ("run",), ("land", 7), ("stream",)]
UNLIKELY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize(
    "story", [pytest.param(STREAMED, marks=pytest.mark.slow), MIXED], ids=["never run", "run in between"]
)
def test_a_story_with_everything_in_it(story: list[tuple[Any, ...]], stage: Stage) -> None:
    follow(stage, (20, 17, story))


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=UNLIKELY, print_blob=True)
@given(worlds())
def test_any_story_ends_with_what_plain_sql_makes_of_the_files(
    stage: Stage, told: tuple[int, int, list[tuple[Any, ...]]]
) -> None:
    follow(stage, told)
