"""Files of others: as they were published, with their licences, and asking nobody."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import headrace.http

VENDOR = Path(headrace.http.__file__).parent / "static" / "vendor"
ROWS = re.findall(
    r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([0-9a-f]{64}) \|$",
    (VENDOR / "VENDORED.md").read_text(),
    re.MULTILINE,
)


def test_every_vendored_file_is_listed_with_its_sum() -> None:
    listed = {name: digest for name, *_, digest in ROWS}
    found = {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in VENDOR.iterdir() if f.suffix in (".js", ".css")
    }
    assert listed == found


def test_every_vendored_file_has_its_licence_beside_it() -> None:
    linked = set()
    for name, _, version, licence, _ in ROWS:
        files = re.findall(r"\(licences/([^)]+)\)", licence)
        assert files, name
        assert re.fullmatch(r"\d+\.\d+\.\d+", version.strip())
        linked |= set(files)
    assert linked == {f.name for f in (VENDOR / "licences").iterdir()}
