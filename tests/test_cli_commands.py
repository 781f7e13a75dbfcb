"""The commands that show and steer a router, against a far end that answers as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest

from llamarouter.cli.address import address_of
from llamarouter.cli.main import main
from llamarouter.cli.server_client import ServerClient
from llamarouter.cli.stop import until_gone
from llamarouter.cli.waiting import Watch
from tests.router_double import Reply, RouterDouble, error, routing
from tests.terminal import Terminal

Captured = pytest.CaptureFixture[str]


def lr(router: RouterDouble, *arguments: str) -> int:
    return main([arguments[0], "--url", router.url, *arguments[1:]])


def test_ls_shows_every_model_and_what_is_wrong_below(capsys: Captured) -> None:
    with routing({}) as router:
        assert lr(router, "ls") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "ID                  SIZE  QUANT  PARAMS  CONTEXT  SOURCE      STATE",
        "user/small:Q4_1  98.9 MB  Q4_1     135M     2048  cache       loaded",
        "broken              20 B  -           -        -  models_dir  unusable",
        "crashed           4.8 GB  -        4.3B        -  preset      failed",
    ]
    assert shown.err.splitlines() == [
        "/models/empty.gguf: the file is empty",
        "broken: not a GGUF file",
        "crashed: ended by SIGSEGV (more: `lr why crashed`)",
    ]


def test_ls_shows_what_models_take_and_whether_somebody_has_looked(capsys: Captured) -> None:
    def model(id: str, memory: object) -> dict[str, object]:
        return {"id": id, "status": {"value": "unloaded"}, "source": "preset", "lr": {"memory": memory}}

    needs = {"CUDA0": 5_000_000_000, "Host": 300_000_000}
    rows = [
        model("a", {"source": "measured", "needs": needs}),
        model("b", {"source": "header", "needs": {"Host": 300_000_000}}),
        model("c", None),
        model("d", {"source": "engine"}),
    ]
    with routing({"GET /models": Reply({"object": "list", "data": rows})}) as router:
        assert lr(router, "ls") == 0
        listed = [line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()]
        assert lr(router, "ls", "--json") == 0
    assert listed == ["MEMORY", "CUDA0 5.0 GB + Host 300 MB measured", "300 MB estimated", "-", "-"]
    told = json.loads(capsys.readouterr().out)["models"]
    assert [(row["memory"], row["memory_is"]) for row in told[::2]] == [(needs, "measured"), (None, None)]


def _staying() -> dict[str, object]:
    def model(id: str, **more: object) -> dict[str, object]:
        return {"id": id, "status": {"value": "loaded"}, "source": "preset", "lr": more}

    return {
        "object": "list",
        "data": [
            model("a", pinned=True, load_on_startup=True, ttl=60.0),
            model("b", ttl=900.0, expires_in=250.0, priority=-1),
            model("c", ttl=900.0, in_flight=1),
            model("d", ttl=None, pinned=False, priority=0),
        ],
    }


def test_ls_and_ps_show_how_long_models_stay_where_somebody_says_so(capsys: Captured) -> None:
    with routing({"GET /models": Reply(_staying())}) as router:
        assert lr(router, "ls") == 0
        listed = [line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()]
        assert lr(router, "ps") == 0
        running = [line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()]
        assert lr(router, "ls", "--json") == 0
    assert listed == ["STAYS", "at start, pinned", "ends after 15 min idle, priority -1", "ends after 15 min idle", "-"]
    assert running == ["ENDS", "pinned", "in 4 min", "15 min idle", "-"]
    told = json.loads(capsys.readouterr().out)["models"][1]
    assert (told["ttl"], told["expires_in"], told["priority"], told["pinned"]) == (900.0, 250.0, -1, False)


def test_pin_and_unpin_say_what_holds_now(capsys: Captured) -> None:
    def reply(pinned: bool, loaded: bool) -> Reply:
        return Reply({"success": True, "model": "user/small:Q4_1", "pinned": pinned, "loaded": loaded})

    replies = {"POST /lr/pin small": [reply(True, False), reply(True, True)], "POST /lr/unpin": reply(False, True)}
    with routing(replies) as router:
        assert lr(router, "pin", "small") == 0
        assert lr(router, "pin", "small", "--json") == 0
        assert lr(router, "unpin", "user/small:Q4_1") == 0
        out, err = capsys.readouterr()
        assert (router.bodies("/lr/pin"), router.bodies("/lr/unpin")) == (
            [{"model": "small"}] * 2,
            [{"model": "user/small:Q4_1"}],
        )
        told = "user/small:Q4_1 is pinned; it is not loaded: lr load small\n"
        assert out.startswith(told)
        assert out.endswith("user/small:Q4_1 is not pinned\n")
        between = out[len(told) : -len("user/small:Q4_1 is not pinned\n")]
        assert json.loads(between) == [{"model": "user/small:Q4_1", "pinned": True, "loaded": True}]
        assert err == ""


def test_pin_says_why_not(capsys: Captured) -> None:
    full = Reply(error(409, "conflict", "--models-max is 1, and as many models are pinned already (b)"), 409)
    unknown = Reply(error(404, "model_not_found", "model 'smal' not found"), 404)
    with routing({"POST /lr/pin small": full, "POST /lr/pin smal": unknown}) as router:
        assert lr(router, "pin", "small") == 1
        assert "as many models are pinned already (b)" in capsys.readouterr().err
        assert lr(router, "pin", "smal") == 1
        assert "did you mean" in capsys.readouterr().err


def test_ls_for_programs_has_the_figures_unrounded(capsys: Captured) -> None:
    with routing({}) as router:
        assert lr(router, "ls", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["state"]) for row in told["models"]] == [
        ("user/small:Q4_1", "loaded"),
        ("broken", "unusable"),
        ("crashed", "failed"),
    ]
    assert told["models"][0]["size"] == 98_900_000
    assert told["warnings"] == [{"where": "/models/empty.gguf", "reason": "the file is empty"}]


def test_ls_without_any_model_says_how_to_get_one(capsys: Captured) -> None:
    with routing({"GET /models": Reply({"object": "list", "data": []})}) as router:
        assert lr(router, "ls") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("no models yet: `lr pull")


def test_ls_understands_llama_servers_own_router(capsys: Captured) -> None:
    model = {"id": "a/b:Q8_0", "status": {"value": "unloaded"}, "source": "cache", "architecture": {}}
    with routing({"GET /models": Reply({"object": "list", "data": [model]})}) as router:
        assert lr(router, "ls") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["a/b:Q8_0", "-", "-", "-", "-", "cache", "unloaded"]


@pytest.mark.parametrize("command", [("logs", "a"), ("explain", "a"), ("stop",), ("version",)])
def test_what_llama_servers_own_router_does_not_have_is_said_so(command: tuple[str, ...], capsys: Captured) -> None:
    refusal = Reply({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)
    paths = {"logs": "/lr/logs", "explain": "/lr/explain", "stop": "/lr/status", "version": "/lr/status"}
    with routing({f"GET {path}": refusal for path in paths.values()}) as router:
        assert lr(router, *command) == 1
    path = paths[command[0]]
    assert capsys.readouterr() == ("", f"lr: {router.url} is not an `lr serve`: it has no {path}\n")


def test_a_loading_model_shows_how_far_it_is(capsys: Captured) -> None:
    model = {"id": "a", "status": {"value": "loading", "progress": {"stages": [], "value": 0.426}}}
    with routing({"GET /models": Reply({"data": [model]})}) as router:
        assert lr(router, "ls") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("loading 43%")


def test_something_else_on_the_port_is_said_so(capsys: Captured) -> None:
    with routing({"GET /models": Reply("<html>")}) as router:
        assert lr(router, "ls") == 1
    assert capsys.readouterr().err == f"lr: {router.url} does not answer as a router does\n"


def test_ps_shows_what_holds_memory_and_the_last_failures(capsys: Captured) -> None:
    with routing({}) as router:
        assert lr(router, "ps") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "MODEL             PID  STATE      UPTIME  IN FLIGHT  WAITING  TOK/S  CONTEXT  LAYERS  LAST USED",
        "user/small:Q4_1  4711  loaded  1 h 2 min        1/4        2   31.2      512   12/31  now",
    ]
    assert shown.err == "crashed failed 12 s ago: ended by SIGSEGV; next try in 3.0 s (more: `lr why crashed`)\n"


def test_ps_with_nothing_loaded_is_no_failure(capsys: Captured) -> None:
    with routing({"GET /models": Reply({"data": []})}) as router:
        assert lr(router, "ps") == 0
        assert lr(router, "ps", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"models": [], "devices": []}
    assert shown.err.startswith("nothing is loaded")


def test_load_waits_and_says_how_long_it_took(capsys: Captured) -> None:
    with routing({"POST /models/load": Reply({"success": True})}) as router:
        assert lr(router, "load", "broken", "crashed") == 0
    assert router.bodies("/models/load") == [
        {"model": "broken", "wait": True},
        {"model": "crashed", "wait": True},
    ]
    assert [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "broken loaded",
        "crashed loaded",
    ]


def test_load_shows_people_how_far_it_is() -> None:
    ready = Event()
    loading = {"id": "broken", "status": {"value": "loading"}, "lr": {"progress": 0.43}}
    replies: dict[str, Any] = {
        "POST /models/load": Reply({"success": True}, after=ready),
        "GET /v1/models/broken": Reply(loading),
    }
    with routing(replies) as router:
        terminal = Terminal("load", "broken", "--url", router.url)
        terminal.until("broken: loading 43%")
        ready.set()
        shown = terminal.end()
    assert "\r\x1b[Kbroken loaded in 0." in shown


def test_a_watch_that_has_ended_tells_and_asks_nothing_more() -> None:
    told: list[str] = []
    first = Event()
    loading = {"id": "a/b", "status": {"value": "loading"}}
    with routing({"GET /v1/models/a%2Fb": Reply(loading)}) as router:

        def tell(words: str) -> None:
            told.append(words)
            first.set()

        with Watch(ServerClient(address_of(router.url)), "a/b", tell):
            assert first.wait(10)
            (thread,) = [each for each in enumerate_threads() if each.name == "watch /v1/models/a%2Fb"]
        thread.join(10)
        assert not thread.is_alive()
    assert set(told) == {"loading"}


def test_load_of_a_loaded_model_says_so(capsys: Captured) -> None:
    with routing({"POST /models/load": Reply({"success": True})}) as router:
        assert lr(router, "load", "small") == 0
        assert lr(router, "load", "small", "--json") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("small was loaded already\n")
    assert json.loads(shown.partition("\n")[2]) == [{"model": "small", "loaded": True, "seconds": None}]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("smal", "did you mean small?"),
        ("SMALL", "did you mean small?"),
        ("crash", "did you mean crashed?"),
        ("user/small", "did you mean user/small:Q4_1?"),
        ("zzzzzz", "`lr ls` lists them"),
    ],
)
@pytest.mark.parametrize("command", ["load", "unload", "logs", "explain"])
def test_an_unknown_model_names_the_nearest(command: str, asked: str, hint: str, capsys: Captured) -> None:
    unknown = Reply(error(404, "model_not_found", f"model '{asked}' not found"), 404)
    refusals: dict[str, Any] = {
        "POST /models/load": unknown,
        "POST /models/unload": Reply(error(400, "bad_request", "model is not found"), 400),
        "GET /lr/logs": unknown,
        "GET /lr/explain": unknown,
    }
    with routing(refusals) as router:
        assert lr(router, command, asked) == 1
    assert capsys.readouterr() == ("", f"lr: there is no model '{asked}'; {hint}\n")


def test_a_load_that_fails_says_why_and_nothing_else_is_tried(capsys: Captured) -> None:
    failed = Reply(error(500, "model_invalid", "model broken: not a GGUF file"), 500)
    with routing({"POST /models/load": failed}) as router:
        assert lr(router, "load", "broken", "crashed") == 1
    assert len(router.bodies("/models/load")) == 1
    assert capsys.readouterr() == ("", "lr: model broken: not a GGUF file\n")


def test_unload_all_means_those_that_live(capsys: Captured) -> None:
    with routing({"POST /models/unload": Reply({"success": True})}) as router:
        assert lr(router, "unload", "--all", "--force") == 0
    assert router.bodies("/models/unload") == [{"model": "user/small:Q4_1", "force": True, "wait": True}]
    assert capsys.readouterr().out == "user/small:Q4_1 unloaded\n"


def test_unload_of_what_is_not_loaded_is_no_failure(capsys: Captured) -> None:
    refusal = Reply(error(400, "bad_request", "model is not running"), 400)
    with routing({"POST /models/unload": refusal}) as router:
        assert lr(router, "unload", "broken") == 0
    assert capsys.readouterr().out == "broken was not loaded\n"


def test_logs_come_as_they_are_written_and_cannot_steer_the_terminal() -> None:
    hold = Event()
    with routing({"GET /lr/logs": Reply(pieces=["one\ntw", "o \x1b[2J\n"], hold=hold)}) as router:
        command = [sys.executable, "-m", "llamarouter", "logs", "small", "-f", "--url", router.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(2)] == ["one\n", "two [2J\n"]
            process.send_signal(2)  # the person's Ctrl-C
            assert process.wait(10) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        assert router.hung_up.wait(5)
    assert router.asked[0].query == {"model": "small", "follow": "1", "n": "10"}


def test_stop_returns_when_the_router_is_gone(tmp_path: Any, monkeypatch: Any, capsys: Captured) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        watcher = Thread(target=until_gone, args=(process.pid,))
        watcher.start()
        watcher.join(0.05)
        assert watcher.is_alive()
        assert process.stdin is not None
        process.stdin.close()
        watcher.join(5)
        assert not watcher.is_alive()
    until_gone(process.pid)  # and one that was gone before


def test_stop_of_a_router_elsewhere_does_not_watch_a_process_here(capsys: Captured) -> None:
    replies = {"GET /lr/status": Reply({"pid": os.getpid()}), "POST /lr/stop": Reply({"success": True})}
    with routing({**replies}) as router:
        assert lr(router, "stop", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False, "pid": os.getpid()}
    assert [asked.path for asked in router.asked] == ["/lr/status", "/lr/stop"]


def test_version_names_both_ends(capsys: Captured) -> None:
    status = {"version": "9.9", "engine": {"kind": "compiled", "build": "b1"}}
    with routing({"GET /lr/status": Reply(status)}) as router:
        assert lr(router, "version") == 0
        assert lr(router, "version", "--json") == 0
    first, second, rest = capsys.readouterr().out.split("\n", 2)
    assert first.startswith("lr ")
    assert second == f"{router.url}: lr 9.9, engine compiled b1"
    assert json.loads(rest)["router"] == status


EXPLANATION = {
    "model": "small",
    "command": ["numactl", "/opt/llama server", "--ctx-size", "512", "--jinja", "--temp", "0.6"],
    "env": {"HOME": "/root", "CUDA_VISIBLE_DEVICES": "0 1"},
    "flags": [
        {"option": "--ctx-size", "values": ["512"], "origin": "command line"},
        {"option": "--jinja", "values": [], "origin": "presets/demo.ini:12"},
        {"option": "--temp", "values": ["0.6"], "origin": "presets/demo.ini:13"},
    ],
    "problem": None,
}


def test_explain_prints_a_command_that_a_shell_takes_and_where_each_flag_came_from(capsys: Captured) -> None:
    with routing({"GET /lr/explain": Reply(EXPLANATION)}) as router:
        assert lr(router, "explain", "small") == 0
    assert router.asked[0].query == {"model": "small"}
    assert capsys.readouterr().out == (
        "command\n"
        "  numactl '/opt/llama server' \\\n"
        "    --ctx-size 512 \\\n"
        "    --jinja \\\n"
        "    --temp 0.6\n"
        "\n"
        "FLAG        VALUE  FROM\n"
        "--ctx-size  512    command line\n"
        "--jinja            presets/demo.ini:12\n"
        "--temp      0.6    presets/demo.ini:13\n"
        "\n"
        "environment\n"
        "  CUDA_VISIBLE_DEVICES='0 1'\n"
        "  HOME=/root\n"
    )


def test_explain_of_what_cannot_be_started_is_a_failure(capsys: Captured) -> None:
    with routing({"GET /lr/explain": Reply({"model": "broken", "problem": "not a GGUF file"})}) as router:
        assert lr(router, "explain", "broken", "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"model": "broken", "problem": "not a GGUF file"}
    assert shown.err == "lr: broken cannot be started: not a GGUF file\n"


def test_reload_says_what_has_changed_and_what_is_wrong(capsys: Captured) -> None:
    body = {
        "success": True, "models": 3, "added": ["c"], "changed": ["a"], "removed": ["b"], "unloading": ["a"],
        "warnings": [{"where": "p.ini:8", "reason": "ctx-sise is no option"}],
    }  # fmt: skip
    nothing = {"success": True, "models": 1, "added": [], "changed": [], "removed": [], "unloading": [], "warnings": []}
    refused = error(500, "reload_refused", "reload refused, everything stays as it was: p.ini:3: what is this")
    replies: list[Reply] = [Reply(body), Reply(body), Reply(nothing), Reply(refused, 500)]
    with routing({"POST /models/reload": replies}) as router:
        assert lr(router, "reload") == 0
        shown = capsys.readouterr()
        assert shown.out.splitlines() == ["added    c", "changed  a (is being unloaded)", "removed  b", "3 models"]
        assert shown.err.splitlines() == ["p.ini:8: ctx-sise is no option"]
        assert lr(router, "reload", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {key: value for key, value in body.items() if key != "success"}
        assert lr(router, "reload") == 0
        assert capsys.readouterr().out == "nothing has changed; 1 model\n"
        assert lr(router, "reload") == 1
        assert capsys.readouterr().err == ("lr: reload refused, everything stays as it was: p.ini:3: what is this\n")


def test_reload_of_a_router_that_has_none_says_so(capsys: Captured) -> None:
    upstream = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
    with routing({"POST /models/reload": Reply(upstream, 404)}) as router:
        assert lr(router, "reload") == 1
    assert "is not an `lr serve`: it has no /models/reload" in capsys.readouterr().err
