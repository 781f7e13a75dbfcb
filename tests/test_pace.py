"""How fast a model is, is known while it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node_kit import add_model, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_speed_of_a_stream_is_told_while_it_runs(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        door = await home.knock()
        endless = {"model": "m", "stream": True, "messages": [], "fake": {"tokens": 10**6, "delay": 0.02}}
        door.send(post("/v1/chat/completions", endless))
        await until(lambda: "m" in home.node.supervisor.children)
        child = home.node.supervisor.children["m"]
        await until(lambda: child.tokens_per_second is not None)
        assert child.connections is not None
        await until(lambda: 1 < (child.tokens_per_second or 0) < 60)
        (told,) = (await home.client.get("/models")).json()["data"]
        assert 1 < told["lr"]["tokens_per_second"] < 60
        door.close()
        await until(lambda: child.connections is not None and not child.connections.in_flight)
        assert child.tokens_per_second is None  # it has not said one
