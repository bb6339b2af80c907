"""The file of users and keys: hashes and limits, readable by its owner only, replaced as a whole."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import re
import secrets
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import argon2
import msgspec

from headrace.errors import NotFoundError, SettingError, nearest

USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}\Z")
SCOPES = ("read", "metrics")
SHORTEST, LONGEST = 8, 1024
"""Characters of a password. The upper bound keeps one login from hashing megabytes."""

HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""Argon2id at the least that OWASP recommends: 19 MiB and about 70 ms of one core a login."""


Only = Mapping[str, tuple[str, ...]]
"""By parameter, the values that somebody may ask about, and about nothing else."""


# What a file says that is not known here may be a limit: such a file is refused, not read without it.


class User(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One user; ``hash`` is Argon2id in PHC notation. ``only`` is None for who may ask about everything."""

    hash: str
    created: dt.datetime
    only: Only | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key; ``sha256`` is that of the whole token, which has 256 random bits and so needs no slow hash."""

    name: str
    sha256: str
    scopes: tuple[str, ...]
    created: dt.datetime
    expires: dt.datetime | None = None
    revoked: dt.datetime | None = None
    only: Only | None = None

    def valid(self, now: dt.datetime) -> bool:
        return self.revoked is None and (self.expires is None or now < self.expires)


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All users by name and all keys by id."""

    users: dict[str, User] = {}
    keys: dict[str, Key] = {}

    @property
    def empty(self) -> bool:
        """Whether nobody could log in."""
        now = dt.datetime.now(dt.UTC)
        live = [key for key in self.keys.values() if key.revoked is None and (key.expires is None or key.expires > now)]
        return not self.users and not live


_ENCODER = msgspec.json.Encoder(order="sorted")
_DECODER = msgspec.json.Decoder(Credentials)


def load(file: Path) -> Credentials:
    """Reads the file; nobody where there is none. Raises SettingError HR0601 where others may read it, or it is damaged."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingError(
                    "HR0601", f"{file} is open to others (mode {stat.S_IMODE(mode):o})", help=f"chmod 600 {file}"
                )
            return _DECODER.decode(opened.read())
    except FileNotFoundError:
        return Credentials()
    except msgspec.DecodeError:
        # The message of the decoder may quote what it read.
        raise SettingError(
            "HR0601", f"{file} is not a file of users", help="restore it, or remove it and add the users again"
        ) from None


def add_user(file: Path, name: str, password: str | None = None, only: Only | None = None) -> str:
    """Adds a user or changes its password, and returns the password: a random one where none is given.

    A user who is there already keeps the limits that there are, unless ``only`` gives others: nothing but ``remove_user``
    takes them away. Raises SettingError HR0601 for a name, a password or a limit that cannot be.
    """
    if not USER_NAME.match(name):
        raise SettingError(
            "HR0601", f"'{name[:80]}' is not a user name", help="letters, digits and . _ @ -, at most 64"
        )
    password = secrets.token_urlsafe(18) if password is None else normal(password)
    if not SHORTEST <= len(password) <= LONGEST:
        raise SettingError(
            "HR0601", f"a password has {SHORTEST} to {LONGEST} characters", help="leave it out to have one made"
        )
    hash, only = HASHER.hash(password), _limits(only)
    with _changing(file) as known:
        if only is None and name in known.users:
            only = known.users[name].only
        known.users[name] = User(hash=hash, created=now(), only=only)
    return password


def remove_user(file: Path, name: str) -> None:
    """Removes a user; raises NotFoundError HR0602."""
    with _changing(file) as known:
        if known.users.pop(name, None) is None:
            raise NotFoundError(
                "HR0602", f"no user '{name}'", help=nearest(name, known.users) if known.users else "there are none"
            )


def create_key(
    file: Path,
    name: str,
    scopes: tuple[str, ...] = ("read",),
    expires: dt.timedelta | None = None,
    only: Only | None = None,
) -> str:
    """Makes a key and returns its token, which is kept nowhere; raises SettingError HR0601."""
    if not KEY_NAME.match(name):
        raise SettingError(
            "HR0601", f"'{name[:80]}' is not a name for a key", help="letters, digits, spaces and . _ @ -, at most 64"
        )
    for scope in scopes:
        if scope not in SCOPES:
            raise SettingError("HR0601", f"no scope '{scope}'", help=nearest(scope, SCOPES))
    only = _limits(only)
    if only is not None and "metrics" in scopes:
        raise SettingError(
            "HR0601", "a key with limits cannot have the scope 'metrics', which tells of all", help="another key"
        )
    id = secrets.token_hex(6)
    token = f"hr_{id}_{secrets.token_urlsafe(32)}"
    made = now()
    until = made + expires if expires else None
    key = Key(name=name, sha256=digest(token), scopes=scopes, created=made, expires=until, only=only)
    with _changing(file) as known:
        known.keys[id] = key
    return token


def revoke_key(file: Path, id: str) -> None:
    """Ends a key at once; raises NotFoundError HR0602. Revoking twice is harmless."""
    with _changing(file) as known:
        key = known.keys.get(id)
        if key is None:
            raise NotFoundError(
                "HR0602", f"no key '{id}'", help=nearest(id, known.keys) if known.keys else "there are none"
            )
        if key.revoked is None:
            known.keys[id] = msgspec.structs.replace(key, revoked=now())


def _limits(only: Only | None) -> Only | None:
    """Limits as they are kept. Raises SettingError HR0601 for a value that nobody could ask about."""
    if only is None:
        return None
    for name, values in only.items():
        if not values or not all(value == value.strip() and value.isprintable() and value for value in values):
            raise SettingError(
                "HR0601",
                f"'{name}' is limited to a value that cannot be",
                help="texts with commas, and no spaces around them",
            )
    return {name: tuple(sorted(set(values))) for name, values in only.items()}


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def normal(password: str) -> str:
    """One spelling of a password, however a keyboard composed its letters (RFC 8265)."""
    return password if password.isascii() else unicodedata.normalize("NFC", password)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


# When a key was last used is kept apart, so that noting it does not touch the file of secrets.


def uses_file(file: Path) -> Path:
    return file.with_name(file.stem + "-used.json")


def load_uses(file: Path) -> dict[str, str]:
    """When each key was last used, RFC 3339, to the minute or so; empty where it is not known."""
    try:
        return msgspec.json.decode(uses_file(file).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def save_uses(file: Path, uses: dict[str, str]) -> None:
    known = load_uses(file)
    newer = {id: max(at, known.get(id, "")) for id, at in uses.items()}
    _replace(uses_file(file), msgspec.json.encode(known | newer))


@contextlib.contextmanager
def _changing(file: Path) -> Iterator[Credentials]:
    """The credentials, written back whole when the block ends well. One process at a time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.with_name(file.name + ".lock")):
        known = load(file)
        yield known
        _replace(file, _ENCODER.encode(known))


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as opened:
        try:
            import fcntl  # noqa: PLC0415 - not on Windows, where the last of two simultaneous changes stands
        except ImportError:
            pass
        else:
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _replace(file: Path, data: bytes) -> None:
    """Writes the file whole: readers see the old one or the new one. mkstemp makes it 0600 from the start."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(name, file)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
