"""A project folder read whole: every declaration and every SQL file, everything wrong at once."""

from __future__ import annotations

import re
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from headrace.declare import tables
from headrace.declare.builder import IDENTIFIER, Project
from headrace.declare.routes import Routes
from headrace.errors import DeclarationError, HeadraceError, ParameterError, Place, ProjectErrors, nearest
from headrace.model.mart import Dataset, Mart
from headrace.model.page import FIGURES, Page
from headrace.model.project import LoadedProject
from headrace.model.retention import Retention
from headrace.model.route import Route, RouteParameter, fields
from headrace.model.serving import Bucket, Parameter
from headrace.model.source import Source
from headrace.model.types import Column, Type, parse_type
from headrace.sql.compose import compile_query
from headrace.sql.dialect import Text
from headrace.sql.gold import parts_columns
from headrace.sql.judge import bronze_columns, check_expressions, judge_sql, probe_sql
from headrace.sql.mart import ORIGIN, MartErrors, Relation, compile_mart
from headrace.sql.parameters import value_of
from headrace.sql.query import Query
from headrace.sql.silver import compile_dataset, tables_of
from headrace.sql.windows import Declared, window_of

VERDICTS = "verdicts"


def find(folder: Path) -> Path:
    """The project folder that holds ``folder``; raises DeclarationError HR0101."""
    for candidate in (folder, *folder.parents):
        if (candidate / "project.py").is_file():
            return candidate
    raise DeclarationError(
        "HR0101", f"no project.py in {folder} or above", help="cd into a project, or: headrace init DIR"
    )


def load(folder: Path, engine: Binder) -> LoadedProject:
    """Reads a project; raises ProjectErrors with all that is wrong. ``engine`` is asked for names and types only."""
    return _Loader(folder, engine).load()


class Binder(Protocol):
    """What knows names and types: the engine, asked without any data."""

    def define(self, name: str, sql: str) -> None: ...

    def describe(self, sql: str) -> Sequence[tuple[str, str]]: ...


