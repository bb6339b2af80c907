"""The embedded inbox: a folder."""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import OutsideError
from headrace.ports import InboxFile

PARTIAL = (".part", ".partial", ".tmp", ".writing", ".filepart", ".crdownload", ".swp")
"""Endings and prefixes (``.``, ``_``, ``~``) by which tools mark a file that is still being written."""


class FolderInbox:
    """Files below one folder. A file counts as complete once its name is final and it has rested for ``quiet`` seconds."""

    def __init__(self, folder: Path, quiet: float = 0.0) -> None:
        self.folder = folder
        self.quiet = quiet

    def list(self, pattern: str) -> Sequence[InboxFile]:
        if not self.folder.is_dir():
            raise OutsideError("HR0407", f"the inbox folder does not exist: {self.folder}", help="set inbox.path, or create the folder")
        found = []
        head = pattern.split("*")[0].split("?")[0].split("[")[0]
        root = self.folder / os.path.dirname(head)
        newest = time.time_ns() - int(self.quiet * 1e9)
        for path, folders, names in os.walk(root):
            folders[:] = sorted(d for d in folders if not d.startswith((".", "_")))
            for name in names:
                full = Path(path) / name
                relative = full.relative_to(self.folder).as_posix()
                matches = fnmatch.fnmatchcase(relative, pattern) or (relative.endswith(".gz") and fnmatch.fnmatchcase(relative[:-3], pattern))
                if not matches or name.startswith((".", "_", "~")) or name.endswith(PARTIAL) or full.is_symlink():
                    continue
                stat = full.stat()
                if stat.st_mtime_ns <= newest or self.quiet == 0:
                    found.append(InboxFile(relative, stat.st_size, stat.st_mtime_ns))
        return sorted(found, key=lambda f: f.name)

    def read(self, file: InboxFile) -> bytes:
        try:
            data = (self.folder / file.name).read_bytes()
        except OSError as error:
            raise OutsideError("HR0407", f"{file.name}: {error.strerror}") from None
        if len(data) != file.size:
            raise OutsideError("HR0407", f"{file.name} is still being written", retry=True)
        return data
