"""Servers as processes: started, killed, paused and healed at will, each with a record on disk.

The record is written as a server starts: so `down` finds what any `up` started, and what a killed program left behind is
ended by whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096  # Windows only imports this


class ServiceError(Exception):
    """A server cannot be started here; the text says why and what would help."""


class MissingError(ServiceError):
    """A program that the server needs is not on this machine."""


def home() -> Path:
    """Where downloads and records are kept."""
    return Path(os.environ.get("HEADRACE_SERVICES") or "~/.cache/headrace/services").expanduser()


@dataclass(frozen=True)
class Process:
    parent: int
    memory: int  # in bytes
    born: str  # when it started: tells it from a later one of the same number


def processes() -> dict[int, Process]:
    """What runs on this machine, by number."""
    found = {}
    if not Path("/proc/self/stat").exists():
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,rss=,lstart="], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            pid, parent, memory, *when = line.split()
            found[int(pid)] = Process(int(parent), int(memory) * 1024, " ".join(when))
        return found
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state = file.read_text("utf-8", "replace").rpartition(")")[2].split()
            if state[0] not in {"Z", "X"}:  # ended, and not yet asked about
                found[int(file.parent.name)] = Process(int(state[1]), int(state[21]) * PAGE, state[19])
    return found


def born(pid: int) -> str:
    """When a process started; empty where there is none."""
    process = processes().get(pid)
    return process.born if process else ""


def family(pid: int) -> dict[int, Process]:
    """A process and all that it started, the eldest first."""
    every = processes()
    found = {pid: every[pid]} if pid in every else {}
    waiting = list(found)
    while waiting:
        parent = waiting.pop(0)
        children = {child: process for child, process in every.items() if process.parent == parent}
        found |= children
        waiting += children
    return found


def send(pid: int, which: signal.Signals) -> None:
    """Signals a process and its children: sshd's sessions outlive a sshd that is killed."""
    for one in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, which)


@dataclass
class Record:
    """What is known of a running server; ``owner`` is the process that it must not outlive, 0 for none, and ``scrap`` a
    folder that goes with it."""

    name: str
    address: str
    folder: str
    scrap: str = ""
    pid: int = 0
    born: str = ""
    owner: int = 0
    owner_born: str = ""

    @property
    def file(self) -> Path:
        return home() / "running" / f"{self.name}{f'-{self.owner}-{Path(self.folder).name}' if self.owner else ''}.json"

    @property
    def alive(self) -> bool:
        return bool(self.pid and self.born and born(self.pid) == self.born)

    @property
    def left_over(self) -> bool:
        return bool(self.owner) and born(self.owner) != self.owner_born

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(asdict(self)), "utf-8")
        new.replace(self.file)


FIELDS = {field.name for field in fields(Record)}  # a record may be of another version of this file


