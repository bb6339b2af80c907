"""The OpenAPI 3.1 document of a project, from its declarations."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headrace import __version__
from headrace.errors import CODES
from headrace.model.page import Page
from headrace.model.project import LoadedProject
from headrace.model.retention import spelled
from headrace.model.route import Field, Route, RouteParameter, Rows, Shape
from headrace.model.serving import Parameter
from headrace.model.types import Column, Type
from headrace.sql.parameters import example
from headrace.sql.query import Query

Schema = dict[str, Any]
PROBLEM = "application/problem+json"
EVERYWHERE = {
    400: "A parameter is missing, unknown or not valid, or the answer would be too large.",
    401: "No valid credentials.",
    403: "The key lacks the scope, or the login is for other questions: for some values of a parameter only.",
    404: "No such query.",
    405: "Only GET, HEAD and OPTIONS.",
    413: "The request has a body.",
    414: "The URL is too long.",
    429: "Logins failed too often, or too many wait.",
    431: "The headers are too large.",
    500: "An error inside Headrace.",
    503: "Nothing is published yet, or the store does not answer; ask again after Retry-After.",
}
PROTECTED = (400, 401, 403, 405, 413, 414, 429, 431, 500)


def document(project: LoadedProject, max_rows: int, routes: Sequence[Route] = ()) -> bytes:
    """The document as JSON. The same declarations give the same bytes."""
    hints = _hints(project.pages)
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Status": _STATUS, "Catalogue": _CATALOGUE}
    for query in project.queries.values():
        paths[f"/v1/queries/{query.name}"] = {"get": _operation(query, max_rows, hints, kept_text(project, query))}
        schemas[f"Answer_{query.name}"] = _answer(query)
    for n, route in enumerate(routes):
        asked = project.queries.get(route.query)
        operation = _route(route, asked, max_rows, kept_text(project, asked)) if asked else _route_health(route)
        paths[route.path] = {"get": {"operationId": f"route_{n}_{_words(route.path)}", **operation}}
    paths |= _fixed()
    return msgspec.json.encode({
        "openapi": "3.1.0",
        "info": {
            "title": f"{project.name}: Headrace API",
            "version": __version__,
            "description": "Answers to the declared queries of this project. A DECIMAL is a JSON string, so that it stays exact; times are "
            "RFC 3339 in UTC. An answer tells the generation that it was read from and the newest event time counted in it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}, {"bearer": []}, {"key": []}],
        "tags": [*([{"name": "routes", "description": "Answers under the paths and in the words of this project's callers"}] if routes else []),
                 {"name": "queries", "description": "Answers"}, {"name": "about", "description": "What there is, and how fresh"},
                 {"name": "operations", "description": "For probes and monitoring"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {str(status): _problem(status) for status in EVERYWHERE},
            "parameters": {"cursor": _CURSOR, "if_none_match": _IF_NONE_MATCH},
            "headers": _HEADERS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic", "description": "A user: `headrace user add NAME`."},
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `headrace key create NAME`."},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same API key."},
            },
        },
    })  # fmt: skip


def ranges(sql: str) -> dict[str, tuple[str, bool]]:
    """Parameters that bound a range: name → (low or high, whether the bound itself is in it), as the SQL compares them."""
    text = re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", sql)
    found: dict[str, tuple[str, bool]] = {}
    for low, high in re.findall(rf"\bBETWEEN\s+{_WRAPPED}\s+AND\s+{_WRAPPED}", text, re.IGNORECASE):
        found.update({low: ("low", True), high: ("high", True)})
    for operator, name in re.findall(rf"(?<![<>!])([<>]=?)\s*{_WRAPPED}", text):
        found.setdefault(name, ("low" if operator[0] == ">" else "high", operator.endswith("=")))
    for name, operator in re.findall(rf"{_WRAPPED}\s*([<>]=?)(?!>)", text):
        found.setdefault(name, ("low" if operator[0] == "<" else "high", operator.endswith("=")))
    return found


# $name, or $name inside CAST(... AS TYPE), date_trunc(..., ...) or parentheses.
_WRAPPED = r"(?:[A-Za-z_]*\(\s*(?:,\s*)?)*\$([a-z_][a-z0-9_]*)(?:\s+AS\s+[A-Za-z0-9(), ]+?)?(?:\s*\))*"


def range_text(query: Query) -> str:
    """What the query's ranges include, in words; empty where it has none."""
    known = {p.name for p in query.parameters}
    bounds = {name: bound for name, bound in ranges(query.sql).items() if name in known}
    lows = [name for name, (side, _) in bounds.items() if side == "low"]
    highs = [name for name, (side, _) in bounds.items() if side == "high"]
    texts = []
    for low, high in zip(lows, highs, strict=False):
        low_in, high_in = bounds[low][1], bounds[high][1]
        kind = {
            (True, True): "inclusive",
            (True, False): "half-open",
            (False, False): "open",
            (False, True): "half-open",
        }[low_in, high_in]
        marks = f"{'[' if low_in else '('}{low}, {high}{']' if high_in else ')'}"
        texts.append(f"The range `{marks}` is {kind}: `{low}` is {_in(low_in)} and `{high}` is {_in(high_in)}.")
    alone = [*lows[len(highs) :], *highs[len(lows) :]]
    texts += [f"`{name}` itself is {_in(bounds[name][1])}." for name in alone]
    return " ".join(texts)


