"""A conversation goes on without its client, until it is over or somebody stops it by its id."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until
from tests.tiny_gguf import write_llama

TALK = "talk/1::user/long"  # as the page writes it: a conversation and the model that it was asked of
CHAT = "/v1/chat/completions"


@pytest.fixture
def long_models(tmp_path: Path) -> Path:
    """One model with room for a long answer."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_llama(folder / "long.gguf", n_ctx=32768)
    return folder


def tell(**more: object) -> dict[str, Any]:
    return {"model": "long", "messages": [{"role": "user", "content": "Tell"}], "ignore_eos": True, **more}


def look_up(client: httpx.Client, *conversations: str) -> Any:
    answer = client.post("/v1/streams/lookup", json={"conversation_ids": conversations})
    assert answer.status_code == 200
    return answer.json()


def read_again(client: httpx.Client, **more: object) -> httpx.Response:
    return client.get("/v1/stream", params={"conv_id": TALK, **more})  # type: ignore[dict-item]


def in_flight(router: Router) -> object:
    ours = router.models()["long"]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_conversation_outlives_its_client_and_is_stopped_by_its_id(
    serve: Serve, engine: Path | None, long_models: Path
) -> None:
    router = serve(engine, "--models-dir", long_models, "--threads", 1)
    body = tell(stream=True)
    with router.client() as client:
        headers = {"X-Conversation-Id": "talk/1::long"}
        with client.stream("POST", CHAT, json=body, headers=headers) as answer:
            next(answer.iter_raw())
        assert client.delete("/v1/stream", params={"conv_id": "another"}).status_code == 204
        assert in_flight(router) == 1
        assert client.delete("/v1/stream", params={"conv_id": "talk/1::long"}).status_code == 204
        until(lambda: in_flight(router) == 0, seconds=2)
        assert client.delete("/v1/stream").json()["error"]["code"] == 400
        assert look_up(client, "talk/1::long") == []


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_is_read_again_and_a_stop_forgets_it(serve: Serve, engine: Path | None, long_models: Path) -> None:
    router = serve(engine, "--models-dir", long_models)
    with router.client() as client:
        body = tell(stream=True, max_tokens=16)
        whole = client.post(CHAT, json=body, headers={"X-Conversation-Id": TALK}).content
        assert whole.endswith(b"data: [DONE]\n\n")
        again = read_again(client)
        assert (again.content, again.headers["content-type"]) == (whole, "text/event-stream")
        assert read_again(client, **{"from": 100}).content == whole[100:]
        (entry,) = look_up(client, TALK, "another")
        assert (entry["conversation_id"], entry["is_done"], entry["total_bytes"]) == (TALK, True, len(whole))
        assert entry["started_at"] <= entry["completed_at"]
        wrong = read_again(client, **{"from": "ten"})
        assert (wrong.status_code, wrong.json()["error"]["message"]) == (400, "Invalid 'from' offset")
        assert client.delete("/v1/stream", params={"conv_id": TALK}).status_code == 204
        gone = read_again(client)
        assert (gone.status_code, gone.json()["error"]["message"]) == (404, "Stream not found or expired")


@pytest.mark.compiled
def test_a_client_that_comes_back_hears_what_it_has_missed_and_what_is_still_said(
    serve: Serve, long_models: Path
) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--threads", 1)
    headers = {"X-Conversation-Id": TALK}
    with router.client() as client:
        with client.stream("POST", CHAT, json=tell(stream=True, max_tokens=2000), headers=headers) as answer:
            heard = next(answer.iter_raw())
        assert in_flight(router) == 1
        again = read_again(client)
        assert again.content.startswith(heard)
        assert again.content.count(b"data: ") > 1000
        assert again.content.endswith(b"data: [DONE]\n\n")
        until(lambda: in_flight(router) == 0)
        # One that fell behind what the child keeps (4 MiB) begins anew.
        long = {"model": "long", "prompt": "a", "n_predict": 7000, "n_probs": 10, "ignore_eos": True, "stream": True}
        assert len(client.post("/completion", json=long, headers=headers).content) > 4 << 20
        lost = read_again(client, **{"from": 0})
        assert (lost.status_code, lost.json()["error"]["message"]) == (400, "Stream offset lost, please restart")


@pytest.mark.compiled
def test_a_stop_cancels_what_waits_for_the_load(serve: Serve, long_models: Path) -> None:
    # The load begins two seconds late, so that there is a wait to stop in.
    router = serve(COMPILED, "--models-dir", long_models, LLAMA_SERVER_DEBUG_FAKE_TIMING="1")
    answers: list[httpx.Response] = []
    headers = {"X-Conversation-Id": TALK}
    with router.client() as client:
        asking = threading.Thread(
            target=lambda: answers.append(client.post(CHAT, json=tell(stream=True), headers=headers))
        )
        asking.start()
        until(lambda: read_again(client).status_code == 503)
        early = read_again(client)
        assert early.json()["error"]["message"] == "Stream owner model is loading, retry later"
        assert client.delete("/v1/stream", params={"conv_id": TALK}).status_code == 204
        asking.join()
        assert answers[0].status_code == 400
        assert answers[0].json()["error"]["message"] == "request cancelled by a stop while the model was loading"
        assert read_again(client).status_code == 404


