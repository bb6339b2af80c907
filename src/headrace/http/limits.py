"""What a request may cost before anything is known about it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.http.problems import Refusal

LONGEST_URL = 8 * 1024
LONGEST_HEADERS = 16 * 1024
"""Bytes of all names and values."""
MOST_HEADERS = 64
ONCE = frozenset((b"authorization", b"x-api-key", b"content-length", b"host"))
"""Headers of which a proxy and we might pick different ones if they came twice."""
CLOSE = ((b"connection", b"close"),)


def headers_of(pairs: Sequence[tuple[bytes, bytes]], path: str, query: bytes) -> dict[bytes, bytes]:
    """The headers by lower-case name. Raises Refusal 413, 414 and 431 HR0607, 400 HR0607 for a doubled header."""
    if len(path) + len(query) > LONGEST_URL:
        raise Refusal(414, "HR0607", f"the URL has more than {LONGEST_URL} bytes")
    if len(pairs) > MOST_HEADERS or sum([len(name) + len(value) for name, value in pairs]) > LONGEST_HEADERS:
        raise Refusal(
            431, "HR0607", f"more than {MOST_HEADERS} headers, or {LONGEST_HEADERS} bytes of them", headers=CLOSE
        )
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next((name for name in ONCE if names.count(name) > 1), None)
        if twice is not None:
            raise Refusal(400, "HR0607", f"the header {twice.decode()} came twice", headers=CLOSE)
    if b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
        # Not read, so the connection cannot be used for another request.
        raise Refusal(413, "HR0607", "no path takes a body", headers=CLOSE)
    return headers
