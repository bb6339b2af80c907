"""What is not an answer: the catalogue, status, health, documentation, static files and pages."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from headrace import __version__
from headrace.errors import CODES, HeadraceError, NotFoundError, NotReadyError, OutsideError, ParameterError
from headrace.http.answers import Answers
from headrace.http.gateway import PAGE_POLICY
from headrace.http.live import Live
from headrace.http.meter import Meter
from headrace.http.openapi import document
from headrace.http.pages import Pages
from headrace.http.problems import Problem, Refusal
from headrace.model import route as declared
from headrace.model.serving import Parameter
from headrace.sql.parameters import example
from headrace.sql.query import Query

Endpoint = Callable[[Request], Awaitable[Response]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
HERE = Path(__file__).parent
# Swagger UI's style sheet has its icons in data: URLs.
VIEWER_POLICY = PAGE_POLICY + "; img-src 'self' data:"
_encode = msgspec.json.Encoder().encode


class Site:
    """All paths but the answers. Endpoints raise; the gateway turns what they raise into problem documents."""

    def __init__(
        self, answers: Answers, meter: Meter | None, live: Live, routes: Sequence[declared.Route] = ()
    ) -> None:
        self._answers = answers
        self._meter = meter
        self._routes = routes
        self._live = live
        project = answers.project
        self._templates = templates(project.name)
        self._pages = Pages(answers, self._templates, live)
        self._catalogue = _encode(
            {"project": project.name, "queries": [entry(q, answers.max_rows) for q in project.queries.values()]}
        )
        self._openapi = document(project, answers.max_rows, routes)
        self._static = static_files()

    def application(self) -> Application:
        paths: list[tuple[str, Endpoint]] = [
            ("/v1/queries", self.queries),
            ("/v1/queries/{name}", self.query),
            *((route.path, self.query) for route in self._routes),
            ("/v1/status", self.status),
            ("/health/live", self.live),
            ("/health/ready", self.ready),
            ("/metrics", self.metrics),
            ("/openapi.json", self.openapi),
            ("/docs", self.docs),
            ("/docs/errors/{code}", self.error),
            ("/static/{path:path}", self.static),
            ("/", self.home),
            ("/pages/{slug}", self.page),
            ("/pages/{slug}/tiles/{number:int}.csv", self.tile_csv),
        ]
        router = Router(
            [Route(path, guarded(path, endpoint), methods=["GET", "HEAD", "OPTIONS"]) for path, endpoint in paths],
            redirect_slashes=False,
        )

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            scope["app"] = router  # so that it raises where it would else send a text of its own
            try:
                await router(scope, receive, send)
            except HTTPException as error:
                raise refusal(error, scope["method"]) from None

        return application

    # API

    async def queries(self, request: Request) -> Response:
        no_parameters(request)
        return json(self._catalogue)

    async def query(self, request: Request) -> Response:
        """Stands for the path only: GET and HEAD of it never come here, and other methods not as far."""
        raise NotFoundError("HR0501", "no such query")

    async def status(self, request: Request) -> Response:
        no_parameters(request)
        generation = await self._answers.generation()
        lanes = dict(sorted(generation.as_of.items()))
        figures = await self._live.figures()
        progress = None if figures is None else {**asdict(figures.progress), "rate": figures.rate}
        return json(_encode({
            "project": self._answers.project.name,
            "version": __version__,
            "generation": generation.number,
            "published_at": generation.published_at or None,
            "as_of": min(lanes.values(), default=None),
            "complete": True,
            "lanes": lanes,
            "progress": progress,
        }))  # fmt: skip

    async def live(self, request: Request) -> Response:
        return json(b'{"status":"live"}')

    async def ready(self, request: Request) -> Response:
        """Whether answers can be given; why not, as a code only, because anybody may ask."""
        try:
            await self._answers.generation()
        except (NotReadyError, OutsideError) as error:
            return Response(
                _encode({"status": "not ready", "code": error.code}), 503, {"retry-after": "10"}, "application/json"
            )
        return json(b'{"status":"ready"}')

    async def metrics(self, request: Request) -> Response:
        if self._meter is None:
            raise NotFoundError("HR0606", "this server has no metrics")
        body, media_type = await asyncio.to_thread(self._meter.text)
        return Response(body, headers={"content-type": media_type, "cache-control": "no-store"})

    # Documentation

    async def openapi(self, request: Request) -> Response:
        return json(self._openapi)

    async def docs(self, request: Request) -> Response:
        return self._html("docs.html", {}, VIEWER_POLICY)

    async def error(self, request: Request) -> Response:
        code = request.path_params["code"]
        if code not in CODES:
            raise NotFoundError("HR0605", f"no error '{code[:20]}'")
        return self._html("error.html", {"code": code, "explanation": CODES[code]})

    async def static(self, request: Request) -> Response:
        found = self._static.get(request.path_params["path"])
        if found is None:
            raise NotFoundError("HR0606", "no such file")
        body, media_type, tag = found
        headers = {"etag": tag, "cache-control": "no-cache"}
        if request.query_params.get("v") == tag.strip('"'):
            headers["cache-control"] = "public, max-age=31536000, immutable"
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, "content-type": media_type})

    # Pages

    async def home(self, request: Request) -> Response:
        first = self._pages.first
        if first is not None:
            return RedirectResponse(f"/pages/{first}", 302)
        return self._html("empty.html", {"queries": self._answers.project.queries})

    async def page(self, request: Request) -> Response:
        body = await self._pages.html(request.path_params["slug"], request.query_params.multi_items())
        return html(body)

    async def tile_csv(self, request: Request) -> Response:
        slug, number = request.path_params["slug"], request.path_params["number"]
        name, body = await self._pages.csv(slug, number, request.query_params.multi_items())
        headers = {"content-type": "text/csv; charset=utf-8; header=present", "cache-control": "no-cache"}
        return Response(body, headers={**headers, "content-disposition": f'attachment; filename="{name}.csv"'})

    def problem(self, problem: Problem) -> str:
        """An error as a page, for people who ask with a browser."""
        return self._templates.get_template("problem.html").render(problem=problem)

    def _html(self, template: str, values: dict[str, Any], policy: str = PAGE_POLICY) -> Response:
        return html(self._templates.get_template(template).render(values), policy)


def guarded(path: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint, with OPTIONS answered and its template noted for the meter."""

    async def call(request: Request) -> Response:
        request.scope["headrace.route"] = path
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": "GET, HEAD, OPTIONS"})
        return await endpoint(request)

    return call


