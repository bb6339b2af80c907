"""A move whose answer was lost is told from every other."""

from __future__ import annotations

import pytest

from headrace.adapters.moves import KEPT, Move, value_of


def after(*values: str, first: str | None = None) -> str | None:
    stored = first
    for value in values:
        stored = Move(stored, value).after
    return stored


def test_a_value_is_read_without_marks() -> None:
    assert value_of(None) is None
    assert value_of("plain") == "plain"
    assert value_of(after("a", "b")) == "b"


@pytest.mark.parametrize("others", [0, 1, 30, KEPT - 1])
def test_a_move_is_known_as_made_however_others_went_on(others: int) -> None:
    move = Move(after("a"), "b")
    assert move.is_made(after(*(f"v{n}" for n in range(others)), first=move.after)) is True


def test_one_that_made_the_same_of_the_same_is_another() -> None:
    before = after("a")
    mine, theirs = Move(before, "b"), Move(before, "b")
    assert mine.is_made(theirs.after) is False
    assert mine.is_made(after("a", first=theirs.after)) is False, "also where the value came back"


def test_what_stands_as_before_may_be_tried_again_and_what_nobody_remembers_is_not_known() -> None:
    move = Move(after("a"), "b")
    assert move.is_made(move.before) is None
    assert move.is_made(after(*(f"v{n}" for n in range(KEPT + 1)), first=move.before)) is None
    assert Move(None, "a").is_made(None) is None
    assert Move(None, "a").is_made(after("b")) is False
