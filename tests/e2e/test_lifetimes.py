"""Models that end by themselves, and models that stay, as an operator and his clients see them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ENGINES, Router, Serve, until


def ask(router: Router, model: str) -> int:
    with router.client() as client:
        body = {"model": model, "prompt": "x", "max_tokens": 2}
        return client.post("/v1/completions", json=body).status_code


def ours(router: Router, model: str) -> dict[str, Any]:
    told = router.models()[model]["lr"]
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("engine", ENGINES)
def test_an_idle_process_ends_also_asleep_and_watched_and_the_next_request_has_a_new_one(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    router = serve(engine, "--models-dir", models_dir, "--ttl", "3s", "--sleep-idle-seconds", 1)
    assert ask(router, "a") == 200
    pid = router.pid("a")
    states = set()
    with router.client() as client:

        def is_gone() -> bool:
            client.get("/metrics?model=a")  # a scraper: no use of the model
            states.add(router.state("a"))
            return pid not in router.children()

        seconds = until(is_gone, 10)
    assert 2.0 < seconds < 4.5
    assert {"loaded", "sleeping"} <= states
    until(lambda: router.state("a") == "unloaded")
    assert ours(router, "a")["stopped"]["reason"] == "expired"
    assert any("stopping a (expired)" in line for line in router.output)
    assert "ends after 3.0 s idle" in router.lr("ls").stdout
    assert ask(router, "a") == 200
    assert router.pid("a") != pid
    assert router.lr("ps").stdout.splitlines()[0].endswith("ENDS")


@pytest.mark.parametrize("engine", ENGINES)
def test_pins_hold_against_others_crashes_and_reloads(
    serve: Serve, engine: Path | None, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "p.ini"
    sections = "".join(f"[{name}]\nmodel = {models_dir / name}.gguf\n" for name in "abc")
    preset.write_text(sections.replace("[a]\n", "[a]\nlr-pin = true\nload-on-startup = true\n"), encoding="utf-8")
    router = serve(engine, "--models-preset", preset, "--models-max", 2)
    until(lambda: router.state("a") == "loaded")
    pid = router.pid("a")
    for model in "bcb":
        until(lambda: all(_has_settled(router, each) for each in "bc"))
        assert ask(router, model) == 200
    assert router.pid("a") == pid
    assert router.lr("pin", "b").stdout == "b is pinned\n"
    with router.client() as client:
        answer = client.post("/v1/completions", json={"model": "c", "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "no_place")
    assert "held by pinned models (a, b)" in answer.text
    assert "as many models are pinned already (a, b)" in router.lr("pin", "c", code=1).stderr
    os.kill(pid, signal.SIGSEGV)
    until(lambda: router.state("a") == "loaded" and router.pid("a") != pid)  # nobody has asked for it
    preset.write_text(sections.replace("[b]\n", "[b]\nlr-ttl = 1s\n"), encoding="utf-8")
    before = (router.pid("a"), router.pid("b"))
    told = router.lr("reload").stdout
    assert "changed  a" in told
    assert "unloading" not in told
    assert (router.pid("a"), router.pid("b")) == before
    assert (ours(router, "a")["pinned"], ours(router, "b")["pinned"]) == (False, True)  # what `lr pin` said still holds
    assert router.lr("unpin", "b").stdout == "b is not pinned\n"
    until(lambda: router.state("b") == "unloaded")
    assert ask(router, "c") == 200


def _has_settled(router: Router, model: str) -> bool:
    """Whether it is not so fresh that it keeps its place."""
    told = ours(router, model)
    return router.state(model) == "unloaded" or told["last_used"] > told["load_seconds"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_no_duration_is_one_line_and_the_rest_serves(
    serve: Serve, engine: Path | None, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "p.ini"
    sections = (
        f"[{name}]\nmodel = {models_dir / name}.gguf\nlr-pin = on\nlr-ttl = {ttl}\n"
        for name, ttl in (("a", "0"), ("b", "a while"), ("c", "never"))
    )
    preset.write_text("".join(sections), encoding="utf-8")
    router = serve(engine, "--models-preset", preset, "--models-max", 2, "--ttl", "1h")
    warnings = [line.strip() for line in router.output if "warning" in line]
    assert warnings == [
        f"warning: {preset}:8: lr-ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not 'a while': "
        "the default stays",
        f"warning: {preset}:11: 3 models are pinned, and --models-max is 2: not pinned are c ({preset}:11)",
    ]
    assert [ask(router, model) for model in "cab"] == [200] * 3
    assert [ours(router, model)["ttl"] for model in "abc"] == [None, 3600.0, None]
