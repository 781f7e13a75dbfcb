"""The metrics of a router as Prometheus takes them, over a real engine: what they say is what was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINES, Serve, until
from tests.prometheus import OPEN, Series, read, read_open, series

CHAT = "/v1/chat/completions"


def of(known: Series, name: str, **labels: str) -> float | None:
    return known.get((name, frozenset(labels.items())))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_done_is_what_a_scrape_says(serve: Serve, models_dir: Path, engine: Path | None) -> None:
    router = serve(engine, "--models-dir", models_dir, "--parallel", "2", "-c", "512")
    with router.client() as client:

        def scraped() -> Series:
            return series(read(client.get("/metrics").content))

        told = {"prompt": 0, "cached": 0, "generated": 0}
        for number in range(6):
            # Twice the same words: the second time some of them are cached.
            messages = [{"role": "user", "content": f"Tell me about the number {number // 2}, and why."}]
            asked = {"model": "a", "messages": messages, "max_tokens": 5 + number, "stream": number % 2 == 1}
            if asked["stream"]:
                asked["stream_options"] = {"include_usage": True}
            answer = client.post(CHAT, json=asked)
            assert answer.status_code == 200
            usage = usage_in(answer.text)
            told["cached"] += (cached := usage["prompt_tokens_details"]["cached_tokens"])
            told["prompt"] += usage["prompt_tokens"] - cached
            told["generated"] += usage["completion_tokens"]
        assert client.post("/tokenize", json={"model": "b", "content": "x"}).status_code == 200
        assert client.post(CHAT, json={"model": "nobody", "messages": []}).status_code == 404
        known = scraped()
        assert of(known, "llamarouter_requests_total", model="a", route="chat", status="2xx") == 6
        assert of(known, "llamarouter_requests_total", model="b", route="tokens", status="2xx") == 1
        assert of(known, "llamarouter_requests_total", model="_unknown", route="chat", status="4xx") == 1
        assert of(known, "llamarouter_loads_total", model="a", result="ready") == 1
        assert of(known, "llamarouter_models", state="loaded") == 2
        assert of(known, "llamarouter_models", state="unloaded") == 1
        assert of(known, "llamarouter_connections") == 1
        counted = {
            kind: of(known, "llamarouter_tokens_total", model="a", kind=kind, estimated="false") or 0 for kind in told
        }
        assert counted == told
        assert told["generated"] > 0
        assert of(known, "llamarouter_tokens_total", model="a", kind="generated", estimated="true") is None
        # Its own word about it comes a while later, by itself.
        until(lambda: of(scraped(), "llamacpp:tokens_predicted_total", model="a") == told["generated"], 25)
        assert of(scraped(), "llamacpp:prompt_tokens_total", model="a") == told["prompt"]
        assert read_open(client.get("/metrics", headers={"accept": OPEN}).content)["llamacpp:n_tokens_max"]


@pytest.mark.parametrize("engine", ENGINES)
def test_scrapes_keep_no_model_awake(serve: Serve, models_dir: Path, engine: Path | None) -> None:
    router = serve(engine, "--models-dir", models_dir, "--sleep-idle-seconds", "2", "--ttl", "6s")
    with router.client() as client:

        def state() -> str:
            known = series(read(client.get("/metrics").content))
            (word,) = (dict(labels)["state"] for name, labels in known if ("model", "a") in labels and "state" in name)
            return word

        assert state() == "unloaded"
        assert client.post("/tokenize", json={"model": "a", "content": "x"}).status_code == 200
        assert state() == "loaded"
        until(lambda: state() == "sleeping", 20)  # though asked all the time
        until(lambda: state() == "unloaded", 20)


def usage_in(text: str) -> dict[str, int]:
    """The usage that an answer tells at its end, a stream or not."""
    import json

    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith(("data: {", "{"))]
    usages = [json.loads(line).get("usage") for line in lines]
    (usage,) = [usage for usage in usages if usage]
    return usage
