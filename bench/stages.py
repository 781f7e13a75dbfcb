"""The warm path, stage by stage: where the router's own microseconds for a small request go.

Each stage is called by itself, with what it gets in a real request, on the parts of one router. What is left of the
whole are the calls between the stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bench.measure import Measure
from llamarouter.core.body import model_of_json
from llamarouter.core.routes import Dialect
from llamarouter.core.wire import WITH_BODY, AnswerHead
from llamarouter.relay.call import Call
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.journal import Reader
from llamarouter.relay.switchboard import Ask, Outcome
from llamarouter.relay.upstream import Upstream

TIMES = 10_000
_BATCH = 256  # requests of which a busy journal tells at once
WHOLE = "own work for a small request"

Stage = Callable[[], object]


def microseconds(work: Stage) -> float:
    """The CPU time that one call takes, of many."""
    started = time.process_time()
    for _ in range(TIMES):
        work()
    return (time.process_time() - started) / TIMES * 1e6


class _Mute:
    """The other side of a stage that is measured alone: an exchange, or a door."""

    request = Request(b"POST", b"", b"", Dialect.OPENAI)

    def answered_whole(self, _head: AnswerHead, _payload: bytes) -> None:
        pass

    def attach(self, _exchange: Exchange) -> None:
        pass

    def answer(self, _head: AnswerHead | None, _payload: bytes, _done: bool) -> None:
        pass


def stages_of(door: Any, upstream: Upstream, request: bytes, answer: bytes, count: Reader) -> dict[str, Stage]:
    """The stages by name, in their order. `door`: it has relayed `request`, to which `answer` came by `upstream`.

    `count`: who reads of requests that are over, to count them.
    """
    incoming, switchboard, traffic = door._familiar.means, door.switchboard, door.options.traffic
    body = door._familiar.body_of(request)
    ask = Ask("tiny", incoming.route, len(body))
    outcome = Outcome(200, True, False, b"")
    sent = Request(b"POST", incoming.head_start, body, incoming.route.dialect)
    named = Request(b"POST", incoming.head_start, body, incoming.route.dialect, call=door._call)
    connections: Any = upstream._connections
    head, mute = upstream._familiar.means, _Mute()  # type: ignore[union-attr]
    payload = answer[-(head.length or 0) :]
    lease = switchboard.lease_now(ask)
    lease.end(outcome)  # from now on its end is none
    call: Call = door._call
    call.ask, call.model, call.outcome = ask, "tiny", outcome
    batch: list[Call] = []

    def lease_and_end() -> None:
        switchboard.lease_now(ask).end(outcome)

    def enter() -> None:
        connections._idle = [upstream]
        exchange = Exchange(named, lease, mute, traffic)  # type: ignore[arg-type]
        exchange.start()
        connections.in_flight -= 1
        traffic.inside.discard(exchange)

    def watch() -> None:
        connections._idle = []
        upstream._exchange, upstream._head = mute, None  # type: ignore[assignment]
        upstream.data_received(answer)

    def end() -> None:
        exchange = Exchange(sent, lease, mute, traffic)  # type: ignore[arg-type]
        connections.in_flight += 1
        exchange.answered_whole(head, payload)

    def answer_client() -> None:
        door._current = incoming
        door.answer(head, payload, True)

    def counted() -> None:
        batch.append(call)
        if len(batch) == _BATCH:
            count(batch)
            batch.clear()

    return {
        "the head of the request is recognised": lambda: door._familiar.body_of(request),
        "its key is checked": lambda: switchboard.authorize(None, None),
        "the model is read from its body": lambda: model_of_json(body),
        "the lease is granted, and released": lease_and_end,
        "an exchange is made and written to the child": enter,
        "of that: its head for the child": lambda: WITH_BODY % (sent.head_start, b"", call.id, len(body), body),
        "the answer is recognised, its connection kept": watch,
        "the exchange ends": end,
        "the answer is written to the client": answer_client,
        "it is counted for /metrics": counted,
    }


def measure(stages: dict[str, Stage], rounds: int) -> list[Measure]:
    """A row for each stage."""
    rows = [Measure(f"  {name}", "us") for name in stages]
    for _ in range(rounds):
        nothing = microseconds(lambda: None)
        for row, stage in zip(rows, stages.values(), strict=True):
            row.add("lr", max(0.0, microseconds(stage) - nothing))
    return rows
