"""Loading and unloading over HTTP: when the answer comes, what is refused, and what waits for its turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llamarouter.server.api import control_routes
from llamarouter.server.child import Stage
from tests.node_kit import House, add_model, engine_with, house
from tests.waiting import until

pytestmark = pytest.mark.anyio

ENDLESS = {"prompt": "x", "n_predict": 1_000_000, "fake": {"delay": 0.01}}


async def load(home: House, model: str) -> tuple[int, object]:
    answer = await home.client.post("/models/load", json={"model": model})
    body = answer.json()
    return answer.status_code, body.get("error", {}).get("reason") or body


async def test_a_load_is_answered_once_its_process_is_there(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "a")
    engine = engine_with(tmp_path, "--fake-stall-loading", "1")
    async with house(tmp_path, preset=f"[m]\nmodel = {file}\nlr-engine = {engine}\n") as home:
        assert await load(home, "m") == (200, {"success": True})
        child = home.node.supervisor.children["m"]
        assert (child.stage, child.pid is not None) == (Stage.LOADING, True)
        again = await home.client.post("/models/load", json={"model": "m"})
        assert (again.status_code, again.json()["error"]["message"]) == (400, "model is already running")


async def test_a_load_evicts_an_idle_model_and_is_answered_when_its_own_process_is_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    async with house(tmp_path, "--models-max", "1") as home:
        assert (await home.client.post("/models/load", json={"model": "a", "wait": True})).status_code == 200
        assert await load(home, "b") == (200, {"success": True})
        assert list(home.node.supervisor.children) == ["b"]


async def test_a_load_that_cannot_have_a_process_says_so(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "a")
    engine = engine_with(tmp_path)
    async with house(tmp_path, preset=f"[m]\nmodel = {file}\nlr-engine = {engine}\n") as home:
        engine.unlink()
        assert await load(home, "m") == (500, "engine_unavailable")
        status, reason = await load(home, "m")
        assert (status, reason) == (503, "model_cooldown")


async def test_a_load_waits_for_its_turn_and_can_be_called_off(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    async with house(tmp_path, "--models-max", "1") as home, asyncio.TaskGroup() as group:
        busy = group.create_task(home.client.post("/completion", json={"model": "a", **ENDLESS}, timeout=60))
        await until(lambda: home.node.supervisor.scheduler.in_flight("a"))
        waiting = group.create_task(load(home, "b"))
        await until(lambda: home.node.supervisor.is_wanted("b"))
        assert not waiting.done()
        assert (await home.client.post("/models/unload", json={"model": "b"})).json() == {"success": True}
        assert await waiting == (503, "model_unloaded")
        assert home.node.supervisor.scheduler.waiting("b") == 0
        again = await home.client.post("/models/unload", json={"model": "b"})
        assert (again.status_code, again.json()["error"]["message"]) == (400, "model is not running")
        loading = group.create_task(load(home, "b"))
        await until(lambda: home.node.supervisor.is_wanted("b"))
        await home.client.post("/models/unload", json={"model": "a", "force": True})
        assert await loading == (200, {"success": True})
        assert (await busy).status_code == 503


async def test_an_unload_of_what_is_not_there_says_so_as_llama_server(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        for body, message in (
            ({"model": "nobody"}, "model is not found"),
            ({}, "model is not found"),
            ([], "model is not found"),
            ({"model": "m"}, "model is not running"),
        ):
            answer = await home.client.post("/models/unload", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["message"], error["type"]) == (400, message, "invalid_request_error")


async def test_every_endpoint_about_models_and_of_ours_is_described(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "control.md").read_text(encoding="utf-8")
    async with house(tmp_path) as home:
        routes = [
            route for route in control_routes(home.node) if route.path.startswith(("/models", "/v1/models", "/lr/"))
        ]
        assert len(routes) > 10
        for route in routes:
            path = route.path.replace(":path}", "}")
            for method in (route.methods or set()) - {"HEAD"}:
                assert f"`{method} {path}" in page or f"`GET /models`, `{path}`" in page, (method, path)
