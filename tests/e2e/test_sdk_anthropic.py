"""Anthropic's own client, as it is, against whole routers.

The model whose bias makes it say the same whole word again and again is asked, never a random one: where the first
token of an answer is half a character, llama-server leaves `message_start` out, and the client has nothing to add to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve
from tests.e2e.sdk_models import HELLO, WEATHER, write_models

SAME: Any = {"model": "t", "messages": HELLO}
TOOL: Any = {"name": "weather", "input_schema": WEATHER}


class Client:
    """The client and a count of what it sends."""

    def __init__(self, router: Router, **options: Any) -> None:
        self.sent = 0
        http = anthropic.DefaultHttpxClient(trust_env=False, event_hooks={"request": [self._count]})
        self.anthropic = anthropic.Anthropic(base_url=router.url, **{"api_key": "none", **options}, http_client=http)

    def _count(self, request: object) -> None:
        self.sent += 1


@contextmanager
def client_of(router: Router, **options: Any) -> Iterator[Client]:
    client = Client(router, **options)
    with client.anthropic:
        yield client


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_it_can_ask_for_streamed_and_not(serve: Serve, engine: Path | None, tmp_path: Path) -> None:
    router = serve(engine, *write_models(tmp_path))
    with client_of(router) as client:
        messages(client.anthropic)
        tools(client.anthropic)
        count = client.anthropic.messages.count_tokens(model="t", messages=SAME["messages"])
        more = client.anthropic.messages.count_tokens(model="t", messages=SAME["messages"] * 3)
        assert 0 < count.input_tokens < more.input_tokens
        assert [model.id for model in client.anthropic.models.list()] == ["a", "e", "t"]


def messages(client: anthropic.Anthropic) -> None:
    said = client.messages.create(**SAME, max_tokens=6)
    assert said.usage.output_tokens == 6
    assert said.stop_reason == "max_tokens"
    (block,) = said.content
    assert block.type == "text"
    with client.messages.stream(**SAME, max_tokens=6) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert [each.model_dump(exclude={"parsed_output"}) for each in final.content] == [block.model_dump()]
    assert final.usage.output_tokens == 6
    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert events.count("content_block_delta") >= 5  # it came in pieces


def tools(client: anthropic.Anthropic) -> None:
    asked: Any = {**SAME, "max_tokens": 200, "tools": [TOOL], "tool_choice": {"type": "any"}}
    call = client.messages.create(**asked).content[0]  # it may go on calling
    assert call.type == "tool_use"
    assert call.name == "weather"
    assert call.input["city"] in ("Rome", "Oslo")
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message().content[0]
    assert streamed.type == "tool_use"
    assert streamed.input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    talk = [*HELLO, {"role": "assistant", "content": [call.model_dump()]}, {"role": "user", "content": [result]}]
    again = client.messages.create(**{**asked, "messages": talk, "tool_choice": {"type": "auto"}, "max_tokens": 4})
    assert again.usage.output_tokens == 4


@pytest.mark.compiled
def test_what_fails_is_its_exception_and_is_asked_again_only_where_that_helps(serve: Serve, tmp_path: Path) -> None:
    arguments = write_models(tmp_path)
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    router = serve(COMPILED, *arguments, "--api-key", "sesame")
    with client_of(router, api_key="wrong") as client:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            client.anthropic.messages.create(**SAME, max_tokens=4)
        assert client.sent == 1
    assert refused.value.type == "authentication_error"

    long = [{"role": "user", "content": "much " * 5000}]
    failures: list[tuple[type[anthropic.APIStatusError], str, dict[str, Any]]] = [
        (anthropic.NotFoundError, "model 'nobody' not found", {"model": "nobody"}),
        (anthropic.BadRequestError, "exceeds the available context size", {"messages": long}),  # the child's
        (anthropic.InternalServerError, "model 'broken'", {"model": "broken"}),
    ]
    for kind, text, other in failures:
        with client_of(router, api_key="sesame") as client:
            with pytest.raises(kind) as failed:
                client.anthropic.messages.create(**{**SAME, **other}, max_tokens=4)
            assert text in str(failed.value.api_message)
            assert client.sent == 1, text  # none of these would be otherwise the second time
            with pytest.raises(kind), client.anthropic.messages.stream(**{**SAME, **other}, max_tokens=4):
                pass
            assert client.sent == 2, text


@pytest.mark.compiled
def test_an_answer_that_dies_is_an_error_and_is_not_made_twice(serve: Serve, tmp_path: Path) -> None:
    router = serve(COMPILED, *write_models(tmp_path))
    with client_of(router) as client:
        stream = client.anthropic.messages.create(**SAME, max_tokens=4000, stream=True)
        next(iter(stream))
        os.kill(router.pid("t"), signal.SIGKILL)
        with pytest.raises(anthropic.APIError, match="SIGKILL"):
            list(stream)
        assert client.sent == 1
        assert sum("loading t" in line for line in router.output) == 1
