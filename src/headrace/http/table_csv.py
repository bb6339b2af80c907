"""Rows as a CSV file that people will open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

NUMBER = re.compile(r"-?\d+(\.\d+)?\Z")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the start of a formula; the last four are the first four in full width."""


def written(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """RFC 4180 with a byte order mark, by which Excel knows UTF-8. NULL is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([harmless(c) for c in columns])
    writer.writerows([[harmless(cell_text(v)) for v in row] for row in rows])
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def harmless(cell: str) -> str:
    """A cell that no spreadsheet runs (CWE-1236). Quoting is not enough, so it gets an apostrophe; numbers stay numbers."""
    if cell.lstrip(" ").startswith(FORMULA) and not NUMBER.match(cell):
        return "'" + cell
    return cell


def cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "; ".join(cell_text(v) for v in value)
    return str(value)
