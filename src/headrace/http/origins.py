"""Pages of other origins that may read answers: those that ``serve.origins`` names, by the rules of CORS."""

from __future__ import annotations

import re

from headrace.errors import SettingError

Headers = list[tuple[bytes, bytes]]
ORIGIN = re.compile(r"(https?)://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?\Z")
OWN_PORT = {"http": ":80", "https": ":443"}
VARY = (b"vary", b"Origin")
EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, Link, Retry-After, X-Request-Id, Headrace-Generation, Headrace-As-Of, Headrace-Complete, Headrace-Final",
)
PREFLIGHT = [
    (b"allow", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-methods", b"GET, HEAD"),
    (b"access-control-allow-headers", b"Authorization, X-API-Key, If-None-Match"),
    (b"access-control-max-age", b"600"),
]


def allowed(setting: str) -> frozenset[bytes]:
    """The origins as browsers send them. Raises SettingError HR0601 for what no browser sends."""
    named = [name.strip() for name in setting.split(",") if name.strip()]
    for name in named:
        found = ORIGIN.match(name)
        if found is None or found[3] == OWN_PORT[found[1]]:
            help = "as https://app.example.org or http://127.0.0.1:5500: lower case, no path, no *, no port that goes without saying"
            raise SettingError("HR0601", f"serve.origins names '{name}', which is no origin", help=help)
    return frozenset(name.encode() for name in named)


def told(origin: bytes | None) -> Headers:
    """What a response says to a page of an origin that is allowed; None: to anybody else. There are no cookies, so
    credentials are what a page sends by itself, and nothing lets a browser add its own."""
    return [VARY] if origin is None else [VARY, (b"access-control-allow-origin", origin), EXPOSED]
