"""Downloads by the router, from a Hub of this test's own: joined, told, refused, stopped, resumed, and never fatal."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamarouter.host.hub_store import locked
from tests.fake_hub import FakeHub, Fault, running
from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio

SPEC = "user/repo:Q8_0"
FILE = "repo-Q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running() as hub:
        yield hub


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return add_model(tmp_path, "sample").read_bytes()


@asynccontextmanager
async def home_of(tmp_path: Path, hub: FakeHub, *argv: str, **environ: str) -> AsyncIterator[House]:
    variables = {"HF_ENDPOINT": hub.endpoint, **environ}
    preset = f"[wanted]\nhf-repo = {SPEC}\nalias = other\n"
    async with house(tmp_path, *argv, preset=preset, environ=variables) as home:
        yield home


async def listed(home: House) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in (await home.client.get("/models")).json()["data"]}


async def ask(home: House, model: str = "wanted") -> tuple[int, str]:
    answer = await home.client.post("/tokenize", json={"model": model, "content": "x"}, timeout=30)
    body = answer.json()
    return answer.status_code, body.get("error", {}).get("reason", "")


class Events:
    """What the feed has said so far."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    async def follow(self, home: House) -> None:
        async for line in home.node.feed.read():
            self.records.append(json.loads(line.removeprefix(b"data: ")))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == event]


def held(bytes_first: int) -> Fault:
    return Fault(cut=bytes_first, hold=threading.Event())


def partials(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.lr-partial"))


async def test_a_missing_repository_is_fetched_once_for_all_and_told_on_the_way(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/repo", {FILE: weights})
    hold = threading.Event()
    hub.faults.append(Fault(cut=200_000, hold=hold))
    events = Events()
    async with home_of(tmp_path, hub) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        before = (await listed(home))["wanted"]
        assert (before["status"]["value"], before["lr"]["problem"]) == ("unloaded", None)
        asks = [group.create_task(ask(home, name)) for name in ("wanted", "other", "wanted.gguf")]
        await until(lambda: 0 < home.node.downloads.progress().get("wanted", 0) < 1, 20)
        during = (await listed(home))["wanted"]
        assert during["status"]["value"] == "downloading"
        (file,) = during["status"]["progress"].values()
        assert (file["total"], 0 < file["done"] < file["total"]) == (len(weights), True)
        assert 0 < during["lr"]["progress"] < 1
        hold.set()  # the connection ends: the rest is fetched by its range
        assert [await each for each in asks] == [(200, "")] * 3
        assert len(home.node.supervisor.children) == 1
        following.cancel()
    fetched = hub.fetched()
    assert len(fetched) == 2
    assert fetched[1].headers["range"] == "bytes=200000-"
    assert events.of("model_status")[0] == {
        "model": "wanted", "event": "model_status", "data": {"status": "downloading"},
    }  # fmt: skip
    (last,) = [each["data"]["progress"].values() for each in events.of("download_progress")][-1:]
    assert [(each["done"], each["total"]) for each in last] == [(len(weights), len(weights))]
    assert len(events.of("download_finished")) == 1
    assert not events.of("download_failed")


@pytest.mark.parametrize(("by", "name"), [("unload", "wanted"), ("delete", "other")])
async def test_a_download_that_is_stopped_tells_its_waiters_and_goes_on_from_there(
    tmp_path: Path, hub: FakeHub, weights: bytes, by: str, name: str
) -> None:
    hub.add("user/repo", {FILE: weights})
    fault = held(300_000)
    hub.faults.append(fault)
    events = Events()
    async with home_of(tmp_path, hub) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        waiting = group.create_task(ask(home))
        loading = group.create_task(home.client.post("/models/load", json={"model": "wanted", "wait": True}))
        await until(lambda: home.node.downloads.progress().get("wanted", 0) > 0, 20)
        if by == "unload":
            stopped = await home.client.post("/models/unload", json={"model": name})
        else:
            stopped = await home.client.delete("/models", params={"model": name})
        assert stopped.json() == {"success": True}
        assert not home.node.downloads.progress()
        assert await waiting == (503, "unavailable")
        assert (await loading).status_code == 503
        assert (await listed(home))["wanted"]["status"]["value"] == "unloaded"
        (partial,) = partials(tmp_path)
        kept = partial.stat().st_size
        assert kept > 0
        assert len(events.of("download_failed")) == 1
        assert fault.hold is not None
        fault.hold.set()
        assert await ask(home) == (200, "")
        following.cancel()
    assert hub.fetched()[-1].headers["range"] == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        pytest.param("none", 404, "not_found", id="no-such-repository"),
        pytest.param("other-quant", 404, "not_found", id="no-such-quant"),
        pytest.param("gated", 403, "forbidden", id="gated"),
        pytest.param("offline", 503, "offline", id="offline"),
    ],
)
async def test_a_failure_is_told_with_its_reason_and_not_tried_again_at_once(
    tmp_path: Path, hub: FakeHub, weights: bytes, change: str, status: int, reason: str
) -> None:
    if change != "none":
        name = "repo-Q4_K_M.gguf" if change == "other-quant" else FILE
        hub.add("user/repo", {name: weights}, gated=change == "gated")
    events = Events()
    arguments = ["--offline"] if change == "offline" else []
    async with home_of(tmp_path, hub, *arguments) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        assert await ask(home) == (status, reason)
        seen = len(hub.seen)
        assert await ask(home) == (status, reason)
        assert len(hub.seen) == seen
        entry = (await listed(home))["wanted"]
        assert entry["status"]["value"] == "unloaded"
        assert entry["lr"]["failure"]["reason"] == reason
        assert "cannot be downloaded" in entry["lr"]["failure"]["message"]
        (failed,) = events.of("download_failed")
        assert failed["data"]["message"]
        if change == "none":  # what an operator asks for is tried at once
            hub.add("user/repo", {FILE: weights})
            assert (await home.client.post("/models", json={"model": SPEC})).status_code == 200
            await until(lambda: events.of("download_finished"), 20)
            assert await ask(home) == (200, "")
            assert (await listed(home))["wanted"]["lr"]["failure"] is None
        following.cancel()
    if change == "offline":
        assert not hub.seen