def records() -> list[Record]:
    found = []
    for file in sorted((home() / "running").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # another process may be taking it away
            known = {key: value for key, value in json.loads(file.read_text("utf-8")).items() if key in FIELDS}
            found.append(Record(**known))
    return found


def of(name: str) -> list[Record]:
    """Records of a service that some `up` started."""
    return [r for r in records() if not r.owner and r.name.split("-")[0] == name]


def end(running: Sequence[Record], patience: float = 15.0) -> None:
    """Ends servers, all at once: asks, waits, kills; then takes away their records and temporary folders."""
    alive = [r for r in running if r.alive]
    for record in alive:
        send(record.pid, signal.SIGCONT)
        send(record.pid, signal.SIGTERM)
    until = time.monotonic() + patience
    while any(r.alive for r in alive) and time.monotonic() < until:
        time.sleep(0.02)
    for record in [r for r in alive if r.alive]:
        send(record.pid, signal.SIGKILL)
    for record in running:
        record.file.unlink(missing_ok=True)
        if record.scrap:
            shutil.rmtree(record.scrap, ignore_errors=True)


def sweep() -> None:
    """Ends servers whose owner was killed before it could."""
    end([r for r in records() if r.left_over], patience=0)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    import fcntl

    home().mkdir(parents=True, exist_ok=True)
    with (home() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A port that is free, and below those which the system gives to clients, so that it is still free at a restart."""
    for _ in range(1000):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError("no free port between 15000 and 32000")


class Server:
    """One process: started, killed, paused and resumed at will, always with the same port and data."""

    def __init__(self, name: str, folder: Path, port: int, *, address: str, owner: int, scrap: str) -> None:
        self.folder = folder
        self.port = port
        self.address = address
        self.record = Record(name, address, str(folder), scrap, owner=owner, owner_born=born(owner) if owner else "")
        self.started: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self, log: str) -> bool:
        """Whether it serves, told from its log of this start."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def alive(self) -> bool:
        return self.record.alive

    def start(self, *, wait: bool = True) -> None:
        """Starts the server, unless it runs, and returns once it serves."""
        if not self.alive:
            self.reap()  # it may have ended by itself: then the log says why
            if self.log.exists():
                self.log.replace(self.folder / "log.before")
            with self.log.open("wb") as log:
                self.started = subprocess.Popen(
                    self.command(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C at the starter is not for the server
                )
            self.record.pid = self.started.pid
            self.record.born = born(self.started.pid)
            self.record.write()
        if wait:
            self.wait()

    def wait(self, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not self.ready(self.log.read_text("utf-8", "replace")):
            if self.started is not None and self.started.poll() is not None:
                raise ServiceError(f"{self.record.name} ended at once: {self.tail()}")
            if time.monotonic() > until:
                raise ServiceError(f"{self.record.name} does not serve after {seconds:.0f} s: {self.tail()}")
            time.sleep(0.02)

    def tail(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])

    def signal(self, which: signal.Signals) -> None:
        if self.alive:
            send(self.pid, which)

    def kill(self) -> None:
        """Ends it as a power cut would: SIGKILL, with all its sessions."""
        self.signal(signal.SIGKILL)
        self.reap()

    def stop(self) -> None:
        """Asks it to end, and returns once it has."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self.reap()

    def reap(self) -> None:
        if self.started is not None:
            try:
                self.started.wait(20)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.started.wait(20)

    def pause(self) -> None:
        """Stops it without closing its connections, as a host that hangs."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def heal(self) -> None:
        """Running and not paused, whatever was done to it."""
        self.resume()
        self.start()

    def close(self) -> None:
        end([self.record])
        self.reap()


class Several:
    """Servers that serve together; ``address`` names them all."""

    def __init__(self, members: Sequence[Any]) -> None:
        self.members = list(members)
        self.address = ",".join(one.address for one in members)

    def start(self) -> None:
        for one in self.members:
            one.start(wait=False)
        for one in self.members:
            one.wait()

    def heal(self) -> None:
        for one in self.members:
            one.resume()
        self.start()

    def close(self) -> None:
        end([one.record for one in self.members])
        for one in self.members:
            one.reap()


class Startable(Protocol):
    """A server, or several."""

    def start(self) -> None: ...

    def close(self) -> None: ...


def new_folder(folder: Path | None, name: str) -> tuple[Path, str]:
    """A folder for data, and it again where it is to go with the server."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve(), ""
    made = Path(tempfile.mkdtemp(prefix=f"headrace-{name}-"))
    made.chmod(0o755)  # an SFTP user goes through it
    return made, str(made)


@contextmanager
def running(name: str, folder: Path | None, make: Callable[[Path, dict[str, Any]], Startable]) -> Iterator[Any]:
    sweep()
    place, scrap = new_folder(folder, name)
    server = None
    try:
        server = make(place, {"owner": os.getpid(), "scrap": scrap})
        server.start()
        yield server
    finally:
        if server is not None:
            server.close()
        if scrap:  # also where no server came to be
            shutil.rmtree(scrap, ignore_errors=True)
