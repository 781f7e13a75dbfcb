"""Why a model failed: asked of a running router, of the next one, and of what is left without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamarouter.cli.main import main
from llamarouter.core.incidents import Incident, Incidents
from llamarouter.host.incident_file import NAME, IncidentFile
from tests.node_kit import House, add_model, engine_with, house
from tests.router_double import Reply, error, routing
from tests.tiny_gguf import write_llama
from tests.waiting import until

anyio = pytest.mark.anyio
Captured = pytest.CaptureFixture[str]


async def why(home: House, model: str) -> dict[str, Any]:
    answer = await home.client.get("/lr/why", params={"model": model})
    assert answer.status_code == 200
    told: dict[str, Any] = answer.json()
    return told


def broken(tmp_path: Path, *faults: str) -> str:
    """A preset whose model `m` has an engine with these faults."""
    add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, *faults)
    return f"[m]\nlr-engine = {engine}\nalias = mm\n"


@anyio
async def test_a_failed_load_is_told_with_all_that_explains_it(tmp_path: Path) -> None:
    words = "gguf_init_from_reader: tensor 'x' has invalid ggml type 45. should be in [0, 42)"
    preset = broken(tmp_path, "--fake-exit-loading", "1", "--fake-last-words", words)
    async with house(tmp_path, "--api-key", "sesame", "--hf-token", "hf_secret", preset=preset) as home:
        home.client.headers["authorization"] = "Bearer sesame"
        refused = await home.client.post("/v1/chat/completions", json={"model": "m"})
        assert refused.json()["error"]["reason"] == "model_invalid"
        told = await why(home, "mm")
        assert (told["model"], told["state"], told["one_at_a_time"]) == ("m", "unloaded", False)
        assert 0.0 < told["cooldown"] <= 1.2
        assert told["error"] == refused.json()["error"]["message"]
        (failure,) = told["failures"]
        assert (failure["cause"], failure["code"], failure["signal"]) == ("engine_too_old", 1, None)
        assert (failure["stage"], failure["inside"]) == ("loading", 0)
        assert failure["message"].endswith(words)
        assert "`lr engine build`" in failure["hint"]
        assert failure["command"][0] == str(tmp_path / "llama-server")
        assert "--alias" in failure["command"]
        assert any(words in line for line in failure["log"])
        assert 0.0 <= failure["seconds_ago"] < 60.0
        assert "hf_secret" not in json.dumps(told)
        listed = (await home.client.get("/v1/models/m")).json()["lr"]["failure"]
        assert (listed["reason"], listed["hint"]) == ("engine_too_old", failure["hint"])


@anyio
async def test_a_crash_is_told_with_what_was_inside_and_is_known_to_the_next_router(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        assert (await why(home, "m"))["failures"] == []
        crashed = await home.client.post("/v1/chat/completions", json={"model": "m", "fake": {"crash": 1}})
        assert crashed.json()["error"]["reason"] == "model_crashed"
        (failure,) = (await why(home, "m"))["failures"]
        assert (failure["cause"], failure["signal"], failure["stage"]) == ("signal", "SIGSEGV", "serving")
        assert failure["inside"] == 1
        assert failure["lasted"] > 0.0
        assert failure["log"]
    async with house(tmp_path) as home:
        told = await why(home, "m")
        assert [each["signal"] for each in told["failures"]] == ["SIGSEGV"]
        assert (told["state"], told["error"]) == ("unloaded", None)
        (tmp_path / "models" / "m.gguf").unlink()
        await home.node.look_again()
        told = await why(home, "m")
        assert (told["state"], len(told["failures"])) == ("gone", 1)
        assert (await home.client.get("/lr/why", params={"model": "never"})).status_code == 404
        assert (await home.client.get("/lr/why")).status_code == 400


@anyio
async def test_a_model_that_fails_and_fails_is_told_to_be_tried_by_one_at_a_time(tmp_path: Path) -> None:
    async with house(tmp_path, preset=broken(tmp_path, "--fake-exit-loading", "1")) as home:
        for count in (1, 2, 3):
            await home.client.post("/v1/chat/completions", json={"model": "m"})
            await until(lambda count=count: len(home.node.chronicle.incidents.of("m")) == count)  # type: ignore[misc]
            if count < 3:
                await until(lambda: home.node.supervisor.cooldown_left("m") == 0.0)
        refused = await home.client.post("/v1/chat/completions", json={"model": "m"})
        assert refused.status_code == 503
        assert 19 <= int(refused.headers["retry-after"]) <= 24
        assert "failed 3 times and is left alone for 2" in refused.json()["error"]["message"]
        told = await why(home, "m")
        assert told["one_at_a_time"]
        assert len(told["failures"]) == 3


@anyio
async def test_failures_that_cannot_be_written_cost_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).mkdir()
    async with house(tmp_path, preset=broken(tmp_path, "--fake-exit-loading", "1")) as home:
        await home.client.post("/v1/chat/completions", json={"model": "m"})
        await until(lambda: "failures are not kept for the next start" in caplog.text)
        assert len((await why(home, "m"))["failures"]) == 1


# --- the command ------------------------------------------------------------------------------------------------------

FAILURE = {
    "model": "crashed",
    "at": 1795705386.5,
    "seconds_ago": 75.0,
    "cause": "signal",
    "message": "llama-server crashed while serving (SIGSEGV)",
    "hint": "Try a newer one.",
    "stage": "serving",
    "lasted": 200.0,
    "inside": 1,
    "command": ["/opt/llama-server", "--alias", "a b"],
    "code": None,
    "signal": "SIGSEGV",
    "log": ["0.00.001.000 I one", "0.00.002.000 E two\x1b[31m"],
}
TOLD = {
    "model": "crashed",
    "state": "unloaded",
    "problem": None,
    "error": "x",
    "cooldown": 12.0,
    "one_at_a_time": True,
    "failures": [
        FAILURE,
        FAILURE | {"stage": "loading", "message": "its file", "signal": None, "code": 1, "inside": 2},
    ],
}


def test_the_last_one_is_shown_in_full(capsys: Captured) -> None:
    with routing({"GET /lr/why": Reply(TOLD)}) as router:
        assert main(["why", "--url", router.url, "crashed"]) == 0
    assert router.asked[0].query == {"model": "crashed"}
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "crashed: failed 2 times lately; it is unloaded now, and left alone for 12 s more"
    assert lines[0] == ""
    assert lines[1].endswith(" (75 s ago), while serving, after 3 min")
    assert lines[2:9] == [
        "  llama-server crashed while serving (SIGSEGV)",
        "  1 request was inside",
        "  Try a newer one.",
        "  cause signal, signal SIGSEGV",
        "  command",
        "    /opt/llama-server --alias 'a b'",
        "  the end of its log",
    ]
    assert lines[9:12] == ["    0.00.001.000 I one", "    0.00.002.000 E two[31m", ""]
    assert lines[12] == "before that (--all shows them in full)"
    assert lines[13].endswith("while loading, after 3 min: its file")
    assert len(lines) == 14


def test_one_that_was_refused_was_never_started(capsys: Captured) -> None:
    told = TOLD | {"failures": [{"at": 1795705386.5, "seconds_ago": 3.0, "stage": "refused", "message": "needs 9 GB"}]}
    with routing({"GET /lr/why": Reply(told)}) as router:
        assert main(["why", "--url", router.url, "crashed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith(" (3.0 s ago), refused before its start")
    assert lines[3] == "  needs 9 GB"


def test_all_are_shown_in_full_and_programs_get_what_the_router_said(capsys: Captured) -> None:
    with routing({"GET /lr/why": Reply(TOLD)}) as router:
        assert main(["why", "--url", router.url, "crashed", "--all"]) == 0
        shown = capsys.readouterr().out
        assert main(["why", "--url", router.url, "crashed", "--json"]) == 0
    assert "  2 requests were inside" in shown.splitlines()
    assert "  cause signal, exit code 1" in shown.splitlines()
    assert "before that" not in shown
    assert json.loads(capsys.readouterr().out) == TOLD


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"state": "loaded"}, "m: no failure is known; it is loaded now"),
        (
            {},
            "m: no failure is known; it is unloaded now. `lr plan m` says what a request for it would meet with",
        ),
        (
            {"stopped": {"reason": "evicted", "seconds_ago": 12.0}},
            "m: no failure is known; it is unloaded now (it made room for another model, 12 s ago)",
        ),
        (
            {"stopped": {"reason": "expired", "seconds_ago": 1.0}},
            "m: no failure is known; it is unloaded now (nobody had asked for it in its time to live, 1.0 s ago)",
        ),
        ({"problem": "no magic"}, "m: no failure is known; it is unloaded now. It cannot be started: no magic"),
        ({"error": "no room"}, "m: no failure is known; it is unloaded now. It cannot be started: no room"),
        ({"one_at_a_time": True}, "m: no failure is known; it is unloaded now, and one request at a time may try it"),
    ],
)
def test_how_it_is_stands_in_the_first_line(told: dict[str, object], line: str, capsys: Captured) -> None:
    answer = {"model": "m", "state": "unloaded", "cooldown": 0.0, "failures": [], **told}
    with routing({"GET /lr/why": Reply(answer)}) as router:
        assert main(["why", "--url", router.url, "m"]) == 0
    assert capsys.readouterr().out == line + "\n"


def test_an_unknown_model_is_answered_with_the_nearest(capsys: Captured) -> None:
    replies = {"GET /lr/why": Reply(error(404, "model_not_found", "model 'crahsed' not found"), status=404)}
    with routing(replies) as router:  # type: ignore[arg-type]
        assert main(["why", "--url", router.url, "crahsed"]) == 1
    assert capsys.readouterr().err == "lr: there is no model 'crahsed'; did you mean crashed?\n"


def test_without_a_router_the_state_folder_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name in ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "LR_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LR_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("LR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("LLAMA_ARG_MODELS_DIR", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    write_llama(tmp_path / "models" / "tiny.gguf")
    incident = Incident(model="old", at=5.0, cause="killed", message="it was killed", hint="Look.")
    IncidentFile(tmp_path / NAME).append([incident], Incidents())
    assert main(["why", "old"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "old: failed once; no router is running here"
    assert shown[3:] == ["  it was killed", "  Look.", "  cause killed"]
    assert main(["why", "tiny"]) == 0
    assert capsys.readouterr().out == "tiny: no failure is known; no router is running here\n"
    assert main(["why", "tinny"]) == 1
    message = "lr: no router is running here, and no failure of 'tinny' is known; did you mean tiny?\n"
    assert capsys.readouterr().err == message