async def test_a_download_by_request_is_listed_while_it_runs_and_stays(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights})
    fault = held(100_000)
    hub.faults.append(fault)
    spec = "user/new:Q8_0"
    async with home_of(tmp_path, hub) as home:
        assert (await home.client.post("/models", json={"model": spec})).json() == {"success": True}
        again = await home.client.post("/models", json={"model": spec})
        assert (again.status_code, again.json()["error"]["message"]) == (400, f"model '{spec}' already exists")
        await until(lambda: home.node.downloads.progress().get(spec, 0) > 0, 20)
        coming = (await listed(home))[spec]
        assert (coming["status"]["value"], coming["source"], coming["can_remove"]) == ("downloading", "cache", True)
        assert 0 < coming["lr"]["progress"] < 1
        assert (await home.client.get(f"/v1/models/{spec}")).json()["status"]["value"] == "downloading"
        assert (await home.client.post("/models/unload", json={"model": spec})).json() == {"success": True}
        assert spec not in await listed(home)
        assert fault.hold is not None
        fault.hold.set()
        assert (await home.client.post("/models", json={"model": spec})).status_code == 200
        await until(lambda: spec not in home.node.downloads.progress(), 20)
        assert (await listed(home))[spec]["status"]["value"] == "unloaded"
        assert await ask(home, spec) == (200, "")
        assert (await home.client.delete("/models", params={"model": spec})).json() == {"success": True}
        assert spec not in await listed(home)
        assert not home.node.supervisor.children
    assert not list((tmp_path / "cache").rglob("*.gguf"))


async def test_the_end_of_the_router_stops_downloads_and_tells_who_waits(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/repo", {FILE: weights})
    hub.faults.append(held(100_000))
    async with home_of(tmp_path, hub) as home, asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(home))
        await until(lambda: home.node.downloads.progress().get("wanted", 0) > 0, 20)
        home.node.downloads.end()
        assert await waiting == (503, "draining")
        assert await ask(home) == (503, "draining")
    assert len(partials(tmp_path)) == 1


async def test_a_client_that_leaves_does_not_stop_a_download(tmp_path: Path, hub: FakeHub, weights: bytes) -> None:
    hub.add("user/repo", {FILE: weights})
    fault = held(100_000)
    hub.faults.append(fault)
    async with home_of(tmp_path, hub) as home:
        door = await home.knock()
        door.send(post("/tokenize", {"model": "wanted", "content": "x"}))
        await until(lambda: home.node.downloads.progress().get("wanted", 0) > 0, 20)
        door.close()
        staying = await home.knock()
        staying.send(post("/tokenize", {"model": "wanted", "content": "x"}))
        assert fault.hold is not None
        fault.hold.set()
        assert (await staying.answer()).status == 200
    assert len(hub.fetched()) == 2


async def test_patience_ends_before_the_download_does(tmp_path: Path, hub: FakeHub, weights: bytes) -> None:
    hub.add("user/repo", {FILE: weights})
    fault = held(100_000)
    hub.faults.append(fault)
    async with home_of(tmp_path, hub, "--queue-timeout", "0.5") as home:
        assert await ask(home) == (503, "model_downloading")
        assert "wanted" in home.node.downloads.progress()
        assert fault.hold is not None
        fault.hold.set()
        await until(lambda: not home.node.downloads.progress(), 20)
        assert (await listed(home))["wanted"]["lr"]["path"]


