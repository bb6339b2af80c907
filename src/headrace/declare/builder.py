"""What ``project.py`` is written with: sources, references, rules, flags, pins, retention, goals and pages."""

from __future__ import annotations

import codecs
import fnmatch
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

from headrace.errors import DeclarationError, Place, nearest
from headrace.model.page import Page, Tile
from headrace.model.source import Flag, Format, Repair, Rule, Source
from headrace.model.types import NAMES, Column, parse_type

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")


def csv(pattern: str, *, separator: str = ",", decimal: str = ".", encoding: str = "utf-8") -> Format:
    """Comma-separated files with a header line; ``pattern`` is relative to the inbox. ``.gz`` files match too.

    An empty field is NULL, ``""`` is the empty string. ``separator`` and ``decimal`` are one character each.
    """
    return Format("csv", pattern, separator, decimal, encoding)


def jsonl(pattern: str) -> Format:
    """One JSON object a line, UTF-8; a field that is absent is NULL. ``.gz`` files match too."""
    return Format("jsonl", pattern)


def parquet(pattern: str) -> Format:
    """Parquet files; columns are found by name."""
    return Format("parquet", pattern)


def number(query: str, *, y: str, title: str = "", unit: str = "", **given: str) -> Tile:
    """A tile with one figure: column ``y`` of the query's first row."""
    return Tile("number", query, title or y, y=y, unit=unit, given=_texts(given))


def line(query: str, *, x: str, y: str, by: str | None = None, title: str = "", unit: str = "", **given: str) -> Tile:
    """A tile with a line of ``y`` over ``x``; one line per value of ``by``."""
    return Tile("line", query, title or query, x, y, by, unit, _texts(given))


def bar(query: str, *, x: str, y: str, by: str | None = None, title: str = "", unit: str = "", **given: str) -> Tile:
    """A tile with a bar of ``y`` for each ``x``; stacked by ``by``."""
    return Tile("bar", query, title or query, x, y, by, unit, _texts(given))


def table(query: str, *, title: str = "", **given: str) -> Tile:
    """A tile with the query's rows."""
    return Tile("table", query, title or query, given=_texts(given))


def status(figure: str, *, title: str = "", unit: str = "") -> Tile:
    """A tile with a figure of the project itself: ``rate`` (records counted a second), ``lag`` (records that have landed and
    are not counted), ``counted`` (records), ``workers`` (of the stream), ``as_of`` (the newest event that is counted),
    ``watermark`` (all before it is final)."""
    return Tile("status", "", title or figure, y=figure, unit=unit)


def _texts(given: Mapping[str, object]) -> dict[str, str]:
    """Parameters as a URL would have them."""
    return {name: str(value) for name, value in given.items()}


class SourceBuilder:
    """A declared source, to which repairs, rules and flags are added. All three are SQL expressions over its columns;
    ``raw.column`` is the value as sent."""

    def __init__(self, project: Project, source: Source) -> None:
        self._project = project
        self.model = source

    def repair(self, column: str, expression: str, reason: str) -> None:
        """Replaces ``column`` by ``expression``, which sees the values as read (no other repair's result).
        Where the value changes, the value before and ``reason`` are kept."""
        place = _here()
        if self.model.column(column) is None:
            self._project.wrong("HR0103", f"{self.model.name} has no column '{column}' to repair", place)
        elif any(r.column == column for r in self.model.repairs):
            self._project.wrong("HR0103", f"{self.model.name}.{column} has two repairs", place, "write one expression")
        self.model = replace(self.model, repairs=(*self.model.repairs, Repair(column, expression, reason, place)))

    def rule(self, condition: str, reason: str) -> None:
        """Sends a record for which ``condition`` is false to quarantine. NULL passes, as in a SQL CHECK."""
        self.model = replace(self.model, rules=(*self.model.rules, Rule(condition, reason, _here())))

    def flag(self, condition: str, reason: str) -> None:
        """Marks a record for which ``condition`` is true; it is kept and counted."""
        self.model = replace(self.model, flags=(*self.model.flags, Flag(condition, reason, _here())))


