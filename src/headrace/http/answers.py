"""Answers to queries, as Python values for pages and as whole responses for the API."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from headrace import __version__, waiting
from headrace.errors import NotReadyError, ParameterError
from headrace.flow.answer import Answer, Reader
from headrace.flow.watermark import newest_of
from headrace.http.budget import Bounded, SpentError
from headrace.http.problems import Refusal, Reply
from headrace.http.rights import Right, bound
from headrace.model.project import LoadedProject
from headrace.ports import Store
from headrace.seam.generation import Generation
from headrace.sql.parameters import parameters_of
from headrace.sql.query import Query

Of = TypeVar("Of")
Headers = list[tuple[bytes, bytes]]
AT_ONCE = 500
"""Rows that are read on the event loop: about 2 ms. An answer that reads more is given by a thread."""
THREADS, QUEUE = 4, 64
"""For answers that read much: threads, and how many may wait for one."""
REMOTE_THREADS, REMOTE_QUEUE = 32, 1_000
"""The same where the store is another machine: a thread mostly waits for it."""
MOST_PARAMETERS = 64


class Document(msgspec.Struct, frozen=True, gc=False):
    """The body of an answer. ``as_of`` to ``complete`` are as in ``flow.answer.Answer``."""

    query: str
    generation: int
    as_of: str | None
    watermark: str | None
    final: bool
    idle: tuple[str, ...]
    complete: bool
    rows: list[Any]
    next_cursor: str | None


class Form:
    """What is the same for every answer of one query."""

    def __init__(self, project: LoadedProject, query: Query, max_rows: int, lateness: Mapping[str, int | None]) -> None:
        self.query = query
        self.bound = {variant: bound(project, query, plan) for variant, plan in query.plans.items()}
        # Rows become objects. A struct type of the columns makes and encodes them in a third of a dict's time.
        names = {f"c{i}": column.name for i, column in enumerate(query.columns)}
        self.row: Callable[..., Any] = msgspec.defstruct(
            "Row", [(field, Any) for field in names], rename=names, gc=False
        )
        definition = repr(
            (__version__, query.sql, [(c.name, str(c.type)) for c in query.columns], max_rows, sorted(lateness.items()))
        )
        self.definition = hashlib.blake2b(definition.encode(), digest_size=16).digest()
        # An answer that depends on the time of asking is never the same one again.
        self.timeless = not any("p['now']" in plan.source for plan in query.plans.values())


class Answers:
    """Asks the reader: at once where little is read, in a thread where much is or the store is another machine, and not at
    all where it is too much."""

    def __init__(self, project: LoadedProject, store: Store, *, max_rows: int, max_scan: int) -> None:
        self.project = project
        self.max_rows = max_rows
        lateness = {source.name: source.lateness for source in project.sources.values()}
        self.forms = {name: Form(project, query, max_rows, lateness) for name, query in project.queries.items()}
        self._store = store
        self._max_scan = max_scan
        self.reader, self._quick = self._reader(min(AT_ONCE, max_scan))
        threads, self._queue = (REMOTE_THREADS, REMOTE_QUEUE) if store.is_remote else (THREADS, QUEUE)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answers")
        self._readers: list[tuple[Reader, Bounded]] = []
        """Those that are free; the one that was used last knows best what is published."""
        self._held = False
        self._waiting = 0
        self._encode = msgspec.json.Encoder().encode

    # For pages

    async def ask(self, name: str, given: Mapping[str, Any], cursor: str | None = None) -> Answer:
        """The answer to a query; raises what ``Reader.answer`` raises, and Refusal."""
        query = self.reader.query(name)
        return await self._answer(query, self.values(query, given), cursor)

    async def generation(self) -> Generation:
        """What is published now; raises NotReadyError HR0402."""
        return await self._asked(self._generation)

    async def newest(self, generation: Generation) -> dict[str, str]:
        """The newest event time of each lane, by the stream where it counts in this generation's epoch."""
        return await self._asked(self._newest, generation)

    # For the API

    async def reply(
        self, name: str, query_string: bytes, none_match: bytes | None, right: Right | None = None
    ) -> Reply:
        """The whole response to ``GET /v1/queries/{name}``; raises HeadraceError."""
        query = self.reader.query(name)
        form = self.forms[name]
        if right is not None:
            right.must_fit(name, *form.bound.values())
        given = given_of(query_string)
        cursor = given.pop("cursor", None)
        values = self.values(query, given)
        row = form.row

        def write(answer: Answer) -> tuple[bytes, bytes | None]:
            document = Document(
                name, answer.generation, answer.as_of, answer.watermark, answer.final, answer.idle, answer.complete,
                [row(*r) for r in answer.rows], answer.cursor,
            )  # fmt: skip
            following = None if answer.cursor is None else _next(name, query_string, answer.cursor)
            return self._encode(document), following

        return await self.respond(form, values, cursor, query_string, none_match, write, right)

    async def respond(
        self,
        form: Form,
        values: dict[str, Any],
        cursor: str | None,
        question: bytes,
        none_match: bytes | None,
        write: Callable[[Answer], tuple[bytes, bytes | None]],
        right: Right | None = None,
    ) -> Reply:
        """The whole response to ``question``, which names it for the ETag; ``write`` gives the body of an answer, and
        the URL of what follows it. With a ``right``, what is not the caller's is asked for as what nobody has."""
        keys, cached = None, b"no-cache"
        if right is not None:
            right.must_fit(form.query.name, form.bound[form.query.variant(values)])
            keys, cached = right.keys(values), b"private, no-cache"
            question += b"\0" + right.digest
        if none_match is not None and form.timeless and not await self._asked(self._streamed):
            tag = self._tag(form, await self.generation(), question)
            if tag in none_match or none_match == b"*":
                return Reply(304, [(b"etag", tag), (b"cache-control", cached)], b"")
        answer = await self._answer(form.query, values, cursor, keys)
        body, following = write(answer)
        headers: Headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", cached),
            (b"headrace-generation", b"%d" % answer.generation),
            (b"headrace-complete", b"true" if answer.complete else b"false"),
            (b"headrace-final", b"true" if answer.final else b"false"),
        ]
        if answer.as_of is not None:
            headers.append((b"headrace-as-of", answer.as_of.encode()))
        if form.timeless and not answer.streamed:
            headers.append((b"etag", self._tag(form, self.reader.generation(answer.generation), question)))
        if following is not None:
            headers.append((b"link", b'<%b>; rel="next"' % following))
        return Reply(200, headers, body, len(answer.rows))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def values(self, query: Query, given: Mapping[str, Any]) -> dict[str, Any]:
        """Stored values of a query's parameters, its limit within ``max_rows``; raises ParameterError HR0502."""
        values = parameters_of(query, given)
        if query.limit is not None and values[query.limit] is not None and values[query.limit] > self.max_rows:
            if query.limit in given:
                what = f"parameter '{query.limit}' is more than {self.max_rows}"
                raise ParameterError("HR0502", what, parameter=query.limit, help="follow the cursor for more")
            values[query.limit] = self.max_rows
        return values

    async def _asked(self, ask: Callable[..., Of], *given: Any) -> Of:
        """What the store says, without making others wait for it."""
        if not self._store.is_remote:
            return ask(*given)
        if waiting.is_possible:
            try:
                return await waiting.meanwhile(ask, *given)
            except waiting.WouldBlockError:
                pass
        return await asyncio.get_running_loop().run_in_executor(self._pool, ask, *given)

    def _generation(self) -> Generation:
        return self.reader.generation(self.reader.pointer().generation)

    def _newest(self, generation: Generation) -> dict[str, str]:
        streamed = self._store if generation.epoch in self.reader.pointer().streamed else None
        return newest_of(generation, streamed, generation.as_of)

    async def _answer(
        self, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any] | None = None
    ) -> Answer:
        try:
            if not self._store.is_remote:
                return self._at_once(query, values, cursor, keys)
            if waiting.is_possible:
                return await waiting.meanwhile(self._with_reader, AT_ONCE, query, values, cursor, keys)
        except (SpentError, waiting.WouldBlockError):
            pass
        return await self._in_thread(query, values, cursor, keys)

    def _at_once(
        self, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any] | None = None
    ) -> Answer:
        if not self._held:
            # Every request that one turn of the event loop answers was received before it, so that what the first of
            # them sees of the store is news enough for all.
            self._store.hold()
            self._held = True
            asyncio.get_running_loop().call_soon(self._release)
        self._quick.refill()
        answer = self.reader.read(query, values, cursor, keys)
        if len(answer.rows) > self.max_rows:
            raise _too_much(self.max_rows)
        return answer

    def _streamed(self) -> bool:
        """Whether answers change within a generation: then nothing tells one from the next but reading it."""
        pointer = self.reader.pointer()
        return bool(pointer.streamed) and self.reader.generation(pointer.generation).epoch in pointer.streamed

    def _release(self) -> None:
        self._held = False
        self._store.release()

    async def _in_thread(
        self, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any] | None = None
    ) -> Answer:
        if self._waiting >= self._queue:
            raise NotReadyError("HR0408", "too many large answers at once")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, query, values, cursor, keys)
        finally:
            self._waiting -= 1

    def _read(self, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any] | None) -> Answer:
        self._store.hold()
        try:
            return self._with_reader(self._max_scan, query, values, cursor, keys)
        except SpentError:
            raise Refusal(
                400, "HR0607", f"the answer would read more than {self._max_scan} rows", help="ask for a shorter range"
            ) from None
        finally:
            self._store.release()

    def _with_reader(
        self, rows: int, query: Query, values: dict[str, Any], cursor: str | None, keys: Mapping[str, Any] | None
    ) -> Answer:
        """An answer that reads at most so many rows, by a reader that nobody else uses meanwhile."""
        reader, store = self._readers.pop() if self._readers else self._reader(0)
        store.refill(min(rows, self._max_scan))
        try:
            answer = reader.read(query, values, cursor, keys)
        finally:
            self._readers.append((reader, store))
        if len(answer.rows) > self.max_rows:
            raise _too_much(self.max_rows)
        return answer

    def _reader(self, rows: int) -> tuple[Reader, Bounded]:
        store = Bounded(self._store, rows)
        return Reader(self.project, store), store

    def _tag(self, form: Form, generation: Generation, question: bytes) -> bytes:
        """A strong validator: the same code, query, question and publication give the same bytes."""
        whole = b"\0".join((form.definition, b"%d" % generation.number, generation.published_at.encode(), question))
        return b'"' + hashlib.blake2b(whole, digest_size=12).hexdigest().encode() + b'"'


