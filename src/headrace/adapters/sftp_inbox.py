"""An inbox on an SFTP server."""

from __future__ import annotations

import asyncio
import collections
import io
import math
import stat
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, cast

from headrace.adapters.inbox_names import PARTIAL, Pattern, is_hidden
from headrace.adapters.sftp_connection import Connection, Server
from headrace.errors import OutsideError
from headrace.ports import InboxFile

import asyncssh  # isort: skip - after what says how to install it

SKEW = 3600.0
"""Seconds by which the server's clock may be wrong: only files older than this are taken as rested without a look."""
BLOCK = 256 * 1024
IN_FLIGHT = 32
"""Requests on their way at once, which hides the line's delay; with BLOCK, memory beside the file itself."""
LONGEST = 1024
"""Bytes of the longest name that is read, folders included."""
DEEPEST = 32
"""Folders within folders; a server may list a folder within itself."""


class SftpInbox:
    """Files below one folder of an SFTP server, which is not trusted: neither its names nor its sizes.

    A file counts as complete once it was seen with the same size and time ``quiet`` seconds apart; with ``done``, once a
    file of its name and that ending lies beside it. The server is asked at most every ``poll`` seconds. Files are read whole, so none above ``max_file`` bytes. A download
    that breaks goes on where it was. Symbolic links are not followed.
    """

    def __init__(
        self,
        *,
        url: str,
        host_key: str,
        key: str = "",
        passphrase: str = "",
        password: str = "",
        quiet: float = 0.0,
        done: str = "",
        poll: float = 0.0,
        timeout: float = 30.0,
        max_file: int = 10**9,
        pauses: Sequence[float] | None = None,
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = Server.of(url)
        self.connection = Connection(
            self.server,
            host_key=host_key,
            key=key,
            passphrase=passphrase,
            password=password,
            timeout=timeout,
            pauses=pauses,
        )
        self.quiet = quiet
        self.done = done
        self.poll = poll
        self.max_file = max_file
        self.unfinished: tuple[str, ...] = ()
        """Names that the last ``list`` left out because they still changed, or had no marker."""
        self._now = now
        self._wait = wait
        self._listed: dict[str, tuple[float, Sequence[InboxFile], tuple[str, ...]]] = {}
        self._seen: dict[str, dict[InboxFile, float]] = {}  # by pattern: when each young file was first seen so
        weakref.finalize(self, self.connection.close)

    def list(self, pattern: str) -> Sequence[InboxFile]:
        wanted = Pattern(pattern)
        if wanted.impossible:
            return []
        since, complete, self.unfinished = self._listed.get(pattern, (-math.inf, (), ()))
        if not 0 <= self._now() - since < self.poll:
            complete = sorted(self._complete(wanted, pattern), key=lambda f: f.name)
            self._listed[pattern] = (self._now(), complete, self.unfinished)
        return complete

    def _complete(self, wanted: Pattern, pattern: str) -> Sequence[InboxFile]:
        every = self._walk(wanted)
        found = {name: file for name, file in every.items() if wanted.matches(name)}
        if self.done:
            found = {name: file for name, file in found.items() if not name.endswith(self.done)}
            self.unfinished = tuple(sorted(name for name in found if name + self.done not in every))
            return [file for name, file in found.items() if name + self.done in every]
        return self._rested(wanted, pattern, list(found.values()))

    def read(self, file: InboxFile) -> bytes:
        if file.size > self.max_file:
            raise OutsideError(
                "HR0407",
                f"{file.name} has {file.size:,} bytes, and files are read whole",
                help=f"raise inbox.max_file ({self.max_file:,} bytes), or have it sent in parts",
            )
        data = io.BytesIO()
        path = self._path(file.name)

        async def fetch(sftp: asyncssh.SFTPClient) -> None:
            async with asyncio.timeout(self.connection.timeout) as limit:
                # A link put where the file was is not followed, and a download goes on only in the file that it began.
                # What need not wait for an answer is asked at once: small files cost round trips, not bytes.
                look, opened = await asyncio.gather(
                    sftp.lstat(path), sftp.open(path, "rb", block_size=0), return_exceptions=True
                )
                if isinstance(opened, BaseException):
                    raise opened
                async with opened:
                    if isinstance(look, BaseException):
                        raise look
                    if _file(file.name, look) != file:
                        raise _still_written(file)
                    await _copy(opened, data, file.size, lambda: _extend(limit, self.connection.timeout))
                    if _file(file.name, await opened.stat()) != file or data.tell() != file.size:
                        raise _still_written(file)

        try:
            self.connection.run(fetch, data.tell)
        except asyncssh.SFTPNoSuchFile:
            raise OutsideError("HR0407", f"{file.name} is no longer there", retry=True) from None
        except asyncssh.SFTPError as error:
            raise OutsideError("HR0407", f"{file.name}: {_said(error)}") from None
        return data.getvalue()  # without a copy: nothing else holds the buffer

    def _rested(self, wanted: Pattern, pattern: str, files: Sequence[InboxFile]) -> Sequence[InboxFile]:
        """The files that have rested; watches the others, for at most ``quiet`` seconds in all."""
        now = self._now()
        before = self._seen.get(pattern, {})
        # The server's clock is not ours: what may be young is watched by ours, from when it was first seen as it is.
        seen = {f: before.get(f, now) for f in files if now - f.modified / 1e9 < self.quiet + SKEW}
        young = [f for f, since in seen.items() if now - since < self.quiet]
        changed: set[str] = set()
        if young:
            self._wait(self.quiet - (now - max(seen[f] for f in young)))
            again = self._walk(wanted)
            changed = {f.name for f in young if f.name in again and again[f.name] != f}
            young = [f for f in young if again.get(f.name) != f]
        self._seen[pattern] = {f: since for f, since in seen.items() if f not in young}
        self.unfinished = tuple(sorted(changed))
        return [f for f in files if f not in set(young)]

    def _walk(self, wanted: Pattern) -> dict[str, InboxFile]:
        """Regular files with final names below the folders of a pattern, by name."""

        async def walk(sftp: asyncssh.SFTPClient) -> dict[str, InboxFile]:
            found: dict[str, InboxFile] = {}
            async with asyncio.timeout(self.connection.timeout) as limit:
                root = await sftp.lstat(self._path(""))
                if stat.S_ISLNK(root.permissions or 0):  # the folder itself is the user's choice
                    root = await sftp.stat(self._path(""))
                if not stat.S_ISDIR(root.permissions or stat.S_IFDIR):
                    raise asyncssh.SFTPNotADirectory("not a folder")
                below = ""
                for part in wanted.folders:
                    below += f"{part}/"
                    if is_hidden(part) or not await _is_folder(sftp, self._path(below[:-1])):
                        return {}
                waiting = [below]
                while waiting:
                    below = waiting.pop()
                    level = below.count("/") + 1
                    try:
                        async for entry in sftp.scandir(self._path(below[:-1])):
                            _extend(limit, self.connection.timeout)
                            name = _safe(entry.filename, below)
                            if name is None:
                                continue
                            mode = entry.attrs.permissions
                            if mode is None or entry.attrs.size is None or entry.attrs.mtime is None:
                                entry.attrs = await sftp.lstat(self._path(name))
                                mode = entry.attrs.permissions or 0
                            if stat.S_ISDIR(mode):
                                if level < (wanted.depth or DEEPEST):
                                    waiting.append(f"{name}/")
                            elif not name.endswith(PARTIAL) and (file := _file(name, entry.attrs)):
                                found[name] = file
                    except asyncssh.SFTPNoSuchFile:
                        continue  # gone since its own folder was listed
            return found

        try:
            return self.connection.run(walk)
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNotADirectory):
            what = f"the inbox folder does not exist: {self.server.path} at {self.server}"
            raise OutsideError("HR0407", what, help="set the path of inbox.url, or create the folder") from None
        except asyncssh.SFTPError as error:
            raise OutsideError("HR0407", f"{self.server.path} at {self.server}: {_said(error)}") from None

    def _path(self, name: str) -> bytes:
        return (f"{self.server.path.rstrip('/')}/{name}" if name else self.server.path).encode()


