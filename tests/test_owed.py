"""Questions that nobody waits for: when they are put, and that it is one after the other."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.server.owed import Owed, Question

pytestmark = pytest.mark.anyio


class Room:
    """Whether it is quiet, and what was asked."""

    def __init__(self) -> None:
        self.quiet = True
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.owed = Owed(lambda: self.quiet)

    def question(self, words: str) -> Question:
        async def ask() -> None:
            self.asked.append(words)
            await self.gate.wait()

        return ask


async def test_they_are_put_one_after_the_other_while_it_is_quiet() -> None:
    room = Room()
    for about in "abc":
        room.owed.put(about, room.question(about))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(room.owed.settle())
        await asyncio.wait([first], timeout=0)
        await room.owed.settle()  # somebody does already
        assert room.asked == ["a"]
        room.quiet = False
        room.gate.set()
        await first
        assert room.asked == ["a"]
        room.quiet = True
        await room.owed.settle()
    assert room.asked == ["a", "b", "c"]


async def test_the_newest_question_about_a_model_counts_and_none_about_another_one() -> None:
    room = Room()
    room.gate.set()
    room.owed.put("a", room.question("old"))
    room.owed.put("a", room.question("new"))
    room.owed.put("b", room.question("gone"))
    room.owed.forget("b")
    room.owed.forget("none")
    await room.owed.settle()
    assert room.asked == ["new"]


async def test_one_that_breaks_leaves_the_others_to_the_next_time() -> None:
    async def broken() -> None:
        raise OSError("broken")

    room = Room()
    room.gate.set()
    room.owed.put("a", broken)
    room.owed.put("b", room.question("b"))
    with pytest.raises(OSError, match="broken"):
        await room.owed.settle()
    await room.owed.settle()
    assert room.asked == ["b"]
