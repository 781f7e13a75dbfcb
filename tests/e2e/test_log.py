"""The log of a whole router: on a pipe as JSON, whatever becomes of who reads it, and to its last line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ENGINES, Router, Serve, until

KEY, PROMPT = "sk-CANARY-key", "CANARYPROMPT"
CHAT = {"model": "a", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 3}


def lines_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def requests_in(file: Path) -> list[dict[str, Any]]:
    return [line for line in lines_in(file) if line["type"] == "request"]


@pytest.fixture(params=ENGINES)
def logged(request: pytest.FixtureRequest, serve: Serve, models_dir: Path, tmp_path: Path) -> Router:
    options = ["--models-dir", str(models_dir), "--api-key", KEY, "--log-file", str(tmp_path / "log")]
    return serve(request.param, *options)


def test_each_request_is_in_the_log_and_nothing_that_was_said(logged: Router, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with logged.client(headers={"authorization": f"Bearer {KEY}"}) as client:
        first = client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine"})
        second = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    with logged.client() as stranger:
        third = stranger.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer sk-CANARY-other"})
    assert [each.status_code for each in (first, second, third)] == [200, 200, 401]
    assert first.headers["x-request-id"] == "mine"
    until(lambda: len(requests_in(file)) >= 3)
    one, two, three = [line for line in requests_in(file) if line["method"] == "POST"]
    assert (one["id"], one["model"], one["outcome"], one["status"]) == ("mine", "a", "ok", 200)
    assert one["load_ms"] > 0
    assert one["prompt_tokens"] > 0
    assert one["generated_tokens"] == two["generated_tokens"] == 3
    assert one["tokens_estimated"] is two["tokens_estimated"] is False
    assert two["duration_ms"] >= two["first_byte_ms"] >= 0
    assert (three["id"], three["outcome"], three["reason"]) == (
        third.headers["x-request-id"], "refused", "invalid_api_key",
    )  # fmt: skip
    shown = logged.lr("logs").stdout
    assert [line.split()[4] for line in shown.splitlines() if " I POST" in line] == ["/v1/chat/completions"] * 3
    assert json.loads(logged.lr("logs", "--json", "-n", "1").stdout)["route"] == "/lr/logs"

    assert logged.stop() == 0
    events = [(line["event"], line["model"]) for line in lines_in(file) if line["type"] == "model"]
    assert events == [("loading", "a"), ("ready", "a"), ("stopping", "a"), ("gone", "a")]  # to the last one
    told = file.read_text(encoding="utf-8") + shown + "".join(logged.output)
    assert "CANARY" not in told


def test_a_file_that_was_moved_away_is_written_anew_after_a_reload(logged: Router, tmp_path: Path) -> None:
    file, old = tmp_path / "log", tmp_path / "log.1"
    with logged.client(headers={"authorization": f"Bearer {KEY}"}) as client:
        client.get("/nowhere/first")
        until(lambda: "/nowhere/first" in file.read_text())
        file.rename(old)
        client.get("/nowhere/second")
        until(lambda: "/nowhere/second" in old.read_text())
        logged.process.send_signal(signal.SIGHUP)
        until(file.exists)
        client.get("/nowhere/third")
        until(lambda: "/nowhere/third" in file.read_text())
    assert "/nowhere/third" not in old.read_text()


@pytest.mark.parametrize("engine", ENGINES[:1])
def test_a_log_that_nobody_reads_or_that_is_full_stops_nothing(
    engine: Path | None, serve: Serve, models_dir: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # it never reads, until the end
    try:
        router = serve(engine, "--models-dir", str(models_dir), "--log-file", str(pipe))
        with router.client() as client:
            client.get("/nowhere/" + "x" * 90)
            for _ in range(600):  # far more than a pipe holds
                assert client.get("/nowhere/" + "x" * 90).status_code == 404
            assert client.get("/health").status_code == 200
        assert router.stop() == 0
    finally:
        os.close(reader)
    full = serve(engine, "--models-dir", str(models_dir), "--log-file", "/dev/full")
    with full.client() as client:
        for _ in range(20):
            assert client.get("/nowhere").status_code == 404
    assert full.stop() == 0
