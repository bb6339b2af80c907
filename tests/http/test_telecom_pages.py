"""The pages of the telecom project on its sample data."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from headrace.cli import init
from tests.http.conftest import Running, running
from tests.kit import ProjectFolder

TILES = {"network": 11, "live": 8, "one-subscriber": 5, "calls": 6, "data-quality": 2}


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


def test_a_success_rate_has_two_decimals_and_says_what_is_wrong_with_a_question(telecom: Running) -> None:
    asked = "/v1/queries/call_success_rate?start_time=2024-01-01&end_time=2024-01-04"
    (everybody,) = telecom.get(asked).json()["rows"]
    assert (everybody["total"], everybody["successful"], everybody["asr_percent"]) == (337, 303, "89.91")
    (night,) = telecom.get(f"{asked}&from_hour=22&to_hour=6&time_zone=Asia/Kathmandu").json()["rows"]
    assert 0 < night["total"] < 337
    (one,) = telecom.get(f"{asked}&phone_number=%2B15550001").json()["rows"]
    assert 20 <= one["total"] <= 25
    for wrong, help in (
        ("time_zone=Europe/Berln", "Europe/Berlin"),
        ("from_hour=24", ""),
        ("from_hour=7&to_hour=7", ""),
    ):
        refused = telecom.get(f"{asked}&{wrong}")
        assert refused.status_code == 400
        assert refused.json()["type"] == "/docs/errors/HR0502"
        assert help in refused.text
    document = telecom.get("/openapi.json").json()
    described = {p.get("name"): p for p in document["paths"]["/v1/queries/call_success_rate"]["get"]["parameters"]}
    assert described["time_zone"]["example"] == "Europe/Berlin"
    assert "tz database" in described["time_zone"]["description"]
    assert [name for name in ("phone_number", "from_hour", "to_hour", "time_zone") if described[name]["required"]] == []
    assert {described[name]["schema"]["format"] for name in ("start_time", "end_time")} == {"date-time"}
