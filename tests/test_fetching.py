"""The fetching process: its events, its end, and two of them at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from llamarouter.core.fetch_events import decode_event
from llamarouter.host.fetching import Failed, Fetched, FetchEvent, Noted, Planned, Progressed, fetch_events
from tests.fake_hub import FakeHub, Fault, running, sha256
from tests.waiting import until

DATA = bytes(range(256)) * 2000
REPO = "user/tiny-GGUF"
PARTIAL = Path("models--user--tiny-GGUF") / "blobs" / f"{sha256(DATA)}.lr-partial"

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running() as hub:
        hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
        yield hub


@pytest.fixture
def environ(hub: FakeHub, tmp_path: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.endpoint, "HOME": str(tmp_path), "PATH": os.environ["PATH"]}


async def all_of(spec: str, cache: Path, environ: dict[str, str]) -> list[FetchEvent]:
    return [event async for event in fetch_events(spec, str(cache), environ)]


async def test_events_come_in_order_and_the_last_is_the_end(tmp_path: Path, environ: dict[str, str]) -> None:
    events = await all_of(REPO, tmp_path / "hub", environ)
    assert isinstance(events[0], Planned)
    assert isinstance(events[-2], Progressed)
    assert isinstance(events[-1], Fetched)
    assert events[-1].id == f"{REPO}:Q4_K_M"
    assert content_of(events[-1].files[0]) == DATA


async def test_a_failure_is_the_last_event(tmp_path: Path, environ: dict[str, str]) -> None:
    (end,) = await all_of(f"{REPO}:Q9", tmp_path / "hub", environ)
    assert end == Failed("not_found", f"{REPO} has no Q9; it has Q4_K_M")
    (end,) = await all_of("--help", tmp_path / "hub", environ)
    assert isinstance(end, Failed)
    assert end.reason == "bad_request"


async def test_a_process_that_dies_is_a_failure(tmp_path: Path, environ: dict[str, str]) -> None:
    (end,) = await all_of(REPO, tmp_path / "hub", {**environ, "PYTHONHOME": "/nonexistent"})
    assert isinstance(end, Failed)
    assert "without a word (exit code 1)" in end.message


async def test_closing_kills_the_process_and_keeps_the_partial_file(
    hub: FakeHub, tmp_path: Path, environ: dict[str, str]
) -> None:
    hold = threading.Event()
    hub.faults += [Fault(cut=100_000, hold=hold)]
    partial = tmp_path / "hub" / PARTIAL

    async def watch() -> None:
        async with aclosing(fetch_events(REPO, str(tmp_path / "hub"), environ)) as events:
            async for _ in events:
                pass

    task = asyncio.ensure_future(watch())
    await until(lambda: partial.exists() and partial.stat().st_size == 100_000, 10)
    assert children_of(os.getpid())
    task.cancel()
    async with asyncio.timeout(5):  # far less than the Hub holds back
        await asyncio.wait([task])
    assert task.cancelled()
    assert children_of(os.getpid()) == []
    hold.set()
    events = await all_of(REPO, tmp_path / "hub", environ)
    assert isinstance(events[-1], Fetched)
    assert hub.fetched()[-1].headers["range"] == "bytes=100000-"


async def test_two_pulls_of_one_file_fetch_it_once(hub: FakeHub, tmp_path: Path, environ: dict[str, str]) -> None:
    hold = threading.Event()
    hub.faults += [Fault(hold=hold)]
    cache = tmp_path / "hub"
    first = asyncio.ensure_future(all_of(REPO, cache, environ))
    await until(lambda: len(hub.fetched()) == 1, 10)
    second = []
    async for event in fetch_events(REPO, str(cache), environ):
        second.append(event)
        if isinstance(event, Noted):
            assert "another pull" in event.message
            hold.set()
    assert isinstance((await first)[-1], Fetched)
    assert isinstance(second[-1], Fetched)
    assert any(isinstance(event, Noted) for event in second)
    assert len(hub.fetched()) == 1


async def test_the_command_prints_an_event_a_line_and_says_why_by_its_code(
    hub: FakeHub, tmp_path: Path, environ: dict[str, str]
) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "llamarouter.host.fetch", "--cache", str(tmp_path / "hub"), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, check=False)

    done = run("--endpoint", hub.endpoint, REPO)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()][-1] == "fetched"
    hub.repos[REPO].gated = True
    hub.repos[REPO].commit = "0" * 40
    (tmp_path / "hub" / PARTIAL.with_name(sha256(DATA))).unlink()
    assert run(REPO).returncode == 4
    assert run(f"{REPO}:Q9").returncode == 3
    offline = run("--offline", REPO)
    assert offline.returncode == 7
    assert decode_event(offline.stdout) == Failed("offline", f"--offline: {REPO} is not fetched")


async def test_the_router_does_not_carry_huggingface_hub() -> None:
    heavy = "{'huggingface_hub', 'httpx', 'rich'}"
    code = f"import sys, llamarouter.host.fetching, llamarouter.cli.pull; sys.exit(len({heavy} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()
