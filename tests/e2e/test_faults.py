"""What a crash, a hang or a hard end leaves behind: the other models untouched, nobody waiting, no process."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until
from tests.tiny_gguf import write_llama

CONTEXT = 1 << 17  # tokens; half a minute of a small model's
LONG = {
    "messages": [{"role": "user", "content": "Tell"}],
    "stream": True,
    "ignore_eos": True,
    "temperature": 0,
    "seed": 1,
}


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """Models a and b whose answers may be long: llama-server cuts them at the length the model was trained for."""
    folder = tmp_path / "long"
    folder.mkdir()
    for seed, name in enumerate("ab"):
        write_llama(folder / f"{name}.gguf", seed=seed, n_ctx=CONTEXT)
    return folder


class Stream:
    """A streamed chat read in a thread."""

    def __init__(self, router: Router, model: str, tokens: int) -> None:
        self.data = b""
        self.failure: Exception | None = None
        self.first = threading.Event()
        self._body = {**LONG, "model": model, "max_tokens": tokens}
        self._router = router
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with (
                self._router.client() as client,
                client.stream("POST", "/v1/chat/completions", json=self._body) as answer,
            ):
                assert answer.status_code == 200
                for chunk in answer.iter_raw():
                    self.data += chunk
                    self.first.set()
        except httpx.HTTPError as error:
            self.failure = error

    def begun(self) -> Stream:
        assert self.first.wait(30)
        return self

    def join(self) -> Stream:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self

    def said(self) -> list[str]:
        """The pieces of text, without what differs from one answer to the next (ids, times)."""
        events = [line[6:] for line in self.data.split(b"\n") if line.startswith(b"data: {")]
        return [
            choice["delta"].get("content") or "" for event in events for choice in json.loads(event).get("choices", [])
        ]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_killed_in_mid_stream_breaks_that_stream_alone(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    # The crash comes from outside, while both models stream.
    router = serve(engine, "--models-dir", models_dir, "-c", CONTEXT)
    undisturbed = Stream(router, "b", 300).join().said()
    broken, other = Stream(router, "a", 100_000).begun(), Stream(router, "b", 300).begun()
    pid = router.pid("a")
    os.kill(pid, signal.SIGKILL)
    noticed = until(lambda: router.state("a") == "unloaded")
    assert noticed < 1.0
    broken.join()
    assert broken.failure is not None
    last = [line for line in broken.data.split(b"\n") if line.startswith(b"data: ")][-1]
    error = json.loads(last[6:])["error"]
    assert (error["reason"], error["code"]) == ("model_crashed", 502)
    assert "SIGKILL" in error["message"]
    assert b"[DONE]" not in broken.data
    assert other.join().said() == undisturbed
    assert other.failure is None
    with router.client() as client:
        again = client.post("/tokenize", json={"model": "a", "content": "x"})
        assert again.status_code == 200
    assert router.pid("a") != pid


def test_the_openai_sdk_sees_a_broken_stream_as_an_error(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "-c", CONTEXT)
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="none", http_client=router.client()) as client:
        stream = client.chat.completions.create(
            model="a", messages=[{"role": "user", "content": "x"}], max_tokens=100_000, stream=True,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        next(iter(stream))
        os.kill(router.pid("a"), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="SIGKILL"):
            for _ in stream:
                pass


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("moment", ["loading", "loaded", "stopped"])
def test_no_child_outlives_a_killed_router(serve: Serve, engine: Path | None, tmp_path: Path, moment: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    # Large enough to be seen while it loads.
    size = {"n_embd": 1024, "n_layer": 12} if moment == "loading" else {}
    write_llama(folder / "a.gguf", **size)
    router = serve(engine, "--models-dir", folder)
    with router.client() as client:
        client.post("/models/load", json={"model": "a", "wait": moment != "loading"})
    until(router.children)
    children = router.children()
    if moment == "stopped":
        os.kill(children[0], signal.SIGSTOP)
    router.process.kill()
    router.process.wait()
    assert until(lambda: not any(alive(pid) for pid in children), 5) < 1.0


def test_a_child_that_hangs_while_it_loads_is_killed_with_its_reason(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    write_llama(folder / "a.gguf", n_embd=1024, n_layer=12)
    write_llama(folder / "b.gguf")
    router = serve(None, "--models-dir", folder, "--load-stall", 1)
    with router.client() as client:
        client.post("/models/load", json={"model": "a"})
        until(lambda: router.children())
        os.kill(router.pid("a"), signal.SIGSTOP)
        answer = client.post("/tokenize", json={"model": "a", "content": "x"})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (504, "load_timeout")
        assert client.post("/tokenize", json={"model": "b", "content": "x"}).status_code == 200
        cooling = client.post("/tokenize", json={"model": "a", "content": "x"})
        assert cooling.status_code in (200, 503)


@pytest.mark.compiled
def test_a_child_that_hangs_in_mid_stream_is_killed_and_its_stream_told(serve: Serve, models_dir: Path) -> None:
    router = serve(COMPILED, "--models-dir", models_dir, "-c", CONTEXT, "--busy-stall", 1)
    stream = Stream(router, "a", 100_000).begun()
    os.kill(router.pid("a"), signal.SIGSTOP)
    stream.join()
    last = [line for line in stream.data.split(b"\n") if line.startswith(b"data: ")][-1]
    assert json.loads(last[6:])["error"]["reason"] == "upstream_timeout"
    assert router.state("a") == "unloaded"


def test_a_client_that_leaves_frees_its_slot(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "-c", CONTEXT, "-np", 1)
    with router.client() as client:
        with client.stream(
            "POST", "/v1/chat/completions", json={**LONG, "model": "a", "max_tokens": 100_000}
        ) as answer:
            next(answer.iter_raw())
        left = until(lambda: router.models()["a"]["lr"]["in_flight"] == 0)  # type: ignore[index]
        assert left < 1.0


def test_sigterm_lets_a_stream_end_and_refuses_newcomers(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "-c", CONTEXT)
    stream = Stream(router, "a", 1500).begun()
    router.process.send_signal(signal.SIGTERM)
    with router.client() as client:
        until(lambda: client.get("/readyz").status_code == 503)
        refused = client.post("/tokenize", json={"model": "b", "content": "x"})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "draining")
    assert stream.join().failure is None
    assert b"[DONE]" in stream.data
    assert router.process.wait(20) == 0


def test_a_second_sigterm_hurries(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "-c", CONTEXT)
    stream = Stream(router, "a", 1_000_000).begun()
    children = router.children()
    router.process.send_signal(signal.SIGTERM)
    with router.client() as client:
        until(lambda: client.get("/readyz").status_code == 503)
    router.process.send_signal(signal.SIGTERM)
    assert router.process.wait(15) == 0
    stream.join()
    assert not any(alive(pid) for pid in children)
