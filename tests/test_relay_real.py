"""Through the router and straight: the answers of a real llama-server are the same, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay_rig import WAYS, Answer, post, read_answer, relay, wait_for_child
from tests.tiny_gguf import write_llama
from tests.waiting import until

ENGINE = Path(__file__).parent.parent / "bin" / "llama-server"
pytestmark = [pytest.mark.anyio, pytest.mark.compiled]
# What differs from one answer to the next whoever asks: identifiers, the time of day, durations.
MOVING = re.compile(
    rb'"(id|[a-z]+_id|created|[a-z]+_at|[a-z_]+_ms|[a-z_]+_per_second|cache_n|tokens_cached|prompt_n)":[^,}]+'
)


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        model = Path(folder) / "m.gguf"
        write_llama(model, n_ctx=16384)
        path = os.path.join(folder, "c.sock")
        command = [str(ENGINE), "--model", str(model), "--host", path, "-t", "1", "-tb", "1", "--threads-http", "64"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_for_child(path, process)
                yield path
            finally:
                process.kill()


async def direct(path: str, request: bytes) -> Answer:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await read_answer(reader)
    writer.close()
    return answer


def still(body: bytes) -> bytes:
    return MOVING.sub(b"", body)


GENERATION = {"max_tokens": 4, "n_predict": 4, "temperature": 0, "seed": 1, "cache_prompt": False}
CHAT = {**GENERATION, "messages": [{"role": "user", "content": "hi"}]}
REQUESTS = (
    ("/tokenize", {"content": "hello ü"}),
    ("/detokenize", {"tokens": [300, 301]}),
    ("/apply-template", CHAT),
    ("/completion", {**GENERATION, "prompt": "a b"}),
    ("/completion", {**GENERATION, "prompt": "a b", "stream": True}),
    ("/v1/completions", {**GENERATION, "prompt": "a b", "stream": True}),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/messages", {**CHAT, "stream": True}),
    ("/v1/messages/count_tokens", CHAT),
    ("/v1/chat/completions", {"messages": 5}),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/responses", {**GENERATION, "max_output_tokens": 4, "input": "hi"}),
    ("/v1/responses", {**GENERATION, "max_output_tokens": 4, "input": "hi", "stream": True}),
    ("/v1/messages", CHAT),
    ("/infill", {**GENERATION, "input_prefix": "a", "input_suffix": "b"}),
    ("/completion", {**GENERATION, "prompt": "\u00fc\U0001f600 " * 40, "grammar": 'root ::= "a"', "stream": True}),
    ("/completion", {**GENERATION, "prompt": "a", "n_predict": "many"}),
    ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_schema", "json_schema": 5}}),
    ("/tokenize", {"content": "x " * 5000, "with_pieces": True}),
    ("/lora-adapters", {}),
)
MANY = 500


@pytest.mark.parametrize("way", WAYS)
async def test_every_answer_is_the_same_as_straight(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        for n in range(MANY if way in ("fast", "slow") else 3 * len(REQUESTS)):
            path, body = REQUESTS[n % len(REQUESTS)]
            request = post(path, body, connection="close" if n % 23 == 22 else "")
            straight = await direct(child, request)
            client.send(request)
            through = await client.answer()
            assert through.whole
            assert (through.status, still(through.body)) == (straight.status, still(straight.body))
            assert through.headers["content-type"] == straight.headers["content-type"]
            if through.headers.get("connection") == "close":
                client = await rig.client()
        assert all(outcome.complete for outcome in rig.board.outcomes)


async def test_the_tail_has_the_timings(child: str) -> None:
    async with relay("fast", child) as rig:
        client = await rig.client()
        await client.ask(body={**CHAT, "stream": True})
        assert b'"predicted_n":4' in rig.board.outcomes[0].tail


async def test_200_requests_keep_few_connections(child: str) -> None:
    """The child closes every hundredth answer's connection: nobody notices."""
    async with relay("fast", child) as rig:
        client = await rig.client()
        for _ in range(250):
            assert (await client.ask("/tokenize", {"content": "x"})).status == 200
        assert rig.board.connections.opened <= 4


async def test_a_client_that_leaves_frees_the_slot(child: str) -> None:
    async with relay("fast", child) as rig:
        client = await rig.client()
        client.send(post(body={**CHAT, "max_tokens": 15000, "ignore_eos": True, "stream": True}))
        await client.reader.readuntil(b"data: ")
        client.close()
        await until(lambda: rig.board.outcomes)
        assert rig.board.outcomes[0].client_left
        other = await rig.client()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while b'"is_processing":true' in (await slots(other)).body:
                    pass
        assert b'"is_processing":true' not in (await slots(other)).body


async def slots(client: object) -> Answer:
    client.send(b"GET /slots?model=m HTTP/1.1\r\nhost: h\r\n\r\n")  # type: ignore[attr-defined]
    answer: Answer = await client.answer()  # type: ignore[attr-defined]
    return answer