def refusal(error: HTTPException, method: str) -> HeadraceError:
    """Starlette's own refusals as ours."""
    if error.status_code == 405:
        return Refusal(
            405, "HR0608", f"{method[:20]} is not for this path", headers=((b"allow", b"GET, HEAD, OPTIONS"),)
        )
    return NotFoundError("HR0606", "no such path", help="see /openapi.json")


def entry(query: Query, max_rows: int) -> dict[str, Any]:
    """A query as the catalogue lists it."""
    return {
        "name": query.name,
        "doc": query.doc,
        "url": f"/v1/queries/{query.name}",
        "parameters": [parameter(p, max_rows) for p in query.parameters],
        "columns": [{"name": c.name, "type": str(c.type)} for c in query.columns],
        "pages": query.limit is not None and any(plan.in_key_order for plan in query.plans.values()),
    }


def parameter(p: Parameter, max_rows: int) -> dict[str, Any]:
    known = {"name": p.name, "type": str(p.type), "required": p.required, "many": p.many, "example": example(p)}
    if p.default is not None:
        known["default"] = p.default
    if p.maximum is not None:
        known["maximum"] = min(p.maximum, max_rows)
    return known


def no_parameters(request: Request) -> None:
    for name in request.query_params:
        raise ParameterError("HR0502", f"no parameter '{name[:80]}'", parameter=name[:80], help="it has none")


def json(body: bytes) -> Response:
    return Response(body, headers={"content-type": "application/json", "cache-control": "no-cache"})


def html(body: str, policy: str = PAGE_POLICY) -> Response:
    headers = {
        "content-security-policy": policy,
        "cache-control": "no-cache",
        "cross-origin-opener-policy": "same-origin",
    }
    return Response(body, headers={**headers, "content-type": "text/html; charset=utf-8"})


def static_files() -> dict[str, tuple[bytes, str, str]]:
    """Every file of ``static``, by its path below it: bytes, media type and ETag. Kept in memory: 3 MB."""
    found = {}
    for file in (HERE / "static").rglob("*"):
        if file.is_file() and file.suffix in (".js", ".css", ".svg", ".png", ".txt"):
            body = file.read_bytes()
            kind = (
                {".js": "text/javascript", ".txt": "text/plain"}.get(file.suffix)
                or mimetypes.guess_type(file.name)[0]
                or "text/plain"
            )
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            charset = "; charset=utf-8" if kind.startswith("text/") else ""
            found[file.relative_to(HERE / "static").as_posix()] = (body, kind + charset, tag)
    return found


def templates(project: str) -> jinja2.Environment:
    """The templates: everything is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tags = {path: tag.strip('"') for path, (_, _, tag) in static_files().items()}
    environment.globals["static"] = lambda path: f"/static/{path}?v={tags[path]}"
    environment.globals["project"] = project
    return environment