def _in(included: bool) -> str:
    return "included" if included else "not included"


def kept_text(project: LoadedProject, query: Query) -> str:
    """How long the windows are kept that a query reads, in words; empty where all are."""
    texts = []
    for origin in dict.fromkeys(table.origin for table in query.tables):
        keep = project.retention.get(origin)
        keys = [[c.name for c in table.key] for table in query.tables if table.origin == origin]
        if keep is not None and any(keep.column in key for key in keys):
            last = "the watermark of what is counted"
            texts.append(f"Windows of `{origin}` (`{keep.column}`) are kept for {spelled(keep.span)} before {last}.")
    return " ".join(texts)


def _operation(query: Query, max_rows: int, hints: dict[str, str], kept: str) -> Schema:
    paged = query.limit is not None and any(plan.in_key_order for plan in query.plans.values())
    about = [query.doc, range_text(query), kept]
    if query.limit is not None:
        about.append(f"At most `{query.limit}` rows" + ("; `next_cursor` continues where they end." if paged else "."))
    bounds = ranges(query.sql)
    parameters = [_parameter(p, max_rows, hints, bounds) for p in query.parameters]
    parameters += [{"$ref": "#/components/parameters/cursor"}] if paged else []
    parameters.append({"$ref": "#/components/parameters/if_none_match"})
    return {
        "operationId": f"query_{query.name}",
        "tags": ["queries"],
        "summary": _summary(query),
        "description": "\n\n".join(t for t in about if t),
        "parameters": parameters,
        "responses": {
            "200": _answered({"$ref": f"#/components/schemas/Answer_{query.name}"}, _example_answer(query)),
            "304": {
                "description": "Not changed since the answer with that ETag.",
                "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
            },
            **_problems((*PROTECTED, 404, 503)),
        },
    }


def _parameter(p: Parameter, max_rows: int, hints: dict[str, str], bounds: dict[str, tuple[str, bool]]) -> Schema:
    schema = _schema(p.type, stored=False)
    if p.maximum is not None:
        schema |= {"minimum": 1, "maximum": min(p.maximum, max_rows)}
    if p.default is not None:
        schema["default"] = p.default
    if p.type.name == "VARCHAR":
        schema |= {"minLength": 1, "pattern": NO_NUL}
    one: Any = hints.get(p.name, example(p))
    if schema.get("type") in ("integer", "number"):
        one = p.default if p.default is not None else 1
    elif schema.get("type") == "boolean":
        one = True
    found: Schema = {
        "name": p.name,
        "in": "query",
        "required": p.required,
        "description": _about(p, bounds),
        "schema": schema,
        "example": one,
    }
    if p.many:
        found |= {
            "schema": {"type": "array", "items": schema, "minItems": 1, "maxItems": 60},
            "style": "form",
            "explode": False,
            "example": [one],
        }
    return found


NO_NUL = "^[^\\u0000]+$"


