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


def test_what_many_ask_at_once_is_asked_once_and_never_before_they_came() -> None:
    """The first is under way when three more come: they share a second one, begun when the first has come back."""
    sharing, begun = waiting.Sharing(), list[Settle]()

    def ask() -> Any:
        return sharing.ask("what", lambda done, failed: begun.append(done))

    async def turns() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def story() -> list[Any]:
        first = asyncio.ensure_future(waiting.meanwhile(ask))
        await turns()
        others = [asyncio.ensure_future(waiting.meanwhile(ask)) for _ in range(3)]
        await turns()
        assert len(begun) == 1
        begun[0]("old")
        assert await first == "old"
        await turns()
        assert len(begun) == 2
        assert not any(one.done() for one in others)
        begun[1]("new")
        found = await asyncio.gather(*others)
        alone = asyncio.ensure_future(waiting.meanwhile(ask))
        await turns()
        begun[2]("newest")
        return [*found, await alone]

    assert asyncio.run(story()) == ["new", "new", "new", "newest"]
    assert len(begun) == 3


def test_questions_are_shared_with_none_but_their_like_and_so_are_errors() -> None:
    sharing, asked = waiting.Sharing(), list[str]()

    def ask(question: str) -> Any:
        def start(done: Settle, failed: Settle) -> None:
            asked.append(question)
            if question == "refused":
                raise KeyError(question)
            threading.Timer(0.05, failed if question == "fails" else done, [ValueError(question)]).start()

        try:
            return sharing.ask(question, start)
        except (KeyError, ValueError) as error:
            return repr(error)

    async def story() -> list[Any]:
        names = ["fails", "goes", "fails", "refused", "fails", "refused"]
        return await asyncio.gather(*(waiting.meanwhile(ask, name) for name in names))

    found = asyncio.run(story())
    assert [str(one) for one in found] == [
        "ValueError('fails')",
        "goes",
        *["ValueError('fails')", "KeyError('refused')"] * 2,
    ]
    assert sorted(asked) == ["fails", "fails", "goes", "refused", "refused"]
