"""Who may call: S1 to S10 and S18, on the authenticator itself with a clock of our own, and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import argon2
import pytest

from headrace.app import App
from headrace.errors import AccessError, SettingError
from headrace.http import auth as auth_module
from headrace.http import credentials
from headrace.http import throttle as throttle_module
from headrace.http.auth import CHALLENGES, Authenticator, Caller, Login
from headrace.http.problems import Refusal
from headrace.http.server import Server
from headrace.http.throttle import FREE, LONGEST_WAIT, Throttle, network_of
from tests.http.conftest import PASSWORD, USER, Running
from tests.kit import ProjectFolder

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(credentials, "HASHER", CHEAP)
    file = tmp_path / "users.json"
    credentials.add_user(file, USER, PASSWORD)
    return file


@pytest.fixture
def auth(users: Path, clock: Clock) -> Authenticator:
    return Authenticator(users, hasher=CHEAP, clock=clock)


def basic(user: str, password: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Basic " + base64.b64encode(f"{user}:{password}".encode())}


def log_in(auth: Authenticator, headers: dict[bytes, bytes], address: str = "10.0.0.1") -> Caller:
    async def attempt() -> Caller:
        found = auth.known(headers)
        return found if isinstance(found, Caller) else await auth.verify(found, address)

    return asyncio.run(attempt())


def refusal(auth: Authenticator, headers: dict[bytes, bytes], address: str = "10.0.0.1") -> Refusal:
    with pytest.raises(Refusal) as caught:
        log_in(auth, headers, address)
    return caught.value


def test_s1_there_is_no_default_credential(shop: ProjectFolder, tmp_path: Path) -> None:
    app = App(shop.folder, {"serve.users": str(tmp_path / "none.json")})
    with pytest.raises(AccessError) as caught:
        Server(app, host="127.0.0.1", port=0)
    assert caught.value.code == "HR0602"
    assert "headrace user add" in caught.value.help


@pytest.mark.parametrize("password", ["", "admin", "password", "headrace", USER])
def test_s1_guessable_passwords_do_not_open(auth: Authenticator, password: str) -> None:
    for user in (USER, "admin", "root", "headrace"):
        assert refusal(auth, basic(user, password), address=f"10.1.{len(user)}.{len(password)}").status == 401


def test_s2_unknown_users_and_wrong_passwords_look_the_same(auth: Authenticator) -> None:
    wrong, unknown = refusal(auth, basic(USER, "no")), refusal(auth, basic("bob", "no"))
    assert (wrong.status, wrong.what, wrong.headers) == (unknown.status, unknown.what, unknown.headers)


def test_s2_unknown_users_and_wrong_passwords_take_the_same_time(users: Path) -> None:
    class Patient(Throttle):
        def wait(self, user: str, address: str) -> float:
            return 0.0

    auth = Authenticator(users, hasher=CHEAP, throttle=Patient())
    times: dict[str, list[float]] = {USER: [], "bob": []}

    async def attempts() -> None:
        for n in range(1000):
            name = (USER, "bob")[n % 2]
            found = auth.known(basic(name, f"wrong {n}"))
            assert isinstance(found, Login)
            began = time.perf_counter()
            with pytest.raises(Refusal):
                await auth.verify(found, "10.0.0.1")
            times[name].append(time.perf_counter() - began)

    asyncio.run(attempts())
    # Mann-Whitney U as the chance that one is slower than the other; 0.5 is none. With 500 each its deviation is 0.018.
    slower = statistics.mean((a > b) + 0.5 * (a == b) for a in times[USER] for b in times["bob"])
    assert abs(slower - 0.5) < 0.1


def test_s3_failures_are_limited_per_user_from_many_addresses(auth: Authenticator) -> None:
    for n in range(FREE):
        assert refusal(auth, basic(USER, f"wrong {n}"), f"10.0.1.{n}").status == 401
    late = refusal(auth, basic(USER, "wrong"), "10.0.2.1")
    assert late.status == 429
    assert dict(late.headers)[b"retry-after"] == b"1"


def test_s3_failures_are_limited_per_address_over_many_users(auth: Authenticator) -> None:
    for n in range(FREE):
        assert refusal(auth, basic(f"user{n}", "wrong"), "10.0.3.1").status == 401
    assert refusal(auth, basic("another", "wrong"), "10.0.3.1").status == 429


def test_s3_the_refusal_comes_before_the_hash(auth: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(FREE):
        refusal(auth, basic(USER, f"wrong {n}"))
    monkeypatch.setattr(auth, "_matches", lambda *_: pytest.fail("hashed"))
    assert refusal(auth, basic(USER, PASSWORD)).status == 429


def test_s3_a_bad_key_is_no_failure_of_the_people_behind_its_address(auth: Authenticator) -> None:
    for n in range(100):
        assert refusal(auth, {b"authorization": f"Bearer hr_0_{n}".encode()}, "10.0.3.2").status == 401
    assert log_in(auth, basic(USER, PASSWORD), "10.0.3.2").name == USER


def test_s4_the_lock_is_soft_it_doubles_and_ends(auth: Authenticator, clock: Clock) -> None:
    waits = []
    for n in range(FREE + 8):
        headers = basic(USER, f"wrong {n}")
        found = refusal(auth, headers)
        if found.status == 429:
            waits.append(int(dict(found.headers)[b"retry-after"]))
            clock.now += waits[-1]
            assert refusal(auth, headers).status == 401
    assert waits[:6] == [1, 2, 4, 8, 16, 32]
    assert max(waits) == LONGEST_WAIT
    clock.now += LONGEST_WAIT
    assert log_in(auth, basic(USER, PASSWORD)).name == USER


def test_s4_a_stranger_cannot_lock_out_who_has_logged_in_before(auth: Authenticator, clock: Clock) -> None:
    log_in(auth, basic(USER, PASSWORD), "10.0.4.1")
    clock.now += auth_module.KNOWN_FOR + 1
    for n in range(50):
        refusal(auth, basic(USER, f"wrong {n}"), f"10.0.5.{n}")
    assert log_in(auth, basic(USER, PASSWORD), "10.0.4.1").name == USER
    assert refusal(auth, basic(USER, PASSWORD + "?"), "10.0.6.1").status == 429


def test_s4_waiting_does_not_lengthen_the_wait(auth: Authenticator, clock: Clock) -> None:
    for n in range(FREE):
        refusal(auth, basic(USER, f"wrong {n}"))
    for n in range(100):
        assert refusal(auth, basic(USER, f"impatient {n}")).status == 429
    clock.now += 1
    assert log_in(auth, basic(USER, PASSWORD)).name == USER


def test_s5_a_changed_password_and_a_removed_user_are_forgotten_at_once(auth: Authenticator, users: Path) -> None:
    old, new = basic(USER, PASSWORD), basic(USER, "another password")
    log_in(auth, old)
    assert isinstance(auth.known(old), Caller)
    credentials.add_user(users, USER, "another password")
    assert isinstance(auth.known(old), Login)
    assert refusal(auth, old).status == 401
    log_in(auth, new)
    credentials.remove_user(users, USER)
    assert refusal(auth, new).status == 401


def test_s5_a_login_is_believed_for_a_while_only(auth: Authenticator, clock: Clock) -> None:
    log_in(auth, basic(USER, PASSWORD))
    clock.now += auth_module.KNOWN_FOR - 1
    assert isinstance(auth.known(basic(USER, PASSWORD)), Caller)
    clock.now += 2
    assert isinstance(auth.known(basic(USER, PASSWORD)), Login)


def test_s5_a_file_that_is_gone_or_damaged_lets_nobody_in(auth: Authenticator, users: Path) -> None:
    log_in(auth, basic(USER, PASSWORD))
    kept = users.read_bytes()
    users.write_bytes(b"{")
    with pytest.raises(SettingError):
        auth.known(basic(USER, PASSWORD))
    users.unlink()
    assert refusal(auth, basic(USER, PASSWORD)).status == 401
    users.touch(0o600)
    users.write_bytes(kept)
    assert log_in(auth, basic(USER, PASSWORD)).name == USER


def test_s6_the_cache_is_bounded_and_holds_successes_only(
    auth: Authenticator, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth_module, "MOST_KNOWN", 3)
    refusal(auth, basic(USER, "wrong"))
    assert not auth._known
    for n in range(5):
        credentials.add_user(users, f"user{n}", PASSWORD)
        log_in(auth, basic(f"user{n}", PASSWORD))
    assert len(auth._known) == 3
    assert PASSWORD.encode() not in b"".join(auth._known)


def test_s6_the_throttle_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.http.throttle.MOST", 100)
    throttle = Throttle()
    for n in range(1000):
        throttle.attempted(f"user{n}", f"10.0.{n % 250}.{n}")
        throttle.failed(f"10.0.{n % 250}.{n}")
        throttle.succeeded(f"known{n}", f"10.1.{n % 250}.{n}")
    assert len(throttle._failures) <= 100
    assert len(throttle._proven) <= 100


def outcomes(auth: Authenticator, logins: list[dict[bytes, bytes]]) -> list[str]:
    """What became of logins that come at the same moment from one address."""

    async def at_once() -> list[str]:
        found = [auth.known(headers) for headers in logins]
        tasks = [asyncio.create_task(auth.verify(f, "10.0.0.9")) for f in found if isinstance(f, Login)]
        await asyncio.gather(*tasks, return_exceptions=True)
        errors = [task.exception() for task in tasks]
        return [str(e.status) if isinstance(e, Refusal) else "in" for e in errors]

    return asyncio.run(at_once())


def test_s3_many_guesses_at_one_name_at_once_gain_nothing(auth: Authenticator) -> None:
    told = outcomes(auth, [basic(USER, f"guess {n}") for n in range(12)])
    assert (told.count("401"), told.count("429")) == (throttle_module.FREE, 12 - throttle_module.FREE)


def test_s4_people_behind_one_address_log_in_at_the_same_moment(auth: Authenticator, users: Path) -> None:
    for n in range(10):
        credentials.add_user(users, f"user{n}", PASSWORD)
    assert outcomes(auth, [basic(f"user{n}", PASSWORD) for n in range(10)]) == ["in"] * 10


def test_s7_logins_that_wait_for_a_core_are_few(auth: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    release = threading.Event()
    hashing: list[str] = []

    def slow(hash: str, password: str) -> bool:
        hashing.append(password)
        return release.wait(20) and False

    monkeypatch.setattr(auth, "_matches", slow)

    async def flood() -> list[int]:
        logins = [auth.known(basic(f"user{n}", "wrong")) for n in range(100)]
        tasks = [
            asyncio.create_task(auth.verify(login, f"10.{n}.0.1"))
            for n, login in enumerate(logins)
            if isinstance(login, Login)
        ]
        await asyncio.sleep(0)
        refused = [t for t in tasks if t.done()]
        assert len(hashing) <= max(1, (os.cpu_count() or 1) - 1)
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(t.exception(), Refusal) for t in tasks)
        return [e.status for t in refused if isinstance(e := t.exception(), Refusal)]

    statuses = asyncio.run(flood())
    assert set(statuses) == {429}
    assert len(statuses) == 100 - auth_module.QUEUE - auth._cores


def test_s7_the_same_login_many_times_at_once_is_one_hash(auth: Authenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    hashing = Mock(side_effect=auth._matches)
    monkeypatch.setattr(auth, "_matches", hashing)

    async def browser() -> list[Caller]:
        login = auth.known(basic(USER, PASSWORD))
        assert isinstance(login, Login)
        return list(await asyncio.gather(*(auth.verify(login, "a") for _ in range(20))))

    assert {caller.name for caller in asyncio.run(browser())} == {USER}
    assert hashing.call_count == 1


MALFORMED = [
    b"", b"Basic", b"Basic ", b"Basic !!!", b"Basic " + base64.b64encode(b"nocolon"), b"Basic " + base64.b64encode(b"\xff\xfe:x"),
    b"Basic " + base64.b64encode(b"a\0b:c"), b"Digest x", b"Bearer", b"Bearer ", b"Bearer hr_", b"Bearer hr_a_b", b"Bearer \xff\xff_a_b",
    b"bearer null",
    b"Basic " + base64.b64encode(b"ann:" + b"x" * 5000), b"Basic " + b"A" * 5000, b"\xff" * 10,
]  # fmt: skip


@pytest.mark.parametrize("header", MALFORMED, ids=[repr(h[:24]) for h in MALFORMED])
def test_s8_malformed_and_oversized_credentials_are_401_without_a_hash(
    auth: Authenticator, header: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_matches", lambda *_: pytest.fail("hashed"))
    found = refusal(auth, {b"authorization": header})
    assert (found.status, found.code, found.headers) == (401, "HR0602", CHALLENGES)


def test_s8_two_authorization_headers_are_refused(site: Running) -> None:
    value = f"Authorization: Bearer {site.token}\r\n"
    answer = site.raw(f"GET /v1/status HTTP/1.1\r\nHost: x\r\n{value}{value}\r\n".encode())
    assert b" 400 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize(
    "password", ["with:colons::in it", "päßwörd with ünicode", "日本語のパスワード", " leading and trailing ", PASSWORD]
)
def test_s9_colons_and_unicode_in_passwords(auth: Authenticator, users: Path, password: str) -> None:
    credentials.add_user(users, "carla", password)
    assert log_in(auth, basic("carla", password)).name == "carla"
    assert refusal(auth, basic("carla", password + " ")).status == 401


def test_s9_a_letter_composed_otherwise_is_the_same_letter(auth: Authenticator, users: Path) -> None:
    credentials.add_user(users, "carla", "cafe\u0301 au lait")
    assert log_in(auth, basic("carla", "caf\u00e9 au lait")).name == "carla"


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])  # noqa: S104 - that these are refused is the point
def test_s10_plain_http_beyond_loopback_is_refused(shop: ProjectFolder, users: Path, host: str) -> None:
    app = shop.app
    with pytest.raises(SettingError) as caught:
        Server(app, host=host, port=0)
    assert caught.value.code == "HR0603"
    assert "--insecure-http" in caught.value.help


def test_s18_a_revoked_and_an_expired_key_end_at_once(
    auth: Authenticator, users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = credentials.create_key(users, "ci", ("read",), dt.timedelta(hours=1))
    headers = {b"authorization": f"Bearer {token}".encode()}
    id = token.split("_")[1]
    assert log_in(auth, headers).name == f"key:{id}"
    assert log_in(auth, {b"x-api-key": token.encode()}).name == f"key:{id}"
    now = time.time()
    monkeypatch.setattr("headrace.http.auth.time.time", lambda: now + 3601)
    assert refusal(auth, headers).status == 401
    monkeypatch.undo()
    credentials.revoke_key(users, id)
    assert refusal(auth, headers).status == 401


def test_s18_part_of_a_key_or_another_key_s_secret_does_not_open(auth: Authenticator, users: Path) -> None:
    one, two = (credentials.create_key(users, name) for name in ("one", "two"))
    mixed = "_".join([*one.split("_", 2)[:2], two.split("_", 2)[2]])
    for token in (one[:-1], one + "x", mixed, one.upper()):
        assert refusal(auth, {b"authorization": f"Bearer {token}".encode()}).status == 401


def test_keys_note_when_they_were_used_apart_from_the_secrets(auth: Authenticator, users: Path) -> None:
    token = credentials.create_key(users, "ci")
    log_in(auth, {b"x-api-key": token.encode()})
    before = users.read_bytes()
    credentials.save_uses(users, auth.uses())
    assert users.read_bytes() == before
    assert list(credentials.load_uses(users)) == [token.split("_")[1]]
    assert auth.uses() == {}


def test_the_file_holds_hashes_only_and_is_its_owner_s(users: Path) -> None:
    token = credentials.create_key(users, "ci")
    text = users.read_text()
    assert PASSWORD not in text
    assert token not in text
    assert token.split("_", 2)[2] not in text
    assert "$argon2id$" in text
    assert users.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_open_to_others_is_refused(users: Path, mode: int) -> None:
    users.chmod(mode)
    with pytest.raises(SettingError) as caught:
        credentials.load(users)
    assert "chmod 600" in caught.value.help


@pytest.mark.parametrize("name", ["", "a:b", "-x", "a b", "ü", "a" * 65, "../x", "a\nb"])
def test_names_that_a_login_could_not_carry_are_refused(users: Path, name: str) -> None:
    with pytest.raises(SettingError):
        credentials.add_user(users, name, PASSWORD)


@pytest.mark.parametrize("password", ["short", "x" * 1025])
def test_passwords_have_a_length(users: Path, password: str) -> None:
    with pytest.raises(SettingError):
        credentials.add_user(users, "bob", password)


@pytest.mark.parametrize(
    ("address", "network"),
    [("10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::"), ("2001:db8:0:0:ffff::1", "2001:db8::"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::"), ("", "")],
)  # fmt: skip
def test_failures_count_for_what_one_person_holds(address: str, network: str) -> None:
    assert network_of(address) == network


def test_the_production_hash_is_argon2id_at_owasp_s_floor() -> None:
    found = argon2.extract_parameters(credentials.HASHER.hash("x"))
    assert (found.type.name, found.memory_cost, found.time_cost, found.parallelism) == ("ID", 19 * 1024, 2, 1)


def test_logins_by_password_over_http(start: Callable[..., Running]) -> None:
    site = start()
    assert site.get("/v1/status", auth=(USER.encode(), PASSWORD.encode())).status_code == 200
    refused = site.get("/v1/status", auth=(USER, "wrong"))
    assert refused.status_code == 401
    assert refused.headers.get_list("www-authenticate")[0].startswith("Basic realm=")
