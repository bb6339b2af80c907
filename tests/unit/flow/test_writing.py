"""Writing behind: in order, nothing after what failed, and the failure is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from headrace.errors import OutsideError
from headrace.flow.writing import AtOnce, Behind, Writer

WRITERS = [AtOnce, Behind, lambda: Behind(1)]


def full() -> None:
    raise OutsideError("HR0406", "no space left")


@pytest.mark.parametrize("make", WRITERS)
def test_what_is_written_is_there_in_order_when_it_has_settled(make: Callable[[], Writer]) -> None:
    writer, seen = make(), list[int]()
    for i in range(50):
        writer(lambda i=i: seen.append(i))  # type: ignore[misc]
    writer.settle()
    assert seen == list(range(50))
    writer.close()


@pytest.mark.parametrize("make", WRITERS)
def test_nothing_is_written_after_what_failed(make: Callable[[], Writer]) -> None:
    writer, seen = make(), list[int]()

    def whole_story() -> None:
        writer(full)
        writer(lambda: seen.append(1))
        writer(lambda: seen.append(2))
        writer.settle()

    with pytest.raises(OutsideError, match="no space left"):
        whole_story()
    writer.close()
    assert seen == []


def test_the_caller_goes_on_meanwhile_and_closing_waits() -> None:
    go_on = threading.Event()
    seen: list[bool] = []
    writer = Behind()
    writer(lambda: seen.append(go_on.wait(10)))
    assert seen == []
    go_on.set()
    writer.close()
    assert seen == [True]


def test_what_waits_has_an_end() -> None:
    begun, go_on = threading.Event(), threading.Event()
    writer = Behind(1)

    def slow() -> None:
        begun.set()
        go_on.wait(10)

    writer(slow)
    begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    writer(lambda: None)  # returns when the first one is written, not before
    assert go_on.is_set()
    writer.close()