class _Loader:
    def __init__(self, folder: Path, engine: Binder) -> None:
        self.folder = folder
        self.engine = engine
        self.errors: list[DeclarationError] = []
        self.relations: dict[str, Relation] = {}
        self.datasets: dict[str, Dataset] = {}
        self.marts: dict[str, Mart] = {}
        self.queries: dict[str, Query] = {}
        self.pins: set[str] = set()

    def load(self) -> LoadedProject:
        project = self.run_declarations()
        self.pins = set(project.pins)
        sources = {s.model.name: s.model for s in project.sources}
        for source in sources.values():
            self.add_source(source)
        self.add_verdicts(sources)
        self.read_tables(self.files("silver"), self.files("marts"))
        for text in self.files("queries").values():
            self.add_query(text)
        for page in project.pages:
            self.check_page(page)
        routes = self.read_routes()
        for pin in project.pins:
            if pin not in self.marts:
                self.errors.append(
                    DeclarationError("HR0103", f"pin('{pin}') names no mart", help=nearest(pin, self.marts))
                )
        # An own error of a mart's file says more than that what it keeps cannot be told.
        written = {file.stem for file in (self.folder / "marts").glob("*.sql")} - set(self.marts)
        loaded = LoadedProject(
            project.name,
            self.folder,
            sources,
            self.datasets,
            self.marts,
            self.queries,
            tuple(project.pages),
            tuple(project.pins),
            routes,
        )
        retention = {
            name: self.check_keep(loaded, name, *given) for name, given in project.keeps.items() if name not in written
        }
        for name, (values, place) in project.expected.items():
            if name not in written:
                self.check_expected(name, values, place)
        buckets: dict[str, Bucket] = {}
        try:
            buckets = tables.buckets(tables.read(self.folder), self.queries.values())
        except DeclarationError as error:
            self.errors.append(error)
        goals = {name: self.check_fresh(loaded, name, *at) for name, at in project.goals.items() if name not in written}
        # What reads a table that has errors of its own is not wrong for that.
        broken = (
            {f.stem for kind in ("silver", "marts") for f in (self.folder / kind).glob("*.sql")}
            - set(self.datasets)
            - set(self.marts)
        )
        self.errors = [
            e
            for e in self.errors
            if not (e.code == "HR0203" and any(e.what == f"unknown table '{name}'" for name in broken))
        ]
        if self.errors:
            raise ProjectErrors(
                sorted(
                    self.errors,
                    key=lambda e: (
                        (e.place.file != "project.py", e.place.file, e.place.line, e.place.column)
                        if e.place
                        else (False, "", 0, 0)
                    ),
                )
            )
        return replace(
            loaded,
            retention={name: keep for name, keep in retention.items() if keep is not None},
            buckets=buckets,
            expected={name: values for name, (values, _) in project.expected.items()},
            goals={name: seconds for name, seconds in goals.items() if seconds},
        )

    def run_declarations(self) -> Project:
        file = self.folder / "project.py"
        if not file.is_file():
            raise DeclarationError("HR0101", f"no project.py in {self.folder}", help="headrace init DIR")
        try:
            names = runpy.run_path(str(file))
        except HeadraceError:
            raise
        except Exception as error:  # noqa: BLE001  the user's own code may raise anything
            raise self.python_error(file, error) from None
        project = names.get("project")
        if not isinstance(project, Project):
            raise DeclarationError(
                "HR0102",
                "project.py does not make a Project named 'project'",
                place=Place("project.py"),
                help='project = Project("name")',
            )
        self.errors += [self.relative(e) for e in project.errors]
        for builder in project.sources:
            if builder.model.place.file == str(file):
                builder.model = _relative_places(builder.model, file)
        return project

    def python_error(self, file: Path, error: Exception) -> DeclarationError:
        lines = [f for f in traceback.extract_tb(sys.exc_info()[2]) if f.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else (lines[-1].lineno if lines else 0)
        text = file.read_text().splitlines()[line - 1] if line else ""
        return DeclarationError(
            "HR0102", f"{type(error).__name__}: {error}", place=Place(file.name, line or 0, 1, text)
        )

    def relative(self, error: DeclarationError) -> DeclarationError:
        if error.place is None or not Path(error.place.file).is_absolute():
            return error
        source = Path(error.place.file)
        text = source.read_text().splitlines()[error.place.line - 1] if error.place.line else ""
        return DeclarationError(
            error.code,
            error.what,
            place=Place(source.name, error.place.line, 1, text, max(len(text), 1)),
            help=error.help,
        )

    def files(self, kind: str) -> dict[str, Text]:
        found = {}
        for file in sorted((self.folder / kind).glob("*.sql")):
            name = file.stem
            if not IDENTIFIER.match(name):
                place = Place(f"{kind}/{file.name}")
                self.errors.append(
                    DeclarationError(
                        "HR0103", f"'{name}' is not a name", place=place, help="lower-case letters, digits and _"
                    )
                )
                continue
            found[name] = Text(file.read_text(), Place(f"{kind}/{file.name}", 1))
        return found

    # Sources

    def add_source(self, source: Source) -> None:
        problems = check_expressions(source)
        self.errors += problems
        for repair in source.repairs:
            if repair.column in source.identity:
                self.errors.append(DeclarationError("HR0103", f"{source.name}.{repair.column} is part of the id and cannot be repaired", place=repair.place,
                                                    help="quarantine it with a rule, and replay a corrected record"))  # fmt: skip
        if self.reserved([source.name]):
            what = f"'{source.name}' is a reserved word of SQL"
            self.errors.append(
                DeclarationError("HR0103", what, place=source.place, help="another name: the plural, say")
            )
            return
        reserved = self.reserved([c.name for c in source.columns])
        if reserved:
            help = f'give it another name: rename={{"{reserved}": "{reserved}_"}}'
            self.errors.append(
                DeclarationError(
                    "HR0103", f"{source.name}: '{reserved}' is a reserved word of SQL", place=source.place, help=help
                )
            )
            problems = [*problems, self.errors[-1]]
        key: tuple[str, ...] = ()
        valid = None
        columns = source.columns
        if source.role == "reference":
            key = source.identity if source.valid_from is None else (*source.identity, source.valid_from)
            if source.valid_from is not None:
                started = source.column(source.valid_from)
                valid = (source.valid_from, "valid_to")
                if started is not None:
                    columns = (*columns, Column("valid_to", started.type, nullable=False))
        judged = (
            *source.columns,
            Column("quarantined", _type("BOOLEAN"), nullable=False),
            Column("reasons", _type("VARCHAR[]")),
        )
        if not problems:
            self.engine.define("bronze_shape", _empty(bronze_columns(source), []))
            try:
                self.engine.describe(judge_sql(source, "bronze_shape", None))
                self.check_conditions(source)
            except DeclarationError as error:
                self.errors.append(self.blame(source, error))
        unique = (*source.identity, *(c.name for c in ORIGIN)) if source.role == "fact" else key
        self.relations[source.name] = Relation(source.name, columns, source.role, key, valid, "", unique)
        self.relations[f"{source.name}_judged"] = Relation(
            f"{source.name}_judged", judged, "judged", (), None, "", unique
        )
        self.define(source.name)
        self.define(f"{source.name}_judged")

    def check_conditions(self, source: Source) -> None:
        """Rules and flags are conditions: whatever else an expression is, it would be neither true nor false."""
        conditions = probe_sql(source, "bronze_shape")[len(source.repairs) :]
        texts = [*(r.condition for r in source.rules), *(f.condition for f in source.flags)]
        for (place, sql), condition in zip(conditions, texts, strict=True):
            kind = self.engine.describe(sql)[0][1]
            if kind not in ("BOOLEAN", '"NULL"', "NULL"):
                what = f"{source.name}: '{condition}' is {kind}, not a condition"
                self.errors.append(
                    DeclarationError("HR0204", what, place=place, help="compare it with something: x > 0")
                )

    def reserved(self, names: list[str]) -> str:
        """The first of the names that the engine does not take for a column unless quoted; empty where all are fine."""
        for some in (names, *([n] for n in names)):
            try:
                self.engine.describe(
                    f"SELECT {', '.join(f'{n} IS NULL' for n in some)} FROM (SELECT {', '.join(f'1 AS {chr(34)}{n}{chr(34)}' for n in some)})"
                )
            except DeclarationError:
                if len(some) == 1:
                    return some[0]
            else:
                if some is names:
                    return ""
        return ""

    def blame(self, source: Source, error: DeclarationError) -> DeclarationError:
        """The declaration whose own expression the engine refuses."""
        for place, sql in probe_sql(source, "bronze_shape"):
            try:
                self.engine.describe(sql)
            except DeclarationError as found:
                return self.relative(
                    DeclarationError("HR0204", f"{source.name}: {found.what}", place=place, help=found.help)
                )
        return self.relative(
            DeclarationError("HR0204", f"{source.name}: {error.what}", place=source.place, help=error.help)
        )

    def add_verdicts(self, sources: Mapping[str, Source]) -> None:
        names = [
            ("source", "VARCHAR", False),
            ("day", "DATE", False),
            ("kind", "VARCHAR", False),
            ("reason", "VARCHAR", False),
        ]
        columns = tuple(Column(n, _type(t), nullable) for n, t, nullable in names)
        if sources:
            self.relations[VERDICTS] = Relation(VERDICTS, columns, "verdicts", ())
            self.define(VERDICTS)

    def define(self, name: str) -> None:
        relation = self.relations[name]
        self.engine.define(name, _empty([(c.name, str(c.type)) for c in relation.columns], _ORIGIN))

    # Silver and marts

    def read_tables(self, silver: Mapping[str, Text], marts: Mapping[str, Text]) -> None:
        """Datasets and marts in the order in which they read each other."""
        waiting: dict[str, tuple[Text, set[str]]] = {}
        for name, text in [*silver.items(), *marts.items()]:
            if name in self.relations or name in waiting:
                self.errors.append(
                    DeclarationError("HR0104", f"'{name}' is the name of something else already", place=text.place)
                )
                continue
            try:
                waiting[name] = (text, tables_of(text))
            except DeclarationError as error:
                self.errors.append(error)
        while waiting:
            ready = [name for name, (_, reads) in waiting.items() if not reads & set(waiting)]
            if not ready:
                for name, (text, reads) in waiting.items():
                    circle = ", ".join(sorted(reads & set(waiting)))
                    self.errors.append(
                        DeclarationError("HR0216", f"'{name}' and {circle} read each other", place=text.place)
                    )
                return
            for name in ready:
                text, _ = waiting.pop(name)
                try:
                    if name in silver:
                        self.add_dataset(name, text)
                    else:
                        self.add_mart(name, text)
                except MartErrors as failed:
                    self.errors += failed.errors
                except DeclarationError as error:
                    self.errors.append(error)

    def add_dataset(self, name: str, text: Text) -> None:
        dataset = compile_dataset(name, text, self.relations, self.engine.describe)
        self.datasets[name] = dataset
        unique = () if dataset.repeats else tuple(c.name for c in ORIGIN)
        self.relations[name] = Relation(name, dataset.columns, "dataset", (), None, dataset.batch_only, unique)
        self.define(name)

    def add_mart(self, name: str, text: Text) -> None:
        mart = compile_mart(name, text, self.relations, self.engine.describe)
        reference = next(filter(None, map(self.counted_reference, mart.rows_from)), "")
        if reference and not mart.batch_only:
            mart = replace(mart, batch_only=f"it counts rows of {reference}, and references are not streamed")
        self.marts[name] = mart
        columns = (*mart.grain, *(Column(m.name, m.type) for m in mart.measures))
        reason = f"'{name}' is a mart, whose values change as records come"
        # A pinned mart is a fixed yardstick: what reads it does not depend on the whole history.
        changing = "" if name in self.pins else mart.batch_only or reason
        key = tuple(c.name for c in mart.grain)
        self.relations[name] = Relation(name, columns, "mart", key, None, changing, mart=mart)
        self.engine.define(f"{name}__parts", _empty(parts_columns(mart), []))
        self.define(name)

    def counted_reference(self, name: str) -> str:
        """A reference whose rows a relation passes on, as its own and not joined; empty where there is none. Verdicts
        are of references, too, but of those the batch has counted all there are."""
        if name in self.datasets:
            return next(filter(None, map(self.counted_reference, self.datasets[name].rows_from)), "")
        name = name.removesuffix("_judged")
        return name if name in self.relations and self.relations[name].kind == "reference" else ""

    def check_keep(self, project: LoadedProject, name: str, span: int, place: Place) -> Retention | None:
        """What is kept of a mart; None, and an error, where nothing tells which of its windows are old."""

        def wrong(what: str, help: str) -> None:
            self.errors.append(self.relative(DeclarationError("HR0108", what, place=place, help=help)))

        mart = project.marts.get(name)
        if mart is None:
            wrong(f"keep('{name}') names no mart", nearest(name, project.marts))
            return None
        window = window_of(mart, Declared(project.sources, project.datasets, project.marts))
        column = mart.grain_column(window.column) if window is not None else None
        if window is None or column is None or not (column.type.name == "DATE" or column.type.is_instant):
            grain = ", ".join(c.name for c in mart.grain) or "nothing"
            what = f"'{name}' has no window in its grain ({grain})"
            wrong(what, "a grain column that is the date of the event time, or date_trunc of it; or without keep()")
            return None
        for fact in sorted(project.facts_of(name)):
            if project.sources[fact].lateness is None:
                what = (
                    f"'{name}' counts {fact}, which declares no lateness, so that nothing tells which windows are old"
                )
                wrong(what, f'{fact}: lateness="1 hour", or by how much its records come late')
        return Retention(window.column, window.unit, span)

    def check_expected(self, name: str, values: Mapping[str, int], place: Place) -> None:
        mart = self.marts.get(name)
        if mart is None:
            what, help = f"expect('{name}') names no mart", nearest(name, self.marts)
            self.errors.append(self.relative(DeclarationError("HR0103", what, place=place, help=help)))
            return
        for column in values:
            if mart.grain_column(column) is None:
                what = f"expect('{name}') names '{column}', which is not in its grain"
                help = nearest(column, [c.name for c in mart.grain])
                self.errors.append(self.relative(DeclarationError("HR0103", what, place=place, help=help)))

    def check_fresh(self, project: LoadedProject, name: str, seconds: int, place: Place) -> int:
        """The goal of a mart; 0, and an error, where nothing tells how fresh it is."""
        mart = project.marts.get(name)
        if mart is not None and project.facts_of(name):
            return seconds
        what, help = f"fresh('{name}') names no mart", nearest(name, project.marts)
        if mart is not None:
            what, help = f"'{name}' counts no source of facts, so that it has no newest event", "leave fresh() out"
        self.errors.append(self.relative(DeclarationError("HR0110", what, place=place, help=help)))
        return 0

    # Queries and pages

    def add_query(self, text: Text) -> None:
        name = Path(text.place.file).stem
        rows = {n: r for n, r in self.relations.items() if r.kind in ("fact", "reference", "dataset")}
        try:
            self.queries[name] = compile_query(name, text, self.marts, rows)
        except MartErrors as failed:
            self.errors += failed.errors
        except DeclarationError as error:
            self.errors.append(error)

    def check_page(self, page: Page) -> None:
        filters = dict(page.filters)
        for tile in page.tiles:
            if tile.kind == "status":
                if tile.y not in FIGURES:
                    self.page_error(page, f"a tile shows '{tile.y}', which is no figure", nearest(str(tile.y), FIGURES))
                continue
            query = self.queries.get(tile.query)
            if query is None:
                if not (self.folder / "queries" / f"{tile.query}.sql").is_file():
                    known = [f.stem for f in (self.folder / "queries").glob("*.sql")]
                    self.page_error(page, f"a tile shows '{tile.query}', which is no query", nearest(tile.query, known))
                continue
            types = {c.name: c.type for c in query.columns}
            for column in (tile.x, tile.y, tile.by):
                if column is not None and column not in types:
                    self.page_error(page, f"query '{tile.query}' has no column '{column}'", nearest(column, types))
            if tile.y in types and not types[tile.y].is_number:
                what = f"'{tile.y}' of query '{tile.query}' is {types[tile.y]}, which {tile.kind}() cannot draw as y"
                numbers = ", ".join(n for n, t in types.items() if t.is_number)
                self.page_error(
                    page, what, f"a column of numbers: {numbers}" if numbers else "table() shows any column"
                )
            parameters = {p.name: p for p in query.parameters}
            for given in tile.given:
                if given not in parameters:
                    self.page_error(
                        page, f"query '{tile.query}' has no parameter '{given}'", nearest(given, parameters)
                    )
            preset = [*tile.given.items(), *((n, filters.pop(n)) for n in parameters if n in filters)]
            for name, value in preset:
                if name in parameters:
                    self.check_preset(page, parameters[name], value)

        shown = [tile.query for tile in page.tiles if tile.kind != "status"]
        if filters and all(name in self.queries for name in shown):
            known = [p.name for name in shown for p in self.queries[name].parameters]
            for name in filters:
                self.page_error(page, f"no tile's query has a parameter '{name}'", nearest(name, known))

    def check_preset(self, page: Page, parameter: Parameter, text: str) -> None:
        try:
            for item in text.split(",") if parameter.many else [text]:
                value_of(parameter, item)
        except ParameterError as error:
            self.page_error(page, error.what, error.help)

    def page_error(self, page: Page, what: str, help: str) -> None:
        self.errors.append(
            self.relative(DeclarationError("HR0106", f"page '{page.title}': {what}", place=page.place, help=help))
        )

    # Routes

    def read_routes(self) -> tuple[Route, ...]:
        file = self.folder / "routes.py"
        if not file.is_file():
            return ()
        try:
            names = runpy.run_path(str(file))
        except Exception as error:  # noqa: BLE001  the user's own code may raise anything
            self.errors.append(self.python_error(file, error))
            return ()
        routes = names.get("routes")
        if not isinstance(routes, Routes):
            what = "routes.py does not make Routes named 'routes'"
            self.errors.append(DeclarationError("HR0102", what, place=Place("routes.py"), help="routes = Routes()"))
            return ()
        self.errors += [self.relative(e) for e in routes.errors]
        for route in routes.routes:
            self.check_route(route)
        return tuple(routes.routes)

    def check_route(self, route: Route) -> None:
        query = self.queries.get(route.query)
        if route.query and query is None:
            known = [f.stem for f in (self.folder / "queries").glob("*.sql")]
            if route.query not in known:  # else it has errors of its own
                self.route_error(route, f"there is no query '{route.query}'", nearest(route.query, known))
            return
        parameters = {p.name: p for p in query.parameters} if query is not None else {}
        columns = [c.name for c in query.columns] if query is not None else []
        for name, one in route.parameters.items():
            if one.name in parameters:
                self.check_route_parameter(route, name, one, parameters[one.name])
            else:
                what = f"query '{route.query}' has no parameter '{one.name}'"
                self.route_error(route, what, nearest(one.name, parameters) if parameters else "it has none")
        mapped = {one.name for one in route.parameters.values()} | set(route.preset)
        for name, text in route.preset.items():
            if name not in parameters:
                self.route_error(
                    route,
                    f"query '{route.query}' has no parameter '{name}'",
                    nearest(name, parameters) if parameters else "it has none",
                )
                continue
            try:
                value_of(parameters[name], text)
            except ParameterError as error:
                self.route_error(route, error.what, error.help)
        for p in parameters.values():
            if p.required and p.name not in mapped:
                what = f"parameter '{p.name}' of query '{route.query}' is required, and nothing gives it"
                self.route_error(route, what, f'"{p.name}": parameter("{p.name}")')
        for name in route.in_path:
            if name not in route.parameters:
                what = f"the path has '{{{name}}}', which is no parameter"
                self.route_error(route, what, nearest(name, route.parameters) if route.parameters else "declare it")
        for name in route.between or ():
            if name not in route.parameters:
                self.route_error(
                    route, f"between names '{name}', which is no parameter", nearest(name, route.parameters)
                )
        own = ["limit"] if route.pages else []
        own += ["cursor"] if query is not None and query.limit is not None else []
        for name in own:
            if name in route.parameters:
                self.route_error(route, f"'{name}' is a name of paging", "another name")
        if route.pages and (route.between is None or route.pages not in columns):
            self.route_error(route, f"pages names '{route.pages}'", "a column of the query, and between= its range")
        for shape in (route.answer, *([route.unready] if route.unready is not None else [])):
            for field, _ in fields(shape):
                if field.kind == "column" and field.name not in columns:
                    self.route_error(route, f"query '{route.query}' has no column '{field.name}'",
                                     nearest(field.name, columns) if columns else "a route without a query has none")  # fmt: skip
                if field.kind == "given" and field.name not in route.parameters:
                    self.route_error(route, f"given names '{field.name}', which is no parameter",
                                     nearest(field.name, route.parameters) if route.parameters else "there are none")  # fmt: skip

    def check_route_parameter(self, route: Route, name: str, one: RouteParameter, parameter: Parameter) -> None:
        dated = parameter.type.name == "DATE" or parameter.type.is_instant
        if (one.time or one.plus or one.newest) and not dated:
            what = f"'{name}' is a time, and parameter '{one.name}' is {parameter.type}"
            self.route_error(route, what, "without time=, plus= and newest=")
        if one.plus and not one.time:
            self.route_error(route, f"'{name}' has plus= and no time=", "time= says how it is written")
        if parameter.many and (one.time or one.choices or one.pattern or one.plus):
            self.route_error(route, f"'{name}' takes several values", "without time=, plus=, pattern= and choices=")
        try:
            re.compile(one.pattern)
        except re.error as error:
            self.route_error(route, f"the pattern of '{name}': {error}", "a regular expression")

    def route_error(self, route: Route, what: str, help: str) -> None:
        error = DeclarationError("HR0107", f"route '{route.path}': {what}", place=route.place, help=help)
        self.errors.append(self.relative(error))


_ORIGIN = [("_lane", "VARCHAR"), ("_offset", "BIGINT")]


def _empty(columns: list[tuple[str, str]], more: list[tuple[str, str]]) -> str:
    """A SELECT of no rows with these columns. Origins are hidden from ``SELECT *`` only by not being asked for."""
    return (
        "SELECT " + ", ".join(f'CAST(NULL AS {type}) AS "{name}"' for name, type in [*columns, *more]) + " WHERE false"
    )


def _type(text: str) -> Type:
    found = parse_type(text)
    assert found is not None
    return found


def _relative_places(source: Source, file: Path) -> Source:
    lines = file.read_text().splitlines()

    def short(place: Place) -> Place:
        text = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
        return Place(file.name, place.line, len(text) - len(text.lstrip()) + 1, text, len(text.strip()) or 1)

    return replace(
        source,
        place=short(source.place),
        repairs=tuple(replace(r, place=short(r.place)) for r in source.repairs),
        rules=tuple(replace(r, place=short(r.place)) for r in source.rules),
        flags=tuple(replace(f, place=short(f.place)) for f in source.flags),
    )
