"""Errors as problem documents (RFC 9457). The only place that knows which error is which status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from headrace.errors import (
    CODES,
    AccessError,
    HeadraceError,
    NotFoundError,
    NotReadyError,
    OutsideError,
    ParameterError,
)

Headers = tuple[tuple[bytes, bytes], ...]
MEDIA_TYPE = b"application/problem+json"
BUSY_FOR = 1
"""Seconds to wait before asking a store again that did not answer."""


class Refusal(HeadraceError):
    """A request that HTTP itself refuses: status, headers, and a code like every error."""

    def __init__(self, status: int, code: str, what: str, *, help: str = "", headers: Headers = ()) -> None:
        super().__init__(code, what, help=help)
        self.status = status
        self.headers = headers


class Detail(msgspec.Struct, frozen=True):
    """One thing that is wrong with the request."""

    parameter: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document; ``type`` is the relative URL of the code's page."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: tuple[Detail, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response. ``rows`` counts what an answer has, for the log."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rows: int | None = None


_ENCODER = msgspec.json.Encoder()


def status_of(error: HeadraceError) -> int:
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, ParameterError):
        return 400
    if isinstance(error, AccessError):
        return 401
    if isinstance(error, (NotReadyError, OutsideError)):
        return 503
    return 500


def problem(error: Exception, instance: str, request_id: str) -> Problem:
    """The document of an error. One that is not the caller's fault and not expected tells nothing of itself."""
    if not isinstance(error, HeadraceError):
        error = HeadraceError("HR0999", "")
    status = status_of(error)
    detail = error.what + (f" ({error.help})" if error.help else "")
    if status == 500:
        detail = f"the request failed; the server's messages tell more under {request_id}"
    elif isinstance(error, OutsideError):
        detail = "the store does not answer now"  # its own words may name files
    errors = (Detail(error.parameter, detail),) if isinstance(error, ParameterError) else ()
    return Problem(
        type=f"/docs/errors/{error.code}", title=CODES[error.code].title, status=status, detail=detail,
        instance=instance, request_id=request_id, errors=errors,
    )  # fmt: skip


def reply(error: Exception, problem: Problem, page: str | None = None, member: str = "") -> Reply:
    """The response to an error: the document, or a page that says the same, or an object with that one ``member``."""
    body, kind = _ENCODER.encode(problem), MEDIA_TYPE
    if page is not None:
        body, kind = page.encode(), b"text/html; charset=utf-8"
    elif member:
        body, kind = _ENCODER.encode({member: problem.detail}), b"application/json"
    return Reply(problem.status, [(b"content-type", kind), (b"cache-control", b"no-store"), *_more(error)], body)


def _more(error: Exception) -> Iterable[tuple[bytes, bytes]]:
    if isinstance(error, Refusal):
        return error.headers
    if isinstance(error, NotReadyError):
        return ((b"retry-after", str(error.retry_after).encode()),)
    if isinstance(error, OutsideError):
        return ((b"retry-after", str(BUSY_FOR).encode()),)
    return ()
