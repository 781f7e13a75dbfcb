"""How many tokens an answer took: from what it says at its end, else guessed from how much there was of it.

    ..."usage":{"prompt_tokens":7,"completion_tokens":9}   in any dialect; what the end leaves out stands at the head
    ..."timings":{"prompt_n":3,"cache_n":4,"predicted_n":9}   where there is no usage
    nothing of both                 an event of a stream is a token, four bytes of a request are one: an estimate

What a model writes cannot be taken for it: inside a JSON string its quotes are escaped.
"""

from __future__ import annotations

import re

from msgspec import Struct

_USAGE = re.compile(
    rb'"(prompt|input|cached|cache_read_input|cache_creation_input|completion|output)_tokens"\s*:\s*([0-9]{1,12})\b'
)
# The same as llama-server writes it, whole, which is read at a quarter of the cost.
_PLAIN = re.compile(
    rb'"usage":\{(?:"completion_tokens":([0-9]{1,12}),)?"prompt_tokens":([0-9]{1,12}),"total_tokens":[0-9]{1,12}'
    rb'(?:,"prompt_tokens_details":\{"cached_tokens":([0-9]{1,12})\})?\}'
)
_TIMINGS = re.compile(rb'"(prompt|cache|predicted)_n"\s*:\s*([0-9]{1,12})\b')
_BYTES_A_TOKEN = 4


class Tokens(Struct, frozen=True):
    """What one request took."""

    prompt: int = 0
    completion: int = 0
    estimated: bool = False
    cached: int = 0  # of the prompt: what the model still knew

    @property
    def total(self) -> int:
        return self.prompt + self.completion


NONE = Tokens()


def tokens_taken(tail: bytes, head: bytes, events: int, body_bytes: int) -> Tokens:
    """`tail`, `head`: the end and the beginning of the answer's body (no head: the tail is all of it). `events`: how
    many pieces its stream had, 0 where it is none. `body_bytes`: of the request, if it was to be computed for.
    """
    said = _usage_in(tail)
    if said is not None:
        prompt, cached, completion = said
        if not prompt and (first := _usage_in(head or tail, first=True)) is not None:
            prompt, cached, _ = first
        # A stream of Anthropic's that was cut off has only said what it was asked.
        return Tokens(prompt, completion or events, estimated=bool(events and not completion), cached=cached)
    timed = tail.rfind(b'"timings":')
    if timed >= 0:
        found = {name: int(number) for name, number in _TIMINGS.findall(tail, timed)}
        if found:
            cached = found.get(b"cache", 0)
            return Tokens(found.get(b"prompt", 0) + cached, found.get(b"predicted", 0), cached=cached)
    first = _usage_in(head, first=True)
    if first is not None:
        # Of an answer without an end the head knows the prompt, of one that is no stream all there is to know.
        prompt, cached, completion = first
        return Tokens(prompt, max(completion, events), estimated=events > 0, cached=cached)
    if not body_bytes:
        return NONE
    return Tokens(body_bytes // _BYTES_A_TOKEN, events, estimated=True)


def _usage_in(text: bytes, *, first: bool = False) -> tuple[int, int, int] | None:
    """Tokens of the prompt, of them in the cache, and of the answer, as the last `usage` says, or the first."""
    start = text.find(b'"usage":') if first else text.rfind(b'"usage":')
    if start < 0:
        return None
    plain = _PLAIN.match(text, start)
    if plain is not None:
        completion, prompt, cached = plain.groups(b"0")
        return int(prompt), min(int(prompt), int(cached)), int(completion)
    found = {name: int(number) for name, number in _USAGE.findall(text, start)}
    if not found:
        return None
    # Anthropic counts apart what was cached.
    read = sum(found.get(name, 0) for name in (b"prompt", b"input", b"cache_read_input", b"cache_creation_input"))
    known = min(read, found.get(b"cached", 0) + found.get(b"cache_read_input", 0))
    return read, known, found.get(b"completion", found.get(b"output", 0))
