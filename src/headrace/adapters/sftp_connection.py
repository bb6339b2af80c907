"""One connection to one SFTP server: kept, made anew when it breaks, and only to the server whose key is known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from headrace.errors import HeadraceError, MissingExtraError, OutOfReachError, OutsideError, SettingError

try:
    import asyncssh
except ImportError:
    raise MissingExtraError("sftp", "an SFTP inbox (inbox.url)", "asyncssh") from None

Of = TypeVar("Of")
PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each new try; a try that got further starts them over."""
KEYS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512"]
"""Kinds of keys that servers have."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and as whom to log in."""

    user: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Server:
        """Reads ``sftp://USER@HOST:PORT/PATH``; a path from ``/~/`` on is below the user's home."""
        shape = "sftp://USER@HOST:PORT/PATH; a path below the user's home begins with /~/"
        try:
            parts = urlsplit(url)
            port = parts.port or 22
        except ValueError:
            raise SettingError("HR0601", "inbox.url is not a URL", help=shape) from None
        if parts.password is not None:  # the URL is shown in places where a password must not be
            raise SettingError(
                "HR0601", "inbox.url holds a password", help="set inbox.password to env:NAME or file:PATH"
            )
        if parts.scheme != "sftp" or not parts.hostname or not parts.username or parts.query or parts.fragment:
            raise SettingError("HR0601", f"inbox.url is '{url}'", help=shape)
        path = unquote(parts.path).rstrip("/") or "/"
        if path == "/~" or path.startswith("/~/"):
            path = path[3:] or "."
        return cls(unquote(parts.username), parts.hostname, port, path)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _Client(asyncssh.SSHClient):
    """Remembers the key of a server that is not trusted, to say which it was."""

    shown = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        return False