def _about(p: Parameter, bounds: dict[str, tuple[str, bool]]) -> str:
    about = f"{p.type}." if not p.many else f"One or more {p.type}, with commas."
    if p.zone:
        about = "A time zone by its name in the tz database, as Europe/Berlin."
    if p.name in bounds:
        side, included = bounds[p.name]
        about += f" The {'lower' if side == 'low' else 'upper'} end of a range, which is {_in(included)}."
    if not p.required:
        about += " May be left out."
    return about


def _answer(query: Query) -> Schema:
    row: Schema = {
        "type": "object",
        "properties": {c.name: _or_null(_schema(c.type)) for c in query.columns},
        "required": [c.name for c in query.columns],
        "additionalProperties": False,
    }
    fixed: Schema = {
        "query": {"const": query.name},
        "generation": {"type": "integer", "minimum": 1, "description": "The publication that was read."},
        "as_of": {
            "type": ["string", "null"],
            "description": "The newest event time counted, the least over the lanes that feed the query.",
        },
        "watermark": {
            "type": ["string", "null"],
            "description": "No record of an earlier event time is expected; null where a source declares no lateness.",
        },
        "final": {
            "type": "boolean",
            "description": "Whether all windows of the answer end at the watermark or before.",
        },
        "idle": {"type": "array", "items": {"type": "string"}, "description": "Lanes that hold the watermark back."},
        "complete": {"type": "boolean", "description": "False where a lane stands still."},
        "rows": {"type": "array", "items": row},
        "next_cursor": {"type": ["string", "null"], "description": "Continues where the rows end; null at the end."},
    }
    return {"type": "object", "properties": fixed, "required": list(fixed), "additionalProperties": False}


