"""Who only looks loads nothing, wakes nothing, and leaves a model's idle time alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.server.child import Stage
from tests.node_kit import add_model, engine_with, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio

PATHS = ("/metrics", "/props", "/slots", "/lora-adapters")


async def test_a_scrape_of_a_model_that_is_not_loaded_says_so_and_loads_nothing(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    preset = "[far]\nhf-repo = user/repo:Q8_0\n"
    async with house(tmp_path, preset=preset, environ={"HF_ENDPOINT": "http://127.0.0.1:9"}) as home:
        for path in PATHS:
            for model in ("m", "broken", "far"):
                for query in (f"model={model}", f"model={model}&autoload=false", f"model={model}&autoload="):
                    answer = await home.client.get(f"{path}?{query}")
                    error = answer.json()["error"]
                    assert (answer.status_code, error["reason"]) == (400, "model_not_loaded"), (path, query)
                    assert error["message"].startswith("model is not loaded")
            assert (await home.client.get(f"{path}?model=nobody")).status_code == 404
        assert not home.node.supervisor.children
        assert not home.node.downloads.progress()


async def test_autoload_in_the_query_asks_for_a_load(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--no-models-autoload") as home:
        assert (await home.client.get("/slots?model=m&autoload=true")).status_code == 200
        assert home.node.supervisor.children["m"].stage is Stage.LOADED


async def test_a_scrape_of_a_loaded_model_is_no_use_of_it(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        used = home.node.supervisor.scheduler.last_used
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        assert (await home.client.post("/tokenize", json={"model": "m", "content": "x"})).status_code == 200
        before = used("m")
        for path in PATHS:
            assert (await home.client.get(f"{path}?model=m")).status_code == 200
        assert used("m") == before
        assert home.node.supervisor.scheduler.in_flight("m") == 0
        assert (await home.client.get("/slots?model=m&autoload=1")).status_code == 200
        assert used("m") != before


async def test_a_scrape_does_not_wait_for_a_load(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-stall-loading", "1")
    async with house(tmp_path, preset=f"[m]\nmodel = {file}\nlr-engine = {engine}\n") as home:
        await home.client.post("/models/load", json={"model": "m"})
        await until(lambda: "m" in home.node.supervisor.children)
        answer = await home.client.get("/metrics?model=m")
        assert (answer.status_code, answer.json()["error"]["message"]) == (503, "Loading model")
        assert answer.headers["retry-after"] == "1"


async def test_a_scrape_wakes_nobody(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        child = home.node.supervisor.children["m"]
        child.stage = Stage.SLEEPING
        for path, status in (("/metrics", 200), ("/props", 200), ("/slots", 400), ("/lora-adapters", 400)):
            answer = await home.client.get(f"{path}?model=m")
            assert answer.status_code == status, path
            assert status == 200 or answer.json()["error"]["message"].startswith("model is sleeping")
        assert (await home.client.get("/slots?model=m&autoload=true")).status_code == 200


async def test_adapters_are_set_by_an_array_whose_model_stands_in_the_query(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        scales = [{"id": 0, "scale": 0.5}]
        door = await home.knock()
        for _ in range(2):  # cold, then warm
            assert (await home.client.post("/lora-adapters?model=m", json=scales)).status_code == 200
            door.send(post("/lora-adapters?model=m", b'[{"id": 0, "scale": 0.5}]'))
            assert (await door.answer()).status == 200
        assert (await home.client.post("/lora-adapters", json=scales)).json()["error"]["reason"] == "missing_model"
