"""The reference page is what the code says, and the other pages only link to what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import reference

ROOT = Path(__file__).parents[2]

PAGES = sorted(f.relative_to(ROOT).as_posix() for f in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def test_the_reference_is_up_to_date() -> None:
    assert reference.FILE.read_text() == reference.page(), "./dev python tools/reference.py"


def test_the_table_of_metrics_is_up_to_date() -> None:
    text = reference.MONITORING.read_text()
    assert text == reference.monitoring(text), "./dev python tools/reference.py"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(((?!https?:)[^)#\s]+)", text):
        assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text() + (ROOT / "docs/seam.md").read_text()
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py)?)", text):
        place = name.split(":")[0]
        if place.split("/")[0] in ("bronze", "silver", "gold", "serving", "docs"):
            continue
        assert (ROOT / "src/headrace" / place).exists() or (ROOT / place).exists(), name