async def _is_folder(sftp: asyncssh.SFTPClient, path: bytes) -> bool:
    try:
        return stat.S_ISDIR((await sftp.lstat(path)).permissions or 0)
    except asyncssh.SFTPNoSuchFile:
        return False


async def _copy(opened: asyncssh.SFTPClientFile, data: io.BytesIO, size: int, arrived: Callable[[], None]) -> None:
    """Appends what is missing of the first ``size`` bytes; ``data`` holds, at any moment, an unbroken beginning."""

    async def block(start: int, end: int) -> bytes:
        got = b""
        while start + len(got) < end:  # a server may give less than it was asked for
            more = cast("bytes", await opened.read(end - start - len(got), start + len(got)))
            if not more:
                break
            got += more
        return got

    pending: collections.deque[asyncio.Task[bytes]] = collections.deque()
    at = data.tell()
    try:
        while at < size or pending:
            while at < size and len(pending) < IN_FLIGHT:
                pending.append(asyncio.create_task(block(at, min(at + BLOCK, size))))
                at = min(at + BLOCK, size)
            expected = min(BLOCK, size - data.tell())
            got = await pending[0]
            pending.popleft()
            data.write(got)
            arrived()
            if len(got) < expected:
                return  # shorter than it was listed
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _extend(limit: asyncio.Timeout, seconds: float) -> None:
    """It said something: the time for its next word begins anew."""
    limit.reschedule(asyncio.get_running_loop().time() + seconds)


def _safe(name: bytes | str, folder: str) -> str | None:
    """The name below the inbox of what a server lists, or None where it is not one to be read."""
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    if text in {"", ".", ".."} or "/" in text or is_hidden(text):
        return None
    whole = folder + text
    return whole if len(whole.encode()) <= LONGEST else None


def _file(name: str, attrs: Any) -> InboxFile | None:
    if not stat.S_ISREG(attrs.permissions or 0) or attrs.size is None or attrs.mtime is None:
        return None
    return InboxFile(name, attrs.size, attrs.mtime * 1_000_000_000 + (attrs.mtime_ns or 0))


def _still_written(file: InboxFile) -> OutsideError:
    return OutsideError("HR0407", f"{file.name} is still being written", retry=True)


def _said(error: asyncssh.SFTPError) -> str:
    """The server's words, without what a terminal would act on."""
    return "".join(c if c.isprintable() else "?" for c in error.reason)[:300] or type(error).__name__
