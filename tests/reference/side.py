"""One of the two routers as a process, and how it is spoken to: plain `http.client`, so that nothing is hidden."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.e2e.conftest import children_of, until
from tests.reference.seen import Normalizer, Seen

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "bin" / "llama-server"
REFERENCE, OURS = "reference", "ours"
_LISTENING = re.compile(r"listening on (?:http://[\w.\[\]:]*?:(\d+)|\S+\.sock)")
_SECONDS = 30.0
_STARTED = 60.0  # beside all the other starts


@dataclass(frozen=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> object:
        return json.loads(self.body)


@dataclass
class Side:
    """A running router of either kind."""

    name: str
    root: Path
    process: subprocess.Popen[str]
    environ: dict[str, str]
    port: int = 0
    prefix: str = ""
    key: str | None = None
    output: list[str] = field(default_factory=list)

    @property
    def normalizer(self) -> Normalizer:
        return Normalizer(str(self.root), str(ENGINE), self.port)

    # --- asking ----------------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = _SECONDS,
    ) -> Answer:
        """Send one request on a connection of its own and read the answer; `body`: bytes as they are, else JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request(method, self.prefix + path, _bytes_of(body), self._headers(body, headers))
            return _read(connection.getresponse())

    def see(self, method: str, path: str, body: object = None, **options: object) -> Seen:
        """The same as an observation: status, headers and body with everything accidental taken out."""
        answer = self.ask(method, path, body, **options)  # type: ignore[arg-type]
        return self.normalizer.answer(answer.status, answer.headers, answer.body)

    def stream(self, path: str, body: object) -> _Stream:
        """Send a request and read its answer piece by piece."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        connection.request("POST", self.prefix + path, _bytes_of(body), self._headers(body, None))
        return _Stream(connection, connection.getresponse())

    def send(self, path: str, body: object) -> http.client.HTTPConnection:
        """Send a request and do not read its answer."""
        return self.open("POST", path, body)

    def open(self, method: str, path: str, body: object = None) -> http.client.HTTPConnection:
        """The same with any method."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        connection.request(method, self.prefix + path, _bytes_of(body), self._headers(body, None))
        return connection

    def over_socket(self, path: str, target: str) -> Answer:
        """Ask over a UNIX socket."""
        connection = http.client.HTTPConnection("localhost", timeout=_SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(path)
        with contextlib.closing(connection):
            connection.request("GET", self.prefix + target, headers=self._headers(None, None))
            return _read(connection.getresponse())

    def _headers(self, body: object, headers: Mapping[str, str] | None) -> dict[str, str]:
        own = {"Content-Type": "application/json"} if body is not None and not isinstance(body, bytes) else {}
        if self.key is not None:
            own["Authorization"] = f"Bearer {self.key}"
        return {**own, **(headers or {})}

    # --- models ----------------------------------------------------------------------------------------------------

    def models(self) -> dict[str, dict[str, object]]:
        """The entries of `GET /models` by id."""
        listed = json.loads(self.ask("GET", "/models").body)["data"]
        return {entry["id"]: entry for entry in listed}

    def status(self, model: str) -> dict[str, object]:
        """The status of a model; empty where it is not listed."""
        found = self.models().get(model, {}).get("status", {})
        assert isinstance(found, dict)
        return found

    def state(self, model: str) -> object:
        return self.status(model).get("value")

    def load(self, model: str, state: str = "loaded") -> None:
        """Load a model and wait until it is there."""
        if self.state(model) != state:
            self.ask("POST", "/models/load", {"model": model})
            until(lambda: self.state(model) == state, _SECONDS)

    def unload(self, *models: str) -> None:
        """Unload models and wait until they are gone."""
        for model in models or tuple(self.models()):
            if self.state(model) in ("loaded", "loading", "sleeping"):
                self.ask("POST", "/models/unload", {"model": model})
        until(lambda: not any(self.state(model) in ("loaded", "loading") for model in models or self.models()), 30)

    def may_go(self, model: str) -> bool:
        """Whether a loaded model has had its place for as long as it took to load: until then, ours keeps it there."""
        ours = self.models()[model].get("lr")
        return not isinstance(ours, dict) or ours["uptime"] > 3 * ours["load_seconds"] + 0.5

    def child_of(self, model: str) -> int:
        """The process of a loaded model: the child whose command line names it."""
        for pid in children_of(self.process.pid):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"--alias" in argv and argv[argv.index(b"--alias") + 1] == model.encode():
                return pid
        raise AssertionError(f"{self.name}: no child runs {model}")

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """Read `GET /models/sse` in the background, from before the block to its end."""
        events = Events(self)
        try:
            yield events
        finally:
            events.close()

    # --- the end ---------------------------------------------------------------------------------------------------

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20) -> int | str:
        """Send a signal; the exit code, or the word `hangs`."""
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return "hangs"


