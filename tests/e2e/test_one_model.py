"""`lr serve -m FILE` and `-hf USER/MODEL` as a person types them, and what else a command line says."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until
from tests.fake_hub import Fault, running
from tests.tiny_gguf import write_llama

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}


def answers(router: Router, **more: object) -> httpx.Response:
    with router.client() as client:
        return client.post("/v1/chat/completions", json={**HELLO, **more})


@pytest.mark.parametrize("engine", ENGINES)
def test_one_file_is_loaded_at_start_and_answers_who_names_none(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    router = serve(engine, "-m", models_dir / "a.gguf", "--alias", "gpt-4,mine", "-c", 256)
    until(lambda: router.state("gpt-4") == "loaded", 30)
    assert list(router.models()) == ["gpt-4"]
    assert router.models()["gpt-4"]["aliases"] == ["a", "mine"]
    for model in (None, "", "gpt-4", "mine", "a", "a.gguf", "whatever a client must say"):
        answer = answers(router, model=model)
        assert answer.status_code == 200, (model, answer.text)
        assert answer.json()["model"] == "gpt-4"
    with router.client() as client:
        assert client.post("/models", json={"model": "user/other"}).json()["error"]["reason"] == "feature_disabled"
        assert client.get("/slots").json()[0]["n_ctx"] == 256
        assert client.get("/props").json()["role"] == "router"
    assert router.stop() == 0


def test_a_model_of_the_hub_is_fetched_by_the_router_and_its_token_is_nowhere(serve: Serve, tmp_path: Path) -> None:
    with running() as hub:
        data = write_llama(tmp_path / "x.gguf").read_bytes()
        hub.add("user/model", {"model-Q4_K_M.gguf": data, "model-Q8_0.gguf": data}, private=True)
        hold = threading.Event()
        hub.faults.append(Fault(hold=hold, cut=1000))
        words = ("-hf", "user/model:q8_0", "--hf-token", hub.token)
        router = serve(None, *words, HF_ENDPOINT=hub.endpoint)
        until(lambda: router.state("user/model:Q8_0") == "downloading")
        hub.faults.clear()
        hold.set()
        until(lambda: router.state("user/model:Q8_0") == "loaded", 30)
        assert answers(router).status_code == 200
        everything = json.dumps(router.models()) + "".join(router.output)
        arguments = [Path(f"/proc/{pid}/cmdline").read_text() for pid in router.children()]
        assert hub.token not in everything + "".join(arguments)
        (entry,) = router.models().values()
        args = entry["status"]["args"]  # type: ignore[index]
        assert args[args.index("--model") + 1].endswith("model-Q8_0.gguf")
        assert "--hf-repo" not in args
        assert router.stop() == 0
        seen = len(hub.seen)
        again = serve(None, *words, "--offline", HF_ENDPOINT=hub.endpoint)
        until(lambda: again.state("user/model:Q8_0") == "loaded", 30)
        assert len(hub.seen) == seen  # what is here is started from its file, without a question


def test_what_lr_pull_fetches_meanwhile_is_for_the_next_router(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    with running() as hub:
        hub.add("user/model", {"model-Q8_0.gguf": write_llama(tmp_path / "x.gguf").read_bytes()})
        router = serve(None, "-m", models_dir / "a.gguf", HF_ENDPOINT=hub.endpoint)
        pulled = router.lr("pull", "user/model")
        assert (pulled.returncode, pulled.stderr) == (0, "")
        assert "serves only what its command line names: it will not list user/model" in pulled.stdout
        assert "user/model:Q8_0 is here" in pulled.stdout
        assert list(router.models()) == ["a"]
        router.stop()
        assert "user/model:Q8_0" in router.lr("ls").stdout


def test_one_that_cannot_be_fetched_says_so_to_whoever_asks(serve: Serve) -> None:
    with running() as hub:
        hub.add("user/other", {"x.gguf": b"x"})
        router = serve(None, "-hf", "user/nothing", HF_ENDPOINT=hub.endpoint)
        answer = answers(router)
        assert answer.status_code == 404
        assert "user/nothing" in answer.json()["error"]["message"]
        assert router.process.poll() is None


@pytest.mark.compiled
def test_the_options_of_all_models_reach_a_real_one(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "router.log"
    words = ("-m", models_dir / "a.gguf", "--log-file", log, "-lv", 4, "--timeout", 77)
    more = ("--control-vector-layer-range", 1, 2, "--no_warmup", "--tags", "x,y", "--log-prefix", "--log-timestamps")
    router = serve(COMPILED, *words, *more, LLAMA_ARG_NO_PERF="0", LLAMA_ARG_CTX_SIZE="128")
    until(lambda: router.state("a") == "loaded", 30)
    (entry,) = router.models().values()
    args = " ".join(entry["status"]["args"])  # type: ignore[index]
    for said in ("--control-vector-layer-range 1 2", "--no-warmup", "--no-perf", "--ctx-size 128", "--timeout 77"):
        assert said in args
    assert "--log-verbosity 4" in args
    assert "--log-file" not in args
    assert entry["tags"] == ["x", "y"]
    with router.client() as client:
        assert client.post("/tokenize", json={"content": "hello"}).status_code == 200
    assert "loading a" in log.read_text()
    assert router.stop() == 0


def test_a_socket_is_replaced_where_nobody_listens_any_more_and_goes_away_at_the_end(
    serve: Serve, models_dir: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:  # a socket's path must be short
        path = Path(folder) / "door.sock"
        first = serve(None, "--host", path, "--models-dir", models_dir)
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://router") as client:
            assert client.get("/health").status_code == 200
        first.process.kill()
        first.process.wait()
        assert path.exists()
        again = serve(None, "--host", f"127.0.0.1,{path}", "--models-dir", models_dir)
        assert answers(again, model="a").status_code == 200
        assert again.stop() == 0
        assert not path.exists()