class Connection:
    """Runs coroutines over SFTP from any thread, on a loop of its own."""

    def __init__(
        self,
        server: Server,
        *,
        host_key: str,
        key: str = "",
        passphrase: str = "",
        password: str = "",
        timeout: float = 30.0,
        pauses: Sequence[float] | None = None,
    ) -> None:
        self.server = server
        self.timeout = timeout
        self.opened = 0
        """How many connections were made."""
        self._pauses = PAUSES if pauses is None else pauses
        self._trusted = self._trust(host_key)
        self._key = self._private(key, passphrase)
        self._password = password or None
        if self._key is None and self._password is None:
            raise SettingError(
                "HR0601",
                f"nothing to log in with at {server}: inbox.key and inbox.password are empty",
                help="inbox.key = file:PATH, or inbox.password = env:NAME",
            )
        self._one = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sftp: asyncssh.SFTPClient | None = None

    def run(
        self, work: Callable[[asyncssh.SFTPClient], Coroutine[Any, Any, Of]], reached: Callable[[], int] = lambda: 0
    ) -> Of:
        """What ``work`` gives; it is called again, over a new connection, where the old one breaks.

        ``reached`` tells how far it has come, so that a long transfer over a bad line goes on as long as it gets on.
        Raises OutOfReachError; errors of the server about files come through as they are.
        """
        with self._one:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="headrace-sftp", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(self._tries(work, reached), self._loop)
            try:
                return future.result()
            except BaseException:
                future.cancel()
                raise

    def close(self) -> None:
        with self._one:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        if (
            thread is threading.current_thread()
        ):  # where the last reference to an inbox went away: it cannot wait for itself
            loop.create_task(self._drop()).add_done_callback(lambda _: loop.stop())
            return
        asyncio.run_coroutine_threadsafe(self._drop(), loop).result(self.timeout)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    async def _tries(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Of]], reached: Callable[[], int]) -> Of:
        tries, furthest = 0, reached()
        while True:
            try:
                return await work(await self._session())
            except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, OSError, asyncssh.Error) as error:
                if isinstance(error, HeadraceError):
                    raise
                lost = isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection)
                if isinstance(error, asyncssh.SFTPError) and not lost:
                    raise
                await self._drop()
                if reached() > furthest:
                    tries, furthest = 0, reached()
                if tries == len(self._pauses):
                    raise self._out_of_reach(error, tries + 1) from None
                await asyncio.sleep(self._pauses[tries])
                tries += 1

    async def _session(self) -> asyncssh.SFTPClient:
        if self._sftp is not None and self._connection is not None and not self._connection.is_closed():
            return self._sftp
        await self._drop()
        client = _Client()
        try:
            async with asyncio.timeout(self.timeout):
                self._connection, _ = await asyncssh.create_connection(
                    lambda: client,
                    self.server.host,
                    self.server.port,
                    username=self.server.user,
                    known_hosts=([self._trusted], [], []),
                    # First the kind that is trusted, of a server's several keys; the rest, so that it can be said
                    # which other key a wrong server showed.
                    server_host_key_algs=[a.decode() for a in self._trusted.sig_algorithms] + KEYS,
                    client_keys=None if self._key is None else [self._key],
                    password=self._password,
                    # Half as fast again as asyncssh's first choice, as it is one call a packet; the others follow.
                    encryption_algs="^aes128-gcm@openssh.com",
                    # Only what is in the project's settings: nothing from ~/.ssh, no agent, no other ways to log in.
                    config=[],
                    agent_path=None,
                    gss_host=None,
                    x509_trusted_certs=None,
                    preferred_auth="publickey,password",
                    keepalive_interval=self.timeout / 2,
                    keepalive_count_max=2,
                    connect_timeout=self.timeout,
                    login_timeout=self.timeout,
                )
                self._sftp = await self._connection.start_sftp_client()
        except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
            raise OutsideError(
                "HR0422",
                f"{self.server} is not the server whose key is inbox.host_key: "
                + (f"it showed {client.shown}" if client.shown else str(error)),
                help="ask its operator for its key of today and compare, before you trust it",
            ) from None
        except asyncssh.PermissionDenied:
            used = " and ".join(n for n, given in (("key", self._key), ("password", self._password)) if given)
            raise OutsideError(
                "HR0423",
                f"{self.server} refused user {self.server.user} with this {used}",
                help="look at the user in inbox.url, and at inbox.key or inbox.password",
            ) from None
        self.opened += 1
        return self._sftp

    async def _drop(self) -> None:
        """Ends the connection without waiting for the other side, which may be gone."""
        connection, self._connection, self._sftp = self._connection, None, None
        if connection is not None:
            connection.abort()
            await connection.wait_closed()

    def _out_of_reach(self, error: BaseException, tries: int) -> OutOfReachError:
        said = f"no answer within {self.timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        return OutOfReachError(
            "HR0421",
            f"the inbox at {self.server} is out of reach: {said or type(error).__name__} ({tries} tries)",
            retry=True,
            help=f"look at inbox.url; by hand: sftp -P {self.server.port} {self.server.user}@{self.server.host}",
        )

    def _trust(self, text: str) -> asyncssh.SSHKey:
        help = (
            f"ssh-keyscan -t ed25519 -p {self.server.port} {self.server.host} shows it without the host's name in front;"
            " compare it with what the server's operator tells you"
        )
        if not text:
            raise SettingError("HR0601", f"inbox.host_key is empty: the key of {self.server} must be known", help=help)
        try:
            return asyncssh.import_public_key(text.strip())
        except asyncssh.KeyImportError:
            raise SettingError(
                "HR0601", f"inbox.host_key is '{text}'", help=f"as ssh-ed25519 AAAA...; {help}"
            ) from None

    def _private(self, text: str, passphrase: str) -> asyncssh.SSHKey | None:
        if not text:
            return None
        try:
            return asyncssh.import_private_key(text.strip() + "\n", passphrase or None)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:  # their texts hold nothing of the key
            raise SettingError(
                "HR0601", f"inbox.key is not a private key that can be used: {error}", help="inbox.key = file:PATH"
            ) from None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