@pytest.mark.compiled
def test_a_page_that_is_reloaded_during_the_load_finds_its_answer(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models, LLAMA_SERVER_DEBUG_FAKE_TIMING="1")
    with router.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(CHAT, json=tell(stream=True, max_tokens=16), headers={"X-Conversation-Id": TALK}, timeout=0.7)
        assert read_again(client).status_code == 503
        until(lambda: read_again(client).status_code == 200, seconds=30)
        assert read_again(client).content.endswith(b"data: [DONE]\n\n")


@pytest.mark.compiled
def test_a_stop_is_heard_before_the_first_token(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--threads", 1, "--parallel", 1)
    with router.client() as client:
        client.post(CHAT, json=tell(max_tokens=1))
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(
                client.post(CHAT, json=tell(max_tokens=30000), headers={"X-Conversation-Id": TALK})
            )
        )
        asking.start()
        until(lambda: in_flight(router) == 1)
        client.delete("/v1/stream", params={"conv_id": TALK})
        asking.join()
        assert (answers[0].status_code, answers[0].json()["error"]["message"]) == (400, "request cancelled by a stop")
        assert client.post(CHAT, json=tell(max_tokens=1)).status_code == 200


@pytest.mark.compiled
def test_an_answer_that_is_asked_for_anew_takes_the_only_slot_from_the_one_before(
    serve: Serve, long_models: Path
) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--threads", 1, "--parallel", 1)
    headers = {"X-Conversation-Id": TALK}
    with router.client() as client:
        with client.stream("POST", CHAT, json=tell(stream=True), headers=headers) as answer:
            next(answer.iter_raw())
        again = client.post(CHAT, json=tell(stream=True, max_tokens=4), headers=headers)
        assert again.content.endswith(b"data: [DONE]\n\n")
        assert read_again(client).content == again.content


@pytest.mark.compiled
def test_a_model_falls_asleep_and_wakes_and_its_answers_are_kept(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--sleep-idle-seconds", 1)
    with router.client() as client:
        headers = {"X-Conversation-Id": TALK}
        whole = client.post(CHAT, json=tell(stream=True, max_tokens=16), headers=headers).content
        until(lambda: router.state("long") == "sleeping")
        assert read_again(client).content == whole
        assert len(look_up(client, TALK)) == 1
        for path in ("/health", "/models", "/props?model=long", "/metrics?model=long"):
            assert client.get(path).status_code == 200
        assert router.state("long") == "sleeping"
        heard: list[str] = []
        listening = threading.Event()

        def listen() -> None:
            with router.client() as other, other.stream("GET", "/models/sse") as feed:
                listening.set()
                heard.extend(line for line in feed.iter_lines() if line)

        listener = threading.Thread(target=listen)
        listener.start()
        listening.wait(10)
        assert client.post(CHAT, json=tell(max_tokens=2)).status_code == 200
        assert router.state("long") == "loaded"
        assert client.delete("/v1/stream", params={"conv_id": TALK}).status_code == 204
    assert router.stop() == 0
    listener.join()
    words = [line.partition('"status":"')[2].partition('"')[0] for line in heard]
    assert words[:2] == ["loading", "loading"]
    assert "loaded" in words


@pytest.mark.compiled
def test_reasoning_is_ended_at_the_model_that_reasons(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models)
    with router.client() as client:
        client.post(CHAT, json=tell(max_tokens=1))
        body = {"id": "chatcmpl-x", "action": "reasoning_end", "model": "long"}
        answer = client.post(f"{CHAT}/control", json=body)
        assert answer.json() == {"success": False, "message": "no active completion for this id"}
        assert client.post(f"{CHAT}/control", json=body | {"action": "dance"}).status_code == 400


@pytest.mark.compiled
def test_a_client_that_leaves_an_answer_that_is_not_streamed_stops_it(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--threads", 1, "--parallel", 1)
    with router.client() as client:
        client.post(CHAT, json=tell(max_tokens=1))
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                "/completion",
                json={"model": "long", "prompt": "a", "n_predict": 30000, "ignore_eos": True},
                timeout=0.5,
            )
        until(lambda: in_flight(router) == 0, seconds=1)
        # All 30,000 tokens take more than ten seconds; llama-server looks once a second whether anybody listens.
        begun = time.monotonic()
        assert client.post(CHAT, json=tell(max_tokens=1)).status_code == 200
        assert time.monotonic() - begun < 8


@pytest.mark.compiled
def test_a_router_that_stops_does_not_wait_for_what_nobody_hears(serve: Serve, long_models: Path) -> None:
    router = serve(COMPILED, "--models-dir", long_models, "--threads", 1)
    with router.client() as client:
        with client.stream("POST", CHAT, json=tell(stream=True), headers={"X-Conversation-Id": TALK}) as answer:
            next(answer.iter_raw())
        assert in_flight(router) == 1
        assert router.stop(seconds=8) == 0
