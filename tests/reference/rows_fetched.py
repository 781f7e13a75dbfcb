"""Rows on downloads, from a Hub of our own: what is fetched, what is not, how it is told, and how it is deleted."""

from __future__ import annotations

from tests.e2e.conftest import until
from tests.fake_hub import FakeHub
from tests.reference.row import EVENTS, LIFE, MODELS, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side, model_query

FETCHED = Rows()
ARGUMENTS = ("--models-max", "2")
NAME = "maker/model:Q8_0"

row = FETCHED.row


def hub_with(model: bytes) -> FakeHub:
    """A Hub that has one repository."""
    hub = FakeHub()
    hub.add("maker/model", {"model-Q8_0.gguf": model, "README.md": b"# a model\n"}, plain=frozenset({"README.md"}))
    return hub


@row(EVENTS, "a download")
def _download(side: Side) -> Seen:
    with side.events() as events:
        answer = side.see("POST", "/models", {"model": NAME})
        events.until("download_finished")
        until(lambda: side.state(NAME) == "unloaded")
        told = [each for each in events.told() if "download_progress" not in each]
        progress = any("download_progress" in each for each in events.told())
    entry = side.models()[NAME]
    return {
        "answer": answer,
        "event": told,
        "progress": progress,
        "listed": {key: entry[key] for key in ("source", "can_remove", "aliases", "tags", "architecture")},
    }


@row(MODELS, "download: is here now")
def _again(side: Side) -> Seen:
    return side.see("POST", "/models", {"model": NAME})


@row(EVENTS, "a download of what is not there")
def _nothing(side: Side) -> Seen:
    with side.events() as events:
        answer = side.ask("POST", "/models", {"model": "maker/nothing"})
        until(lambda: any(record["event"] in ("download_finished", "download_failed") for record in events.records()))
        told = [each for each in events.told() if each.startswith("maker/nothing")]
    return {"status": answer.status, "event": told}


@row(LIFE, "what was fetched answers")
def _answers(side: Side) -> Seen:
    return side.see("POST", "/tokenize", {"model": NAME, "content": "the of"})


@row(MODELS, "delete: of a loaded model")
def _delete(side: Side) -> Seen:
    side.load(NAME)
    with side.events() as events:
        answer = side.see("DELETE", "/models" + model_query(NAME))
        events.until("model_remove")
        told = events.told()
    return {"answer": answer, "event": told, "listed": NAME in side.models()}
