"""Answers of declared routes: the same queries, asked and answered in the words of their callers."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from headrace.errors import NotReadyError, OutsideError, ParameterError, SettingError, nearest
from headrace.flow.answer import Answer
from headrace.http.answers import Answers, given_of
from headrace.http.openapi import SOME_TIME
from headrace.http.problems import Reply
from headrace.http.rights import Right
from headrace.model.route import Field, Route, RouteParameter, Rows, Shape
from headrace.model.serving import Parameter
from headrace.model.types import Column

Row = Sequence[Any]
_encode = msgspec.json.Encoder().encode
_LEFT_OUT = object()


@dataclass(slots=True)
class Asked:
    """What a caller of a route wants to know, and how they put it."""

    texts: dict[str, str | None]
    """By the caller's names, as given."""
    times: dict[str, dt.datetime]
    rows: Sequence[Row] = ()


Writer = Callable[[Asked, "Row | None"], Any]


def served(routes: Iterable[Route], setting: str) -> list[Route]:
    """The routes that are on: those of no pack, and of packs that the setting names. Raises SettingError HR0601."""
    packs = {route.pack for route in routes} - {""}
    named = {name.strip() for name in setting.split(",")} - {""}
    for name in sorted(named - packs):
        known = nearest(name, packs) if packs else "routes.py declares none"
        raise SettingError("HR0601", f"serve.routes names '{name}', which is no pack of routes.py", help=known)
    return [route for route in routes if not route.pack or route.pack in named]


class Contracts:
    """The routes that are served, found by path."""

    def __init__(self, routes: Iterable[Route], answers: Answers) -> None:
        self.all = [Contract(route, answers) for route in routes]

    def find(self, path: str) -> Call | None:
        for contract in self.all:
            values = contract.route.values_in(path)
            if values is not None:
                return Call(contract, path, values)
        return None


@dataclass(frozen=True, slots=True)
class Call:
    """A route, and what stands in the path by which it was called."""

    contract: Contract
    path: str
    in_path: Mapping[str, str]

    @property
    def route(self) -> Route:
        return self.contract.route

    @property
    def is_open(self) -> bool:
        """Whether it needs no credentials: it tells nothing but whether there are answers."""
        return not self.route.query

    async def reply(self, query_string: bytes, none_match: bytes | None, right: Right | None = None) -> Reply:
        """The whole response; raises HeadraceError."""
        return await self.contract.reply(self.path, self.in_path, query_string, none_match, right)


