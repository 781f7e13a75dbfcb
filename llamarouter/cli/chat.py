"""One streamed chat completion, as pieces that a command can show.

    Text | Thought | Notice   while it comes          -> Summary, once, at the end

A stream that ends without its end (no `[DONE]`, no finish reason) is a failure, never a short answer.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.server_client import ServerClient, events_of, failure_in
from llamarouter.cli.stopwatch import Stopwatch

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Text:
    """A part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A part of what the model thought before it answered (`reasoning_content`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What the router says while the request waits."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How it went. `tokens` are those of the answer; `estimated`: counted by chunks, the engine did not say."""

    tokens: int
    tokens_per_second: float | None
    prompt_tokens: int | None
    first_token_seconds: float | None  # from the request, with queue, load and prompt
    seconds: float
    finish_reason: str | None
    estimated: bool

    def __str__(self) -> str:
        about = "~" if self.estimated else ""
        speed = f", {about}{self.tokens_per_second:.1f} tokens/s" if self.tokens_per_second else ""
        first = f", first after {self.first_token_seconds:.2f} s" if self.first_token_seconds is not None else ""
        cut = ", cut at its length limit" if self.finish_reason == "length" else ""
        return f"{about}{self.tokens} tokens{speed}{first}{cut}"


Piece = Text | Thought | Notice | Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What the command line says about the answer; None: as the model's settings say."""

    temperature: float | None = None
    max_tokens: int | None = None


def chat(
    server: ServerClient, model: str, messages: Sequence[Message], sampling: Sampling
) -> Generator[Piece, None, None]:
    """Ask and yield the pieces. Closing the iterator hangs up, which ends the generation."""
    body: dict[str, object] = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    counter = _Counter()
    with server.stream("POST", "/v1/chat/completions", body) as lines:
        for event in events_of(lines):
            if event.comment:
                yield Notice(event.data)
            elif event.data == "[DONE]":
                counter.complete = True
                break
            else:
                yield from counter.pieces_of(_chunk_of(event.data))
    if not counter.complete:
        raise RouterFailure(0, "the answer broke off before its end", "disconnected")
    yield counter.summary()


class _Counter:
    """What is counted while the chunks of one answer pass."""

    def __init__(self) -> None:
        self.complete = False
        self._watch = Stopwatch()
        self._first: float | None = None
        self._chunks = 0
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}

    def pieces_of(self, chunk: dict[str, Any]) -> Iterator[Piece]:
        self._usage = chunk.get("usage") or self._usage
        self._timings = chunk.get("timings") or self._timings
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if choice.get("finish_reason"):
                self._finish_reason = choice["finish_reason"]
                self.complete = True
            for kind, text in ((Thought, delta.get("reasoning_content")), (Text, delta.get("content"))):
                if text:
                    self._chunks += 1
                    self._first = self._watch.seconds() if self._first is None else self._first
                    yield kind(text)

    def summary(self) -> Summary:
        seconds = self._watch.seconds()
        told = self._timings.get("predicted_n") or self._usage.get("completion_tokens")
        tokens = told or self._chunks
        speed = self._timings.get("predicted_per_second")
        if speed is None and self._first is not None and tokens > 1 and seconds > self._first:
            speed = (tokens - 1) / (seconds - self._first)  # the first token's time is the prompt's
        return Summary(
            tokens=tokens,
            tokens_per_second=speed,
            prompt_tokens=self._usage.get("prompt_tokens") or self._timings.get("prompt_n"),
            first_token_seconds=self._first,
            seconds=seconds,
            finish_reason=self._finish_reason,
            estimated=told is None,
        )


def _chunk_of(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise RouterFailure(0, "the answer broke off in the middle of an event", "disconnected") from error
    if not isinstance(chunk, dict):
        raise RouterFailure(0, "the answer is not a chat completion", "not_a_router")
    if "error" in chunk:
        raise failure_in(chunk)
    return chunk
