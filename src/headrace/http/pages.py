"""The declared pages, rendered whole: a tile that fails says so and leaves the others alone."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

import jinja2

from headrace.errors import HeadraceError, NotFoundError, NotReadyError, nearest
from headrace.flow.answer import Answer
from headrace.http import charts, table_csv, words
from headrace.http.answers import Answers
from headrace.http.filters import filters
from headrace.http.live import Figures, Live
from headrace.model.page import Page, Tile
from headrace.model.types import Column
from headrace.seam.generation import Generation

Row = Sequence[Any]
AFTER = "after"
"""Prefix of the URL's parameters that continue a table: ``after2`` is the cursor of the third tile."""
FEW_DECIMALS = 2


@dataclass(frozen=True, slots=True)
class TileView:
    """A tile as the template shows it: figures, or what is missing, or what went wrong."""

    number: int
    tile: Tile
    title: str
    doc: str
    span: int
    odd: bool
    answer: Answer | None = None
    missing: tuple[str, ...] = ()
    error: str = ""
    code: str = ""
    csv_url: str = ""
    json_url: str = ""
    next_url: str = ""
    first_url: str = ""
    status: tuple[str, str] | None = None
    """What a status tile shows, and exactly."""

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.answer.columns if self.answer else ()

    @property
    def chart(self) -> str:
        assert self.answer is not None
        return charts.embedded(charts.chart(self.tile, self.answer))

    @property
    def summary(self) -> str:
        assert self.answer is not None
        return charts.summary(self.tile, self.answer)

    @property
    def figure(self) -> tuple[str, str]:
        """A number's or status tile's figure as shown, and exactly."""
        if self.status is not None:
            return self.status
        assert self.answer is not None
        at = [c.name for c in self.columns].index(self.tile.y or self.columns[0].name)
        value = self.answer.rows[0][at] if self.answer.rows else None
        if value is None:
            return "–", "no value"  # noqa: RUF001
        return words.number(value, FEW_DECIMALS), words.number(value)


