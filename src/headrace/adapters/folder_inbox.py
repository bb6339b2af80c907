"""The embedded inbox: a folder."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headrace.adapters.inbox_names import PARTIAL, Pattern, is_hidden
from headrace.errors import OutsideError
from headrace.ports import InboxFile


class FolderInbox:
    """Files below one folder. ``*`` and ``?`` in a pattern stay within one folder, ``**`` crosses folders.

    A file counts as complete once its name is final and it has rested for ``quiet`` seconds. ``list`` waits for young
    files, at most ``quiet`` seconds in all, and leaves out those that still change. With ``done`` it counts as complete
    once a file of its name and that ending lies beside it, and not before. Symbolic links are not followed.
    """

    def __init__(
        self,
        folder: Path,
        quiet: float = 0.0,
        *,
        done: str = "",
        now: Callable[[], float] = time.time,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.folder = folder
        self.quiet = quiet
        self.done = done
        self.unfinished: tuple[str, ...] = ()
        """Names that the last ``list`` left out because they still changed."""
        self._now = now
        self._wait = wait

    def list(self, pattern: str) -> Sequence[InboxFile]:
        if not self.folder.is_dir():
            what = f"the inbox folder does not exist: {self.folder}"
            raise OutsideError("HR0407", what, help="set inbox.path, or create the folder")
        wanted = Pattern(pattern)
        if wanted.impossible:
            return []
        found = [f for f in self._files(wanted.folders, wanted.depth) if wanted.matches(f.name)]
        return sorted(self._marked(found) if self.done else self._rested(found), key=lambda f: f.name)

    def read(self, file: InboxFile) -> bytes:
        try:
            handle = os.open(self.folder / file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as opened:
                data = opened.read()
                after = os.fstat(handle)
        except FileNotFoundError:
            raise OutsideError("HR0407", f"{file.name} is no longer there", retry=True) from None
        except OSError as error:
            # A link where a file was: somebody is at work there.
            raise OutsideError("HR0407", f"{file.name}: {error.strerror}", retry=error.errno == errno.ELOOP) from None
        if (len(data), after.st_size, after.st_mtime_ns) != (file.size, file.size, file.modified):
            raise OutsideError("HR0407", f"{file.name} is still being written", retry=True)
        return data

    def _files(self, parts: Sequence[str], depth: int | None) -> Iterator[InboxFile]:
        """Regular files with final names below a folder, down to ``depth`` names below the inbox."""
        folder = self.folder
        for part in parts:
            folder /= part
            if folder.is_symlink() or is_hidden(part):
                return
        below = [folder]
        while below:
            folder = below.pop()
            try:
                entries = list(os.scandir(folder))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise OutsideError("HR0407", f"{folder}: {error.strerror}") from None
            level = len(folder.relative_to(self.folder).parts) + 1
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if depth is None or level < depth:
                        below.append(Path(entry.path))
                elif not entry.name.endswith(PARTIAL) and entry.is_file(follow_symlinks=False):
                    name = Path(entry.path).relative_to(self.folder).as_posix()
                    file = self._look(InboxFile(name, 0, 0))
                    if file is not None:
                        yield file

    def _look(self, file: InboxFile) -> InboxFile | None:
        try:
            found = os.lstat(self.folder / file.name)
        except FileNotFoundError:
            return None
        return replace(file, size=found.st_size, modified=found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def _marked(self, files: Sequence[InboxFile]) -> Sequence[InboxFile]:
        files = [f for f in files if not f.name.endswith(self.done)]
        marked = [f for f in files if os.path.lexists(self.folder / (f.name + self.done))]
        self.unfinished = tuple(sorted({f.name for f in files} - {f.name for f in marked}))
        return marked

    def _rested(self, files: Sequence[InboxFile]) -> Sequence[InboxFile]:
        """The files that have rested; waits for the others, at most ``quiet`` seconds in all."""
        started = self._now()
        rested: list[InboxFile] = []
        resting: dict[InboxFile, float] = {}
        for file in files:
            age = started - file.modified / 1e9
            if age >= self.quiet:
                rested.append(file)
            else:
                # A file from the future is as young as one of this moment: only watching it tells.
                resting[file] = self.quiet - max(age, 0.0)
        waited = 0.0
        changed: set[str] = set()
        while resting:
            due = min(resting.values())
            self._wait(due - waited)
            waited = due
            for file in [f for f, rests in resting.items() if rests <= waited]:
                del resting[file]
                seen = self._look(file)
                if seen == file:
                    rested.append(file)
                elif seen is not None:
                    changed.add(file.name)
        self.unfinished = tuple(sorted(changed))
        return rested
