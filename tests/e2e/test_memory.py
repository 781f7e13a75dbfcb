"""Memory on a real engine: a budget that holds two of three models, a plan that says so, and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ENGINES, Router, Serve, until


def plan_of(router: Router, model: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(router.lr("plan", model, "--json", code=code).stdout)
    return found


def held(router: Router) -> dict[str, Any]:
    with router.client() as client:
        models: dict[str, Any] = client.get("/lr/devices").json()["models"]
    return models


@pytest.mark.parametrize("engine", ENGINES)
def test_a_budget_that_holds_two_of_three(serve: Serve, engine: Path | None, models_dir: Path) -> None:
    router = serve(engine, "--models-dir", models_dir, "-c", 256, "--memory-budget", "1GiB")
    size = plan_of(router, "a")["needs"]["Host"]
    assert router.stop() == 0
    router = serve(engine, "--models-dir", models_dir, "-c", 256, "--memory-budget", f"{int(size * 2.8)}B")
    with router.client() as client:
        for model in "ab":
            assert client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 2}).is_success
        plan = plan_of(router, "c")
        (victim,) = plan["evict"]
        assert plan["needs"]["Host"] == pytest.approx(size, rel=0.2)
        answer = client.post("/v1/completions", json={"model": "c", "prompt": "x", "max_tokens": 2})
        assert answer.is_success
    assert set(held(router)) == {"a", "b", "c"} - {victim["model"]}
    until(lambda: router.models()["c"]["lr"]["memory"]["source"] == "measured", 10)  # type: ignore[index]
    measured = router.models()["c"]["lr"]["memory"]["needs"]["Host"]  # type: ignore[index]
    assert measured == pytest.approx(size, rel=0.5)  # a model of a megabyte is mostly what the process itself takes
    assert router.stop() == 0


def test_what_can_never_fit_is_refused_with_the_numbers(serve: Serve, models_dir: Path) -> None:
    router = serve(None, "--models-dir", models_dir, "-c", 8192, "--memory-budget", "2MiB")
    with router.client() as client:
        answer = client.post("/v1/completions", json={"model": "a", "prompt": "x"})
        assert answer.status_code == 507
        error = answer.json()["error"]
    assert error["reason"] == "insufficient_memory"
    assert "2 MiB" in error["message"]
    assert "would be refused" in router.lr("plan", "a", code=1).stderr
    assert router.stop() == 0