class Pages:
    """All pages of a project, by the slug of their title."""

    def __init__(self, answers: Answers, templates: jinja2.Environment, live: Live) -> None:
        self._answers = answers
        self._live = live
        self._template = templates.get_template("page.html")
        self._pages: dict[str, Page] = {}
        for page in answers.project.pages:
            slug = words.slug(page.title)
            while slug in self._pages:
                slug += "-2"
            self._pages[slug] = page

    @property
    def first(self) -> str | None:
        return next(iter(self._pages), None)

    async def html(self, slug: str, items: Iterable[tuple[str, str]]) -> str:
        """The whole page; raises NotFoundError HR0606."""
        page = self._page(slug)
        given = dict(items)
        generation = await self._generation()
        fields = await filters(page, self._answers, given, generation)
        values = {f.name: f.value for f in fields}
        figures = await self._live.figures() if any(t.kind == "status" for t in page.tiles) else None
        tiles = await asyncio.gather(
            *(self._tile(slug, n, placed, values, given, figures) for n, placed in enumerate(spans(page.tiles)))
        )
        return self._template.render(
            pages=[(other, self._pages[other].title) for other in self._pages],
            slug=slug,
            title=page.title,
            filters=fields,
            tiles=tiles,
            generation=generation,
            refresh=page.refresh,
            words=words,
        )

    async def csv(self, slug: str, number: int, items: Iterable[tuple[str, str]]) -> tuple[str, bytes]:
        """A tile's rows for a spreadsheet, all pages of them up to ``serve.max_rows``; raises HeadraceError."""
        page = self._page(slug)
        if number >= len(page.tiles):
            raise NotFoundError("HR0606", f"page '{page.title}' has {len(page.tiles)} tiles")
        tile = page.tiles[number]
        if tile.kind == "status":
            raise NotFoundError("HR0606", "that tile has no rows", help="/v1/status")
        fields = await filters(page, self._answers, dict(items), await self._generation())
        given = self._given(tile, {f.name: f.value for f in fields})
        answer = await self._answers.ask(tile.query, given)
        rows, cursor = list(answer.rows), answer.cursor
        while cursor is not None and len(rows) < self._answers.max_rows:
            more = await self._answers.ask(tile.query, given, cursor)
            rows += more.rows
            cursor = more.cursor
        return f"{tile.query}", table_csv.written([c.name for c in answer.columns], rows[: self._answers.max_rows])

    def _page(self, slug: str) -> Page:
        page = self._pages.get(slug)
        if page is None:
            raise NotFoundError(
                "HR0606", f"no page '{slug[:80]}'", help=nearest(slug, self._pages) if self._pages else "there are none"
            )
        return page

    async def _generation(self) -> Generation | None:
        try:
            generation = await self._answers.generation()
        except NotReadyError:
            return None
        # The newest data of a page is what the stream has counted, too.
        return replace(generation, as_of=await self._answers.newest(generation))

    def _given(self, tile: Tile, values: Mapping[str, str]) -> dict[str, str]:
        """What a tile asks: its own values before the page's."""
        known = {p.name for p in self._answers.project.queries[tile.query].parameters}
        shared = {name: value for name, value in values.items() if name in known}
        return {name: str(value) for name, value in (shared | tile.given).items() if value != ""}

    async def _tile(
        self,
        slug: str,
        number: int,
        placed: tuple[Tile, int, bool],
        values: dict[str, str],
        url: Mapping[str, str],
        figures: Figures | None,
    ) -> TileView:
        tile, span, odd = placed
        if tile.kind == "status":
            title = tile.title if tile.title != tile.y else words.label(tile.title)
            return TileView(number, tile, title, "", span, odd, status=_status(tile, figures))
        query = self._answers.project.queries[tile.query]
        title = tile.title if tile.title not in (tile.query, tile.y) else words.label(tile.title)
        given = self._given(tile, values)
        missing = tuple(words.label(p.name) for p in query.parameters if p.required and p.name not in given)
        cursor = url.get(f"{AFTER}{number}") or None
        if missing:
            return TileView(number, tile, title, query.doc, span, odd, missing=missing)
        try:
            answer = await self._answers.ask(tile.query, given, cursor)
        except HeadraceError as error:
            return TileView(number, tile, title, query.doc, span, odd, error=error.what, code=error.code)
        except Exception:  # noqa: BLE001 - the edge of a tile: the page stays whole
            print(f"tile {slug}/{number}:", traceback.format_exc(), file=sys.stderr, flush=True)  # noqa: T201
            return TileView(
                number, tile, title, query.doc, span, odd, error="This tile could not be made.", code="HR0999"
            )
        asked = urlencode({name: value for name, value in values.items() if value != ""})
        here = f"/pages/{slug}?{asked}"
        return TileView(
            number, tile, title, query.doc, span, odd, answer,
            csv_url=f"/pages/{slug}/tiles/{number}.csv?{asked}",
            json_url=f"/v1/queries/{tile.query}?{urlencode(given)}",
            next_url=f"{here}&{urlencode({f'{AFTER}{number}': answer.cursor})}" if answer.cursor and tile.kind == "table" else "",
            first_url=here if cursor else "",
        )  # fmt: skip


def _status(tile: Tile, figures: Figures | None) -> tuple[str, str]:
    """A status tile's figure as shown, and exactly."""
    value = None
    if figures is not None:
        value = figures.rate if tile.y == "rate" else getattr(figures.progress, tile.y or "")
    if value is None:
        return "–", "not known"  # noqa: RUF001
    if isinstance(value, str):
        return words.time(value), value
    return words.number(round(value) if value >= 10 else value, FEW_DECIMALS), str(value)


def spans(tiles: Sequence[Tile]) -> list[tuple[Tile, int, bool]]:
    """Each tile with its width in twelfths: figures side by side, charts in pairs, tables across.

    The last of an odd number is told apart, so that it can fill its row where there is room for two.
    """
    found: list[tuple[Tile, int, bool]] = []
    for kind, run in groupby(
        tiles, key=lambda tile: {"number": "number", "status": "number", "table": "table"}.get(tile.kind, "chart")
    ):
        row = list(run)
        for i, tile in enumerate(row):
            odd = i == len(row) - 1 and len(row) % 2 == 1
            width = 12 // min(len(row), 4) if kind == "number" else 6 if kind == "chart" and not odd else 12
            found.append((tile, width, odd))
    return found
