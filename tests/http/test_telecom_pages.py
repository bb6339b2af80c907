"""The pages of the telecom project on its sample data."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from headrace.cli import init
from tests.http.conftest import Running, running
from tests.kit import ProjectFolder

TILES = {"network": 11, "live": 8, "one-subscriber": 5, "data-quality": 2}


@pytest.fixture(scope="module")
def telecom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("telecom")
    init.write(folder / "telecom", "telecom")
    project = ProjectFolder(folder / "telecom", (folder / "telecom" / "project.py").read_text())
    project.app.generate(0.02, 1, None)
    project.run()
    with running(project, folder / "users.json") as started:
        yield started


@pytest.mark.parametrize("page", TILES)
def test_every_tile_has_rows_without_a_choice(page: str, telecom: Running) -> None:
    html = telecom.get(f"/pages/{page}").text
    assert "Choose" not in html
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="(/v1/queries/[^"]+)"', html)]
    assert len([link for link in links if "format=csv" not in link]) >= TILES[page]
    for link in links:
        answer = telecom.get(link)
        assert answer.status_code == 200, link
        assert len(answer.text.splitlines()) > 1 or answer.json()["rows"], link


def test_numbers_of_subscribers_are_for_those_who_log_in(telecom: Running) -> None:
    """One original gave them to anybody."""
    asked = "/v1/queries/top_subscribers?day=2024-01-01&limit=100"
    assert telecom.anonymous(asked).status_code == 401
    rows = telecom.get(asked).json()["rows"]
    assert "2712345678901" in {row["msisdn"] for row in rows}
    usage = "/v1/queries/data_usage?start_time=2024-01-01&end_time=2024-01-02"
    assert telecom.anonymous(f"{usage}&msisdn=2712345678901").status_code == 401
    assert telecom.get(f"{usage}&msisdn=2712345678901").json()["rows"]
    assert telecom.get(f"{usage}&msisdn=unknown").json()["rows"] == []
    refused = telecom.get("/v1/queries/data_usage?start_time=soon&end_time=2024-01-02&msisdn=1")
    assert refused.status_code == 400
    assert refused.json()["type"] == "/docs/errors/HR0502"
