"""`lr plan`, and what `lr ps` and `lr ls` show of the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamarouter.cli.main import main
from tests.router_double import Reply, RouterDouble, error, routing
from tests.tiny_gguf import write_llama

Captured = pytest.CaptureFixture[str]

PLAN: dict[str, Any] = {
    "model": "b",
    "verdict": "evicts",
    "why": "there is room for it once a is gone",
    "place": "CUDA0",
    "partial": False,
    "needs": {"CUDA0": 5_000_000_000, "Host": 300_000_000},
    "source": "engine",
    "parts": {"CUDA0": {"weights": 4_000_000_000, "kv": 900_000_000, "compute": 100_000_000, "projector": 0}},
    "may_grow": {"Host": 8 << 30},
    "doubts": ["there is no adapter"],
    "evict": [
        {"model": "a", "idle": 12.0, "in_flight": 0, "load_seconds": 3.5, "frees": {"CUDA0": 20_000_000_000}},
    ],
    "claim": [{"model": "c", "idle": None, "in_flight": 2, "load_seconds": None, "frees": {}}],
    "after": 0.0,
    "load_seconds": 2.4,
    "error": None,
    "rooms": {
        "CUDA0": {"total": 24_000_000_000, "free": 3_000_000_000, "ours": 20_000_000_000, "budget": None, "reserve": 0},
        "Host": {"total": 64_000_000_000, "free": 9_000_000_000, "ours": None, "budget": 8_000_000_000, "reserve": 1},
    },
    "command": ["llama-server", "--fit", "off"],
    "flags": [{"option": "--fit", "values": ["off"], "origin": "llamarouter (memory)"}],
    "variables": [{"name": "A", "value": "b c", "origin": "p.ini:3"}],
    "env": {},
}


def lr(router: RouterDouble, *arguments: str) -> int:
    return main([arguments[0], "--url", router.url, *arguments[1:]])


def test_a_plan_for_people_and_for_programs(capsys: Captured) -> None:
    with routing({"POST /lr/plan b": Reply(PLAN)}) as router:
        assert lr(router, "plan", "b") == 0
        assert capsys.readouterr().out.splitlines() == [
            "b: there is room for it once a is gone",
            "place     CUDA0",
            "needs     CUDA0 5.0 GB: weights 4.0 GB, kv 900 MB, compute 100 MB   (as the engine reckons)",
            "          Host 300 MB",
            "          later: up to 8.6 GB more of Host, as prompts come to fill it (--cache-ram)",
            "          but: there is no adapter",
            "goes      a: idle for 12 s, loads again in 3.5 s, frees 20.0 GB of CUDA0",
            "          c: 2 in flight",
            "loads in  2.4 s",
            "devices   CUDA0: 3.0 GB of 24.0 GB free, 20.0 GB held by models",
            "          Host: 9.0 GB of 64.0 GB free, a budget of 8.0 GB, 1 B in reserve",
            "command",
            "  llama-server \\",
            "    --fit off",
            "with      A='b c'",
        ]
        assert lr(router, "plan", "b", "--json") == 0
        assert json.loads(capsys.readouterr().out) == PLAN


def test_what_would_be_refused_says_why_and_fails(capsys: Captured) -> None:
    refused = PLAN | {"verdict": "refused", "why": "it needs 90 GB of CUDA0"}
    bare = {"model": "c", "verdict": "refused", "why": "its files are not here", "problem": "its files are not here"}
    with routing({"POST /lr/plan b": Reply(refused), "POST /lr/plan c": Reply(bare)}) as router:
        assert lr(router, "plan", "b") == 1
        shown = capsys.readouterr()
        assert shown.out.startswith("place     CUDA0\n")
        assert shown.err == "lr: b would be refused: it needs 90 GB of CUDA0\n"
        assert lr(router, "plan", "c") == 1
        shown = capsys.readouterr()
        assert (shown.out, shown.err) == ("", "lr: c would be refused: its files are not here\n")


def test_a_router_that_does_not_look_says_so(capsys: Captured) -> None:
    off = Reply(error(403, "feature_disabled", "this router does not look at the memory (--no-memory-check)"), 403)
    with routing({"POST /lr/plan b": off}) as router:
        assert lr(router, "plan", "b") == 1
        assert "--no-memory-check" in capsys.readouterr().err


def test_without_a_router_it_is_worked_out_here(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LR_RUNTIME_DIR", str(tmp_path / "none"))
    write_llama(tmp_path / "m.gguf")
    assert main(["plan", "m", "--json", "--", "--models-dir", str(tmp_path), "--memory-budget", "90%"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["verdict"] == "starts"
    assert plan["needs"]
    assert plan["may_grow"] == {"Host": 8 << 30}
    for ram, grows in (("0", {}), ("-1", {"Host": None})):
        assert main(["plan", "m", "--json", "--", "--models-dir", str(tmp_path), "--cache-ram", ram]) == 0
        assert json.loads(capsys.readouterr().out)["may_grow"] == grows
    assert main(["plan", "m", "--", "--models-dir", str(tmp_path), "--cache-ram", "-1"]) == 0
    assert "later: without a limit more of Host" in capsys.readouterr().out
    assert plan["command"][-2:] == ["--model", str(tmp_path / "m.gguf")]
    assert plan["doubts"] == []
    (tmp_path / "p.ini").write_text("[m]\ndevice = CUDA77\n")
    flags = ["--models-dir", str(tmp_path), "--models-preset", str(tmp_path / "p.ini"), "--memory-budget", "CUDA78=1G"]
    main(["plan", "m", "--", *flags])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"but: {tmp_path}/p.ini:2: device CUDA77: no such device; its engine has " in shown
    assert "but: --memory-budget CUDA78=1" in shown
    assert main(["plan", "x", "--", "--models-dir", str(tmp_path)]) == 1
    assert "x" in capsys.readouterr().err
    assert main(["plan", "m", "--", "--models-dir", str(tmp_path), "--no-memory-check"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        "lr: a router with --no-memory-check plans nothing: lr explain shows how a model is started\n",
    )


def test_ps_and_ls_show_what_is_held_and_what_is_missing(capsys: Captured) -> None:
    loaded = {
        "id": "a",
        "status": {"value": "loaded"},
        "source": "preset",
        "lr": {
            "place": "CUDA0",
            "held": {"CUDA0": 5_000_000_000, "Host": 300_000_000},
            "shortfalls": ["20 of 33 layers are on the GPU: more did not fit"],
        },
    }
    device = {"name": "CUDA0", "total": 24e9, "free": 3e9, "booked": 5e9, "budget": 20e9, "reserve": 1e9, "stale": True}
    replies: dict[str, Reply | list[Reply]] = {
        "GET /models": Reply({"data": [loaded]}),
        "GET /lr/devices": Reply({"devices": [device]}),
    }
    with routing(replies) as router:
        assert lr(router, "ps") == 0
        shown = capsys.readouterr()
        head, row, line = shown.out.splitlines()
        assert head.endswith("HOLDS")
        assert row.endswith("CUDA0 5.0 GB + Host 300 MB")
        assert line == (
            "CUDA0: 5.0 GB held by models, 3.0 GB of 24.0 GB free, a budget of 20.0 GB, 1.0 GB in reserve, "
            "it does not answer: old figures"
        )
        assert shown.err == "a: 20 of 33 layers are on the GPU: more did not fit\n"
        assert lr(router, "ps", "--json") == 0
        assert json.loads(capsys.readouterr().out)["devices"] == [device]
        assert lr(router, "ls") == 0
        assert capsys.readouterr().err == "a: 20 of 33 layers are on the GPU: more did not fit\n"