class Project:
    """A project's declarations. ``project.py`` makes one and names it ``project``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sources: list[SourceBuilder] = []
        self.pages: list[Page] = []
        self.pins: list[str] = []
        self.keeps: dict[str, tuple[int, Place]] = {}
        """By mart, seconds and where that is declared."""
        self.expected: dict[str, tuple[dict[str, int], Place]] = {}
        """By mart, how many values its columns will have, and where that is declared."""
        self.goals: dict[str, tuple[int, Place]] = {}
        """The same of freshness."""
        self.errors: list[DeclarationError] = []
        if not IDENTIFIER.match(name):
            self.wrong("HR0103", f"'{name}' is not a project name", _here(), "lower-case letters, digits and _")

    def source(
        self,
        name: str,
        format: Format,
        *,
        id: str,
        columns: str | Mapping[str, str],
        event_time: str,
        rename: Mapping[str, str] | None = None,
        horizon: int = 1_000_000,
        changed_file: Literal["new version", "reject"] = "new version",
        twins: bool = False,
        topic: str = "",
        lane_by: str = "",
        lateness: str = "",
        doc: str = "",
    ) -> SourceBuilder:
        """Declares a source of facts.

        ``id`` names the column or columns that identify an event: the same id again within ``horizon`` records of its
        lane is a duplicate. ``columns`` gives names and SQL types, ``NOT NULL`` where a value is required: a mapping,
        or one text as in CREATE TABLE. ``rename`` maps names in the files to names here. ``changed_file`` says what
        happens when a landed file comes again with other bytes. With ``twins``, for events that have no id of their own,
        records of one file with the same id are events of their own, and numbered: the same file, or the same record by
        another route, is a duplicate all the same.

        Where the project has a log (``kafka.brokers``), records of files are produced into ``topic``, by default
        ``<project>.<source>``, and all that it has is the source's. ``lane_by`` names the columns that decide a
        record's partition, by default its id; two records are compared as duplicates only within one.

        ``lateness``, as ``"1 hour"``, says by how much a record may come after one of a later event time. Answers then say
        which windows are final; one that comes later still is counted all the same.
        """
        return self._add(
            "fact", name, format, id, columns, event_time, rename, horizon, changed_file, None, doc,
            topic or f"{self.name}.{name}", lane_by or id, twins, lateness,
        )  # fmt: skip

    def reference(
        self,
        name: str,
        format: Format,
        *,
        key: str,
        columns: str | Mapping[str, str],
        valid_from: str | None = None,
        event_time: str | None = None,
        rename: Mapping[str, str] | None = None,
        changed_file: Literal["new version", "reject"] = "new version",
        doc: str = "",
    ) -> SourceBuilder:
        """Declares reference data: the latest version of each ``key`` stands; with ``valid_from``, the latest of each
        key and ``valid_from``, and a column ``valid_to`` is derived from the next one."""
        return self._add(
            "reference", name, format, key, columns, event_time or valid_from, rename, 0, changed_file, valid_from, doc
        )

    def pin(self, name: str) -> None:
        """Uses a batch-only mart as a fixed yardstick: what reads it becomes streamable, and is exact for the pinned
        version until ``headrace run --refit``."""
        self.pins.append(name)

    def keep(self, mart: str, span: str) -> None:
        """Limits how long the serving tables of a mart keep its windows, as ``"90 days"``: counted from the watermark, so
        that it is the events that end a window, and not the clock. Without it they keep all; gold does in any case."""
        place, seconds = _here(), _duration(span)
        if not seconds:
            what = f"keep('{mart}') has the span {span!r}"
            self.wrong("HR0108", what, place, "a number and a unit, as 90 days, 12 hours")
        if mart in self.keeps:
            self.wrong("HR0108", f"'{mart}' is kept twice", place)
        self.keeps[mart] = seconds or 1, place

    def expect(self, mart: str, **values: int) -> None:
        """Says how many values columns of a mart's grain will have, as ``shop=40, category=12``, its window aside: so
        `headrace plan` can tell how large partitions become before there is any data."""
        place = _here()
        for name, count in values.items():
            if type(count) is not int or count < 1:
                self.wrong("HR0103", f"expect('{mart}'): {name} is {count!r}", place, "a number of values, as 1000")
        if mart in self.expected:
            self.wrong("HR0103", f"'{mart}' is expected twice", place)
        self.expected[mart] = values, place

    def fresh(self, mart: str, within: str) -> None:
        """Sets the goal for how fresh a mart is, as ``"5 minutes"``: the newest event that its answers count is to be no older,
        by the clock. Nothing is enforced: ``headrace status`` tells, and ``headrace monitor export`` makes alerts of it."""
        place, seconds = _here(), _duration(within)
        if not seconds:
            what = f"fresh('{mart}') has the goal {within!r}"
            self.wrong("HR0110", what, place, "a number and a unit, as 5 minutes, 12 hours")
        if mart in self.goals:
            self.wrong("HR0110", f"'{mart}' has two goals", place)
        self.goals[mart] = seconds or 1, place

    def page(self, title: str, *tiles: Tile, refresh: str = "", **filters: str) -> None:
        """Adds a page of tiles. ``filters`` are the first values of parameters that its queries share; with ``refresh``
        (``5 seconds``) the page shows itself anew after so long."""
        place = _here()
        seconds = _duration(refresh) if refresh else 0
        if seconds is None or (refresh and not 1 <= seconds <= 86_400):
            self.wrong("HR0106", f"page '{title}': refresh is {refresh!r}", place, "1 second to 1 day, as 5 seconds")
        self.pages.append(Page(title, tiles, _texts(filters), place, seconds or 0))

    def wrong(self, code: str, what: str, place: Place, help: str = "") -> None:
        """Notes an error; all of them are raised together when the project is loaded."""
        self.errors.append(DeclarationError(code, what, place=place, help=help))

    def _add(
        self,
        role: Literal["fact", "reference"],
        name: str,
        format: Format,
        identity: str,
        columns: str | Mapping[str, str],
        event_time: str | None,
        rename: Mapping[str, str] | None,
        horizon: int,
        changed_file: Literal["new version", "reject"],
        valid_from: str | None,
        doc: str,
        topic: str = "",
        lane_by: str = "",
        twins: bool = False,
        lateness: str = "",
    ) -> SourceBuilder:
        place = _here()
        if not IDENTIFIER.match(name):
            self.wrong(
                "HR0103", f"'{name}' is not a source name", place, "lower-case letters, digits and _, at most 48"
            )
        if any(s.model.name == name for s in self.sources):
            self.wrong("HR0104", f"'{name}' is declared twice", place)
        if type(horizon) is not int or horizon < 0:
            self.wrong("HR0103", f"{name}: horizon is {horizon!r}", place, "a number of records, as 1_000_000")
            horizon = 0
        late = _duration(lateness) if lateness else None
        if lateness and late is None:
            self.wrong(
                "HR0103",
                f"{name}: lateness is {lateness!r}",
                place,
                "a number and a unit, as 1 hour, 30 minutes, 2 days",
            )
        for what, help in _format_errors(format):
            self.wrong("HR0103", f"{name}: {what}", place, help)
        parsed = self._columns(name, columns, place)
        names = {c.name for c in parsed}
        ids = tuple(part.strip() for part in identity.split(","))
        apart = tuple(part.strip() for part in lane_by.split(",")) if lane_by else ()
        for what, wanted in (
            ("id" if role == "fact" else "key", ids),
            ("event_time", (event_time,)),
            ("valid_from", (valid_from,)),
            ("lane_by", () if apart == ids else apart),
        ):
            for column in wanted:
                if column is not None and column not in names:
                    self.wrong(
                        "HR0103",
                        f"{name}: {what} names '{column}', which is not a column",
                        place,
                        nearest(column, names),
                    )
        for what, moment in (("event_time", event_time), ("valid_from", valid_from)):
            kind = next((c.type for c in parsed if c.name == moment), None)
            if kind is not None and kind.name != "DATE" and not kind.is_instant:
                self.wrong("HR0103", f"{name}: {what} '{moment}' is {kind}", place, "a DATE, TIMESTAMP or TIMESTAMPTZ")
        if changed_file not in ("new version", "reject"):
            self.wrong("HR0103", f"{name}: changed_file is '{changed_file}'", place, "'new version' or 'reject'")
        sent_as = {}
        for theirs, ours in (rename or {}).items():
            if ours not in names:
                self.wrong(
                    "HR0103", f"{name}: rename gives '{ours}', which is not a column", place, nearest(ours, names)
                )
            if theirs.startswith("_"):
                self.wrong(
                    "HR0103", f"{name}: rename takes '{theirs}'", place, "names with _ in front are Headrace's own"
                )
            sent_as[ours] = theirs
        sent = [sent_as.get(n, n) for n in names]
        for theirs in sorted({n for n in sent if sent.count(n) > 1}):
            self.wrong(
                "HR0103", f"{name}: two columns are read from '{theirs}'", place, "rename each from a name of its own"
            )
        required = tuple(replace(c, nullable=c.nullable and c.name not in (*ids, valid_from)) for c in parsed)
        builder = SourceBuilder(
            self,
            Source(
                name,
                role,
                format,
                required,
                ids,
                event_time,
                sent_as,
                horizon,
                changed_file,
                topic,
                twins,
                apart,
                valid_from,
                place=place,
                doc=doc,
                lateness=late,
            ),
        )
        self.sources.append(builder)
        return builder

    def _columns(self, source: str, columns: str | Mapping[str, str], place: Place) -> list[Column]:
        pairs: list[tuple[str, str]] = []
        if isinstance(columns, str):
            for item in re.split(r",(?![^(]*\))", columns):
                words = item.split(None, 1)
                if words:
                    pairs.append((words[0], words[1] if len(words) > 1 else ""))
        else:
            pairs = list(columns.items())
        parsed: list[Column] = []
        for name, text in pairs:
            bare = re.sub(r"\s+NOT\s+NULL\s*$", "", text, flags=re.IGNORECASE).strip()
            type = parse_type(bare)
            if not IDENTIFIER.match(name):
                self.wrong(
                    "HR0103",
                    f"{source}: '{name}' is not a column name",
                    place,
                    "lower-case letters, digits and _; use rename=",
                )
            elif type is None or type.name == "LIST":
                self.wrong("HR0105", f"{source}.{name} has type '{bare}'", place, "one of " + ", ".join(NAMES))
            elif any(c.name == name for c in parsed):
                self.wrong("HR0104", f"{source}.{name} is declared twice", place)
            else:
                parsed.append(Column(name, type, nullable=bare == text.strip()))
        return parsed


def _duration(text: str) -> int | None:
    """Seconds."""
    found = re.fullmatch(r"(\d{1,9}) (second|minute|hour|day)s?", str(text))
    return int(found[1]) * {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[found[2]] if found else None


def _format_errors(format: Format) -> Iterator[tuple[str, str]]:
    """What no file could ever be read by, and what to write instead."""
    parts = format.pattern.split("/")
    if "" in parts or ".." in parts:
        yield f"the pattern is '{format.pattern}'", "a path below the inbox, as sales/*.csv"
    elif any(part.startswith((".", "_", "~")) for part in parts):
        yield f"the pattern is '{format.pattern}'", "names that begin with . _ or ~ are never read"
    if len(format.separator) != 1 or not format.separator.isascii() or format.separator in '"\r\n\0':
        yield f"the separator is {format.separator!r}", "one ASCII character, as ; or \\t"
    if len(format.decimal) != 1 or format.decimal in "+-0123456789eE":
        yield f"the decimal sign is {format.decimal!r}", "one character, as ,"
    try:
        re.compile(fnmatch.translate(format.pattern.replace("[!", "[^")))
    except re.error as error:
        yield f"the pattern is '{format.pattern}': {error}", "as sales_*.csv, part-[0-9].csv"
    try:
        codecs.lookup(format.encoding)
    except LookupError:
        yield f"unknown encoding '{format.encoding}'", "as utf-8, utf-16, latin-1, cp1252"


def _here() -> Place:
    """The line of ``project.py`` that called into this file."""
    frame = sys._getframe(1)  # noqa: SLF001  as the logging module does
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
