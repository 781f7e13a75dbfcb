"""The requests of the mixed clients: a kind each, with how often it comes and what an untouched one may be answered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from soak.answer import Way
from soak.box import GUEST, MODELS

OPERATOR = "operator"  # may administer, and nothing is done to it, either
STEADY = "steady"  # the key that nothing is done to
PACED = "paced"  # so many requests a minute
NARROW = "narrow"  # so many at once
LASTING = {OPERATOR: ("--admin",), STEADY: (), PACED: ("--rpm", "30"), NARROW: ("--concurrent", "2")}
_LARGE_BODY = 1_500_000  # above a megabyte bodies take another way through the router
_TOO_LARGE = 209_715_200
_WELL = frozenset({200})


@dataclass(frozen=True, slots=True)
class Request:
    """`concerns`: the model and the key, to which something may be done meanwhile."""

    kind: str
    message: bytes
    model: str | None = None
    key: str | None = None
    way: Way = field(default_factory=Way)
    expected: frozenset[int] = _WELL
    then: tuple[Request, ...] = ()  # what its client asks for next

    @property
    def is_replayed(self) -> bool:
        """An answer from before: it does not show that its model is well now."""
        return self.message.startswith((b"GET", b"DELETE"))

    @property
    def concerns(self) -> tuple[str, ...]:
        return tuple(name for name in (self.model, self.key) if name is not None)


class Requests:
    """Makes them up; `secrets` are those of the keys as they are now."""

    def __init__(self, chance: random.Random, secrets: dict[str, str]) -> None:
        self._chance = chance
        self._secrets = secrets
        self._number = 0
        self._kinds: dict[Callable[[], Request], int] = {
            self.plain: 20,
            self.streamed: 20,
            self.messages: 8,
            self.of_a_guest_key: 14,
            self.of_the_guest: 3,
            self.paced: 5,
            self.narrow: 5,
            self.left_while_waiting: 6,
            self.left_in_mid_answer: 10,
            self.slowly_read: 3,
            self.wrong_key: 4,
            self.large: 3,
            self.too_large: 2,
            self.health: 4,
            self.models: 2,
            self.conversation: 5,
            self.metrics: 2,
        }

    def any(self) -> Request:
        [make] = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        return make()

    def plain(self) -> Request:
        return self._chat("plain", self._model(), STEADY)

    def streamed(self) -> Request:
        return self._chat("streamed", self._model(), STEADY, stream=True)

    def of_a_guest_key(self) -> Request:
        """One of those that are made, turned and taken away; where there is none, the steady one."""
        names = [name for name in self._secrets if name not in LASTING]
        key = self._chance.choice(names or [STEADY])
        return self._chat("keys that change", self._model(), key, stream=self._chance.random() < 0.5)

    def of_the_guest(self) -> Request:
        """A model that is not always there."""
        return self._chat("a model that comes and goes", GUEST, STEADY, expected=frozenset({200, 404}))

    def paced(self) -> Request:
        return self._chat("with a limit a minute", self._model(), PACED, expected=frozenset({200, 429}))

    def narrow(self) -> Request:
        return self._chat("with a limit at once", self._model(), NARROW, expected=frozenset({200, 429}), stream=True)

    def left_while_waiting(self) -> Request:
        way = Way(leaves_after=0, patience=self._chance.uniform(0, 0.5))
        return self._chat("left before the answer", self._model(), STEADY, way=way, stream=True, tokens=300)

    def left_in_mid_answer(self) -> Request:
        way = Way(leaves_after=self._chance.randint(1, 20_000))
        return self._chat("left in mid-answer", self._model(), STEADY, way=way, stream=True, tokens=300)

    def slowly_read(self) -> Request:
        return self._chat("slowly read", self._model(), STEADY, way=Way(slowly=True), stream=True, tokens=300)

    def wrong_key(self) -> Request:
        return self._chat("wrong key", self._model(), None, expected=frozenset({401}))

    def large(self) -> Request:
        return self._chat("large body", self._model(), STEADY, padding="x" * _LARGE_BODY)

    def too_large(self) -> Request:
        """It is refused before its body is there."""
        head = self._head("POST", "/v1/chat/completions", STEADY, _TOO_LARGE)
        return Request("too large a body", head, expected=frozenset({413}))

    def messages(self) -> Request:
        model, stream = self._model(), self._chance.random() < 0.5
        said = {"model": model, "max_tokens": self._chance.randint(1, 40), "stream": stream}
        body = json.dumps({**said, "messages": self._words()}).encode()
        head = self._head("POST", "/v1/messages", STEADY, len(body))
        return Request("messages", head + body, model, STEADY)

    def health(self) -> Request:
        return Request("health", self._head("GET", "/health", None))

    def models(self) -> Request:
        return Request("list of models", self._head("GET", "/models", STEADY), key=STEADY)

    def metrics(self) -> Request:
        return Request("metrics", self._head("GET", "/metrics", OPERATOR))

    def conversation(self) -> Request:
        """It goes on without its client, who takes it up again, and has it forgotten."""
        name = f"c-{self._chance.randrange(10**12)}"
        way = Way(leaves_after=self._chance.randint(1, 5_000))
        first = self._chat("conversation", self._model(), STEADY, way=way, stream=True, tokens=100, conversation=name)
        kept = self._head("GET", f"/v1/stream?conv_id={name}", STEADY)
        gone = self._head("DELETE", f"/v1/stream?conv_id={name}", STEADY)
        # It is kept for as long as its model's process is there, and of one that is about to go nobody is to read.
        again = Request("taken up again", kept, first.model, STEADY, expected=frozenset({200, 404, 503}))
        last = Request("forgotten", gone, first.model, STEADY, expected=frozenset({204}))
        return replace(first, then=(again, last))

    def _chat(
        self,
        kind: str,
        model: str,
        key: str | None,
        *,
        way: Way | None = None,
        expected: frozenset[int] = _WELL,
        stream: bool = False,
        tokens: int = 40,
        padding: str = "",
        conversation: str | None = None,
    ) -> Request:
        said: dict[str, object] = {"model": model, "stream": stream, "max_tokens": self._chance.randint(1, tokens)}
        said |= {"messages": self._words()} | ({"user": padding} if padding else {})
        body = json.dumps(said).encode()
        head = self._head("POST", "/v1/chat/completions", key, len(body), conversation)
        return Request(kind, head + body, model, key, way or Way(), expected)

    def _head(
        self, method: str, path: str, key: str | None, length: int | None = None, conversation: str | None = None
    ) -> bytes:
        secret = "sk-lr-of-nobody" if key is None else self._secrets[key]
        more = [] if length is None else ["content-type: application/json", f"content-length: {length}"]
        more += [] if conversation is None else [f"x-conversation-id: {conversation}"]
        return _head_of(method, path, secret, *more)

    def _words(self) -> list[dict[str, str]]:
        """Nobody asks the same twice: what is in a child when it crashes is kept out for a while."""
        self._number += 1
        return [{"role": "user", "content": f"question {self._number} of the {self._chance.randrange(10**9)}"}]

    def _model(self) -> str:
        return self._chance.choice(MODELS)


def list_of_models(secret: str) -> bytes:
    """The request that needs a key and no model."""
    return _head_of("GET", "/models", secret)


def _head_of(method: str, path: str, secret: str, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"authorization: Bearer {secret}", *more]
    return "\r\n".join([*lines, "", ""]).encode()
