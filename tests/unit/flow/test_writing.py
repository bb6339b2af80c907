"""Writing behind: in order, nothing after what failed, and the failure is told."""

from __future__ import annotations

import threading

import pytest

from headrace.errors import OutsideError
from headrace.flow.writing import AtOnce, Behind, Writer


@pytest.mark.parametrize("writer", [AtOnce, Behind])
def test_what_is_written_is_there_in_order_when_it_is_left(writer: type[Writer]) -> None:
    seen: list[int] = []
    with writer() as write:
        for i in range(50):
            write(lambda i=i: seen.append(i))  # type: ignore[misc]
    assert seen == list(range(50))


@pytest.mark.parametrize("writer", [AtOnce, Behind])
def test_nothing_is_written_after_what_failed(writer: type[Writer]) -> None:
    seen: list[int] = []

    def full() -> None:
        raise OutsideError("HR0406", "no space left")

    with pytest.raises(OutsideError, match="no space left"), writer() as write:  # noqa: PT012 - whichever of them raises
        write(full)
        write(lambda: seen.append(1))
        write(lambda: seen.append(2))
    assert seen == []


def test_the_caller_goes_on_meanwhile_and_leaves_only_when_all_is_written() -> None:
    go_on = threading.Event()
    seen: list[bool] = []
    with Behind() as write:
        write(lambda: seen.append(go_on.wait(10)))
        assert seen == []
        go_on.set()
    assert seen == [True]


def test_an_error_of_the_caller_is_not_replaced_by_the_writers() -> None:
    def full() -> None:
        raise OutsideError("HR0406", "no space left")

    with pytest.raises(KeyError), Behind() as write:  # noqa: PT012 - two fail, and one is told
        write(full)
        raise KeyError
