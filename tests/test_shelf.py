"""The shelf: one look at a time, shared; forced ones see what came before them; a broken preset changes nothing."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.errors import ModelNotFound, UsageError
from llamarouter.host.inventory import Inventory
from llamarouter.server import shelf as module
from llamarouter.server.shelf import Shelf
from tests.node_kit import ENGINE, House, add_model, engine_with, house, plan_of
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Looks:
    """A shelf whose looks wait for their cue, in their threads."""

    def __init__(self, tmp_path: Path, *, read_within: float = math.inf) -> None:
        plan = plan_of(tmp_path, read_within=read_within)
        self.begun: list[threading.Event] = []
        self.gates: list[threading.Event] = []
        self.inside = 0
        self.most_inside = 0
        self.changes = 0
        take = Shelf._take
        looks = self

        class Slow(Shelf):
            def _take(self, before: Inventory, force: bool) -> Inventory | None:
                looks.inside += 1
                looks.most_inside = max(looks.most_inside, looks.inside)
                gate = threading.Event()
                looks.gates.append(gate)
                assert gate.wait(10)
                looks.inside -= 1
                return take(self, before, force)

        self.shelf = Slow(
            plan.inventory,
            settings=plan.settings,
            environ=plan.environ,
            engine=ENGINE,
            headers=plan.headers,
            on_change=self._changed,
        )

    def _changed(self, before: Inventory, after: Inventory) -> None:
        self.changes += 1


async def until_begun(looks: Looks, count: int) -> None:
    async with asyncio.timeout(10):
        while len(looks.gates) < count:
            await asyncio.to_thread(threading.Event().wait, 0.005)


async def test_those_who_ask_together_share_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    looks = Looks(tmp_path)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(looks.shelf.look())
        await until_begun(looks, 1)
        looks.gates[0].set()
    assert len(looks.gates) == 1


async def test_a_forced_look_waits_for_the_one_that_runs_and_forced_ones_share_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    looks = Looks(tmp_path)
    async with asyncio.TaskGroup() as group:
        group.create_task(looks.shelf.look())
        await until_begun(looks, 1)
        add_model(tmp_path / "models", "later")
        forced = [group.create_task(looks.shelf.look(force=True)) for _ in range(3)]
        looks.gates[0].set()
        await until_begun(looks, 2)
        assert not any(task.done() for task in forced)
        looks.gates[1].set()
    assert len(looks.gates) == 2
    assert looks.most_inside == 1
    assert "later" in looks.shelf.catalog.entries


async def test_who_leaves_does_not_stop_a_look_that_others_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    looks = Looks(tmp_path)
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(looks.shelf.look(force=True))
        await until_begun(looks, 1)
        add_model(tmp_path / "models", "later")
        staying = group.create_task(looks.shelf.look())
        leaving.cancel()
        await asyncio.wait([leaving])
        again = group.create_task(looks.shelf.look())
        looks.gates[0].set()
        await staying
        await again
    assert looks.most_inside == len(looks.gates) == 1
    assert "later" in looks.shelf.catalog.entries


async def test_a_model_that_comes_later_is_found_and_one_that_goes_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        shelf = home.node.shelf
        add_model(home.models, "m")
        with pytest.raises(ModelNotFound):  # at most one look in two seconds
            await shelf.find("m")
        monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
        assert (await shelf.find("m.gguf")).id == "m"
        assert shelf.id_of("m") == "m"
        (home.models / "m.gguf").unlink()
        await shelf.look()
        assert shelf.id_of("m") is None
        assert (await home.client.get("/models")).json()["data"] == []


async def test_a_model_that_was_half_copied_can_be_used_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    file = add_model(tmp_path / "models", "m")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    async with house(tmp_path) as home:
        assert (await home.node.shelf.find("m")).problem is not None
        file.write_bytes(whole)
        assert (await home.node.shelf.find("m")).problem is None


async def _spoil_preset(tmp_path: Path) -> None:
    (tmp_path / "preset.ini").write_bytes(b"\xff\xfe[m")


async def _remove_folder(tmp_path: Path) -> None:
    (tmp_path / "models").rename(tmp_path / "gone")


@pytest.mark.parametrize("spoil", [_spoil_preset, _remove_folder])
async def test_what_cannot_be_read_any_more_refuses_a_reload_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset="[p]\nmodel = models/m.gguf\n") as home:
        before = home.node.shelf.inventory
        await spoil(tmp_path)  # type: ignore[misc]
        add_model(tmp_path / ("gone" if (tmp_path / "gone").exists() else "models"), "n")
        with pytest.raises(UsageError):
            await home.node.shelf.look(force=True)
        refused = await home.client.get("/models?reload=1")
        assert refused.status_code == 500
        assert refused.json()["error"]["reason"] == "reload_refused"
        assert "everything stays as it was" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        await home.node.reload()  # SIGHUP: says so, and goes on
        assert "reload refused" in caplog.text
        for _ in range(3):
            listed = await home.client.get("/models")
            assert [each["id"] for each in listed.json()["data"]] == ["m", "p"]
        assert (await home.client.get("/v1/models/nobody")).status_code == 404
        assert caplog.text.count("the folders have changed") == 1
        assert home.node.shelf.inventory is before


async def test_what_an_engine_did_is_no_lesson_about_another_one_at_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    file = add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-exit-loading", "1")
    preset = f"[old]\nmodel = {file}\nlr-engine = {engine}\n[other]\nmodel = {file}\n"
    async with house(tmp_path, preset=preset) as home:
        ask = {"model": "old", "messages": []}
        assert (await home.client.post("/v1/chat/completions", json=ask)).status_code == 500
        assert (await home.client.post("/v1/chat/completions", json=ask)).status_code == 503
        held, now = home.node.reception.quarantine, asyncio.get_running_loop().time()
        for model in ("old", "other"):
            held.crashed(model, b"/x", b"{}", "SIGSEGV", now)
        engine_with(tmp_path)
        await home.node.shelf.look(force=True)
        assert (await home.client.post("/v1/chat/completions", json=ask)).status_code == 200
        assert held.models == {"other"}


async def loaded(home: House, model: str) -> int:
    answer = await home.client.post("/models/load", json={"model": model, "wait": True})
    assert answer.status_code == 200, answer.text
    pid = home.node.supervisor.children[model].pid
    assert pid is not None
    return pid


async def test_a_reload_drains_what_it_changes_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    preset = "[one]\nmodel = {0}\nctx-size = {1}\n[two]\nmodel = {0}\nctx-size = 512\n"
    file = tmp_path / "models" / "m.gguf"
    async with house(tmp_path, preset=preset.format(file, 256)) as home:
        pids = {name: await loaded(home, name) for name in ("one", "two")}
        one = home.node.supervisor.children["one"]
        (tmp_path / "preset.ini").write_text(preset.format(file, 1024), encoding="utf-8")
        await home.client.get("/models?reload=1")
        async with asyncio.timeout(5):
            await one.gone.wait()
        assert set(home.node.supervisor.children) == {"two"}
        assert home.node.supervisor.children["two"].pid == pids["two"]
        assert await loaded(home, "one") != pids["one"]
        assert "1024" in home.node.supervisor.children["one"].command


async def test_what_failed_may_be_tried_at_once_after_a_reload(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "good")
    bad = add_model(tmp_path / "models", "bad")
    preset = f"[bad]\nmodel = {bad}\nlr-engine = {engine_with(tmp_path, '--fake-exit-loading', '3')}\n"
    async with house(tmp_path, "--models-max", "1", preset=preset) as home:
        refused = await home.client.post("/models/load", json={"model": "bad", "wait": True})
        assert refused.json()["error"]["reason"] != "model_cooldown"
        cooling = await home.client.post("/models/load", json={"model": "bad", "wait": True})
        assert cooling.json()["error"]["reason"] == "model_cooldown"
        pid = await loaded(home, "good")
        engine_with(tmp_path)  # repaired, under the same name: its launch is what it was
        await home.client.get("/models?reload=1")
        assert home.node.supervisor.children["good"].pid == pid
        await loaded(home, "bad")


async def test_a_file_that_was_replaced_while_its_model_cools_down_is_tried_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    bad = add_model(tmp_path / "models", "bad")
    other = add_model(tmp_path / "models", "other")
    engine, faults = engine_with(tmp_path), tmp_path / "faults"
    engine.write_text(engine.read_text().replace('"$@"', f'$(cat {faults}) "$@"'))
    faults.write_text("--fake-exit-loading 3")
    preset = f"[*]\nlr-engine = {engine}\n[bad]\n[other]\n"
    async with house(tmp_path, "--models-dir", str(tmp_path / "models"), preset=preset) as home:
        for name in ("bad", "other"):
            await home.client.post("/models/load", json={"model": name, "wait": True})
        scheduler = home.node.supervisor.scheduler
        faults.write_text("")  # the same engine, so that only the file can tell that it is worth a try
        new = bad.with_name("new")
        new.write_bytes(bad.read_bytes())
        new.replace(bad)
        answer = await home.client.post("/tokenize", json={"model": "bad", "content": "x"})  # looks again by itself
        assert answer.status_code == 200
        assert scheduler.failure_of("other") is not None
        child = home.node.supervisor.children["bad"]
        new.write_bytes(bad.read_bytes())
        new.replace(bad)
        other.touch()
        await home.node.shelf.look()  # which waits for a second at most
        await until(lambda: scheduler.failure_of("other") is None, 20)
        assert home.node.supervisor.children["bad"] is child
        assert not child.stopping


async def test_a_list_is_whole_although_the_router_listens_before_it_has_read_the_headers(tmp_path: Path) -> None:
    for name in ("m", "n"):
        add_model(tmp_path / "models", name)
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    async with house(tmp_path, read_within=-1) as home:
        assert home.node.shelf.inventory.unread == 3
        assert home.node.shelf.entry("bad").problem is None
        rows = {each["id"]: each["lr"] for each in (await home.client.get("/models")).json()["data"]}
        assert {id: (row["quant"], "unread" in row) for id, row in rows.items()} == {
            "bad": (None, False),
            "m": ("F32", False),
            "n": ("F32", False),
        }
        assert "truncated" in rows["bad"]["problem"]
        assert home.node.shelf.inventory.unread == 0


async def test_a_look_that_takes_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_PATIENCE", 0.01)
    add_model(tmp_path / "models", "m")
    looks = Looks(tmp_path, read_within=-1)
    await looks.shelf.look()
    assert looks.shelf.entry("m").model.unread
    again = asyncio.ensure_future(looks.shelf.look())
    await asyncio.wait([again])
    looks.gates[0].set()
    async with asyncio.timeout(10):
        while looks.shelf.entry("m").model.unread:
            await looks.shelf.look()
    assert len(looks.gates) == 1


async def test_a_request_waits_for_the_header_of_its_own_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_PATIENCE", 0.01)
    for name in ("m", "n"):
        add_model(tmp_path / "models", name)
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    looks = Looks(tmp_path, read_within=-1)
    looking = asyncio.ensure_future(looks.shelf.look(force=True))
    await until_begun(looks, 1)
    before = looks.shelf.entry("m")
    entry = await looks.shelf.find("m")
    assert entry is looks.shelf.entry("m")
    assert (entry.model.unread, entry.launch, entry.problem) == (False, before.launch, None)
    assert entry.model.header is not None
    broken = await looks.shelf.find("bad")
    assert broken.launch is None
    assert "truncated" in str(broken.problem)
    assert looks.shelf.entry("n").model.unread
    looks.gates[0].set()
    await looking
    assert looks.shelf.entry("m") == entry
    assert not looks.shelf.entry("n").model.unread


async def test_what_cannot_be_used_is_said_in_the_log_once_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    async with house(tmp_path, read_within=-1) as home:
        await home.node.shelf.look()
    assert "bad.gguf: truncated" in caplog.text


async def test_a_router_that_ends_reads_no_more_headers(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, read_within=-1) as home:
        home.node.shelf.hurry()
        inventory = home.node.shelf.inventory
        assert inventory.unread
        await home.node.shelf.look()
        assert home.node.shelf.entry("m").model.unread
