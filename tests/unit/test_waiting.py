"""Synchronous code waits on an event loop without stopping it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import waiting

Settle = Callable[[Any], None]


def slow(value: Any, gate: threading.Event | None = None) -> Any:
    """What another thread gives once the gate is open; errors are raised."""

    def start(done: Settle, failed: Settle) -> None:
        def work() -> None:
            if gate is not None:
                assert gate.wait(10)
            failed(value) if isinstance(value, Exception) else done(value)

        threading.Thread(target=work).start()

    return waiting.waited(start)


def test_a_call_that_need_not_wait_gives_what_it_gives() -> None:
    assert asyncio.run(waiting.meanwhile(lambda a, b: a + b, 1, 2)) == 3


def test_a_call_waits_several_times_and_knows_where_it_is() -> None:
    assert not waiting.on_loop()
    assert asyncio.run(waiting.meanwhile(lambda: [waiting.on_loop(), slow(1), slow(2)])) == [True, 1, 2]


def test_others_go_on_while_a_call_waits() -> None:
    gate = threading.Event()

    async def both() -> list[int]:
        first = asyncio.ensure_future(waiting.meanwhile(slow, 1, gate))
        await asyncio.sleep(0)
        second = await waiting.meanwhile(slow, 2)
        assert not first.done()
        gate.set()
        return [await first, second]

    assert asyncio.run(both()) == [1, 2]


def test_errors_are_raised_where_they_are_waited_for_and_by_the_call() -> None:
    def mended() -> str:
        try:
            slow(KeyError("a"))
        except KeyError:
            return str(slow("mended"))
        return "not raised"

    assert asyncio.run(waiting.meanwhile(mended)) == "mended"
    with pytest.raises(ZeroDivisionError):
        asyncio.run(waiting.meanwhile(slow, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(waiting.meanwhile(lambda: 1 / 0))


def test_who_gives_up_ends_the_call_and_a_late_answer_does_no_harm() -> None:
    gate, ended = threading.Event(), []

    def call() -> None:
        try:
            slow(1, gate)
        finally:
            ended.append(True)

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.meanwhile(call), 0.05)
        gate.set()
        await asyncio.sleep(0.05)

    asyncio.run(given_up())
    assert ended == [True]


def test_what_blocks_is_refused_on_the_loop_only() -> None:
    waiting.must_not_block()
    with pytest.raises(waiting.WouldBlockError):
        asyncio.run(waiting.meanwhile(waiting.must_not_block))