def _answered(schema: Schema, example: object) -> Schema:
    """What is said of a reply with 200."""
    return {
        "description": "The answer.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS},
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def _example_answer(query: Query) -> Schema:
    row = {c.name: _example_value(c.type) for c in query.columns}
    return {
        "query": query.name,
        "generation": 7,
        "as_of": "2025-08-31T23:59:00Z",
        "watermark": "2025-08-31T22:59:00Z",
        "final": False,
        "idle": [],
        "complete": True,
        "rows": [row],
        "next_cursor": None,
    }


def _schema(type: Type, *, stored: bool = True) -> Schema:
    """The JSON Schema of a value; ``stored`` values come from us, others are sent to us."""
    if type.item is not None:
        return {"type": "array", "items": _schema(type.item)}
    if type.name == "DECIMAL":
        return {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": f"{type}, exact"} if stored else _WHOLE
    if type.name == "DATE":
        return {"type": "string", "format": "date", "description": "ISO 8601"}
    if type.is_instant:
        return {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
    if type.name == "BOOLEAN":
        return {"type": "boolean"}
    if type.name == "DOUBLE":
        return {"type": "number", "format": "double"}
    bits = {"SMALLINT": 15, "INTEGER": 31, "BIGINT": 63}.get(type.name)
    if bits is not None:
        return {"type": "integer", "minimum": -(2**bits), "maximum": 2**bits - 1} if stored else dict(_WHOLE)
    return {"type": "string"}


_WHOLE: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _example_value(type: Type) -> Any:
    if type.item is not None:
        return [_example_value(type.item)]
    if type.name == "DECIMAL":
        return f"12.{'3456789012345678901234567890'[: type.scale]}" if type.scale else "12"
    fixed = {"DATE": "2025-08-31", "BOOLEAN": True, "DOUBLE": 0.5, "VARCHAR": "text"}
    return "2025-08-31T12:00:00Z" if type.is_instant else fixed.get(type.name, 12)


def _hints(pages: Iterable[Page]) -> dict[str, str]:
    """Values that the pages give to parameters: examples that mean something in this project."""
    hints: dict[str, str] = {}
    for page in pages:
        for given in (*(t.given for t in page.tiles), page.filters):
            hints = {name: value for name, value in given.items() if value != ""} | hints
    return hints


def _summary(query: Query) -> str:
    return query.doc.split(". ")[0].strip().rstrip(".") or query.name


def _problems(statuses: Iterable[int]) -> Schema:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(set(statuses))}


def _problem(status: int) -> Schema:
    code = {
        400: "HR0502",
        401: "HR0602",
        403: "HR0602",
        404: "HR0501",
        405: "HR0608",
        429: "HR0604",
        500: "HR0999",
        503: "HR0402",
    }.get(status, "HR0607")
    one = {
        "type": f"/docs/errors/{code}", "title": CODES[code].title, "status": status, "detail": EVERYWHERE[status],
        "instance": "/v1/queries/usage", "request_id": "5f0c2a91-1f",
    }  # fmt: skip
    found: Schema = {
        "description": EVERYWHERE[status],
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": one}},
    }
    if status in (429, 503):
        found["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    if status == 401:
        found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return found


# Declared routes


def _route(route: Route, query: Query, max_rows: int, kept: str) -> Schema:
    typed = {p.name: p for p in query.parameters}
    about = [route.doc or query.doc]
    if route.between is not None:
        low, high = route.between
        ends = {n: ranges(query.sql).get(route.parameters[n].name) for n in route.between}
        included = bool(route.parameters[high].plus) or bool((ends[high] or ("", False))[1])
        most = f" It is at most {route.longest / 86_400:g} days long." if route.longest is not None else ""
        about.append(f"The range is from `{low}` to `{high}`, which is {_in(included)}.{most}")
    parameters = [_route_parameter(route, name, one, typed[one.name]) for name, one in route.parameters.items()]
    if route.pages:
        limit = {"type": "integer", "minimum": 1, "maximum": max_rows}
        said = f"Rows of a page, or a few more: rows of one `{route.pages}` stay together. `Link` has the next page."
        parameters.append({"name": "limit", "in": "query", "required": False, "description": said, "schema": limit,
                           "example": 100})  # fmt: skip
    if query.limit is not None:
        parameters.append({"$ref": "#/components/parameters/cursor"})
    parameters.append({"$ref": "#/components/parameters/if_none_match"})
    columns = {c.name: c for c in query.columns}
    sent = {p["name"]: p.get("example") for p in parameters if "$ref" not in p}
    problems = _problems((*PROTECTED, 404, 503))
    if route.error:
        schema = {"type": "object", "properties": {route.error: {"type": "string"}}, "required": [route.error]}
        problems = {
            status: {"description": EVERYWHERE[int(status)], "content": {"application/json": {"schema": schema}}}
            for status in problems
        }
    return {
        "tags": ["routes"],
        "summary": (route.doc or query.doc).split(". ")[0].strip().rstrip(".") or route.path,
        "description": "\n\n".join(t for t in (*about, kept) if t),
        "parameters": parameters,
        "responses": {
            "200": _answered(_shape_schema(route.answer, columns), _shape_example(route.answer, columns, route, sent)),
            "304": {
                "description": "Not changed since the answer with that ETag.",
                "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
            },
            **problems,
        },
    }


def _route_health(route: Route) -> Schema:
    assert route.unready is not None

    def content(shape: Shape) -> Schema:
        return {
            "application/json": {"schema": _shape_schema(shape, {}), "example": _shape_example(shape, {}, route, {})}
        }

    return {
        "tags": ["routes"],
        "summary": route.doc or "Whether answers can be given.",
        "security": [],
        "responses": {
            "200": {"description": "They can.", "content": content(route.answer)},
            "503": {"description": "Not now.", "content": content(route.unready)},
            **_problems((400, 405, 413, 414, 431, 500)),
        },
    }


def _route_parameter(route: Route, name: str, one: RouteParameter, typed: Parameter) -> Schema:
    in_path = name in route.in_path
    schema = _schema(typed.type, stored=False)
    shown: Any = one.example or one.default or example(typed)
    if one.time:
        day = one.time == "%Y-%m-%d"
        schema = {"type": "string", **({"format": "date"} if day else {"pattern": time_pattern(one.time)})}
        shown = one.example or one.default or SOME_TIME.strftime(one.time)
    elif one.choices:
        schema = {"type": "string", "enum": list(one.choices)}
    elif typed.type.name == "VARCHAR":
        schema |= {"minLength": 1, "pattern": f"^(?:{one.pattern})$" if one.pattern else NO_NUL}
    elif schema.get("type") == "integer":
        shown = 1
        if typed.maximum is not None:
            schema |= {"minimum": 1, "maximum": typed.maximum}
    if one.default is not None:
        schema["default"] = one.default
    about = [one.doc or f"As `{one.name}` of the query `{route.query}`."]
    about += [f"Written `{one.time}`."] if one.time else []
    about += ["May be left out: the newest day that is counted."] if one.newest else []
    required = in_path or (typed.required and one.default is None and not one.newest)
    return {"name": name, "in": "path" if in_path else "query", "required": required, "description": " ".join(about),
            "schema": schema, "example": shown}  # fmt: skip


SOME_TIME = dt.datetime(2024, 1, 31, 12, 0, 0)  # noqa: DTZ001  an example of how times are written
_TIME_PARTS = {
    "Y": "(?!0000)[0-9]{4}", "m": "(0[1-9]|1[0-2])", "d": "(0[1-9]|[12][0-9]|3[01])", "H": "([01][0-9]|2[0-3])",
    "M": "[0-5][0-9]", "S": "[0-5][0-9]", "f": "[0-9]{6}",
}  # fmt: skip


def time_pattern(pattern: str) -> str:
    """A regular expression of what a ``strptime`` pattern can be; days that a month does not have are not left out."""
    parts = re.split(r"%(.)", pattern)
    found = [
        _TIME_PARTS.get(part, ".+") if i % 2 else re.escape(part).replace(r"\-", "-") for i, part in enumerate(parts)
    ]
    return f"^{''.join(found)}$"


def _shape_schema(shape: Shape, columns: Mapping[str, Column]) -> Schema:
    if isinstance(shape, Rows):
        return {"type": "array", "items": _shape_schema(shape.each, columns)}
    if not isinstance(shape, Field):
        required = [n for n, part in shape.items() if not (isinstance(part, Field) and part.optional)]
        parts = {name: _shape_schema(part, columns) for name, part in shape.items()}
        return {"type": "object", "properties": parts, "required": required, "additionalProperties": False}
    if shape.kind == "fixed":
        return {"const": shape.value}
    if shape.kind == "now":
        return {"type": "string"}
    if shape.kind == "given":
        return {"type": ["string", "null"]}
    column = columns[shape.name]
    if shape.time:
        schema: Schema = {"type": "string", "description": f"Written `{shape.time}`."}
    elif shape.number and column.type.name == "DECIMAL":
        schema = {"type": "number", "description": f"{column.type}, exact"}
    else:
        schema = _schema(column.type)
    if shape.optional:
        schema["description"] = f"{schema.get('description', '')} Left out where there is none.".strip()
        return schema
    return _or_null(schema)


def _shape_example(shape: Shape, columns: Mapping[str, Column], route: Route, sent: Mapping[str, Any]) -> Any:
    if isinstance(shape, Rows):
        return [_shape_example(shape.each, columns, route, sent)]
    if not isinstance(shape, Field):
        return {name: _shape_example(part, columns, route, sent) for name, part in shape.items()}
    if shape.kind == "fixed":
        return shape.value
    if shape.kind == "now":
        return SOME_TIME.strftime(shape.time)
    if shape.kind == "given":
        text, pattern = sent.get(shape.name), route.parameters[shape.name].time
        return dt.datetime.strptime(text, pattern).strftime(shape.time) if text and pattern and shape.time else text  # noqa: DTZ007
    if shape.time:
        return SOME_TIME.strftime(shape.time)
    if shape.words:
        return next(iter(shape.words.values()))
    value = _example_value(columns[shape.name].type)
    return float(value) if shape.number and isinstance(value, str) else value


def _words(path: str) -> str:
    return "_".join(re.findall(r"[A-Za-z0-9]+", path))


def _fixed() -> Schema:
    """The paths that every project has."""

    def operation(id: str, tag: str, summary: str, content: Schema, problems: Iterable[int], **more: Any) -> Schema:
        ok = {"200": {"description": summary, "content": content}}
        return {
            "get": {
                "operationId": id,
                "tags": [tag],
                "summary": summary,
                "responses": {**ok, **_problems(problems)},
                **more,
            }
        }

    def schema(name: str) -> Schema:
        return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    plain: Schema = {
        "type": "object",
        "properties": {"status": {"type": "string"}, "code": {"type": "string"}},
        "required": ["status"],
    }
    health = {"application/json": {"schema": plain}}
    open_to_all: Schema = {"security": []}
    ready = operation(
        "ready", "operations", "Whether answers can be given.", health, (405, 413, 414, 431, 500), **open_to_all
    )
    ready["get"]["responses"]["503"] = {"description": "Not yet; `code` says why.", "content": health}
    return {
        "/v1/queries": operation("list_queries", "about", "All queries with parameters and columns.", schema("Catalogue"), PROTECTED),
        "/v1/status": operation("status", "about", "The published generation and how fresh it is.", schema("Status"), (*PROTECTED, 503)),
        "/health/live": operation("live", "operations", "Whether the process runs.", health, (405, 413, 414, 431, 500), **open_to_all),
        "/health/ready": ready,
        "/metrics": operation(
            "metrics", "operations", "Counters in the text format of Prometheus; needs a key with the scope `metrics`.",
            {"text/plain": {"schema": {"type": "string"}}}, (*PROTECTED, 404), security=[{"bearer": []}, {"key": []}],
        ),
    }  # fmt: skip


_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The page of the error's code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": "string", "description": "As in the header X-Request-Id and the server's log."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"parameter": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["parameter", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
}
_STATUS: Schema = {
    "type": "object",
    "properties": {
        "project": {"type": "string"},
        "version": {"type": "string"},
        "generation": {"type": "integer"},
        "published_at": {"type": ["string", "null"]},
        "as_of": {"type": ["string", "null"]},
        "complete": {"type": "boolean"},
        "lanes": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "The newest event time of each lane.",
        },
        "progress": {
            "type": ["object", "null"],
            "description": "How far batch and stream have counted; null where the lake does not answer this server.",
            "properties": {
                "counted": {"type": "integer", "description": "Records that are counted."},
                "lag": {"type": "integer", "description": "Records that have landed and are not counted."},
                "rate": {"type": ["number", "null"], "description": "Records counted a second, over at most 20 s."},
                "as_of": {"type": ["string", "null"], "description": "The newest event time that is counted."},
                "watermark": {"type": ["string", "null"], "description": "All before it is final."},
                "workers": {"type": "integer", "description": "Of the stream."},
            },
            "required": ["counted", "lag", "rate", "as_of", "watermark", "workers"],
        },
    },
    "required": ["project", "version", "generation", "published_at", "as_of", "complete", "lanes", "progress"],
}
_CATALOGUE: Schema = {
    "type": "object",
    "properties": {
        "project": {"type": "string"},
        "queries": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "doc": {"type": "string"},
                    "url": {"type": "string", "format": "uri-reference"},
                    "parameters": {"type": "array", "items": {"type": "object"}},
                    "columns": {"type": "array", "items": {"type": "object"}},
                    "pages": {"type": "boolean", "description": "Whether answers continue by cursor."},
                },
                "required": ["name", "doc", "url", "parameters", "columns", "pages"],
            },
        },
    },
    "required": ["project", "queries"],
}
_CURSOR: Schema = {
    "name": "cursor",
    "in": "query",
    "required": False,
    "description": "`next_cursor` of the page before, with the same other parameters. Opaque.",
    "schema": {"type": "string", "minLength": 1},
}
_IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an answer that is known already.",
    "schema": {"type": "string"},
    "example": '"5d41402abc4b2a76b9719d91"',
}
_HEADERS: Schema = {
    "ETag": {"description": "Strong; changes with the generation.", "schema": {"type": "string"}},
    "Link": {"description": '`<...>; rel="next"` where there are more rows.', "schema": {"type": "string"}},
    "Headrace-Generation": {"description": "As `generation`.", "schema": {"type": "integer"}},
    "Headrace-As-Of": {"description": "As `as_of`.", "schema": {"type": "string"}},
    "Headrace-Final": {"description": "As `final`.", "schema": {"type": "boolean"}},
    "Headrace-Complete": {"description": "As `complete`.", "schema": {"type": "boolean"}},
}
