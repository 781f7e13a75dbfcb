"""What is weak in llama-server's own router does not happen here: what no other test shows (see `weaknesses.py`)."""

from __future__ import annotations

import ast
import json
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import children_of, until
from tests.reference.side import ENGINE, OURS, ROOT, Side, model_query, running, try_start
from tests.tiny_gguf import write_llama

pytestmark = [pytest.mark.compiled, pytest.mark.timeout(120)]

_PRESET = """\
[long]
model = models/long.gguf
parallel = 1

[without]
temp = 1

[sleeper]
model = models/small.gguf
sleep-idle-seconds = 1

[own]
model = models/small.gguf
lr-env = COLOUR_OF_THIS_MODEL=blue
"""


@pytest.fixture(scope="module")
def ours() -> Iterator[Side]:
    """A router with a model whose answers are long, one that sleeps, and a section that names none."""
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        root = Path(folder)
        (root / "models").mkdir()
        (root / "home").mkdir()
        write_llama(root / "models" / "small.gguf", seed=1)
        write_llama(root / "models" / "long.gguf", seed=2, n_ctx=65536)
        (root / "models.ini").write_text(_PRESET.format(engine=ENGINE))
        words = ("--models-dir", "models", "--models-preset", "models.ini", "--offline", "--models-max", "0")
        with running(OURS, root, words, AIP_MODE="PREDICTION", AIP_PREDICT_ROUTE="/vertex") as side:
            yield side


def _log(side: Side, model: str) -> str:
    return side.ask("GET", "/lr/logs" + model_query(model)).body.decode()


def test_who_leaves_an_answer_that_is_not_streamed_frees_its_slot(ours: Side) -> None:
    ours.load("long")
    body = {"model": "long", "prompt": "x", "n_predict": 60000, "ignore_eos": True, "stream": False}
    asking = ours.send("/completion", body)
    until(lambda: "processing task" in _log(ours, "long"))
    asking.close()
    # The whole answer takes a minute. The child looks each second whether its client is there; it is not asked
    # itself here, for each of its answers puts that off.
    assert until(lambda: "cancel task" in _log(ours, "long")) < 4
    assert ours.models()["long"]["lr"]["in_flight"] == 0  # type: ignore[index]


def test_a_reload_with_a_conflict_wedges_nothing(ours: Side) -> None:
    preset = ours.root / "models.ini"
    before = preset.read_text()
    preset.write_text(before + "\n[new]\nmodel = models/small.gguf\nalias = small, long, fresh\n")
    try:
        assert ours.ask("GET", "/models?reload=1").status == 200
        assert ours.models()["new"]["aliases"] == ["fresh"]
        assert ours.ask("POST", "/tokenize", {"model": "fresh", "content": "x"}).status == 200
        assert ours.ask("POST", "/tokenize", {"model": "small", "content": "x"}).status == 200
    finally:
        preset.write_text(before)
        assert ours.ask("GET", "/models?reload=1").status == 200


def test_a_section_without_a_model_starts_nothing(ours: Side) -> None:
    before = set(children_of(ours.process.pid))
    answer = ours.ask("POST", "/v1/completions", {"model": "without", "prompt": "x"}, seconds=5)
    assert answer.status == 500
    assert b"models.ini" in answer.body
    assert set(children_of(ours.process.pid)) <= before
    assert ours.state("without") == "unloaded"


def test_any_number_of_models_may_be_loaded_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "home").mkdir()
    write_llama(tmp_path / "models" / "small.gguf")
    (tmp_path / "models.ini").write_text("[*]\nload-on-startup = 1\n[a]\nmodel = models/small.gguf\n")
    start = try_start(OURS, tmp_path, ("--models-preset", "models.ini", "--models-max", "0", "--offline"))
    assert start.code is None
    assert start.models == ("a",)


def test_a_page_in_a_folder_is_public_and_what_it_calls_is_not(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<script src=app.js></script>")
    (tmp_path / "page" / "app.js").write_text("1")
    words = ("--path", "page", "--api-key", "secret", "--offline", "--api-prefix", "/below")
    with running(OURS, tmp_path, words, prefix="/below") as side:
        statuses = {path: side.ask("GET", path).status for path in ("/", "/app.js", "/health", "/models", "/props")}
    assert statuses == {"/": 200, "/app.js": 200, "/health": 200, "/models": 401, "/props": 401}


def test_requests_and_readers_cost_no_threads(ours: Side) -> None:
    ours.load("small")

    def threads() -> int:
        status = Path(f"/proc/{ours.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Threads:")))

    before = threads()
    readers = [ours.open("GET", "/models/sse") for _ in range(30)]
    body = {"model": "small", "prompt": "x", "n_predict": 100, "stream": True}
    waiting = [ours.send("/completion", body) for _ in range(30)]
    most = threads()
    for each in (*readers, *waiting):
        each.close()
    assert most <= before + 4  # a pool for files; 60 of them would be 60 or more


def test_no_lock_guards_any_state() -> None:
    words = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
    found = [
        f"{file}:{node.lineno}"
        for folder in ("core", "server", "relay")
        for file in (ROOT / "llamarouter" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in words
    ]
    assert found == []


def test_the_predict_route_says_that_it_is_not_there(ours: Side) -> None:
    answer = ours.ask("POST", "/vertex", {"instances": [{"@requestFormat": "chatCompletions"}]})
    assert (answer.status, json.loads(answer.body)["error"]["reason"]) == (403, "feature_disabled")
    assert any("AIP_MODE" in line and "Vertex" in line for line in ours.output)


def test_an_answer_is_taken_up_again_though_its_model_sleeps(ours: Side) -> None:
    body = {"model": "sleeper", "prompt": "x", "n_predict": 4, "stream": True}
    with ours.events() as events:
        first = ours.ask("POST", "/completion", body, headers={"X-Conversation-Id": "asleep"})
        events.until("status_change", "sleeping")
    again = ours.ask("GET", "/v1/stream?conv_id=asleep&from=0")
    assert (again.status, again.body) == (200, first.body)


def test_each_model_has_its_log_and_may_have_its_environment(ours: Side) -> None:
    ours.load("small")
    ours.load("own")
    environ = Path(f"/proc/{ours.child_of('own')}/environ").read_text().split("\0")
    assert "COLOUR_OF_THIS_MODEL=blue" in environ
    logs = {model: _log(ours, model) for model in ("own", "small")}
    assert "--- own: started" in logs["own"]
    assert "--- small: started" not in logs["own"]
    assert "--- small: started" in logs["small"]


def test_it_ends_although_children_load_sleep_and_answer(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "home").mkdir()
    for seed in range(3):
        write_llama(tmp_path / "models" / f"m{seed}.gguf", seed=seed, n_ctx=32768)
    with running(OURS, tmp_path, ("--models-dir", "models", "--offline", "--drain-timeout", "0")) as side:
        side.load("m0")
        stream = side.stream("/completion", {"model": "m0", "prompt": "x", "n_predict": 30000, "stream": True})
        stream.line()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(side.ask, "POST", "/models/load", {"model": "m1"})
            children = children_of(side.process.pid)
            assert side.stop(signal.SIGTERM) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        stream.close()
