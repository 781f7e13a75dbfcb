"""The clients of OpenAI and Anthropic while they wait: they skip the router's comments, and raise what fails then.

One slot, held by a request that goes on until a test lets it go: all others wait, and hear comments after 0.2 s.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from tests.e2e.conftest import COMPILED, Router, Serve, until
from tests.e2e.sdk_models import HELLO
from tests.tiny_gguf import write_llama

pytestmark = pytest.mark.compiled

LONG: Any = [{"role": "user", "content": "much " * 40_000}]


def waiting_router(serve: Serve, folder: Path, *arguments: object) -> Router:
    (folder / "models").mkdir()
    write_llama(folder / "models" / "slow.gguf", n_ctx=32768, n_embd=512, n_layer=6, quant="Q8_0")
    own = ("--wait-comment", 0.2, "--parallel", 1, "--threads", 1)
    router = serve(COMPILED, "--models-dir", folder / "models", *own, *arguments)
    with router.client() as client:
        client.post("/models/load", json={"model": "slow"})
    until(lambda: router.state("slow") == "loaded")
    return router


@contextmanager
def held_slot(router: Router) -> Iterator[Callable[[], None]]:
    """The one slot is taken until it is let go."""
    body = json.dumps({"model": "slow", "prompt": "x", "ignore_eos": True, "stream": True}).encode()
    address = urlsplit(router.url)
    with socket.create_connection((address.hostname, address.port or 80)) as holder:
        holder.sendall(
            b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        heard = b""
        while b"data: " not in heard:  # a token: comments come without a slot, too
            part = holder.recv(1 << 16)
            assert part, heard
            heard += part
        yield holder.close


@contextmanager
def openai_of(router: Router) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="none", http_client=router.client()) as client:
        yield client


@contextmanager
def anthropic_of(router: Router) -> Iterator[anthropic.Anthropic]:
    http = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=router.url, api_key="none", http_client=http) as client:
        yield client


def is_waiting(router: Router) -> bool:
    ours = router.models()["slow"]["lr"]
    assert isinstance(ours, dict)
    return bool(ours["waiting"])


def test_openai_skips_the_comments(serve: Serve, tmp_path: Path) -> None:
    router = waiting_router(serve, tmp_path)
    with openai_of(router) as client:
        asked: dict[str, Any] = {"model": "slow", "messages": HELLO, "max_tokens": 4, "stream": True}
        with held_slot(router) as let_go:
            stream = client.chat.completions.create(**asked)  # its status is here, its turn is not
            assert is_waiting(router)
            let_go()
            assert [choice.finish_reason for chunk in stream for choice in chunk.choices][-1] == "length"
        with held_slot(router) as let_go:
            completion = client.completions.create(model="slow", prompt="x", max_tokens=4, stream=True)
            assert is_waiting(router)
            let_go()
            assert [chunk.choices[0].finish_reason for chunk in completion][-1] == "length"
        with held_slot(router) as let_go:
            events = client.responses.create(model="slow", input="x", max_output_tokens=4, stream=True)
            assert is_waiting(router)
            let_go()
            assert [event.type for event in events][-1] == "response.completed"


def test_anthropic_skips_the_comments(serve: Serve, tmp_path: Path) -> None:
    router = waiting_router(serve, tmp_path)
    asked: Any = {"model": "slow", "messages": HELLO, "max_tokens": 4}
    with anthropic_of(router) as client, held_slot(router) as let_go, client.messages.stream(**asked) as stream:
        assert is_waiting(router)
        let_go()
        assert [event.type for event in stream][-1] == "message_stop"


def test_a_wait_that_is_over_is_their_exception(serve: Serve, tmp_path: Path) -> None:
    router = waiting_router(serve, tmp_path, "--queue-timeout", 1)
    with openai_of(router) as client, held_slot(router):
        chat: Any = client.chat.completions.create(model="slow", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="had no room for this request within 1 s") as failed:
            list(chat)
        assert isinstance(failed.value.body, dict)
        assert failed.value.body["reason"] == "queue_timeout"
        # For OpenAI the error of a response is one of its events; what raises is the body without an end behind it.
        events = iter(client.responses.create(model="slow", input="x", stream=True))
        event = next(events)
        assert event.type == "error"
        assert "had no room" in event.message
        with pytest.raises(openai.APIError):
            next(events)
    with anthropic_of(router) as claude, held_slot(router):
        with (
            pytest.raises(anthropic.APIStatusError, match="had no room") as refused,
            claude.messages.stream(model="slow", messages=HELLO, max_tokens=4) as stream,  # type: ignore[arg-type]
        ):
            list(stream)
        assert refused.value.type == "overloaded_error"


def test_what_the_model_refuses_behind_a_comment_is_their_exception(serve: Serve, tmp_path: Path) -> None:
    router = waiting_router(serve, tmp_path)
    with openai_of(router) as client, held_slot(router) as let_go:
        chat: Any = client.chat.completions.create(model="slow", messages=LONG, stream=True)
        until(lambda: is_waiting(router))
        let_go()
        with pytest.raises(openai.APIError, match="exceeds the available context size"):
            list(chat)
    with anthropic_of(router) as claude, held_slot(router) as let_go:
        messages: Any = {"model": "slow", "messages": LONG, "max_tokens": 4}
        with claude.messages.stream(**messages) as stream:
            until(lambda: is_waiting(router))
            let_go()
            with pytest.raises(anthropic.APIStatusError, match="exceeds the available context size"):
                list(stream)