class Events:
    """The event feed of a router, as it comes."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._connection = http.client.HTTPConnection("127.0.0.1", side.port, timeout=_SECONDS)
        self._connection.request("GET", side.prefix + "/models/sse", headers=side._headers(None, None))
        self._response = self._connection.getresponse()
        self.headers = tuple(self._response.getheaders())
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, AttributeError, ValueError):
            while line := self._response.readline():
                self.lines.append(line.decode().rstrip("\n"))

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line[6:]) for line in self.lines if line.startswith("data: ")]

    def until(self, event: str, status: str | None = None, seconds: float = _SECONDS) -> None:
        """Wait for an event, of a status where one is named."""

        def there() -> bool:
            return any(
                record["event"] == event and (status is None or record.get("data", {}).get("status") == status)  # type: ignore[attr-defined]
                for record in self.records()
            )

        until(there, seconds)

    def told(self) -> list[str]:
        """What was told so far, one text an event; repeated progress once."""
        told: list[str] = []
        for record in self.records():
            text = self._side.normalizer.event(record)
            if not told or told[-1] != text:
                told.append(text)
        return told

    def close(self) -> None:
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()


class _Stream:
    """An answer that is being read."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = tuple(response.getheaders())
        self.text = ""
        self.broken = False

    def line(self) -> str:
        line = self._response.readline().decode()
        self.text += line
        return line

    def rest(self) -> str:
        """Everything up to the end; `broken` says whether the end was one."""
        # `readline` would take a torn end for an end.
        try:
            self.text += self._response.read().decode()
        except http.client.IncompleteRead as torn:
            self.text += torn.partial.decode()
            self.broken = True
        except OSError:
            self.broken = True
        return self.text

    def close(self) -> None:
        self._connection.close()


def _bytes_of(body: object) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


def _read(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, tuple(response.getheaders()), response.read())


def model_query(model: str) -> str:
    return f"?model={quote(model, safe='')}"


# --- starting -------------------------------------------------------------------------------------------------------


def command_of(name: str, *arguments: str) -> list[str]:
    """How a router is started."""
    program = [str(ENGINE)] if name == REFERENCE else [sys.executable, "-m", "llamarouter", "serve"]
    return [*program, "--port", "0", *arguments]


def environment_of(root: Path, **more: str) -> dict[str, str]:
    """An environment in which only the side's folders exist."""
    runtime = tempfile.mkdtemp(prefix="lr-", dir="/tmp")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(root / "home"),
        "XDG_RUNTIME_DIR": runtime,
        "LLAMA_CACHE": str(root / "cache"),
        "PYTHONUNBUFFERED": "1",
        "LR_ENGINE": str(ENGINE),
        **more,
    }


@contextlib.contextmanager
def running(
    name: str, root: Path, arguments: Sequence[str], *, prefix: str = "", key: str | None = None, **environ: str
) -> Iterator[Side]:
    """A router that listens; raises `AssertionError` with its output where it does not."""
    side = _start(name, root, arguments, environ)
    side.prefix, side.key = prefix, key
    try:
        until(lambda: _listens(side) or side.process.poll() is not None, _STARTED)
        assert side.process.poll() is None, f"{name} did not start:\n" + "".join(side.output)
        yield side
    finally:
        _end(side)


@dataclass(frozen=True)
class Start:
    """What came of a start: its exit code, or that it serves (and what)."""

    code: int | None
    models: tuple[str, ...] = ()
    props: Mapping[str, object] = field(default_factory=dict)

    def seen(self) -> Seen:
        if self.code is not None:
            return {"exit code": self.code}
        settings = {name: self.props.get(name) for name in ("max_instances", "models_autoload")}
        return {"exit code": "none: it serves", "models": list(self.models), **settings}


def try_start(name: str, root: Path, arguments: Sequence[str], **environ: str) -> Start:
    """Start a router to see whether it serves."""
    side = _start(name, root, arguments, environ)
    try:
        until(lambda: _listens(side) or side.process.poll() is not None, _STARTED)
        if side.process.poll() is not None:
            return Start(side.process.returncode)
        props = json.loads(side.ask("GET", "/props").body)
        return Start(None, tuple(sorted(side.models())), props)
    finally:
        _end(side)


def _start(name: str, root: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> Side:
    env = environment_of(root, **environ)
    process = subprocess.Popen(
        command_of(name, *arguments),
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    side = Side(name, root, process, env)
    threading.Thread(target=_collect, args=(side,), daemon=True).start()
    return side


def _collect(side: Side) -> None:
    assert side.process.stdout is not None
    with contextlib.suppress(ValueError):
        side.output.extend(iter(side.process.stdout.readline, ""))


def _listens(side: Side) -> bool:
    for line in tuple(side.output):
        found = _LISTENING.search(line)
        if found is not None and found[1] and not line.startswith("["):
            side.port = int(found[1])
            return True
    return False


def _end(side: Side) -> None:
    children = children_of(side.process.pid) if side.process.poll() is None else []
    if side.process.poll() is None:
        side.process.terminate()
        try:
            side.process.wait(8)
        except subprocess.TimeoutExpired:
            side.process.kill()
            side.process.wait()
    for pid in children:  # the reference leaves some behind
        with contextlib.suppress(OSError):
            if str(ENGINE).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    if side.process.stdout is not None:
        side.process.stdout.close()
    shutil.rmtree(side.environ["XDG_RUNTIME_DIR"], ignore_errors=True)