async def test_a_preset_broken_meanwhile_does_not_take_the_router_along(
    tmp_path: Path, hub: FakeHub, weights: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("user/repo", {FILE: weights})
    async with home_of(tmp_path, hub) as home:
        (tmp_path / "preset.ini").write_bytes(b"\xff")
        status, _ = await ask(home)
        assert status == 500
        assert "reload refused" in caplog.text
        assert (await home.client.get("/health")).status_code == 200
        (tmp_path / "preset.ini").write_text(f"[wanted]\nhf-repo = {SPEC}\n", encoding="utf-8")
        assert (await home.client.get("/models?reload=1")).status_code == 200
        assert (await home.client.post("/models/load", json={"model": "wanted", "wait": True})).status_code == 200


async def test_no_process_to_be_had_is_an_answer(tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    # A real failure of the real call: there is no such program.
    monkeypatch.setattr("llamarouter.host.fetching.sys.executable", str(tmp_path / "nowhere"))
    monkeypatch.setattr("llamarouter.host.fetching.shutil.which", lambda name: None)
    async with home_of(tmp_path, hub) as home:
        assert await ask(home) == (503, "unavailable")
        assert (await home.client.get("/health")).status_code == 200


async def test_no_autoload_fetches_nothing(tmp_path: Path, hub: FakeHub, weights: bytes) -> None:
    hub.add("user/repo", {FILE: weights})
    async with home_of(tmp_path, hub, "--no-models-autoload") as home:
        assert await ask(home) == (400, "model_not_loaded")
        assert not hub.seen
        loaded = await home.client.post("/models/load", json={"model": "wanted", "wait": True})
        assert loaded.status_code == 200, loaded.text


async def test_deleting_by_the_name_of_a_section_removes_what_was_fetched_for_it(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/repo", {FILE: weights})
    async with home_of(tmp_path, hub) as home:
        assert await ask(home) == (200, "")
        child = home.node.supervisor.children["wanted"]
        shown = (await listed(home))["wanted"]
        assert (shown["source"], shown["can_remove"]) == ("preset", True)
        assert (await home.client.delete("/models", params={"model": "other"})).json() == {"success": True}
        assert child.gone.is_set()
        assert (await listed(home))["wanted"]["can_remove"] is False
        assert await ask(home) == (200, "")  # fetched again


async def test_a_file_that_another_model_has_too_is_deleted_only_by_force(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/repo", {FILE: weights})
    async with home_of(tmp_path, hub) as home:
        assert await ask(home) == (200, "")
        child = home.node.supervisor.children["wanted"]
        refused = await home.client.delete("/models", params={"model": SPEC})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (409, "conflict")
        assert "'wanted'" in refused.json()["error"]["message"]
        assert not child.stopping
        forced = await home.client.delete("/models", params={"model": SPEC, "force": "1"})
        assert forced.json() == {"success": True}
        assert SPEC not in await listed(home)


def being_fetched(link: str) -> AbstractContextManager[None]:
    """Hold the lock that a fetch of this file holds."""
    return locked(Path(link).parents[2], Path(link).resolve().name, lambda: None)


async def test_what_is_refused_is_refused_before_anything_is_unloaded(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/repo", {FILE: weights})
    file = add_model(tmp_path / "models", "m")
    async with home_of(tmp_path, hub) as home:
        for model in ("m", "wanted"):
            loaded = await home.client.post("/models/load", json={"model": model, "wait": True})
            assert loaded.status_code == 200
        children = dict(home.node.supervisor.children)
        refused = await home.client.delete("/models", params={"model": "m"})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (409, "conflict")
        blob = home.node.shelf.entry("wanted").model.files
        assert blob is not None
        with being_fetched(blob.model):
            refused = await home.client.delete("/models", params={"model": "wanted"})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (409, "conflict")
        assert "being fetched right now" in refused.json()["error"]["message"]
        assert home.node.supervisor.children == children
        assert not any(child.stopping for child in children.values())
        assert file.exists()


async def test_a_projector_that_nobody_uses_is_not_fetched(tmp_path: Path, hub: FakeHub, weights: bytes) -> None:
    hub.add("user/repo", {FILE: weights, "mmproj-repo-F16.gguf": b"not the same"})
    async with home_of(tmp_path, hub, "--no-mmproj") as home:
        assert await ask(home) == (200, "")
        assert len(hub.fetched()) == 1
