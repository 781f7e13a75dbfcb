"""A whole router as its user runs it: `lr serve` as a process, on a real engine, over small models written here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.tiny_gguf import write_llama

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "bin" / "llama-server"
ENGINES = [
    pytest.param(None, id="embedded"),
    pytest.param(COMPILED, id="compiled", marks=pytest.mark.compiled),
]


@dataclass
class Router:
    """A running `lr serve`."""

    process: subprocess.Popen[str]
    url: str
    environ: dict[str, str]
    output: list[str] = field(default_factory=list)
    key: str = ""  # what `models` and those who ask it show

    def client(self, **options: object) -> httpx.Client:
        """An HTTP client that takes no proxy from the environment."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=60, **options)  # type: ignore[arg-type]

    def lr(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `lr` beside the router, with the same environment. `code`: the expected one, None for any."""
        done = subprocess.run(
            [sys.executable, "-m", "llamarouter", *arguments],
            env=self.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def models(self) -> dict[str, dict[str, object]]:
        """The entries of `GET /models` by id."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        with self.client(headers=headers) as client:
            return {entry["id"]: entry for entry in client.get("/models").json()["data"]}

    def state(self, model: str) -> object:
        """The state of a model."""
        status = self.models()[model]["status"]
        assert isinstance(status, dict)
        return status["value"]

    def pid(self, model: str) -> int:
        """The process of a model's child (of the engine itself, where a prefix stands before it)."""
        ours = self.models()[model]["lr"]
        assert isinstance(ours, dict)
        assert isinstance(ours["pid"], int)
        return ours["pid"]

    def children(self) -> list[int]:
        """Every living process that the router started."""
        return children_of(self.process.pid)

    def engines(self) -> list[int]:
        """Those of them that serve a model: what a model needs is asked of another program, which is soon gone."""
        return [pid for pid in self.children() if b"--alias\0" in arguments_of(pid)]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


_PAUSE = threading.Event()


def until(predicate: Callable[[], object], seconds: float = 10.0) -> float:
    """Seconds until the predicate is true."""
    start = time.monotonic()
    while not predicate():
        assert time.monotonic() - start < seconds, f"not true after {seconds} s"
        _PAUSE.wait(0.005)
    return time.monotonic() - start


def arguments_of(pid: int) -> bytes:
    """The command line of a process, each argument ended by a NUL; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def children_of(pid: int) -> list[int]:
    """The children of a process, from /proc."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            children.append(int(stat.parent.name))
    return children


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """Three small models: a, b and c."""
    folder = tmp_path / "models"
    folder.mkdir()
    for seed, name in enumerate("abc"):
        write_llama(folder / f"{name}.gguf", seed=seed)
    return folder


Serve = Callable[..., Router]


@pytest.fixture
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Starts routers: `serve(engine, "--models-dir", folder, ...)`; stops them at the end."""
    routers: list[Router] = []
    has_mark = request.node.get_closest_marker("compiled") is not None

    def start(engine: Path | None, *arguments: object, **environ: str) -> Router:
        assert engine != COMPILED or has_mark, "mark it `compiled`: it fails where nothing is compiled"
        env = clean_environment(tmp_path) | environ
        command = [sys.executable, "-m", "llamarouter", "serve", "--port", "0", *map(str, arguments)]
        command += ["--engine", str(engine) if engine is not None else "embedded"]
        process = subprocess.Popen(
            command,
            env=env,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        router = Router(process, "", env)
        routers.append(router)
        router.url = _url_of(router)
        return router

    yield start
    for router in routers:
        if router.process.poll() is None:
            router.process.kill()
            router.process.wait()
        if router.process.stdout is not None:
            router.process.stdout.close()
    shutil.rmtree(_short_folder(tmp_path))


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which only this test's folders exist."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": _short_folder(tmp_path),
        "LLAMA_CACHE": str(tmp_path / "cache"),
        "PYTHONUNBUFFERED": "1",
    }


def _short_folder(tmp_path: Path) -> str:
    # A socket's path is limited to about 100 bytes; pytest's folders can be longer than that.
    folder = Path("/tmp") / f"lr-{os.getpid()}-{abs(hash(str(tmp_path))) % 10**8}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)


def _url_of(router: Router) -> str:
    """Read the start's lines until the address is said, and go on reading in the background."""
    stdout = router.process.stdout
    assert stdout is not None
    for line in stdout:
        router.output.append(line)
        if line.startswith("listening on "):
            threading.Thread(target=lambda: router.output.extend(stdout), daemon=True).start()
            return line.split()[-1]
    raise AssertionError("lr serve did not start:\n" + "".join(router.output))
