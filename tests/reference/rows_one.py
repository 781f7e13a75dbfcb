"""Rows on a start with `-m FILE`: there a server of one model, here a router that has it as its default."""

from __future__ import annotations

from tests.e2e.conftest import until
from tests.reference.row import COMMAND_LINE, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side

ONE = Rows()
ARGUMENTS = ("-m", "models/one/model.gguf", "--alias", "mine", "--offline", "-c", "256")

_SAY = [{"role": "user", "content": "the of"}]


def _ready(side: Side) -> None:
    until(lambda: side.ask("GET", "/health").status == 200 and b'"n_vocab"' in side.ask("GET", "/v1/models").body, 20)


@ONE.row(COMMAND_LINE, "one model: a chat that names none")
def _chat(side: Side) -> Seen:
    _ready(side)
    return side.see("POST", "/v1/chat/completions", {"messages": _SAY, "max_tokens": 3, "temperature": 0})


@ONE.row(COMMAND_LINE, "one model: a chat that names it")
def _named(side: Side) -> Seen:
    body = {"model": "mine", "messages": _SAY, "max_tokens": 3, "temperature": 0}
    return side.see("POST", "/v1/chat/completions", body)


@ONE.row(COMMAND_LINE, "one model: a chat that names another")
def _other(side: Side) -> Seen:
    return {
        "status": side.see("POST", "/v1/completions", {"model": "gpt-4o", "prompt": "x", "max_tokens": 1})["status"]
    }


@ONE.row(COMMAND_LINE, "one model: the list")
def _list(side: Side) -> Seen:
    whole = side.ask("GET", "/v1/models").json()
    assert isinstance(whole, dict)
    return {"ids": [entry["id"] for entry in whole["data"]], "keys": sorted(whole)}
