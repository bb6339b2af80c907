"""The pages of the cloud project on its sample data, as the demo shows them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli import init
from tests.http.conftest import Running, running
from tests.kit import ProjectFolder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With one event more, whose time nobody can read."""
    folder = tmp_path_factory.mktemp("cloud")
    init.write(folder / "cloud", "cloud")
    project = ProjectFolder(folder / "cloud", (folder / "cloud" / "project.py").read_text())
    project.app.generate(0.02, 1, None)
    project.land("usage_events_stream/events_part_9999.jsonl", '{"event_id": "e", "timestamp": "soon"}\n')
    project.run()
    with running(project, folder / "users.json") as started:
        yield started


def test_one_organisation_is_chosen_from_those_there_are(cloud: Running) -> None:
    html = cloud.get("/pages/one-organisation").text
    assert html.count('<script type="application/json">') >= 2
    assert "Choose" not in html


def test_records_without_a_day_are_counted_and_do_not_stretch_the_axis(cloud: Running) -> None:
    by_day = cloud.get("/v1/queries/quarantine_by_day?source=usage_events").json()["rows"]
    assert by_day
    assert min(row["day"] for row in by_day) > "2025"
    found = cloud.get("/v1/queries/quality?source=usage_events").json()["rows"]
    quarantined = sum(row["records"] for row in found if row["kind"] == "quarantined")
    assert quarantined == sum(row["records"] for row in by_day) + 1


def test_every_tile_s_json_is_there(cloud: Running) -> None:
    for page in ("costs", "one-organisation", "spikes", "support", "revenue", "data-quality", "open-questions"):
        links = re.findall(r'href="(/v1/queries/[^"]+)"', cloud.get(f"/pages/{page}").text)
        assert links
        for link in links:
            assert cloud.get(link.replace("&amp;", "&")).status_code == 200, link


def test_the_documented_question_has_an_answer(cloud: Running) -> None:
    (line,) = re.findall(r"^curl .*", (ROOT / "docs/rest.md").read_text(), re.MULTILINE)
    answer = cloud.get(shlex.split(line)[-1].removeprefix("http://127.0.0.1:8000"))
    assert answer.status_code == 200
    assert answer.json()["rows"]
