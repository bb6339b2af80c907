"""Which row of a key answers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.seam.reader import live

Row = tuple[Any, ...]


def slowly(rows: list[Row], width: int, generation: int, abandoned: set[int]) -> list[Row]:
    """The rule as seam.md says it: newest with gen up to the generation and not abandoned, else empty."""
    found = []
    for key in sorted({row[:width] for row in rows}):
        allowed = [r for r in rows if r[:width] == key and r[-1] <= generation and r[-1] not in abandoned]
        newest = max(allowed, key=lambda r: r[-1], default=None)
        if newest is not None and newest[-3] > 0:
            found.append(newest[:-2])
    return found


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Row], int]:
    width = draw(st.integers(0, 2))
    keys = draw(st.sets(st.tuples(*[st.integers(0, 3)] * width), max_size=6))
    rows = []
    for key in sorted(keys):
        slots = draw(st.sampled_from([(0,), (1,), (0, 1)]))
        gens = draw(st.lists(st.integers(1, 6), min_size=2, max_size=2, unique=True))
        rows += [(*key, draw(st.integers(0, 9)), draw(st.integers(0, 2)), slot, gens[slot]) for slot in slots]
    return rows, width


@given(tables(), st.integers(0, 7), st.sets(st.integers(1, 6)))
def test_the_newest_allowed_row_of_each_key_answers(
    table: tuple[list[Row], int], generation: int, abandoned: set[int]
) -> None:
    rows, width = table
    assert live(rows, width, generation, tuple(abandoned)) == slowly(rows, width, generation, abandoned)
    assert live(iter(rows[::-1]), width, generation, abandoned) == slowly(rows, width, generation, abandoned)[::-1]


def test_an_emptied_key_is_not_answered_and_hides_what_it_was() -> None:
    rows = [("a", 5, 1, 0, 1), ("a", None, 0, 1, 2)]
    assert live(rows, 1, 2, ()) == []
    assert live(rows, 1, 1, ()) == [("a", 5, 1)]
    assert live(rows, 1, 2, (2,)) == [("a", 5, 1)]


def test_a_key_that_only_an_abandoned_run_wrote_is_not_there() -> None:
    assert live([("a", 5, 1, 0, 3), ("b", 6, 1, 0, 2)], 1, 4, (3,)) == [("b", 6, 1)]
