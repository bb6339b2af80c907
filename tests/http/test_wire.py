"""Connections that are slow, large, many or broken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from headrace.http import wire
from tests.http.conftest import Running
from tests.kit import ProjectFolder

ROOT = Path(__file__).parents[2]


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


@pytest.mark.parametrize(
    "drops",
    [[b"GET /"], [b"GET / HTTP/1.1\r\n", b"Host: x\r\n"], [b"GET / HTTP/1.1\r\nX-A: 1\r\n"] + [b"X-B: 2\r\n"] * 5],
)
def test_s37_a_head_that_drips_is_cut_off(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, drops: list[bytes]
) -> None:
    monkeypatch.setattr(wire, "HEAD_WITHIN", 0.4)
    site = start()
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        began = time.monotonic()
        connection.settimeout(0.1)
        answer = b""
        for drop in [*drops, *[b"X"] * 100]:
            try:
                connection.sendall(drop)
                part = connection.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            answer += part
            if not part:
                break
        assert status(answer) == 408
        assert 0.3 < time.monotonic() - began < 5


def test_s37_a_connection_that_says_nothing_is_closed(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_WITHIN", 0.3)
    assert start().raw(b"") == b""


def test_s37_the_deadline_holds_for_later_requests_too(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_WITHIN", 0.3)
    began = time.monotonic()
    answer = start().raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /health/live HTTP/1.1\r\nHo")
    assert status(answer) == 200
    assert b"HTTP/1.1 408 " in answer
    assert time.monotonic() - began < wire.HEAD_WITHIN + 5, "and not when the connection would have ended anyway"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 20_000,
    ],
)
def test_s37_a_head_without_end_is_431(site: Running, head: bytes) -> None:
    assert status(site.raw(head)) in (431, 400)


def test_who_goes_on_sending_after_a_refusal_sees_it(site: Running) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=15) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 20_000)
        for _ in range(20):
            time.sleep(0.01)
            connection.sendall(b"X: 1\r\n" * 1000)
        received = b""
        while part := connection.recv(65536):
            received += part
        assert status(received) in (431, 400)


def test_s37_a_url_of_100_000_characters_is_refused(site: Running) -> None:
    assert status(site.raw(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) in (
        414,
        431,
    )


def test_s37_connections_are_bounded(start: Callable[..., Running]) -> None:
    site = start(**{"serve.connections": 3})
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
        with contextlib.suppress(ConnectionResetError):  # it does not wait for what we send
            refused = site.raw(b"")
            assert status(refused) == 503
            assert json.loads(refused.split(b"\r\n\r\n", 1)[1])["status"] == 503
    until = time.monotonic() + 5
    while status(site.raw(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) != 200:
        assert time.monotonic() < until


BROKEN = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"hello\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n",
          b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
          b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET \xff\xfe HTTP/1.1\r\n\r\n"]  # fmt: skip


@pytest.mark.parametrize("data", BROKEN, ids=[repr(b[:32]) for b in BROKEN])
def test_broken_requests_are_refused_and_closed(site: Running, data: bytes) -> None:
    answer = site.raw(data, finish=True)
    assert status(answer) in (400, 401, 413, 0)
    assert site.anonymous("/health/live").status_code == 200


def test_two_requests_in_one_packet_are_two_answers(site: Running) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert site.raw(one + one + last).count(b"HTTP/1.1 200 OK") == 3


def serving(shop: ProjectFolder, *arguments: str, users: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HEADRACE_SERVE__USERS": str(users)}
    command = [sys.executable, "-m", "headrace", "--project", str(shop.folder), *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_the_verbs_make_users_and_keys_and_serve_until_told_to_stop(shop: ProjectFolder, tmp_path: Path) -> None:
    import httpx

    users = tmp_path / "users.json"
    refused = serving(shop, "serve", "--port", "0", users=users)
    _, error = refused.communicate(timeout=30)
    assert (refused.returncode, "HR0602" in error, "headrace user add" in error) == (1, True, True)

    added = serving(shop, "user", "add", "ann", users=users)
    password, error = added.communicate(timeout=30)
    assert (added.returncode, password.strip() in error) == (0, False)
    given = serving(shop, "user", "add", "bob", "--password-stdin", users=users)
    assert given.communicate("a long password\n", timeout=30) == ("", "")
    token, _ = serving(
        shop, "key", "create", "ci", "--scope", "read,metrics", "--expires", "90d", users=users
    ).communicate(timeout=30)

    server = serving(shop, "serve", "--port", "0", users=users)
    assert server.stderr is not None
    line = server.stderr.readline()
    url = line.split()[-1]
    with httpx.Client(base_url=url, trust_env=False) as client:
        for auth in (("ann", password.strip()), ("bob", "a long password")):
            assert client.get("/v1/status", auth=auth).status_code == 200
        assert client.get("/metrics", headers={"authorization": f"Bearer {token.strip()}"}).status_code == 200
    server.send_signal(signal.SIGTERM)
    _, error = server.communicate(timeout=30)
    assert server.returncode == 0
    assert "Traceback" not in error
    assert [json.loads(said)["status"] for said in error.splitlines()] == [200, 200, 200]

    listed, _ = serving(shop, "key", "list", "--json", users=users).communicate(timeout=30)
    key = json.loads(listed)["keys"][0]
    assert (key["name"], key["scopes"], key["state"]) == ("ci", "read,metrics", "valid")
    assert key["last_used"] is not None
    assert key["id"] in token
    serving(shop, "key", "revoke", key["id"], users=users).communicate(timeout=30)
    listed, _ = serving(shop, "key", "list", users=users).communicate(timeout=30)
    assert "revoked" in listed
    serving(shop, "user", "remove", "bob", users=users).communicate(timeout=30)
    assert serving(shop, "user", "list", users=users).communicate(timeout=30)[0].split()[-2] == "ann"


def test_a_port_in_use_is_said_plainly(shop: ProjectFolder, site: Running) -> None:
    from headrace.errors import SettingError
    from headrace.http.server import bound

    with pytest.raises(SettingError) as caught:
        bound("127.0.0.1", site.port)
    assert "--port" in caught.value.help


def test_a_header_that_holds_a_line_break_is_never_sent(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = start()
    monkeypatch.setattr(site.server._answers, "_tag", lambda *_: b'"x"\r\nset-cookie: a=b')
    response = site.get("/v1/queries/total")
    assert "set-cookie" not in response.headers
    assert response.status_code == 500


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_whole_response_is_one_write(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    site = start()
    written: list[bytes] = []
    inner = wire.Connection.connection_made

    class Recorded:
        """The transport, which notes what is written."""

        def __init__(self, transport: Any) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    monkeypatch.setattr(
        wire.Connection, "connection_made", lambda self, transport: inner(self, cast("Any", Recorded(transport)))
    )
    assert site.request(method, "/v1/queries/total").status_code == 200
    assert len(written) == 1
    assert (b'"rows"' in written[0]) == (method == "GET")
