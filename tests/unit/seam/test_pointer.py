"""The pointer's moves, alone and in any order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConflictError
from headrace.seam import pointer as pointers
from headrace.seam.pointer import FIRST, Pointer


def test_a_pointer_is_read_as_it_was_written() -> None:
    for pointer in (FIRST, Pointer(7, 5, 9, (6, 8), 9), Pointer(7, None, None, (), 7)):
        assert pointers.read(pointer.text()) == pointer
    assert Pointer(7, 5, 9, (6,), 9).text() == Pointer(7, 5, 9, (6,), 9).text(), "compare-and-set compares text"


def test_a_run_takes_the_next_number_and_publishing_makes_it_the_generation() -> None:
    begun = pointers.begin(FIRST)
    assert begun == Pointer(0, None, 1, (), 1, opens=True)
    assert pointers.publish(begun, 1) == Pointer(1, 0, None, (), 1)


def test_an_unfinished_run_is_abandoned_by_the_next_with_the_predecessor() -> None:
    assert pointers.begin(Pointer(4, 3, 5, (2,), 5)) == Pointer(4, None, 6, (2, 5), 6, opens=True)


@pytest.mark.parametrize("number", [1, 4, 6, 7])
def test_only_the_run_that_is_going_on_may_publish(number: int) -> None:
    with pytest.raises(ConflictError, match="HR0404"):
        pointers.publish(Pointer(4, 3, 5, (), 6), number)


def test_giving_up_names_a_run_only_where_it_may_have_rows() -> None:
    running = Pointer(4, 3, 5, (2,), 5)
    assert pointers.give_up(running, 5, wrote=False) == Pointer(4, 3, None, (2,), 5)
    assert pointers.give_up(running, 5, wrote=True) == Pointer(4, None, None, (2, 5), 5)
    assert pointers.give_up(running, 4, wrote=True) == running, "another run is going on"


def test_rollback_returns_once_and_not_during_a_run() -> None:
    back = pointers.roll_back(Pointer(4, 3, None, (2,), 4))
    assert back == Pointer(3, None, None, (2, 4), 4)
    for refused, why in ((back, "no predecessor"), (Pointer(4, 3, 5, (), 5), "a run is going on")):
        with pytest.raises(ConflictError, match=f"HR0405.*{why}"):
            pointers.roll_back(refused)


@pytest.mark.parametrize(
    ("now", "valid"),
    [
        pytest.param(Pointer(4, 3), True, id="still the generation"),
        pytest.param(Pointer(4, 3, 5), True, id="the next one is being written"),
        pytest.param(Pointer(5, 4), True, id="the predecessor, and nobody writes"),
        pytest.param(Pointer(5, 4, 6), False, id="the predecessor, and the next one is being written"),
        pytest.param(Pointer(5, 4, None, (4,)), False, id="abandoned"),
        pytest.param(Pointer(5, None), False, id="no longer returned to"),
        pytest.param(Pointer(6, 5), False, id="overtaken twice"),
        pytest.param(Pointer(3, None, None, (4,)), False, id="rolled back"),
    ],
)
def test_the_second_look(now: Pointer, valid: bool) -> None:
    assert pointers.still_valid(4, now) is valid


class _World:
    """One key whose every generation writes it, in two slots; what a run overwrites is gone."""

    def __init__(self) -> None:
        self.pointer = FIRST
        self.slots: list[int | None] = [None, None]
        self.slot_of: dict[int, int] = {}

    def live(self, generation: int) -> int | None:
        rows = [g for g in self.slots if g is not None and g <= generation and g not in self.pointer.abandoned]
        return max(rows, default=None)

    def write(self, number: int) -> None:
        free = 1 - self.slot_of.get(self.pointer.generation, 1)
        self.slots[free] = max(self.slots[free] or 0, number)
        self.slot_of[number] = free


MOVES = ("begin", "write", "publish", "give up", "roll back")


@given(st.lists(st.sampled_from(MOVES), max_size=40))
def test_whatever_the_moves_what_the_pointer_names_can_be_read(moves: list[str]) -> None:
    check(moves)


def test_every_short_story_keeps_what_the_pointer_names() -> None:
    for moves in itertools.product(MOVES, repeat=6):
        check(moves)


def check(moves: list[str] | tuple[str, ...]) -> None:
    world, wrote, numbers = _World(), False, [0]
    for move in moves:
        before = world.pointer
        if move == "begin":
            world.pointer, wrote = pointers.begin(before), False
            assert world.pointer.next is not None
            assert world.pointer.next > max(numbers), "never used before"
            numbers.append(world.pointer.next)
        elif move == "write" and before.next is not None:
            world.write(before.next)
            wrote = True
        elif move == "publish" and before.next is not None and wrote:
            world.pointer = pointers.publish(before, before.next)
        elif move == "give up" and before.next is not None:
            world.pointer = pointers.give_up(before, before.next, wrote=wrote)
        elif move == "roll back" and before.predecessor is not None and before.next is None:
            world.pointer = pointers.roll_back(before)
        now = world.pointer
        assert now.generation not in now.abandoned
        if now.generation:
            assert world.live(now.generation) == now.generation
        if now.predecessor and now.next is None:
            assert now.predecessor in world.slots, "whoever reads it, or returns to it, finds it"
            assert pointers.still_valid(now.predecessor, now)


def test_workers_register_but_not_while_an_epoch_opens() -> None:
    one = pointers.register(FIRST, "a", 0)
    two = pointers.register(pointers.register(one, "b", 0), "a", 0)
    assert (two.workers, two.streamed) == (("a", "b"), (0,))
    assert pointers.register(pointers.begin(two, opens=False), "c", 0).workers == ("a", "b", "c"), "the epoch goes on"
    with pytest.raises(ConflictError, match="HR0409"):
        pointers.register(pointers.begin(two), "c", 0)
    left = pointers.deregister(two, "a")
    assert (left.workers, left.streamed) == (("b",), (0,)), "its rows are still there"
    assert pointers.take_over(two).workers == ()
    assert pointers.forget(pointers.register(two, "c", 7), [0]).streamed == (7,)
