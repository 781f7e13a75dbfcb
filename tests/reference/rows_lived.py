"""Rows on loaded models: the event feed, the relayed routes, the end of a child. They load what they need."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from tests.e2e.conftest import children_of, until
from tests.reference.row import EVENTS, LIFE, MODELS, RELAYED, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side, model_query

LIVED = Rows()
row = LIVED.row

_SAY = [{"role": "user", "content": "the of and to"}]
_CHAT = "/v1/chat/completions"
_LONG = {"prompt": "x", "n_predict": 30000, "stream": True, "ignore_eos": True}


def _chat(model: str, tokens: int = 4, **more: object) -> dict[str, object]:
    return {"model": model, "messages": _SAY, "max_tokens": tokens, "temperature": 0, "cache_prompt": False, **more}


# --- loading and unloading ------------------------------------------------------------------------------------------


@row(EVENTS, "load and unload")
def _load_and_unload(side: Side) -> Seen:
    side.unload()
    with side.events() as events:
        answers = [side.ask("POST", "/models/load", {"model": "alpha"})]
        events.until("status_change", "loaded")
        answers.append(side.ask("POST", "/models/load", {"model": "alpha"}))
        answers.append(side.ask("POST", "/models/unload", {"model": "alpha"}))
        events.until("status_change", "unloaded")
        info = next(r for r in events.records() if "info" in r.get("data", {}))["data"]["info"]  # type: ignore[index, operator, attr-defined]
        kept = side.normalizer.answer(200, events.headers, b"{}")["header"]
        statuses = [answer.status for answer in answers]
        return {
            "status": statuses,
            "event": events.told(),
            "header": kept,
            "info": side.normalizer.value(info),
            "lines": sorted({line.partition(":")[0] for line in events.lines}),
        }


@row(EVENTS, "an unload while it loads")
def _unload_while_loading(side: Side) -> Seen:
    side.unload()
    with side.events() as events:
        answers = [side.ask("POST", f"/models/{verb}", {"model": "long-a"}).status for verb in ("load", "unload")]
        events.until("status_change", "unloaded")
        until(lambda: side.state("long-a") == "unloaded")
        told = [each for each in events.told() if "progress" not in each]
    status = side.status("long-a")
    return {"status": answers, "event": told, "listed": {key: status.get(key) for key in ("failed", "exit_code")}}


@row(MODELS, "reload: something is there that was not, something is gone")
def _reload(side: Side) -> Seen:
    models = Path(side.root, "models")
    side.load("alpha")
    with side.events() as events:
        (models / "added.gguf").write_bytes((models / "beta.gguf").read_bytes())
        (models / "linked.gguf").unlink()
        answer = side.ask("GET", "/models?reload=0")
        events.until("models_reload")
        told = events.told()
    ids = side.models()
    return {
        "status": answer.status,
        "event": told,
        "listed": {name: name in ids for name in ("added", "linked")},
        "loaded": side.state("alpha"),
    }


@row(MODELS, "reload: a section has changed")
def _changed(side: Side) -> Seen:
    side.load("prefilled")
    side.load("alpha")
    preset = Path(side.root, "models.ini")
    with side.events() as events:
        preset.write_text(preset.read_text().replace("[prefilled]", "[prefilled]\ntop-p = 0.25"))
        answer = side.ask("GET", "/models?reload=1")
        events.until("models_reload")
        events.until("status_change", "unloaded")
        told = events.told()
    return {"status": answer.status, "event": told, "the other one": side.state("alpha")}


@row(MODELS, "reload: a file that cannot be read")
def _unreadable(side: Side) -> Seen:
    preset = Path(side.root, "models.ini")
    text = preset.read_bytes()
    preset.unlink()
    try:
        answer = side.see("GET", "/models?reload=1")
        listed = "sectioned" in side.models()
    finally:
        preset.write_bytes(text)
        side.ask("GET", "/models?reload=1")
    return {**answer, "body": "" if answer["status"] == 200 else answer["body"], "its sections are listed": listed}


@row(MODELS, "load: already running")
def _load_twice(side: Side) -> Seen:
    side.load("alpha")
    return side.see("POST", "/models/load", {"model": "alpha"})


@row(MODELS, "a loaded model in the list")
def _listed(side: Side) -> Seen:
    side.load("alpha")
    return _entry(side, "alpha")


@row(MODELS, "an unloaded model in the list")
def _listed_unloaded(side: Side) -> Seen:
    return _entry(side, "gamma")


def _entry(side: Side, model: str) -> Seen:
    entry = dict(side.models()[model])
    status = entry.pop("status")
    assert isinstance(status, dict)
    more = sorted(entry.pop("lr", {}))  # type: ignore[call-overload]
    seen: Seen = {"entry": side.normalizer.value(entry), "status": {"value": status["value"], "keys": sorted(status)}}
    return {**seen, "below lr": bool(more)}


@row(MODELS, "the list itself")
def _list(side: Side) -> Seen:
    answer = side.ask("GET", "/v1/models")
    whole = answer.json()
    assert isinstance(whole, dict)
    same = sorted(whole) == sorted(side.ask("GET", "/models").json())  # type: ignore[arg-type]
    seen = side.normalizer.answer(answer.status, answer.headers, b"{}")
    return {**seen, "keys": sorted(whole), "object": whole["object"], "at both addresses": same}


@row(LIFE, "the command line of a child")
def _command_line(side: Side) -> Seen:
    side.load("sectioned")
    words = Path(f"/proc/{side.child_of('sectioned')}/cmdline").read_text().rstrip("\0").split("\0")
    options: dict[str, object] = {}
    name = "program"
    for word in words:
        word = side.normalizer.text(word)
        if word.startswith("--"):
            name = word
            options[name] = "(flag)"
        else:
            options[name] = word
    options.pop("--port", None)
    options["--host"] = "a socket" if str(options["--host"]).endswith(".sock") else options["--host"]
    return {"argument": options}


@row(LIFE, "settings of a child by the environment")
def _parallel(side: Side) -> Seen:
    slots = {}
    for model in ("beta", "sectioned"):
        side.load(model)
        props = side.ask("GET", "/props" + model_query(model)).json()
        assert isinstance(props, dict)
        slots[model] = props["total_slots"]
    return {"slots": slots}


@row(LIFE, "the environment of a child")
def _environment(side: Side) -> Seen:
    side.load("sectioned")
    pairs = Path(f"/proc/{side.child_of('sectioned')}/environ").read_text().rstrip("\0").split("\0")
    names = {pair.partition("=")[0] for pair in pairs}
    watched = (
        "PATH",
        "HOME",
        "LLAMA_SERVER_ROUTER_PORT",
        "LLAMA_CACHE",
        "HF_TOKEN",
        "LLAMA_ARG_TIMEOUT",
        "HF_ENDPOINT",
    )
    side.unload("sectioned")
    return {"variable": {name: name in names for name in watched}}


# --- relayed routes -------------------------------------------------------------------------------------------------

_ROUTES: dict[str, tuple[str, dict[str, object]]] = {
    "chat": (_CHAT, _chat("alpha")),
    "chat by an alias": (_CHAT, _chat("other-name")),
    "chat without /v1": ("/chat/completions", _chat("alpha")),
    "completion": ("/completion", {"model": "alpha", "prompt": "the of", "n_predict": 4, "temperature": 0}),
    "v1 completion": ("/v1/completions", {"model": "alpha", "prompt": "the of", "max_tokens": 4, "temperature": 0}),
    "messages": ("/v1/messages", {"model": "alpha", "max_tokens": 4, "messages": _SAY, "temperature": 0}),
    "count_tokens": ("/v1/messages/count_tokens", {"model": "alpha", "messages": _SAY}),
    "input_tokens": ("/v1/chat/completions/input_tokens", _chat("alpha")),
    "responses": ("/v1/responses", {"model": "alpha", "input": "the of", "max_output_tokens": 4, "temperature": 0}),
    "tokenize": ("/tokenize", {"model": "alpha", "content": "the of and"}),
    "detokenize": ("/detokenize", {"model": "alpha", "tokens": [300, 301]}),
    "apply-template": ("/apply-template", {"model": "alpha", "messages": _SAY}),
    "embeddings of a model without them": ("/v1/embeddings", {"model": "alpha", "input": "the of"}),
    "embeddings": ("/v1/embeddings", {"model": "embedder", "input": "the of"}),
    "rerank of a model without it": ("/v1/rerank", {"model": "alpha", "query": "the", "documents": ["of", "and"]}),
    "infill of a model without it": ("/infill", {"model": "alpha", "input_prefix": "the", "input_suffix": "of"}),
    "systemone": ("/v1/systemone", {"model": "alpha", "input": "the of"}),
    "transcription of a model without audio": ("/v1/audio/transcriptions", {"model": "alpha"}),
    "control": ("/v1/chat/completions/control", {"model": "alpha", "id": "x", "action": "reasoning_end"}),
    "a body that the model refuses": (_CHAT, {"model": "alpha", "messages": "no list"}),
    "a prompt that is too long": (_CHAT, {"model": "alpha", "messages": [{"role": "user", "content": "the " * 2000}]}),
    "slots: an action that is off": ("/slots/0?action=save", {"model": "alpha", "filename": "x"}),
    "POST /props that is off": ("/props", {"model": "alpha"}),
}


def _add_route(name: str, path: str, body: dict[str, object]) -> None:
    @row(RELAYED, name)
    def look(side: Side) -> Seen:
        side.load(str(body["model"]) if body["model"] != "other-name" else "sectioned")
        return side.see("POST", path, body)


for _name, (_path, _body) in _ROUTES.items():
    _add_route(_name, _path, _body)

for _name in ("props", "slots", "lora-adapters", "metrics"):

    def _get(side: Side, path: str = f"/{_name}{model_query('alpha')}") -> Seen:
        side.load("alpha")
        seen = side.see("GET", path)
        if isinstance(seen["body"], str):  # figures of Prometheus
            seen["body"] = seen["body"].partition("\n")[0]
        elif isinstance(seen["body"], list):  # what the last request left in its slot is chance
            seen["body"] = [sorted(slot) if isinstance(slot, dict) else slot for slot in seen["body"][:1]]
        return seen

    LIVED.row(RELAYED, f"GET /{_name}?model=")(_get)


@row(RELAYED, "a streamed chat")
def _streamed(side: Side) -> Seen:
    side.load("alpha")
    return side.see("POST", _CHAT, _chat("alpha", 3, stream=True))


@row(RELAYED, "streamed messages")
def _streamed_messages(side: Side) -> Seen:
    side.load("alpha")
    body = {"model": "alpha", "max_tokens": 3, "messages": _SAY, "stream": True, "temperature": 0}
    return side.see("POST", "/v1/messages", body)


@row(RELAYED, "a form with a field for the model")
def _form(side: Side) -> Seen:
    side.load("alpha")
    parts = {"model": "alpha", "prompt": "the of"}
    body = "".join(
        f'--frontier\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in parts.items()
    )
    headers = {"Content-Type": "multipart/form-data; boundary=frontier"}
    return side.see("POST", "/v1/audio/transcriptions", f"{body}--frontier--\r\n".encode(), headers=headers)


@row(RELAYED, "a second request on the connection of the first")
def _kept(side: Side) -> Seen:
    side.load("alpha")
    answer = side.ask("POST", "/tokenize", {"model": "alpha", "content": "the"})
    return {"closes": ("connection", "close") in {(name.lower(), value) for name, value in answer.headers}}


# --- resuming -------------------------------------------------------------------------------------------------------


@row(RELAYED, "an answer is taken up again by its conversation")
def _resumed(side: Side) -> Seen:
    side.load("alpha")
    headers = {"X-Conversation-Id": "talk-1"}
    first = side.ask("POST", _CHAT, _chat("alpha", 3, stream=True), headers=headers)

    def found() -> bytes:
        return side.ask("POST", "/v1/streams/lookup", {"conversation_ids": ["talk-1", "nobody"]}).body

    # A child notes the end after it has sent it: who asks at once may be told that the answer goes on.
    until(lambda: json.loads(found())[0]["is_done"])
    again = side.ask("GET", "/v1/stream?conv_id=talk-1&from=0")
    late = side.see("GET", "/v1/stream?conv_id=talk-1&from=99999999")
    wrong = side.see("GET", "/v1/stream?conv_id=talk-1&from=x")
    gone = side.ask("DELETE", "/v1/stream?conv_id=talk-1")
    after = side.ask("POST", "/v1/streams/lookup", {"conversation_ids": ["talk-1"]})
    return {
        "first": first.status,
        "lookup": side.normalizer.body(found()),
        "again": {
            "status": again.status,
            "same": again.body == first.body,
            "type": dict(again.headers).get("Content-Type"),
        },
        "beyond the end": late["status"],
        "a wrong offset": wrong["status"],
        "delete": gone.status,
        "lookup after it": side.normalizer.body(after.body),
    }


# --- failures -------------------------------------------------------------------------------------------------------


@row(LIFE, "a request for a model that cannot be loaded")
def _broken(side: Side) -> Seen:
    seen = side.see("POST", _CHAT, _chat("broken"))
    status = side.status("broken")
    return {**seen, "listed": {key: status.get(key) for key in ("value", "failed", "exit_code")}}


@row(EVENTS, "a load that fails")
def _broken_load(side: Side) -> Seen:
    side.unload()
    with side.events() as events:
        answer = side.ask("POST", "/models/load", {"model": "doomed"})
        events.until("status_change", "unloaded")
        status = side.status("doomed")
        listed = {key: status.get(key) for key in ("value", "failed", "exit_code")}
        return {"status": answer.status, "event": events.told(), "listed": listed}


@row(MODELS, "load: its file is not there")
def _missing(side: Side) -> Seen:
    seen = side.see("POST", "/models/load", {"model": "missing-file"})
    until(lambda: side.state("missing-file") == "unloaded")
    return seen


@row(LIFE, "a child that is killed in mid-answer")
def _killed(side: Side) -> Seen:
    side.load("long-a")
    stream = side.stream("/completion", _LONG | {"model": "long-a"})
    stream.line()
    os.kill(side.child_of("long-a"), signal.SIGKILL)
    text = stream.rest()
    until(lambda: side.state("long-a") == "unloaded")
    status = side.status("long-a")
    stream.close()
    return {
        "ends as if it were whole": not stream.broken,
        "says that it failed": '"error"' in text,
        "listed": {key: status.get(key) for key in ("value", "failed", "exit_code")},
    }


@row(EVENTS, "a place is made for another model")
def _evicted(side: Side) -> Seen:
    side.unload()
    side.load("alpha")
    side.load("beta")
    until(lambda: side.may_go("beta"))
    side.ask("POST", "/tokenize", {"model": "alpha", "content": "x"})
    with side.events() as events:
        side.ask("POST", "/tokenize", {"model": "gamma", "content": "x"})
        events.until("status_change", "loaded")
        told = [each for each in events.told() if "progress" not in each]
        left = sorted(model for model in side.models() if side.state(model) == "loaded")
    side.unload()
    return {"event": told, "loaded": left}


@row(LIFE, "a load when every place is taken by a busy model")
def _busy(side: Side) -> Seen:
    side.unload()
    streams = []
    for model in ("long-a", "long-b"):
        side.load(model)
        streams.append(side.stream("/completion", _LONG | {"model": model}))
        streams[-1].line()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(side.see, "POST", "/models/load", {"model": "gamma"})
        waits = not wait([asking], 1).done
        for stream in streams:
            stream.close()
        answer = {**asking.result(), "waits": waits}
    if waits:
        until(lambda: side.state("gamma") == "loaded", 20)
    side.unload()
    return answer


@row(LIFE, "a scrape of a model that is not loaded")
def _scrape(side: Side) -> Seen:
    side.unload()
    seen = side.see("GET", "/metrics" + model_query("gamma"))
    seen["body"] = seen["body"] if isinstance(seen["body"], dict) else "figures"
    loaded = side.state("gamma")
    side.unload()
    return {**seen, "state after it": loaded}


@row(EVENTS, "a model falls asleep and wakes")
def _sleep(side: Side) -> Seen:
    side.unload()
    with side.events() as events:
        side.load("sleeper")
        events.until("status_change", "sleeping", 10)
        asleep = side.state("sleeper")
        answer = side.ask("POST", "/tokenize", {"model": "sleeper", "content": "x"})
        until(lambda: sum('"status": "loaded"' in told for told in events.told()) == 2)
        told = events.told()
    side.unload("sleeper")
    return {"event": told, "state": asleep, "woken by a request": answer.status}


@row(LIFE, "SIGTERM")
def _terminated(side: Side) -> Seen:
    side.load("alpha")
    children = children_of(side.process.pid)
    code = side.stop()
    left = [pid for pid in children if os.path.exists(f"/proc/{pid}")]
    return {"exit code": code, "children were there": bool(children), "children are left": len(left)}
