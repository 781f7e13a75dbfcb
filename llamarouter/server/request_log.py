"""One line for each request that is over. It is made in batches, behind the requests' backs.

What a client has sent is in no line but its model's name where nobody knows it, its path where there is no such route,
and its id where that is sane: each cut off, and without what would steer a terminal.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from llamarouter.core.access import OPERATOR
from llamarouter.core.log_line import RequestLine, json_of, pattern_of
from llamarouter.core.shown import shown, without_secrets
from llamarouter.core.tokens import NONE
from llamarouter.relay.call import Call, Ending, tokens_of
from llamarouter.relay.switchboard import Ask

_NAME = 64  # characters of a model's name that nobody knows
# Somebody looks there every second: what is well is no news.
_PROBES = frozenset({"/health", "/v1/health", "/livez", "/readyz", "/metrics", "/lr/auth"})
_LOOKS = frozenset({"/models", "/lr/status", "/lr/devices"})  # of `lr top`, each second, by the admin socket
_QUIET = _PROBES | _LOOKS
_OURS = (Ending.FAILED, Ending.TRUNCATED)
# Taken from the class, or asked of a member, each would cost 0.2 us of a line's 1.4.
_OK = Ending.OK
_WORDS = {ending: ending.value for ending in Ending}
_MOST_PATTERNS = 1024
_LEAST = {"debug": 10, "info": 20, "warn": 30}


class RequestLog:
    """A reader of the journal. `clock`: the loop's; `model_of`: the id of the model that a request means."""

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], None],
        clock: Callable[[], float],
        model_of: Callable[[Ask], str | None],
        *,
        least: int,
    ) -> None:
        self._write = write
        self._clock = clock
        self._model_of = model_of
        self._least = least  # of logging's levels
        # Of what is alike in the lines of most requests, by all that it is made of; empty: such a line is not written.
        # None: it has come once, as everything does from a client that connects anew for each of its requests.
        self._patterns: dict[tuple[object, ...], bytes | None] = {}

    def take(self, calls: Sequence[Call]) -> None:
        """Write of each what is known."""
        ago = time.time() - self._clock()  # noqa: TID251 (a date, for people)
        pattern_for, lines = self._patterns.get, []
        for call in calls:
            model, first, access, tokens = call.model, call.first, call.access, call.tokens or tokens_of(call)
            if call.ending is not _OK or not model or not first:  # it was not simply answered by its model
                if (line := self._whole(call, ago)) is not None:
                    lines.append(line)
                continue
            key, estimated = None if access is None else access.id, None if tokens is NONE else tokens.estimated
            waited = call.queue != 0.0 or call.load != 0.0
            kind = (call.peer, call.method, call.path, model, call.status, key, estimated, waited)
            pattern = pattern_for(kind)
            if pattern is None and (pattern := self._learn(kind, call, waited=waited)) is None:
                if (line := self._whole(call, ago)) is not None:
                    lines.append(line)
                continue
            if not pattern:
                continue
            since, ended = call.since, call.ended
            at, first_ms, took_ms = (ended + ago) * 1e6, (first - since) * 1e3 + 0.5, (ended - since) * 1e3 + 0.5
            numbers: tuple[object, ...] = (at, call.id, call.bytes_in, call.bytes_out, first_ms, took_ms)
            if waited:
                numbers = (*numbers[:4], _ms(call.queue), _ms(call.load), first_ms, took_ms)
            if estimated is not None:
                numbers = (*numbers, tokens.prompt, tokens.cached, tokens.completion)
            lines.append(pattern % numbers)
        if lines:
            self._write(lines)

    def _learn(self, kind: tuple[object, ...], call: Call, *, waited: bool) -> bytes | None:
        """The pattern of what has come before; None: it comes for the first time, when one would cost the most."""
        patterns, pattern = self._patterns, None
        if kind in patterns:
            level, pattern = level_of(call), b""
            if _LEAST[level] >= self._least:
                pattern = pattern_of(self._line(call, level, 0.0), () if waited else ("queue_ms", "load_ms"))
        elif len(patterns) >= _MOST_PATTERNS:
            patterns.clear()
        patterns[kind] = pattern
        return pattern

    def _whole(self, call: Call, ago: float) -> bytes | None:
        level = level_of(call)
        return json_of([self._line(call, level, ago)]) if _LEAST[level] >= self._least else None

    def _line(self, call: Call, level: str, ago: float) -> RequestLine:
        since, ended, access = call.since, call.ended, call.access
        computed = tokens_of(call)
        tokens = None if computed is NONE else computed
        ending, reason = _ending_of(call)
        return RequestLine(
            int((ended + ago) * 1e6),
            level,
            call.id.decode(),
            _peer(call.peer),
            access.id or None if access is not None else None,
            _method(call.method),
            _route(call.path),
            call.model or self._named(call.ask),
            call.status,
            call.bytes_in,
            call.bytes_out,
            _ms(call.queue),
            _ms(call.load),
            _ms(call.first - since) if call.first else None,
            _ms(ended - since),
            None if tokens is None else tokens.prompt,
            None if tokens is None else tokens.cached,
            None if tokens is None else tokens.completion,
            tokens is not None and tokens.estimated,
            ending,
            reason,
        )

    def _named(self, ask: Ask | None) -> str | None:
        if ask is None:
            return None
        return self._model_of(ask) or shown(without_secrets(ask.model), _NAME)


def level_of(call: Call) -> str:
    """How much it matters."""
    if call.ending in _OURS or call.status >= 500:
        return "warn"
    return "debug" if call.path in _QUIET and call.status < 400 and _is_probe(call) else "info"


def _ms(seconds: float) -> int:
    return int(seconds * 1e3 + 0.5)


def _is_probe(call: Call) -> bool:
    return call.path in _PROBES or (call.access is OPERATOR and call.method == b"GET")


def _ending_of(call: Call) -> tuple[str, str | None]:
    ending = call.ending
    if ending is _OK and call.status >= 400 and call.outcome is not None:
        return _WORDS[Ending.REFUSED if call.status < 500 else Ending.FAILED], "by_its_model"
    return _WORDS[ending], call.reason or None


# What comes again and again is made once.
@functools.lru_cache(1024)
def _peer(peer: tuple[str, int] | None) -> str | None:
    if not peer:
        return None
    host, port = peer[0], peer[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@functools.lru_cache(256)
def _method(method: bytes) -> str:
    return shown(method.decode("latin-1"), _NAME)


@functools.lru_cache(1024)
def _route(path: str) -> str:
    return shown(without_secrets(path))