def _too_much(rows: int) -> Refusal:
    return Refusal(400, "HR0607", f"the answer has more than {rows} rows", help="ask for a shorter range")


def given_of(query_string: bytes) -> dict[str, Any]:
    """Parameters as sent: a text each, or a list where one came several times. Raises ParameterError HR0502."""
    try:
        if b"%" in query_string or b"+" in query_string or not query_string.isascii():
            pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
        else:
            pairs = [
                (k, v) for k, _, v in [part.partition("=") for part in query_string.decode("ascii").split("&")] if k
            ]
    except UnicodeDecodeError:
        raise ParameterError("HR0502", "the parameters are not UTF-8, or not percent-encoded", parameter="") from None
    if len(pairs) > MOST_PARAMETERS:
        raise ParameterError(
            "HR0502",
            f"more than {MOST_PARAMETERS} parameters",
            parameter="",
            help="a list can be one parameter, with commas",
        )
    given: dict[str, Any] = dict(pairs)
    if len(given) != len(pairs):
        for name in given:
            values = [v for k, v in pairs if k == name]
            given[name] = values if len(values) > 1 else values[0]
        if isinstance(given.get("cursor"), list):
            raise ParameterError("HR0502", "parameter 'cursor' is given twice", parameter="cursor", help="give it once")
    for parameter, value in given.items():
        if value == "":  # not the same as none: an unset variable of a caller must not ask for everything
            raise ParameterError(
                "HR0502", f"parameter '{parameter}' is empty", parameter=parameter, help="leave it out"
            )
    return given


def _next(name: str, query_string: bytes, cursor: str) -> bytes:
    """The URL of the following page."""
    kept = [part for part in query_string.decode("ascii").split("&") if part and not part.startswith("cursor=")]
    return f"/v1/queries/{name}?{'&'.join([*kept, f'cursor={cursor}'])}".encode()
