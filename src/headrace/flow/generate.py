"""gen: sample data into a folder, onto an SFTP server, into topics, or several of them; what is there is not sent again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.flow.land import produce
from headrace.flow.samples import Target
from headrace.model.project import LoadedProject
from headrace.ports import Drop, Engine, Inbox, Log, Observer


class Noted:
    """A target that goes on where it was interrupted: what it has taken is noted in ``ledger``, after it is there.

    A file that was taken and not noted is taken again; its bytes are the same ones, and a topic knows them by its end.
    """

    def __init__(self, target: Target, ledger: Path, *, flushed: bool = False) -> None:
        """``flushed``: what is noted outlives the machine, too."""
        self._target = target
        self._flushed = flushed
        self._ledger = ledger
        ledger.parent.mkdir(parents=True, exist_ok=True)
        lines = ledger.read_text("utf-8").splitlines(keepends=True) if ledger.exists() else []
        self._done = {line.rstrip("\n") for line in lines if line.endswith("\n")}  # the last one may be half written
        ledger.write_text("".join(f"{path}\n" for path in sorted(self._done)), "utf-8")

    def has(self, path: str) -> bool:
        return path in self._done

    def take(self, path: str, file: Path) -> None:
        self._target.take(path, file)
        with self._ledger.open("a", encoding="utf-8") as ledger:
            ledger.write(f"{path}\n")
            ledger.flush()
            if self._flushed:
                os.fsync(ledger.fileno())
        self._done.add(path)


class Several:
    """Targets that each get every file that they do not have; they count what is made."""

    def __init__(self, targets: Sequence[Target], observer: Observer) -> None:
        self._targets = targets
        self._observer = observer
        self.counts = {"files": 0, "there already": 0}

    def has(self, path: str) -> bool:
        there = all(target.has(path) for target in self._targets)
        self.counts["there already"] += there
        return there

    def take(self, path: str, file: Path) -> None:
        *others, last = [target for target in self._targets if not target.has(path)]
        for n, target in enumerate(others):
            copy = file.with_name(f"{file.name}.{n}")
            try:
                shutil.copyfile(file, copy)
                target.take(path, copy)
            finally:
                copy.unlink(missing_ok=True)
        last.take(path, file)
        self.counts["files"] += 1
        self._observer.advance(1)


class Server:
    """Files onto a server."""

    def __init__(self, drop: Drop) -> None:
        self._drop = drop

    def has(self, path: str) -> bool:
        return False

    def take(self, path: str, file: Path) -> None:
        self._drop.put(path, file)


class Topics:
    """Records of facts into their sources' topics, each once; other files (references) go ``elsewhere``."""

    def __init__(
        self, project: LoadedProject, log: Log, engine: Engine, observer: Observer, elsewhere: Target, place: Path,
        inbox: Callable[[Path], Inbox],
    ) -> None:  # fmt: skip
        self._facts = [source for source in project.sources.values() if source.role == "fact"]
        self._log = log
        self._engine = engine
        self._observer = observer
        self._elsewhere = elsewhere
        self._place = place
        self._inbox = inbox

    def has(self, path: str) -> bool:
        return False

    def take(self, path: str, file: Path) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        alone = self._place / path
        alone.parent.mkdir(parents=True)
        file.replace(alone)
        inbox = self._inbox(self._place)
        found = [source for source in self._facts if inbox.list(source.format.pattern)]
        for source in found:
            produce(source, inbox, self._log, self._engine, self._observer)
        if not found:
            self._elsewhere.take(path, alone)


def ledger_name(folder: Path, what: str, scale: float, seed: int, target: str) -> str:
    """Names what is made and where it goes: another scale, seed, target or generator begins anew."""
    said = [what, repr(scale), str(seed), target, *(file.read_text("utf-8") for file in sorted(folder.glob("*.py")))]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
