"""A person's first hour with `lr serve`: models answer, are loaded on demand, evicted, listed, unloaded."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import ENGINES, Serve, until

HELLO = [{"role": "user", "content": "Hello"}]


def chat(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": HELLO, "max_tokens": 4, **more}


@pytest.mark.parametrize("engine", ENGINES)
def test_two_models_answer_and_a_third_evicts_the_least_recently_used(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    router = serve(engine, "--models-dir", models_dir, "--models-max", 2)
    with router.client() as client:
        for model in ("a", "b", "a"):
            answer = client.post("/v1/chat/completions", json=chat(model))
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["role"] == "assistant"
        assert (router.state("a"), router.state("b"), router.state("c")) == ("loaded", "loaded", "unloaded")
        # A model that has just come keeps its place, idle or not, for as long as its load took.
        until(lambda: (b := router.models()["b"]["lr"])["last_used"] > b["load_seconds"])  # type: ignore[index]
        assert client.post("/v1/chat/completions", json=chat("c")).status_code == 200
    assert (router.state("a"), router.state("b"), router.state("c")) == ("loaded", "unloaded", "loaded")
    assert len(router.children()) == 2
    assert router.stop() == 0


def test_two_hundred_requests_at_once_for_a_cold_model_are_one_spawn(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir)

    def ask(number: int) -> int:
        body = {"model": "a", "content": f"text {number}"}
        return httpx.post(f"{router.url}/tokenize", json=body, trust_env=False, timeout=60).status_code

    with ThreadPoolExecutor(200) as pool:
        statuses = list(pool.map(ask, range(200)))
    assert statuses == [200] * 200
    assert sum("loading a" in line for line in router.output) == 1


def test_alternating_clients_lose_nothing(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "--models-max", 2)

    def ask(model: str) -> list[int]:
        with router.client() as client:
            return [
                client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1}).status_code
                for _ in range(30)
            ]

    with ThreadPoolExecutor(3) as pool:
        statuses = [status for each in pool.map(ask, "abc") for status in each]
    assert statuses == [200] * 90


def test_states_load_and_unload_by_the_api_and_the_command_line(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir)
    with router.client() as client:
        assert client.post("/models/load", json={"model": "a"}).json() == {"success": True}
        assert client.post("/models/load", json={"model": "a", "wait": True}).status_code == 200
        assert client.post("/models/load", json={"model": "a"}).status_code == 400
        loaded = router.models()["a"]
        assert loaded["status"]["value"] == "loaded"  # type: ignore[index]
        assert loaded["lr"]["n_ctx"]  # type: ignore[index]
        assert loaded["meta"]["n_params"] > 0  # type: ignore[index]
        assert client.post("/models/unload", json={"model": "a", "wait": True}).json() == {"success": True}
        assert client.post("/models/unload", json={"model": "a"}).json()["error"]["message"] == "model is not running"
        assert client.post("/models/load", json={"model": "x"}).status_code == 404
    router.lr("load", "b")
    listed = json.loads(router.lr("ls", "--json").stdout)
    assert "b" in json.dumps(listed)
    assert "loaded" in router.lr("ls").stdout
    assert "b" in router.lr("ps").stdout
    router.lr("unload", "b")
    assert router.children() == []
    router.lr("stop")
    assert router.process.wait(20) == 0


def test_a_model_that_comes_later_is_simply_there(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir)
    (models_dir / "a.gguf").rename(models_dir.parent / "kept")
    with router.client() as client:
        client.get("/models?reload=1")
        assert "a" not in router.models()
        (models_dir.parent / "kept").rename(models_dir / "later.gguf")
        client.get("/models?reload=1")
        assert client.post("/tokenize", json={"model": "later.gguf", "content": "x"}).status_code == 200


def test_errors_have_the_status_reason_and_shape_that_clients_expect(serve: Serve, models_dir: Path) -> None:
    (models_dir / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    router = serve(None, "--models-dir", models_dir, "--no-models-autoload")
    cases: list[tuple[str, bytes | None, int, str]] = [
        ("/v1/chat/completions", b"{", 400, "invalid_json"),
        ("/v1/chat/completions", b"{}", 400, "missing_model"),
        ("/v1/chat/completions", b'{"model": 3}', 400, "missing_model"),
        ("/v1/chat/completions", b'{"model": "a", "m\\u006fdel": "b"}', 400, "duplicate_key"),
        ("/v1/chat/completions", b'{"model": "zz"}', 404, "model_not_found"),
        ("/v1/chat/completions", b'{"model": "a"}', 400, "model_not_loaded"),
        ("/v1/chat/completions", b'{"model": "broken"}', 500, "model_invalid"),
        ("/v1/chat/completions", None, 405, "method_not_allowed"),
        ("/nowhere", b"{}", 404, "not_found"),
        ("/nowhere", None, 404, "not_found"),
        ("/tools", None, 403, "feature_disabled"),
    ]
    with router.client() as client:
        for path, body, status, reason in cases:
            answer = client.get(path) if body is None else client.post(path, content=body)
            error = answer.json()["error"]
            assert (path, body, answer.status_code, error["reason"]) == (path, body, status, reason)
            assert error["code"] == status
            assert error["param"] is None
        assert client.put("/models").headers["allow"] == "DELETE, GET, HEAD, POST"
        assert client.get("/metrics?model=a").status_code == 400
        props = client.get("/props").json()
        assert props["role"] == "router"
        assert client.get("/models").json()["warnings"]


def test_keys_close_everything_but_the_public_list_and_appear_nowhere(
    serve: Serve, models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("# ours\nsk-CANARY-file\n")
    router = serve(
        None, "--models-dir", models_dir, "--api-key-file", tmp_path / "keys", LLAMA_API_KEY="sk-CANARY-environ"
    )
    with router.client() as client:
        for path in ("/health", "/readyz", "/"):
            assert client.get(path).status_code == 200
        for path in ("/models", "/v1/models", "/props", "/lr/status", "/nowhere"):
            assert client.get(path).status_code == 401
        assert client.post("/v1/chat/completions", json=chat("a")).status_code == 401
        for headers in (
            {"authorization": "Bearer sk-CANARY-file"},
            {"x-api-key": "sk-CANARY-environ"},
        ):
            assert client.post("/v1/chat/completions", json=chat("a"), headers=headers).status_code == 200
        seen = client.get("/models", headers={"x-api-key": "sk-CANARY-file"}).text
    seen += router.lr("explain", "a").stdout + router.lr("logs", "a").stdout + "".join(router.output)
    for pid in router.children():
        assert "Max core file size        1 " in Path(f"/proc/{pid}/limits").read_text()
        seen += Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
    assert "CANARY" not in seen


def test_the_page_is_taken_from_the_first_child_and_kept(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir)
    with router.client() as client:
        assert "comes with the first model" in client.get("/").text
        client.post("/tokenize", json={"model": "a", "content": "x"})
        page = wait_for_page(client)
        script = page.partition('href="./_app/')[2].partition('"')[0]
        answer = client.get(f"/_app/{script}")
        assert answer.status_code == 200
        assert len(answer.content) > 100_000
        again = client.get(f"/_app/{script}", headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
    router.stop()
    with serve(None, "--models-dir", models_dir).client() as client:
        assert client.get("/").text == page


def wait_for_page(client: httpx.Client) -> str:
    tries = threading.Event()
    for _ in range(100):
        text = client.get("/").text
        if "_app/" in text:
            return text
        tries.wait(0.05)
    raise AssertionError("the page did not come")
