"""A PostgreSQL cluster of its own: data, socket and port are the test's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.services.process import MissingError, Server, free_port, running

USER = "headrace"
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
wal_level = logical
max_wal_senders = 8
max_replication_slots = 8
max_connections = 60
shared_buffers = 64MB
"""


def binaries() -> Path:
    """The newest server that is installed: Debian keeps each version in a folder of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: float(file.parts[-3]))
    path = found[-1] if found else shutil.which("postgres")
    if not path:
        raise MissingError("no postgres: install it (Debian, Ubuntu: apt install postgresql)")
    return Path(path).parent


class Postgres(Server):
    """PostgreSQL; who comes from this machine is trusted. ``address`` is a connection string of a database of ours."""

    def __init__(self, folder: Path, port: int, **given: Any) -> None:
        super().__init__("postgres", folder, port, address=f"postgresql://{USER}@127.0.0.1:{port}/{USER}", **given)
        self.bin = binaries()
        self.data = folder / "data"

    def as_nobody(self) -> list[str]:
        """PostgreSQL does not run as root."""
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if root else []

    def start(self, *, wait: bool = True) -> None:
        if not (self.data / "PG_VERSION").exists():
            self.lay_out()
        super().start(wait=wait)

    def lay_out(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.as_nobody():
            shutil.chown(self.folder, "postgres", "postgres")
        command = [*self.as_nobody(), str(self.bin / "initdb"), "-D", str(self.data), "-U", USER, "--auth=trust"]
        command += ["--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
        settings = SETTINGS.format(port=self.port, folder=self.folder)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(settings)
        single = [*self.as_nobody(), str(self.bin / "postgres"), "--single", "-D", str(self.data), "postgres"]
        subprocess.run(
            single, check=True, capture_output=True, cwd=self.folder, input=f"CREATE DATABASE {USER}".encode()
        )

    def command(self) -> list[str]:
        return [*self.as_nobody(), str(self.bin / "postgres"), "-D", str(self.data)]

    def ready(self, log: str) -> bool:
        return "database system is ready to accept connections" in log

    def stop(self) -> None:
        """A fast shutdown: sessions are ended."""
        self.signal_parent(signal.SIGINT)
        self.reap()

    def signal_parent(self, which: signal.Signals) -> None:
        if self.alive:
            os.kill(self.pid, which)


@contextmanager
def postgres(folder: Path | None = None, *, port: int = 0) -> Iterator[Postgres]:
    """A PostgreSQL server with one empty database."""
    with running("postgres", folder, lambda place, given: Postgres(place, port or free_port(), **given)) as server:
        yield server