class Contract:
    """One route, ready to answer."""

    def __init__(self, route: Route, answers: Answers) -> None:
        self.route = route
        self._answers = answers
        self._query = answers.project.queries[route.query] if route.query else None
        columns = self._query.columns if self._query is not None else ()
        self._typed = {p.name: p for p in self._query.parameters} if self._query is not None else {}
        self._write = _writer(route.answer, columns)
        self._unready = _writer(route.unready, ()) if route.unready is not None else None
        self._column = [c.name for c in columns].index(route.pages) if route.pages else -1
        self._has_cursor = self._query is not None and self._query.limit is not None
        shape = repr((route.path, route.parameters, route.preset, route.answer, route.pages))
        self._definition = hashlib.blake2b(shape.encode(), digest_size=16).digest()

    async def reply(
        self,
        path: str,
        in_path: Mapping[str, str],
        query_string: bytes,
        none_match: bytes | None,
        right: Right | None,
    ) -> Reply:
        if right is not None and self._query is not None:
            right.must_fit(self._query.name, *self._answers.forms[self._query.name].bound.values())
        sent = given_of(query_string)
        if self._query is None:
            self._known(sent, ())
            return await self._health()
        self._known(sent, [n for n in self.route.parameters if n not in self.route.in_path])
        most = self._most(sent.pop("limit", None)) if self.route.pages else None
        cursor = sent.pop("cursor", None) if self._has_cursor else None
        asked, values = await self._asked({**sent, **in_path})
        here = f"{quote(path)}?".encode()

        def write(answer: Answer) -> tuple[bytes, bytes | None]:
            asked.rows, following = answer.rows, None
            if most is not None and len(answer.rows) > most:
                asked.rows, following = self._page(answer.rows, most, here, query_string)
            elif answer.cursor is not None:
                following = here + _replaced(query_string, "cursor", answer.cursor)
            return _encode(self._write(asked, None)), following

        form = self._answers.forms[self._query.name]
        return await self._answers.respond(
            form, values, cursor, self._definition + here + query_string, none_match, write, right
        )

    def _known(self, sent: Mapping[str, Any], names: Iterable[str]) -> None:
        known = [*names, *(["limit"] if self.route.pages else []), *(["cursor"] if self._has_cursor else [])]
        for name in sent:
            if name not in known:
                what = f"{self.route.path} has no parameter '{name[:80]}'"
                raise ParameterError(
                    "HR0502", what, parameter=name[:80], help=nearest(name, known) if known else "it has none"
                )

    def _most(self, text: Any) -> int | None:
        if text is None:
            return None
        high = self._answers.max_rows
        if not re.fullmatch("[0-9]{1,9}", str(text)) or not 1 <= int(text) <= high:
            raise _wrong("limit", text, f"a whole number from 1 to {high}")
        return int(text)

    async def _asked(self, sent: Mapping[str, Any]) -> tuple[Asked, dict[str, Any]]:
        """The question as it was put, and the values of the query's parameters."""
        assert self._query is not None
        asked, texts = Asked({}, {}), dict[str, Any](self.route.preset)
        for name, one in self.route.parameters.items():
            text = sent.get(name)
            asked.texts[name] = text
            if text is None:
                text = await self._newest(one) if one.newest else one.default
            if text is not None:
                texts[one.name] = self._text(name, one, text, asked)
        named = {one.name: name for name, one in self.route.parameters.items()}
        try:
            values = self._answers.values(self._query, texts)
        except ParameterError as error:
            name = named.get(error.parameter, error.parameter)
            what = error.what.replace(f"'{error.parameter}'", f"'{name}'")
            raise ParameterError(error.code, what, parameter=name, help=error.help) from None
        self._range(values)
        return asked, values

    def _text(self, name: str, one: RouteParameter, text: Any, asked: Asked) -> Any:
        """A value as the query takes it."""
        if self._typed[one.name].many:
            return text
        if isinstance(text, list):
            what = f"parameter '{name}' is given twice"
            raise ParameterError("HR0502", what, parameter=name, help="give it once")
        if one.choices and text not in one.choices:
            raise _wrong(name, text, "one of " + ", ".join(one.choices))
        if one.pattern and not re.fullmatch(one.pattern, text):
            raise _wrong(name, text, f"as {one.example}" if one.example else f"as {one.pattern}")
        if not one.time:
            return text
        moment = parsed(text, one.time)
        if moment is None:
            raise _wrong(name, text, f"{one.time}, as {moment_text(SOME_TIME, one.time)}")
        asked.times[name] = moment
        try:
            moment += dt.timedelta(seconds=one.plus)
        except OverflowError:
            raise _wrong(name, text, "a time nearer to the present") from None
        return moment.date().isoformat() if self._typed[one.name].type.name == "DATE" else moment.isoformat()

    async def _newest(self, one: RouteParameter) -> str | None:
        assert self._query is not None
        generation = await self._answers.generation()
        state = generation.tables.get(self._query.tables[0].name)
        known = [generation.as_of[lane] for lane in (state.lanes if state else ()) if lane in generation.as_of]
        if not known:
            return None
        newest = dt.datetime.fromisoformat(max(known))
        return moment_text(newest, one.time) if one.time else newest.date().isoformat()

    def _range(self, values: Mapping[str, Any]) -> None:
        if self.route.between is None:
            return
        first, last = self.route.between
        low, high = (_instant(self._typed[self.route.parameters[n].name], values) for n in (first, last))
        if low is None or high is None:
            return
        if high < low:
            raise ParameterError("HR0502", f"'{last}' is before '{first}'", parameter=last, help="the later one last")
        if self.route.longest is not None and high - low > self.route.longest * 1_000_000:
            days = self.route.longest / 86_400
            what = f"'{first}' and '{last}' are more than {days:g} days apart"
            raise ParameterError("HR0607", what, parameter=last, help="ask for a shorter range")

    def _page(
        self, rows: Sequence[Row], most: int, here: bytes, query_string: bytes
    ) -> tuple[Sequence[Row], bytes | None]:
        """The rows of a page, all of the same value together, and the URL of what follows."""
        assert self.route.between is not None
        first = self.route.between[0]
        pattern, at = self.route.parameters[first].time, self._column
        written = {
            i: text for i in range(1, len(rows))
            if rows[i][at] != rows[i - 1][at] and (text := _begins(rows[i][at], pattern)) is not None
        }  # fmt: skip
        cut = max((i for i in written if i <= most), default=min(written, default=len(rows)))
        if cut == len(rows):
            return rows, None
        return rows[:cut], here + _replaced(query_string, first, written[cut])

    async def _health(self) -> Reply:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
        try:
            await self._answers.generation()
        except (NotReadyError, OutsideError):
            assert self._unready is not None
            return Reply(503, [*headers, (b"retry-after", b"10")], _encode(self._unready(Asked({}, {}), None)))
        return Reply(200, headers, _encode(self._write(Asked({}, {}), None)))


