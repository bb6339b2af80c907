"""Which names of an inbox are read, whatever holds the files."""

from __future__ import annotations

import re
from collections.abc import Sequence

PARTIAL = (".part", ".partial", ".tmp", ".writing", ".filepart", ".crdownload", ".swp")
"""Endings by which tools mark a file that is still being written, as they do by a first ``.``, ``_`` or ``~``."""

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, ends of lines, and bytes of a name that are no text."""


class Pattern:
    """``*`` and ``?`` stay within one folder, ``**`` crosses folders; ``.gz`` may follow."""

    def __init__(self, pattern: str) -> None:
        parts = pattern.split("/")
        self.impossible = "" in parts or ".." in parts
        """No file inside an inbox has such a name."""
        self.depth = None if any("**" in part for part in parts) else len(parts)
        """How many names below the inbox a file can be; None: any number."""
        fixed = next((i for i, part in enumerate(parts[:-1]) if re.search(r"[*?\[]", part)), len(parts) - 1)
        self.folders: Sequence[str] = parts[:fixed]
        """The folders that every match is in."""
        self._wanted = re.compile(_translated(pattern) + r"(?:\.gz)?", re.DOTALL)

    def matches(self, name: str) -> bool:
        return self._wanted.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Names that are not final, or that no line of a report can show."""
    return name.startswith((".", "_", "~")) or UNPRINTABLE.search(name) is not None


def _translated(pattern: str) -> str:
    """A pattern as a regular expression over names with ``/``."""
    made = ""
    at = 0
    while at < len(pattern):
        found = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]/]*\]").match(pattern, at)
        if found is None:
            made += re.escape(pattern[at])
            at += 1
            continue
        part, at = found[0], found.end()
        if part == "**/":
            made += "(?:[^/]+/)*"
        elif part.startswith("**"):
            made += ".*"
        elif part.startswith("["):
            inside = part[1:-1].replace("\\", "\\\\")
            made += f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside.replace('^', chr(92) + '^', 1)}]"
        else:
            made += "[^/]*" if part == "*" else "[^/]"
    return made
