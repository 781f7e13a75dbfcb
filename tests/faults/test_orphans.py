"""After the router is gone, by SIGKILL, no child is left: loaded, loading or stopped, with setpriv and without."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.child_kit import is_alive

# A router of one child: prints its pid once it is spawned, and again once it is ready.
ROUTER = """
import asyncio, sys, uvloop
from tests.child_kit import fake_spec, living
async def main():
    async with living(fake_spec(*sys.argv[1:])) as life:
        await life.watcher.is_spawned.wait()
        print(life.watcher.pid, flush=True)
        await life.watcher.is_ready.wait()
        print("ready", flush=True)
        await asyncio.Event().wait()
uvloop.run(main())
"""


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.002)
    return True


@pytest.mark.parametrize("state", ["ready", "loading", "stopped", "stopped-loading"])
@pytest.mark.parametrize("setpriv", [True, False], ids=["setpriv", "shell"])
def test_no_child_outlives_the_router(setpriv: bool, state: str, tmp_path: Path) -> None:
    faults = ["load-seconds=60"] if state == "loading" else ["stall-loading=stop"] if state == "stopped-loading" else []
    # A PATH without setpriv is a machine without it; the fake is started by its absolute path.
    environ = {**os.environ, "PATH": os.environ["PATH"] if setpriv else str(tmp_path)}
    command = [sys.executable, "-c", ROUTER, *faults]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as router:
        try:
            assert router.stdout is not None
            pid = int(router.stdout.readline())
            if state in ("ready", "stopped"):
                assert router.stdout.readline() == b"ready\n"
            if state == "stopped":
                os.kill(pid, signal.SIGSTOP)
            assert is_alive(pid)
        finally:
            router.kill()
        # Measured: 2 to 25 ms; a busy machine gets more.
        assert gone_within(pid, 1.0), "it outlived the router"


GUARDED = """
import asyncio, uvloop
from tests.child_kit import children, fake_spec, living
async def main():
    async with living(fake_spec()) as life:
        await life.ready()
        print(len(children()), flush=True)
        await life.stop()
    for _ in range(200):
        if not children():
            break
        await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.01)
    print(len(children()), flush=True)
uvloop.run(main())
"""


def test_the_shell_goes_with_its_child(tmp_path: Path) -> None:
    environ = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, env=environ, timeout=30, check=False)
    assert done.stdout.split() == [b"2", b"0"], done.stderr
