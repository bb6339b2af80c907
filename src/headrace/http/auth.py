"""Who is calling: Basic logins and API keys, verified once and then known for a while."""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime as dt
import hmac
import math
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from headrace.errors import SettingError
from headrace.http import credentials
from headrace.http.credentials import Credentials, Key, User
from headrace.http.problems import Refusal
from headrace.http.rights import Right
from headrace.http.throttle import Throttle

KNOWN_FOR = 300.0
"""Seconds for which a verified login is believed without hashing again."""
MOST_KNOWN = 1024
LONGEST_HEADER = 4096
"""Bytes of an Authorization header: far more than the longest password needs."""
QUEUE = 16
"""Logins that may wait for a core. One takes about 70 ms, so the last waits about a second."""
CHALLENGES = (
    (b"www-authenticate", b'Basic realm="Headrace", charset="UTF-8"'),
    (b"www-authenticate", b'Bearer realm="Headrace"'),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call. ``name`` is a user's, or ``key:`` and a key's id."""

    name: str
    scopes: frozenset[str]
    right: Right | None = None
    """What they may ask about only; None: about everything."""

    def must(self, scope: str) -> None:
        """Raises Refusal 403 where the scope is missing."""
        if scope not in self.scopes:
            raise Refusal(403, "HR0602", f"this needs a key with the scope '{scope}'")


STRANGER = Caller("", frozenset())
"""May do nothing."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password that must be hashed to be believed."""

    user: str
    password: str
    hash: str
    known_as: bytes
    caller: Caller
    """Who that is if the password is right."""


class Authenticator:
    """Tells callers from strangers by the file of credentials, which is looked at anew whenever it has changed.

    Only successes are remembered, under a MAC of user, password *and* stored hash: a changed password or a removed
    user is therefore forgotten with the file's change. What a user may do is not remembered: it is the file's. Made for
    one event loop.
    """

    def __init__(
        self,
        file: Path,
        *,
        hasher: argon2.PasswordHasher = credentials.HASHER,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
        noted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.file = file
        self.throttle = throttle or Throttle(clock)
        self._hasher = hasher
        # Unknown users are verified against this, so that they take as long as known ones.
        self._nobody = hasher.hash(secrets.token_hex())
        self._clock = clock
        self._noted = noted
        self._secret = secrets.token_bytes(32)
        self.fresh = False
        """Whether the file was looked at already since whatever is asked next was received."""
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[bool]] = {}
        # One core stays free for the event loop, so that wrong passwords cannot slow down right ones.
        self._cores = max(1, (os.cpu_count() or 1) - 1)
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="argon2")
        self._signature: tuple[int, int, int] | None = None
        self._credentials = Credentials()
        self._users: dict[str, tuple[User, Caller]] = {}
        self._callers: dict[str, tuple[Key, Caller]] = {}
        self._used: dict[str, float] = {}

    def known(self, headers: Mapping[bytes, bytes]) -> Caller | Login:
        """The caller, or a login that ``verify`` must look at. Raises Refusal 401."""
        if not self.fresh:
            self._refresh()
        header = headers.get(b"authorization")
        if header is None:
            token = headers.get(b"x-api-key")
            if token is None:
                raise self._stranger("credentials are missing")
            return self._key(token)
        if len(header) > LONGEST_HEADER:
            raise self._stranger("the credentials are too long")
        scheme, _, rest = header.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"basic":
            return self._basic(rest)
        if scheme == b"bearer":
            return self._key(rest.strip())
        raise self._stranger("credentials must be Basic or Bearer")

    async def verify(self, login: Login, address: str) -> Caller:
        """Hashes the password. Raises Refusal 401 where it is wrong, 429 where it is too early or too many wait."""
        flight = self._flights.get(login.known_as)
        if flight is None:
            self._patience(self.throttle.wait(login.user, address))
            if len(self._flights) >= QUEUE + self._cores:
                self._noted("queue full")
                raise Refusal(429, "HR0604", "too many logins at once", headers=((b"retry-after", b"1"),))
            self.throttle.attempted(login.user, address)
            flight = asyncio.get_running_loop().run_in_executor(self._pool, self._matches, login.hash, login.password)
            self._flights[login.known_as] = flight
            flight.add_done_callback(lambda _: self._flights.pop(login.known_as, None))
            first = True
        else:
            first = False
        # Shielded: others may wait for the same hash when this caller hangs up.
        if not await asyncio.shield(flight):
            if first:
                self.throttle.failed(address)
            self._noted("wrong")
            raise self._stranger("user or password is wrong")
        if first:
            self._noted("right")
            self.throttle.succeeded(login.user, address)
            self._known[login.known_as] = self._clock() + KNOWN_FOR
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return login.caller

    def uses(self) -> dict[str, str]:
        """Ids of keys that were used since the last call, and when."""
        used, self._used = self._used, {}
        return {id: dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds") for id, at in used.items()}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _basic(self, encoded: bytes) -> Caller | Login:
        try:
            user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise self._stranger("the credentials cannot be read") from None
        if not colon or "\0" in user or "\0" in password:
            raise self._stranger("the credentials cannot be read")
        password = credentials.normal(password)
        record = self._users.get(user)
        hash = self._nobody if record is None else record[0].hash
        caller = STRANGER if record is None else record[1]
        known_as = hmac.digest(self._secret, b"\0".join((user.encode(), password.encode(), hash.encode())), "sha256")
        if self._known.get(known_as, 0.0) > self._clock():
            return caller
        return Login(user, password, hash, known_as, caller)

    def _key(self, token: bytes) -> Caller:
        text = token.decode("latin-1")
        parts = text.split("_", 2)
        found = self._callers.get(parts[1]) if len(parts) == 3 else None
        if found is not None and hmac.compare_digest(credentials.digest(text), found[0].sha256):
            key, caller = found
            now = time.time()
            if key.expires is None or now < key.expires.timestamp():
                self._used[parts[1]] = now
                return caller
        raise self._stranger("the key is not valid")

    def _matches(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _patience(self, seconds: float) -> None:
        if seconds > 0:
            self._noted("too early")
            wait = str(math.ceil(seconds)).encode()
            raise Refusal(429, "HR0604", "logins failed too often", headers=((b"retry-after", wait),))

    def _stranger(self, why: str) -> Refusal:
        """Only passwords that were hashed count as failures: what cannot be read and keys of 256 random bits guess at
        nothing, and a program with an expired key must not slow down the people behind the same address."""
        return Refusal(401, "HR0602", why, headers=CHALLENGES)

    def _refresh(self) -> None:
        """Reads the file again if it is another one than before; one ``stat`` where it is not."""
        try:
            found = os.stat(self.file)  # noqa: PTH116 - half the time of Path.stat, for every request
            signature = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            signature = None
        if signature == self._signature:
            return
        try:
            self._credentials = credentials.load(self.file)
            self._signature = signature
        except SettingError:
            self._credentials, self._signature = Credentials(), None  # nobody, until it can be read
            raise
        finally:
            self._users = {
                name: (user, Caller(name, frozenset(("read",)), _right(user)))
                for name, user in self._credentials.users.items()
            }
            self._callers = {
                id: (key, Caller(f"key:{id}", frozenset(key.scopes), _right(key)))
                for id, key in self._credentials.keys.items()
                if key.revoked is None
            }


def _right(who: User | Key) -> Right | None:
    return None if who.only is None else Right(who.only)
