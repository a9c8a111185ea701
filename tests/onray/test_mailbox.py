"""The mailbox between a driver and its trials, without Ray: what it keeps, whom it wakes, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from rayopt.onray import mailbox as module
from rayopt.onray.mailbox import Mailbox
from rayopt.search.crew import Answered, Joined, Lost

Scene = Callable[[Mailbox], Coroutine[Any, Any, None]]


def play(scene: Scene) -> None:
    async def whole() -> None:
        await scene(Mailbox(60.0))

    asyncio.run(whole())


async def joined(mailbox: Mailbox) -> None:
    await mailbox.join("a")
    await mailbox.start(1, ["batch"], None)
    assert await mailbox.exchange([], 1) == [Joined("a#1")]
    assert await mailbox.pull("a", 1, None) == (1, ["batch"], None, b"")  # a round is told before it has cells


def test_cells_go_to_the_worker_and_answers_to_the_driver() -> None:
    async def scene(mailbox: Mailbox) -> None:
        await joined(mailbox)
        assert await mailbox.exchange([("a#1", b"cells")], 0.01) == []
        assert await mailbox.pull("a", 1, None, seen=1) == (1, ["batch"], None, b"cells")
        waiting = asyncio.create_task(mailbox.pull("a", 1, (1, [(0, "found")]), seen=1))
        assert await mailbox.exchange([], 1) == [Answered("a#1", 1, [(0, "found")])]
        await mailbox.close()
        assert await waiting is None

    play(scene)


async def a_while() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("hold_s", [0.0, 60.0])
def test_news_that_nobody_waits_for_may_lie_a_while(monkeypatch: pytest.MonkeyPatch, hold_s: float) -> None:
    monkeypatch.setattr(module, "HOLD_S", hold_s)

    async def scene(mailbox: Mailbox) -> None:
        await joined(mailbox)
        await mailbox.exchange([("a#1", b"first"), ("a#1", b"second")], 0)
        await mailbox.pull("a", 1, None, seen=1)
        question = asyncio.create_task(mailbox.exchange([], 60))
        await a_while()
        await mailbox.tell("a", 1, (1, [(0, "part")]))  # it has more in hand
        await a_while()
        assert question.done() == (not hold_s)
        await mailbox.pull("a", 1, (1, [(1, "rest")]), seen=1)  # and gets the second cells at once
        await a_while()
        assert question.done() == (not hold_s)
        waiting = asyncio.create_task(mailbox.pull("a", 1, (1, [(2, "last")]), seen=1))  # now it has nothing to do
        await a_while()
        told = [answer for event in await question if isinstance(event, Answered) for answer in event.answers]
        assert told == [(0, "part")] if not hold_s else [(0, "part"), (1, "rest"), (2, "last")]
        waiting.cancel()

    play(scene)


def test_the_letters_of_an_earlier_life_or_round_are_void() -> None:
    async def scene(mailbox: Mailbox) -> None:
        await joined(mailbox)
        await mailbox.exchange([("a#1", b"cells")], 0)
        await mailbox.pull("a", 1, None, seen=1)
        await mailbox.start(1, ["batch"], None)
        await mailbox.exchange([("a#1", b"cells")], 0)
        await mailbox.join("a")  # Tune has started it again
        assert await mailbox.pull("a", 1, None, seen=1) is None
        lost, again = await mailbox.exchange([("a#1", b"cells")], 1)
        assert isinstance(lost, Lost)
        assert (lost.worker, again) == ("a#1", Joined("a#2"))
        assert not lost.busy_s  # it had not taken the cells of this round
        await mailbox.exchange([("a#2", b"old")], 0)
        await mailbox.start(2, ["other"], 5.0)
        assert await mailbox.pull("a", 2, None, seen=1) == (2, ["other"], 5.0, b"")
        await mailbox.start(0, None, None)  # the search is over: the worker lets its data go
        assert await mailbox.pull("a", 2, None, seen=2) == (0, None, None, b"")

    play(scene)
