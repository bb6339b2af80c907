"""What a generation's control row says."""

from __future__ import annotations

from headrace.seam import generation as generations
from headrace.seam.generation import EMPTY, Generation, MartState, TableState


def test_a_generation_is_read_as_it_was_written() -> None:
    full = Generation(
        7,
        {"sales": 12, "visits": 0},
        {"daily": MartState(3, "abc", {"sales": 12})},
        {"daily_1": TableState(5, "abc", {"sales": 12})},
        {"sales": "2024-01-01T00:00:00Z"},
        {"sales": 2**59 + 1},
        {"usual": "def"},
        "2024-01-02T00:00:00+00:00",
    )
    for generation in (EMPTY, full):
        assert generations.read(generation.text()) == generation


def test_each_generation_has_a_row_of_its_own() -> None:
    assert len({generations.control_name(n) for n in range(200)}) == 200