def parsed(text: str, pattern: str) -> dt.datetime | None:
    """The time that a text is by a pattern, in just that writing: ``strptime`` alone would also take ``2024-1-1``."""
    try:
        moment = dt.datetime.strptime(text, pattern).replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return moment if moment_text(moment, pattern) == text else None


def moment_text(moment: dt.datetime, pattern: str) -> str:
    """As ``strftime``, with four digits for years before 1000 on every platform."""
    return moment.strftime(pattern.replace("%Y", f"{moment.year:04}"))


def _begins(value: Any, pattern: str) -> str | None:
    """A row's time as a caller writes it; None where that says less than the time."""
    moment = dt.datetime.fromisoformat(str(value))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    text = moment_text(moment, pattern) if pattern else moment.isoformat()
    return text if not pattern or parsed(text, pattern) == moment else None


def _instant(parameter: Parameter, values: Mapping[str, Any]) -> int | None:
    """Microseconds since 1970 of a stored date or time."""
    value = values[parameter.name]
    if value is None or isinstance(value, int):
        return value
    return (dt.date.fromisoformat(value).toordinal() - dt.date(1970, 1, 1).toordinal()) * 86_400_000_000


def _replaced(query_string: bytes, name: str, value: str) -> bytes:
    kept = [(k, v) for k, v in parse_qsl(query_string.decode("ascii"), keep_blank_values=True) if k != name]
    return urlencode([*kept, (name, value)]).encode()


def _wrong(name: str, text: Any, wanted: str) -> ParameterError:
    return ParameterError("HR0502", f"parameter '{name}' is '{str(text)[:80]}'", parameter=name, help=wanted)


def _writer(shape: Shape, columns: Sequence[Column]) -> Callable[[Asked, Row | None], Any]:
    """What makes the values of an answer: of a row, where it stands in a list of rows, else of the first one."""
    if isinstance(shape, Rows):
        each = _writer(shape.each, columns)
        return lambda asked, _: [each(asked, row) for row in asked.rows]
    if isinstance(shape, Field):
        return _value(shape, columns)
    parts = [(name, _writer(part, columns)) for name, part in shape.items()]

    def write(asked: Asked, row: Row | None) -> dict[str, Any]:
        made = ((name, part(asked, row)) for name, part in parts)
        return {name: value for name, value in made if value is not _LEFT_OUT}

    return write


def _value(field: Field, columns: Sequence[Column]) -> Callable[[Asked, Row | None], Any]:
    if field.kind == "fixed":
        return lambda _asked, _row: field.value
    if field.kind == "now":
        return lambda _asked, _row: moment_text(dt.datetime.now(dt.UTC), field.time)
    if field.kind == "given":
        return lambda asked, _: _given(field, asked)
    at = [c.name for c in columns].index(field.name)
    exact = field.number and columns[at].type.name == "DECIMAL"

    def write(asked: Asked, row: Row | None) -> Any:
        row = row if row is not None else asked.rows[0] if asked.rows else None
        value = row[at] if row is not None else None
        if value is None:
            return _LEFT_OUT if field.optional else None
        if field.words:
            value = field.words.get(str(value), value)
        if field.time:
            return moment_text(dt.datetime.fromisoformat(str(value)), field.time)
        return msgspec.Raw(str(value).encode()) if exact else value

    return write


def _given(field: Field, asked: Asked) -> Any:
    moment = asked.times.get(field.name)
    if moment is not None and field.time and asked.texts[field.name] is not None:
        return moment_text(moment, field.time)
    return asked.texts[field.name]
