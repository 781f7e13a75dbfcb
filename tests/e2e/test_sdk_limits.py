"""The clients of OpenAI and Anthropic against the limits of a key and a wait that was too long: they pause as long as
they are told, ask once more, and have their answer; where they may not ask again, it is their exception.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import pytest

from tests.e2e.conftest import COMPILED, Router, Serve, until
from tests.e2e.sdk_models import HELLO
from tests.tiny_gguf import write_llama

pytestmark = pytest.mark.compiled

# By themselves both libraries try again after half a second at most; what they are told here is a second or more.
_TOLD = 0.95


class Sent:
    """What a client has sent, and was answered: when, and with which status."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.answers: list[httpx.Response] = []
        self.on_refusal: Callable[[], None] = lambda: None

    def hooks(self) -> Any:
        return {"request": [lambda _: self.at.append(time.monotonic())], "response": [self._answered]}

    def _answered(self, answer: httpx.Response) -> None:
        self.answers.append(answer)
        if answer.status_code >= 400:
            self.on_refusal()

    @property
    def statuses(self) -> list[int]:
        return [answer.status_code for answer in self.answers]


def ask_openai(router: Router, key: str, sent: Sent, **options: Any) -> int | None:
    """How many tokens were answered."""
    http = router.client(event_hooks=sent.hooks())
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key=key, http_client=http, **options) as client:
        said: Any = client.chat.completions.create(model="m", messages=HELLO, max_tokens=4)  # type: ignore[arg-type]
        return said.usage.completion_tokens


def ask_anthropic(router: Router, key: str, sent: Sent, **options: Any) -> int | None:
    http = anthropic.DefaultHttpxClient(trust_env=False, event_hooks=sent.hooks())
    with anthropic.Anthropic(base_url=router.url, api_key=key, http_client=http, **options) as client:
        said = client.messages.create(model="m", messages=HELLO, max_tokens=4)  # type: ignore[arg-type]
        return said.usage.output_tokens


BOTH = (ask_openai, ask_anthropic)
RATE_LIMITS = (openai.RateLimitError, anthropic.RateLimitError)
TRY_AGAIN = (openai.InternalServerError, anthropic.InternalServerError)


def router_of(serve: Serve, folder: Path, *options: object) -> Router:
    (folder / "models").mkdir()
    write_llama(folder / "models" / "m.gguf", n_ctx=32768, n_embd=512, n_layer=6, quant="Q8_0")
    return serve(COMPILED, "--models-dir", folder / "models", "--threads", 1, *options)


def key_of(router: Router, *limits: str) -> str:
    return router.lr("key", "add", "ann", *limits).stdout.strip()


@contextmanager
def held(router: Router, key: str) -> Iterator[Callable[[], None]]:
    """A request of this key goes on until it is let go."""
    body = json.dumps({"model": "m", "prompt": "x", "ignore_eos": True, "stream": True}).encode()
    address = urlsplit(router.url)
    with socket.create_connection((address.hostname, address.port or 80), 30) as holder:
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        holder.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert holder.recv(64).startswith(b"HTTP/1.1 200")
        yield holder.close


def test_a_key_that_has_too_many_at_once_waits_and_has_its_answer(serve: Serve, tmp_path: Path) -> None:
    router = router_of(serve, tmp_path, "--parallel", 2)
    key = key_of(router, "--concurrent", "1")
    for ask in BOTH:
        once, twice = Sent(), Sent()
        with held(router, key) as let_go:
            with pytest.raises(RATE_LIMITS, match="1 request at once"):
                ask(router, key, once, max_retries=0)
            twice.on_refusal = let_go
            assert ask(router, key, twice)
        assert once.statuses == [429]
        assert twice.statuses == [429, 200]
        assert twice.answers[0].headers["retry-after"] == "1"
        assert twice.at[1] - twice.at[0] >= _TOLD


def test_a_minute_that_is_used_up_says_when_it_is_over(serve: Serve, tmp_path: Path) -> None:
    router = router_of(serve, tmp_path, "--parallel", 2)
    key, sent = key_of(router, "--rpm", "1"), Sent()
    assert ask_openai(router, key, sent, max_retries=0)
    for ask in BOTH:
        with pytest.raises(RATE_LIMITS):
            ask(router, key, sent, max_retries=0)
    assert sent.statuses == [200, 429, 429]
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in sent.answers[1:])


def test_who_waited_too_long_asks_again_when_it_is_told(serve: Serve, tmp_path: Path) -> None:
    router = router_of(serve, tmp_path, "--parallel", 1, "--queue-timeout", 1)
    with router.client() as client:
        client.post("/models/load", json={"model": "m"})
    until(lambda: router.state("m") == "loaded", 30)
    key, refused = key_of(router), 0
    with held(router, key) as let_go, ThreadPoolExecutor(2) as both:

        def refusal() -> None:
            nonlocal refused
            refused += 1
            if refused == 2:
                let_go()

        with pytest.raises(TRY_AGAIN, match="had no room"):
            ask_openai(router, key, Sent(), max_retries=0)
        seen = [Sent(), Sent()]
        for sent in seen:
            sent.on_refusal = refusal
        answers = [both.submit(ask, router, key, sent) for ask, sent in zip(BOTH, seen, strict=True)]
        assert all(answer.result(40) for answer in answers)
    for sent in seen:
        assert sent.statuses == [503, 200]
        assert sent.at[1] - sent.at[0] >= float(sent.answers[0].headers["retry-after"]) >= 1
