"""Files delivered onto an SFTP server."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from headrace.adapters.sftp_connection import Connection, Server
from headrace.errors import OutsideError

import asyncssh  # isort: skip - after what says how to install it


class SftpDrop:
    """Files below one folder of a server. A file is sent under a name that no inbox reads, and renamed; where ``done`` is
    set, its marker follows."""

    def __init__(self, *, url: str, done: str = "", **login: Any) -> None:
        """``login`` is what ``Connection`` takes."""
        self._server = Server.of(url)
        self._connection = Connection(self._server, **login)
        self._done = done

    def put(self, path: str, file: Path) -> None:
        target = posixpath.join(self._server.path, path)
        half = posixpath.join(posixpath.dirname(target), f".{posixpath.basename(target)}.part")
        data = file.read_bytes()

        async def send(sftp: asyncssh.SFTPClient) -> None:
            await sftp.makedirs(posixpath.dirname(target), exist_ok=True)
            async with sftp.open(half, "wb") as open_file:
                await open_file.write(data)
            await sftp.posix_rename(half, target)
            if self._done:
                async with sftp.open(target + self._done, "wb"):
                    pass

        try:
            self._connection.run(send)
        except asyncssh.SFTPError as error:
            raise OutsideError(
                "HR0407", f"{self._server} does not take {path}: {error.reason}", help="may the user write there?"
            ) from None

    def close(self) -> None:
        self._connection.close()
