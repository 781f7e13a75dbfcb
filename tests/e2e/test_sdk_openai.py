"""OpenAI's own client, as it is, against whole routers: what it sends is answered, what fails is its exception.

What a model with random weights says is nonsense; that the pieces of a stream are the whole answer, that a grammar and
a tool hold, and that nothing is asked twice can be seen all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until
from tests.e2e.sdk_models import HELLO, WEATHER, write_models
from tests.tiny_gguf import write_llama

SAME: dict[str, Any] = {"model": "a", "temperature": 0, "seed": 1}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


class Client:
    """The client and a count of what it sends."""

    def __init__(self, router: Router, **options: Any) -> None:
        self.sent = 0
        http = router.client(event_hooks={"request": [self._count]})
        self.openai = openai.OpenAI(base_url=f"{router.url}/v1", **{"api_key": "none", **options}, http_client=http)

    def _count(self, request: httpx.Request) -> None:
        self.sent += 1


@contextmanager
def client_of(router: Router, **options: Any) -> Iterator[Client]:
    client = Client(router, **options)
    with client.openai:
        yield client


def whole(text: str | None) -> str:
    """Without the character that a limit cut in two: streamed it is left out, else it is shown as broken."""
    return (text or "").rstrip("\ufffd")


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_it_can_ask_for_streamed_and_not(serve: Serve, engine: Path | None, tmp_path: Path) -> None:
    router = serve(engine, *write_models(tmp_path))
    with client_of(router) as client:
        chats(client.openai)
        completions(client.openai)
        responses(client.openai)
        tools(client.openai)
        embeddings(client.openai)
        assert [model.id for model in client.openai.models.list()] == ["a", "e", "t"]
        assert client.openai.models.retrieve("a").id == "a"


def chats(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(**SAME, messages=HELLO, max_tokens=8)
    assert said.usage is not None
    assert said.usage.completion_tokens == 8
    usage = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(**SAME, messages=HELLO, max_tokens=8, stream=True, stream_options=usage)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole(text) == whole(said.choices[0].message.content)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    schema = {"name": "answer", "schema": {"enum": ["yes", "no"]}}
    forced = client.chat.completions.create(
        **SAME, messages=HELLO, max_tokens=50, response_format={"type": "json_schema", "json_schema": schema}
    )
    assert json.loads(forced.choices[0].message.content or "") in ("yes", "no")


def completions(client: openai.OpenAI) -> None:
    said = client.completions.create(**SAME, prompt="x", max_tokens=8)
    assert said.choices[0].finish_reason == "length"
    chunks = list(client.completions.create(**SAME, prompt="x", max_tokens=8, stream=True))
    assert whole("".join(chunk.choices[0].text for chunk in chunks)) == whole(said.choices[0].text)
    assert len(chunks) > 3


def responses(client: openai.OpenAI) -> None:
    said = client.responses.create(model="a", temperature=0, input="Hello", max_output_tokens=8)
    assert said.status == "completed"
    assert said.usage is not None
    assert said.usage.output_tokens == 8
    events = list(client.responses.create(model="a", temperature=0, input="Hello", max_output_tokens=8, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert whole(text) == whole(said.output_text)
    assert text


def tools(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "t",
        "messages": HELLO,
        "tools": [TOOL],
        "tool_choice": "required",
        "max_tokens": 200,
        "temperature": 0,
    }
    call, *_ = client.chat.completions.create(**asked).choices[0].message.tool_calls or ()  # it may go on calling
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    deltas = [
        delta
        for chunk in client.chat.completions.create(**asked, stream=True)
        for choice in chunk.choices
        for delta in choice.delta.tool_calls or ()
        if delta.index == 0
    ]
    assert deltas[0].function is not None
    assert deltas[0].function.name == "weather"
    parts = [delta.function.arguments or "" for delta in deltas if delta.function is not None]
    assert json.loads("".join(parts)) == json.loads(call.function.arguments)
    assert len(parts) > 3
    # And back: the model is shown what it called, and what came of it.
    called = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    talk: Any = [*HELLO, called, result]
    answer = client.chat.completions.create(model="t", messages=talk, tools=[TOOL], tool_choice="none", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def embeddings(client: openai.OpenAI) -> None:
    # By default the client asks for base64, and decodes it.
    packed = client.embeddings.create(model="e", input=["one", "two"])
    plain = client.embeddings.create(model="e", input=["one", "two"], encoding_format="float")
    assert [len(each.embedding) for each in packed.data] == [64, 64]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-5)
    assert packed.data[0].embedding != packed.data[1].embedding


@pytest.mark.compiled
def test_what_fails_is_its_exception_and_is_asked_again_only_where_that_helps(serve: Serve, tmp_path: Path) -> None:
    arguments = write_models(tmp_path)
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    router = serve(COMPILED, *arguments, "--api-key", "sesame")
    with client_of(router, api_key="wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.openai.chat.completions.create(model="a", messages=HELLO)
        assert client.sent == 1
    assert refused.value.type == "authentication_error"

    failures: list[tuple[type[openai.APIStatusError], str, dict[str, Any]]] = [
        (openai.NotFoundError, "model 'nobody' not found", {"model": "nobody", "messages": HELLO}),
        (openai.BadRequestError, "Expected 'messages' to be an array", {"model": "a", "messages": "x"}),  # the child's
        (
            openai.BadRequestError,
            "exceeds the available context size",
            {"model": "a", "messages": [{"role": "user", "content": "much " * 5000}]},
        ),
        (openai.InternalServerError, "model 'broken'", {"model": "broken", "messages": HELLO}),
    ]
    for kind, text, asked in failures:
        with client_of(router, api_key="sesame") as client:
            with pytest.raises(kind, match=text):
                client.openai.chat.completions.create(**asked)
            assert client.sent == 1, text  # none of these would be otherwise the second time
            with pytest.raises(kind, match=text):
                client.openai.chat.completions.create(**asked, stream=True)
            assert client.sent == 2, text


@pytest.mark.compiled
def test_an_answer_that_dies_is_an_error_and_is_not_made_twice(serve: Serve, tmp_path: Path) -> None:
    write_slow(tmp_path / "models")
    router = serve(COMPILED, "--models-dir", tmp_path / "models", "--threads", 1)
    with client_of(router) as client:
        stream = client.openai.chat.completions.create(model="slow", messages=HELLO, stream=True, **ENDLESS)
        next(iter(stream))
        os.kill(router.pid("slow"), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="slow"):
            list(stream)
        assert client.sent == 1
        assert sum("loading slow" in line for line in router.output) == 1
        # It comes again when somebody asks again.
        again = client.openai.chat.completions.create(model="slow", messages=HELLO, max_tokens=2)
        assert again.usage is not None
        assert again.usage.completion_tokens == 2


@pytest.mark.compiled
def test_a_full_queue_is_a_rate_limit(serve: Serve, tmp_path: Path) -> None:
    write_slow(tmp_path / "models")
    router = serve(COMPILED, "--models-dir", tmp_path / "models", "--parallel", 1, "--threads", 1)
    body = json.dumps({"model": "slow", "prompt": "x", "ignore_eos": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    address = httpx.URL(router.url)
    with ExitStack() as waiting, client_of(router, max_retries=0) as client:
        for number in range(1 + QUEUE):  # one is answered, the others wait for its slot
            connection = waiting.enter_context(socket.create_connection((address.host, address.port or 80), 10))
            connection.sendall(head + body)
            if number == 0:
                until(lambda: in_flight(router) == 1, 30)
        until(lambda: waiting_for(router) == QUEUE, 30)
        with pytest.raises(openai.RateLimitError) as refused:
            client.openai.chat.completions.create(model="slow", messages=HELLO)
        assert refused.value.type == "rate_limit_error"
        assert int(refused.value.response.headers["retry-after"]) > 0
    until(lambda: waiting_for(router) == 0, 30)


QUEUE = 1024  # requests that may wait for one model


def waiting_for(router: Router) -> int:
    ours = router.models()["slow"]["lr"]
    assert isinstance(ours, dict)
    return int(ours["waiting"])


ENDLESS: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


def write_slow(folder: Path) -> None:
    """A model whose answer takes as long as a test needs it."""
    folder.mkdir()
    write_llama(folder / "slow.gguf", n_ctx=32768, n_embd=512, n_layer=6, quant="Q8_0")


@pytest.mark.anyio
@pytest.mark.compiled
async def test_a_call_that_is_cancelled_frees_its_slot(serve: Serve, tmp_path: Path) -> None:
    write_slow(tmp_path / "models")
    router = serve(COMPILED, "--models-dir", tmp_path / "models", "--parallel", 1, "--threads", 1)
    http = httpx.AsyncClient(trust_env=False, timeout=60)
    async with openai.AsyncOpenAI(base_url=f"{router.url}/v1", api_key="none", http_client=http) as client:
        for streamed in (True, False):
            await cancelled_in_mid_answer(client, router, streamed=streamed)
            # The only slot: without it nobody would be answered for the next quarter of an hour.
            answer = await client.chat.completions.create(model="slow", messages=HELLO, max_tokens=1)
            assert answer.choices
    assert sum("loading slow" in line for line in router.output) == 1


async def cancelled_in_mid_answer(client: openai.AsyncOpenAI, router: Router, *, streamed: bool) -> None:
    async def talk() -> None:
        answer: Any = await client.chat.completions.create(model="slow", messages=HELLO, stream=streamed, **ENDLESS)
        async for _ in answer:
            pass

    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(talk())
        await asyncio.to_thread(until, lambda: in_flight(router) == 1, 30)
        talking.cancel()
        await asyncio.to_thread(until, lambda: in_flight(router) == 0, 10)


def in_flight(router: Router) -> int:
    """Requests inside the child. (To ask the child itself keeps it from seeing that its client has left.)"""
    ours = router.models()["slow"]["lr"]
    assert isinstance(ours, dict)
    return int(ours.get("in_flight", 0))
