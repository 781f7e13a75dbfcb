"""Many clients at once: nothing is lost, no more processes than allowed, no child choked, nobody waits without a bound.

`LR_LOAD_REQUESTS` says how many requests the long story sends (120 unless it is set).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import COMPILED, ENGINES, Router, Serve, until
from tests.e2e.test_faults import LONG, Stream
from tests.tiny_gguf import write_llama

REQUESTS = int(os.environ.get("LR_LOAD_REQUESTS", "120"))
HELLO = [{"role": "user", "content": "Hello"}]


class Watch:
    """Looks at the list of models all the time: how many are not unloaded, at most."""

    def __init__(self, router: Router) -> None:
        self.most_listed = 0
        self.most_alive = 0
        self.looks = 0
        self._router = router

    def look(self) -> None:
        states = Counter(entry["status"]["value"] for entry in self._router.models().values())  # type: ignore[index]
        self.most_listed = max(self.most_listed, states["loading"] + states["loaded"])
        self.most_alive = max(self.most_alive, len(self._router.engines()))
        self.looks += 1


@contextmanager
def watched(router: Router) -> Iterator[Watch]:
    watch, over = Watch(router), threading.Event()

    def run() -> None:
        while not over.wait(0.02):
            watch.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def said(router: Router, pattern: str) -> Counter[str]:
    """How often each model stands in the lines of the log that match."""
    return Counter(found[1] for line in router.output if (found := re.search(pattern, line)))


@pytest.mark.timeout(60 + REQUESTS // 5)
@pytest.mark.parametrize("engine", ENGINES)
def test_clients_that_alternate_between_three_models_on_two_places_lose_nothing(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    router = serve(engine, "--models-dir", models_dir, "--models-max", 2, "--max-wait", 0.5, "--log-format", "text")
    clients, turn = 6, 15  # each client changes its model after so many requests

    def ask(number: int) -> list[int]:
        statuses = []
        with router.client() as client:
            for count in range(REQUESTS // clients):
                model = "abc"[(number + count // turn) % 3]
                body = {"model": model, "prompt": "x", "max_tokens": 2, "stream": count % 2 == 0}
                answer = client.post("/v1/completions", json=body)
                complete = not body["stream"] or answer.text.rstrip().endswith("data: [DONE]")
                statuses.append(answer.status_code if complete else 0)
        return statuses

    with watched(router) as watch, ThreadPoolExecutor(clients) as pool:
        statuses = Counter(status for each in pool.map(ask, range(clients)) for status in each)
    assert statuses == {200: REQUESTS // clients * clients}
    assert watch.looks > 5
    assert watch.most_listed == 2
    assert 0 < watch.most_alive <= 2
    loads, evictions = said(router, r"loading (\w)$"), said(router, r"stopping (\w) \(")
    ends = said(router, r"(\w) is gone")
    assert set(loads) == {"a", "b", "c"}
    assert evictions
    assert evictions == ends
    assert loads.total() - ends.total() == 2
    assert not [line for line in router.output if " W " in line or " E " in line or "Traceback" in line]


def socket_of_the_child(router: Router) -> str:
    folder = Path(router.environ["XDG_RUNTIME_DIR"]) / "llamarouter" / router.url.rpartition(":")[2]
    (path,) = folder.glob("c-*.sock")
    return str(path)


@pytest.mark.compiled
def test_forty_clients_on_four_slots_choke_no_child_and_another_model_gets_its_turn(
    serve: Serve, models_dir: Path
) -> None:
    max_wait = 2.0
    router = serve(
        COMPILED, "--models-dir", models_dir, "--models-max", 1, "--max-wait", max_wait, "-np", 4, "-c", 4096
    )
    over = threading.Event()
    answers: list[float] = []
    failures: list[str] = []

    def stream_on(client: httpx.Client) -> None:
        body = {**LONG, "model": "a", "max_tokens": 30}
        while not over.is_set():
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                pieces = answer.iter_raw()
                first = b"".join(islice(pieces, 1))
                start = time.monotonic()
                text = first + b"".join(pieces)
                answers.append(time.monotonic() - start)
            if answer.status_code != 200 or b"[DONE]" not in text:
                failures.append(f"{answer.status_code} {text[-200:]!r}")

    with router.client(limits=httpx.Limits(max_connections=40)) as client, ThreadPoolExecutor(40) as pool:
        hot = [pool.submit(stream_on, client) for _ in range(40)]
        try:
            until(lambda: len(answers) > 40, 20)
            slowest, most_busy, most_inside = look_inside(router, 2.0)
            turn = 4 * load_seconds_of(router, "a")
            start = time.monotonic()
            with router.client() as other:
                answer = other.post("/tokenize", json={"model": "b", "content": "x"})
            waited = time.monotonic() - start
        finally:
            over.set()
        for each in hot:
            each.result(60)
    assert not failures
    assert slowest < 1.0
    assert most_busy == most_inside == 4
    assert answer.status_code == 200
    # The bound of docs/fairness.md: max-wait, what is left of the turn, the longest answer, a stop (1 s at most
    # here) and a load. There is none from below: forty clients that get no CPU for a moment leave their model idle, and
    # an idle one goes at once (tests/test_waits.py says when a busy one goes).
    assert waited < max(max_wait, turn) + max(answers) + 1.0 + load_seconds_of(router, "b") + 1.0


def load_seconds_of(router: Router, model: str) -> float:
    return router.models()[model]["lr"].get("load_seconds") or 1.0  # type: ignore[index,union-attr]


def look_inside(router: Router, seconds: float) -> tuple[float, int, int]:
    """The slowest `/health` of the child itself, and the most generations that it and the router show at once."""
    slowest, most_busy, most_inside = 0.0, 0, 0
    with httpx.Client(transport=httpx.HTTPTransport(uds=socket_of_the_child(router)), timeout=5) as child:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            assert child.get("http://child/health").status_code == 200
            slowest = max(slowest, time.monotonic() - start)
            most_busy = max(most_busy, sum(slot["is_processing"] for slot in child.get("http://child/slots").json()))
            inside = router.models()["a"]["lr"]["in_flight"]  # type: ignore[index]
            assert isinstance(inside, int)
            most_inside = max(most_inside, inside)
    return slowest, most_busy, most_inside


@pytest.mark.parametrize("engine", ENGINES)
def test_a_herd_for_a_cold_model_is_one_spawn_and_disturbs_nobody(
    serve: Serve, engine: Path | None, models_dir: Path
) -> None:
    router = serve(engine, "--models-dir", models_dir, "-c", 16384, "--log-format", "text")
    undisturbed = Stream(router, "a", 600).join().said()
    stream = Stream(router, "a", 600).begun()

    def ask(number: int) -> int:
        return client.post("/tokenize", json={"model": "b", "content": f"text {number}"}).status_code

    with router.client(limits=httpx.Limits(max_connections=200)) as client, ThreadPoolExecutor(200) as pool:
        assert Counter(pool.map(ask, range(200))) == {200: 200}
    assert stream.join().failure is None
    assert stream.said() == undisturbed
    assert said(router, r"loading (\w)$") == {"a": 1, "b": 1}


@pytest.mark.parametrize("engine", ENGINES)
def test_two_settings_and_two_quants_alternate_without_a_restart_and_are_compared(
    serve: Serve, engine: Path | None, tmp_path: Path
) -> None:
    write_llama(tmp_path / "m-F32.gguf", n_ctx=2048)
    write_llama(tmp_path / "m-Q8_0.gguf", n_ctx=2048, quant="Q8_0")
    preset = tmp_path / "ab.ini"
    preset.write_text(
        "[*]\nseed = 1\n[cold]\nmodel = m-F32.gguf\ntemp = 0\nctx-size = 512\n"
        "[warm]\nmodel = m-F32.gguf\ntemp = 1.5\nctx-size = 1024\n"
        "[small]\nmodel = m-Q8_0.gguf\ntemp = 0\n",
        encoding="utf-8",
    )
    router = serve(engine, "--models-preset", preset, "--log-format", "text")
    names = ("cold", "warm", "small")
    answers: dict[str, set[str]] = {name: set() for name in names}
    with router.client() as client:
        for name in names * 3:
            body = {"model": name, "messages": HELLO, "max_tokens": 8}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            answers[name].add(answer.json()["choices"][0]["message"]["content"])
    assert len(answers["cold"]) == 1  # temperature 0
    assert answers["cold"] != answers["warm"]
    listed = router.models()
    shown = {name: (listed[name]["lr"]["n_ctx"], listed[name]["lr"]["quant"]) for name in names}  # type: ignore[index]
    assert (shown["cold"], shown["warm"], shown["small"][1]) == ((512, "F32"), (1024, "F32"), "Q8_0")
    assert said(router, r"loading (\w+)$") == {"cold": 1, "warm": 1, "small": 1}
    compared = router.lr("compare", "cold", "small", "Hello", "--max-tokens", "8").stdout
    assert "cold" in compared
    assert "small" in compared
    assert "tok/s" in compared or "tokens" in compared
    assert said(router, r"loading (\w+)$").total() == 3
