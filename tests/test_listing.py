"""`GET /models`: llama-server's shape, our figures, why something failed, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.launch import without_secrets
from tests.node_kit import House, add_model, engine_with, house

pytestmark = pytest.mark.anyio


async def listed(home: House) -> dict[str, dict[str, Any]]:
    answer = (await home.client.get("/models")).json()
    assert answer["object"] == "list"
    return {each["id"]: each for each in answer["data"]}


async def test_an_entry_has_llama_servers_fields_and_ours(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "-c", "256") as home:
        entry = (await listed(home))["m"]
        assert set(entry) == {
            "id", "aliases", "tags", "object", "owned_by", "created", "status", "architecture", "source",
            "can_remove", "lr",
        }  # fmt: skip
        assert (entry["object"], entry["owned_by"], entry["source"], entry["can_remove"]) == (
            "model", "llamacpp", "models_dir", False,
        )  # fmt: skip
        assert entry["created"] > 1_600_000_000
        assert entry["status"]["value"] == "unloaded"
        assert entry["status"]["args"][-2:] != ["--port", "0"]
        assert "256" in entry["status"]["args"]
        assert entry["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
        ours = entry["lr"]
        assert ours["size"] == (tmp_path / "models" / "m.gguf").stat().st_size
        assert (ours["problem"], ours["failure"], ours["waiting"], ours["cooldown"]) == (None, None, 0, 0.0)
        assert "pid" not in ours
        assert (await home.client.get("/v1/models")).json() == (await home.client.get("/models")).json()
        one = (await home.client.get("/v1/models/m")).json()
        assert one == entry


async def test_a_running_model_shows_its_process(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        entry = (await listed(home))["m"]
        assert entry["status"]["value"] == "loaded"
        ours = entry["lr"]
        child = home.node.supervisor.children["m"]
        assert ours["pid"] == child.pid
        assert ours["uptime"] > 0
        assert ours["slots"] >= 1
        assert ours["in_flight"] == 0
        assert ours["load_seconds"] > 0


async def test_a_model_that_failed_says_why_until_it_is_loaded_again(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-exit-loading", "3", "--fake-last-words", "no such tensor")
    preset = f"[m]\nmodel = {file}\nlr-engine = {engine}\n"
    async with house(tmp_path, preset=preset) as home:
        refused = await home.client.post("/models/load", json={"model": "m", "wait": True})
        assert refused.status_code >= 500
        entry = (await listed(home))["m"]
        assert entry["status"] | {"failed": True, "exit_code": 3} == entry["status"]
        assert entry["lr"]["failure"]["seconds_ago"] >= 0
        assert entry["lr"]["failure"]["message"]
        assert entry["lr"]["cooldown"] > 0
        engine_with(tmp_path)
        await home.client.get("/models?reload=1")
        assert (await home.client.post("/models/load", json={"model": "m", "wait": True})).status_code == 200
        entry = (await listed(home))["m"]
        assert entry["lr"]["failure"] is None
        await home.client.post("/models/unload", json={"model": "m", "wait": True})
        assert "failed" not in (await listed(home))["m"]["status"]


async def test_no_secret_is_listed(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    preset = (
        f"[m]\nmodel = {file}\nhf-token = CANARY\n[n]\nmodel = {file}\nHF_TOKEN = CANARY\n"
        f"[o]\nmodel = {file}\napi-key = CANARY\n[p]\nmodel = {file}\nLLAMA_API_KEY = CANARY\n"
        f'[q]\nmodel = {file}\nhft = CANARY\n[r]\nmodel = {file}\nmcp-servers-json = {{"key": "CANARY"}}\n'
    )
    async with house(tmp_path, "--hf-token", "CANARY", preset=preset, environ={"HF_TOKEN": "CANARY"}) as home:
        seen = (await home.client.get("/models")).text + (await home.client.get("/lr/status")).text
        for model in "mnopqr":
            seen += (await home.client.get(f"/lr/explain?model={model}")).text
        seen += (await home.client.get("/lr/explain?format=llama-server")).text
        assert "CANARY" not in seen


def test_values_of_secret_options_are_starred() -> None:
    assert without_secrets(("llama-server", "--hf-token", "x", "--temp", "1")) == [
        "llama-server", "--hf-token", "***", "--temp", "1",
    ]  # fmt: skip


async def test_warnings_name_what_was_skipped(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    (tmp_path / "models" / "bad.gguf").write_bytes(b"nonsense")
    (tmp_path / "models" / "empty.gguf").write_bytes(b"")
    async with house(tmp_path, preset="[wrong]\nmodel = models/m.gguf\nctx-sise = 1\n") as home:
        answer = (await home.client.get("/models")).json()
        text = json.dumps(answer["warnings"])
        assert "bad" in text
        assert "empty" in text
        assert "preset.ini:3" in text
        assert "ctx-size" in text  # the nearest real option
        assert all(set(each) == {"where", "reason"} for each in answer["warnings"])


async def test_a_file_that_vanishes_while_it_is_listed_is_no_error(tmp_path: Path) -> None:
    names = [f"m{number}" for number in range(30)]
    for name in names:
        add_model(tmp_path / "models", name)
    async with house(tmp_path) as home:
        (home.models / "m0.gguf").unlink()
        (home.models / "m1.gguf").unlink()
        (home.models / "m1.gguf").symlink_to(home.models / "nowhere")
        (home.models / "m2.gguf").unlink()
        (home.models / "m2.gguf").mkdir()
        answer = await home.client.get("/models?reload=1")
        assert answer.status_code == 200
        assert {each["id"] for each in answer.json()["data"] if not each["lr"]["problem"]} == set(names[3:])


async def test_what_a_child_says_of_its_modalities_is_kept_until_it_is_another_model(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    preset = f"[m]\nmodel = {file}\ntags = b,a\n"
    async with house(tmp_path, preset=preset, environ={"FAKE_MODALITIES": "text,video"}) as home:

        async def inputs() -> object:
            return (await listed(home))["m"]["architecture"]["input_modalities"]

        assert await inputs() == ["text"]
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        assert await inputs() == ["text", "video"]
        entry = (await listed(home))["m"]
        assert entry["meta"]["n_vocab"] == 32
        assert (entry["id"], entry["tags"]) == ("m", ["a", "b"])
        await home.client.post("/models/unload", json={"model": "m", "wait": True})
        assert await inputs() == ["text", "video"]
        assert "meta" not in (await listed(home))["m"]
        (tmp_path / "preset.ini").write_text(preset + "ctx-size = 77\n", encoding="utf-8")
        await home.client.get("/models?reload=1")
        assert await inputs() == ["text"]


async def test_what_cannot_be_started_has_arguments_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    async with house(tmp_path, preset="[far]\nhf-repo = user/repo:Q8_0\n") as home:
        answer = (await home.client.get("/models")).json()
        assert [(each["id"], each["status"]) for each in answer["data"]] == [
            ("bad", {"value": "unloaded", "args": []}),
            ("far", {"value": "unloaded", "args": []}),
        ]
        assert list(answer) == ["data", "object", "warnings"]


async def test_what_is_said_of_a_quiet_model_is_kept_only_while_it_is_quiet(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    (tmp_path / "models" / "broken.gguf").write_bytes(b"nothing")
    async with house(tmp_path, "-c", "256") as home:
        first, again = await listed(home), await listed(home)
        assert first == again
        await home.client.post("/models/load", json={"model": "a", "wait": True})
        loaded = await listed(home)
        assert (loaded["a"]["status"]["value"], loaded["b"]) == ("loaded", first["b"])
        assert loaded["a"]["lr"]["pid"]
        await home.client.post("/models/unload", json={"model": "a", "wait": True})
        unloaded = await listed(home)
        assert unloaded["a"]["status"] == first["a"]["status"]
        assert (await home.client.get("/v1/models/b")).json() == first["b"]
        add_model(tmp_path / "models", "broken")
        add_model(tmp_path / "models", "c")
        (tmp_path / "models" / "b.gguf").unlink()
        await home.client.post("/models/reload")
        after = await listed(home)
        assert set(after) == {"a", "broken", "c"}
        assert first["broken"]["lr"]["problem"]
        assert after["broken"]["lr"]["problem"] is None


async def test_a_model_for_which_somebody_waits_or_that_failed_is_not_told_from_memory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    engine = engine_with(tmp_path, "--fake-exit-loading", "3")
    preset = f"[b]\nmodel = {tmp_path}/models/b.gguf\nlr-engine = {engine}\n"
    async with house(tmp_path, "--models-max", "1", preset=preset) as home:
        before = await listed(home)
        assert before["b"]["lr"]["failure"] is None
        await home.client.post("/models/load", json={"model": "b", "wait": True})
        failed = await listed(home)
        assert failed["b"]["status"]["failed"] is True
        assert failed["b"]["lr"]["failure"]["reason"]
        assert failed["b"]["lr"]["cooldown"] > 0
        assert failed["a"] == before["a"]
