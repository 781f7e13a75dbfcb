"""A llama-server without a model: a real process with the real lines, answers and exits, and faults on demand.

    python -S -E tests/fake_llama_server.py --host PATH.sock [--fake-FAULT VALUE ...] [any llama-server option ...]

Faults of the process: `--fake-wedge 1` or `FAKE_WEDGE=1` in its environment (see `FAULTS`). Faults of one answer: an
object `fake` in the JSON body, or in a header `x-fake` (see fake_answers.py). `GET /fake/stats` tells what it has seen.
It starts in about 60 ms and uses nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from fake_answers import Connection, Reader, pause
from fake_sessions import Sessions
from virtual_gpu import VirtualGpus

FAULTS = {
    "load-seconds": "a load takes this long",
    "progress-steps": "loading lines during a load (default 2)",
    "stall-loading": "1: hangs in the middle of the load; stop: stops itself (SIGSTOP) there; busy: burns CPU there",
    "chatter-loading": "1: prints progress for ever and is never ready",
    "oom-loading": "1: dies of memory in the load, as CUDA says it",
    "vram-file": "a file shared by several fakes as the ledger of virtual GPUs (virtual_gpu.py)",
    "vram-total": "bytes of its CUDA0, where the ledger has none",
    "vram-bytes": "bytes that this one takes, with all its layers, evenly of --device (CUDA0): more than are left is a "
    "death of memory",
    "vram-shrinks": "1: instead of that it leaves layers in host memory, unless --fit is off",
    "exit-loading": "exits with this code in the load",
    "signal-loading": "dies by this signal in the load (SEGV)",
    "last-words": "said on stderr before it dies",
    "crash-after-tokens": "dies in mid-answer after so many tokens, over all requests",
    "crash-after-seconds": "dies so many seconds after it was ready",
    "crash-signal": "the signal of those deaths (default SEGV); 0: exit code 1 instead",
    "wedge": "1: /health answers, no answer has a token; hard: nothing answers any more; after:N: after N tokens",
    "ignore-term": "1: SIGTERM does nothing, also in the load",
    "ignore-exit": "1: the exit line does nothing",
    "lose-exit": "1: hears the exit line, does nothing, reads no more; SIGTERM ends it (b11434, now and then)",
    "ignore-eof": "1: the end of stdin does nothing",
    "exit-seconds": "sticks so long before it goes, when it was asked to",
    "flood": "bytes without a newline to stderr once ready (and before every answer)",
    "no-state": "1: no state lines, stdin is not read, although it was asked for",
    "no-ready-line": "1: state lines, but never `ready`",
    "late-ready-line": "1: says `ready` behind its first answer to /health",
    "no-sock": "1: refuses a UNIX socket",
    "no-tcp": "1: finds every port taken",
    "close-listener": "1: stops listening once it is ready and one connection was answered",
    "grandchild": "1: leaves a process in its group that holds its pipes; setsid: outside of it",
    "token-seconds": "time between tokens (default 0)",
    "spawn-log": "a file that gets a line `pid model` per spawn",
    "no-metrics": "/metrics is not there",
    "sleep-after": "seconds after which it sleeps, until it is asked for an answer",
    "wake-seconds": "waking takes this long, with a progress line every 20 ms",
    "stall-waking": "1: hangs while it wakes",
    "modalities": "what it says it understands, once it is loaded (text,video)",
    "odd-state": "a state word that it says once it is ready",
    "no-props": "1: /props is 404; hang: never answers",
}
HELP_ROWS = (
    ("-m,    --model FNAME", "model path to load (env: LLAMA_ARG_MODEL)"),
    ("-a,    --alias STRING", "set model name aliases, comma-separated (env: LLAMA_ARG_ALIAS)"),
    ("--tags STRING", "set model tags, comma-separated (env: LLAMA_ARG_TAGS)"),
    ("-c,    --ctx-size N", "size of the prompt context (env: LLAMA_ARG_CTX_SIZE)"),
    ("-ngl,  --gpu-layers N", "layers to store in VRAM (env: LLAMA_ARG_N_GPU_LAYERS)"),
    ("-np,   --parallel N", "number of server slots (env: LLAMA_ARG_N_PARALLEL)"),
    ("-dev,  --device <dev1,dev2,..>", "devices to use for offloading (env: LLAMA_ARG_DEVICE)"),
    ("-fit,  --fit [on|off]", "whether to adjust unset arguments to fit in device memory (env: LLAMA_ARG_FIT)"),
    ("--temp N", "temperature (env: LLAMA_ARG_TEMP)"),
    ("-mm,   --mmproj FILE", "path to a multimodal projector file (env: LLAMA_ARG_MMPROJ)"),
    ("--threads-http N", "threads for HTTP requests (env: LLAMA_ARG_THREADS_HTTP)"),
    ("--offline", "offline mode (env: LLAMA_ARG_OFFLINE)"),
    ("--jinja, --no-jinja", "use jinja templates (env: LLAMA_ARG_JINJA)"),
    ("--models-dir PATH", "directory containing models for the router server (env: LLAMA_ARG_MODELS_DIR)"),
    ("--host HOST", "ip address to listen on, or a path ending in .sock (env: LLAMA_ARG_HOST)"),
    ("--port PORT", "port to listen on (env: LLAMA_ARG_PORT)"),
    ("--api-key KEY", "API key to use for authentication (env: LLAMA_API_KEY)"),
)
ALIASES = {
    "-m": "model",
    "-a": "alias",
    "-c": "ctx-size",
    "-np": "parallel",
    "-ngl": "gpu-layers",
    "--n-gpu-layers": "gpu-layers",
}
LAYERS = 33


class Flags:
    """The command line, and the faults in it or in the environment."""

    def __init__(self, argv: list[str]) -> None:
        self.given: dict[str, str] = {}
        rest = iter([part for word in argv for part in (word.split("=", 1) if word.startswith("--") else [word])])
        word = next(rest, None)
        while word is not None:
            name, word = ALIASES.get(word, word.lstrip("-")), next(rest, None)
            if word is not None and not word.startswith("-"):
                self.given[name], word = word, next(rest, None)
            else:
                self.given[name] = "1"

    def fault(self, name: str, default: str = "") -> str:
        value = self.given.get(f"fake-{name}")
        return value if value is not None else os.environ.get("FAKE_" + name.upper().replace("-", "_"), default)

    def number(self, name: str, default: float = 0) -> float:
        return float(self.fault(name) or default)


def say(level: str, text: str) -> None:
    now = time.monotonic() - STARTED
    stamp = f"{int(now // 60)}.{int(now % 60):02}.{int(now * 1e3 % 1e3):03}.{int(now * 1e6 % 1e3):03}"
    with contextlib.suppress(OSError):
        os.write(2, f"{stamp} {level} {text}\n".encode(errors="surrogateescape"))


class Fake:
    """The process: its load, its state lines, its slots and its end."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.model = flags.given.get("model", "")
        self.alias = flags.given.get("alias", self.model or "fake")
        self.slots = int(flags.given.get("parallel", "4"))
        self.n_ctx = int(flags.given.get("ctx-size", "4096"))
        self.api_key = flags.given.get("api-key") or os.environ.get("LLAMA_API_KEY", "")
        self.child = "LLAMA_SERVER_ROUTER_PORT" in os.environ and not flags.fault("no-state")
        self.ready = False
        self.tokens = 0
        self.permits = asyncio.Semaphore(self.slots)
        self.stats = {"requests": 0, "connections": 0, "inside": 0, "max_inside": 0, "cancelled": 0, "asked_at_once": 0}
        self.stats["scrapes"] = 0
        self.server: asyncio.AbstractServer | None = None
        self.sessions = Sessions()
        self.asleep = False
        self.offloaded = 3

    # --- lines ------------------------------------------------------------------------------------------------------

    def tell(self, state: str, payload: object) -> None:
        if self.child:
            line = json.dumps({"state": state, "payload": payload}, separators=(",", ":"))
            with contextlib.suppress(OSError):
                os.write(1, f"cmd_child_to_router:state:{line}\n".encode())

    def loading(self, value: float) -> None:
        self.tell("loading", {"stages": ["text_model"], "current": "text_model", "value": value})

    def info(self) -> dict[str, Any]:
        meta = {"n_vocab": 32, "n_ctx": self.n_ctx, "n_ctx_train": 8192, "n_embd": 8, "n_params": 1000, "size": 4000}
        return {
            "id": self.alias,
            "aliases": [self.alias],
            "tags": [],
            "object": "model",
            "architecture": {
                "input_modalities": (self.flags.fault("modalities") or "text").split(","),
                "output_modalities": ["text"],
            },
            "created": 1700000000,
            "owned_by": "llamacpp",
            "meta": meta,
        }

    # --- life -------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        self.note_spawn()
        if self.flags.fault("ignore-term"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say("I", "srv  llama_server: initializing ...")
        await self.listen()
        self.loading(0.0)
        say("I", f"srv    load_model: loading model '{self.model}'")
        await self.load()
        self.ready = True
        say("I", f"load_tensors: offloaded {self.offloaded}/{LAYERS} layers to GPU")
        say(
            "I",
            f"srv    load_model: initializing, n_slots = {self.slots}, n_ctx_slot = {self.n_ctx}, kv_unified = 'false'",
        )
        say("I", "srv  llama_server: model loaded")
        if not (self.flags.fault("no-ready-line") or self.flags.fault("late-ready-line")):
            self.tell("ready", self.info())
        if self.flags.fault("odd-state"):
            self.tell(self.flags.fault("odd-state"), {})
        self.flood()
        loop = asyncio.get_running_loop()
        if not self.flags.fault("ignore-term"):
            # As the real one: in router mode it hangs in a join for as long as its stdin is open.
            loop.add_signal_handler(signal.SIGTERM, self.stop_listening if self.child else lambda: os._exit(0))
        if self.flags.fault("sleep-after"):
            loop.call_later(self.flags.number("sleep-after"), self.nap)
        if self.flags.fault("crash-after-seconds"):
            loop.call_later(self.flags.number("crash-after-seconds"), self.die)
        await (self.heed_stdin() if self.child else asyncio.Event().wait())
        await asyncio.Event().wait()

    async def listen(self) -> None:
        loop, host = asyncio.get_running_loop(), self.flags.given.get("host", "127.0.0.1")
        try:
            if host.endswith(".sock"):
                if self.flags.fault("no-sock") or os.path.lexists(host):  # noqa: ASYNC240
                    raise OSError("cannot")
                self.server = await loop.create_unix_server(self.protocol, host)
            else:
                if self.flags.fault("no-tcp"):
                    raise OSError("taken")
                self.server = await loop.create_server(self.protocol, host, int(self.flags.given.get("port", "8080")))
        except OSError:
            say("E", f"srv  start: couldn't bind HTTP server socket, hostname: {host}, port: 8080")
            say("E", "srv  llama_server: exiting due to HTTP server error")
            os._exit(1)

    def protocol(self) -> asyncio.StreamReaderProtocol:
        self.stats["connections"] += 1
        return asyncio.StreamReaderProtocol(Reader(limit=1 << 24), Connection(self).serve)

    async def load(self) -> None:
        flags = self.flags
        steps = max(1, int(flags.number("progress-steps", 2)))
        for step in range(1, steps + 1):
            await pause(flags.number("load-seconds") / steps)
            if step == (steps + 1) // 2:
                await self.fail_loading()
            self.loading(step / steps)
        while flags.fault("chatter-loading"):
            await pause(0.02)
            self.loading(0.5)

    async def fail_loading(self) -> None:
        flags = self.flags
        if flags.fault("stall-loading") == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        while flags.fault("stall-loading") == "busy":
            pass
        if flags.fault("stall-loading"):
            await asyncio.Event().wait()
        if flags.fault("oom-loading") or not self.take_vram():
            say(
                "E",
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: "
                "cudaMalloc failed: out of memory",
            )
            say("E", "alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592")
            self.fail_load()
        if flags.fault("signal-loading"):
            self.last_words()
            os.kill(os.getpid(), getattr(signal, "SIG" + flags.fault("signal-loading")))
            await asyncio.Event().wait()
        if flags.fault("exit-loading"):
            self.last_words()
            self.fail_load(int(flags.fault("exit-loading")))

    def last_words(self) -> None:
        if self.flags.fault("last-words"):
            say("E", self.flags.fault("last-words"))

    def fail_load(self, code: int = 1) -> None:
        say("E", f"srv    load_model: failed to load model, '{self.model}'")
        say("E", "srv  llama_server: exiting due to model loading error")
        os._exit(code)

    def take_vram(self) -> bool:
        """Book our bytes in the shared ledger."""
        flags = self.flags
        if not flags.fault("vram-file"):
            return True
        gpus = VirtualGpus(flags.fault("vram-file"))
        if flags.fault("vram-total") and not gpus.devices():
            gpus.add("CUDA0", int(flags.number("vram-total")))
        devices = flags.given.get("device", "CUDA0").split(",")
        layers = int(flags.given.get("gpu-layers", str(LAYERS)))
        self.offloaded = min(layers, LAYERS) if layers >= 0 else LAYERS
        while not self.take_layers(gpus, devices):
            if not flags.fault("vram-shrinks") or flags.given.get("fit") == "off" or not self.offloaded:
                return False
            self.offloaded -= 1
        return True

    def take_layers(self, gpus: VirtualGpus, devices: list[str]) -> bool:
        wanted = int(self.flags.number("vram-bytes")) * self.offloaded // LAYERS // len(devices)
        return all(gpus.take(device, wanted) for device in devices)

    def note_spawn(self) -> None:
        if self.flags.fault("spawn-log"):
            with open(self.flags.fault("spawn-log"), "a", encoding="utf-8") as file:
                file.write(f"{os.getpid()} {self.alias}\n")
        if self.flags.fault("grandchild"):
            own = self.flags.fault("grandchild") == "setsid"
            subprocess.Popen(["sleep", "30"], start_new_session=own)

    def flood(self) -> None:
        left = int(self.flags.number("flood"))
        while left > 0:
            left -= os.write(2, b"x\x00\x1b[31m\xff" * 2048)

    def stop_listening(self) -> None:
        if self.server is not None:
            self.server.close()

    async def heed_stdin(self) -> None:
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", buffering=0))
        while line := await reader.readline():
            if self.flags.fault("lose-exit"):
                loop.add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
                return
            if line.strip() == b"cmd_router_to_child:exit" and not self.flags.fault("ignore-exit"):
                say("I", "srv    operator(): exit command received, exiting...")
                await pause(self.flags.number("exit-seconds"))
                os._exit(0)
        if not self.flags.fault("ignore-eof"):
            os._exit(1)

    def nap(self) -> None:
        self.asleep = True
        self.tell("sleeping", {})

    async def awake(self) -> None:
        """Wake, if it sleeps: a load without its information."""
        if not self.asleep:
            return
        self.asleep = False
        self.loading(0.0)
        if self.flags.fault("stall-waking"):
            await asyncio.Event().wait()
        end = time.monotonic() + self.flags.number("wake-seconds")
        while (left := end - time.monotonic()) > 0:
            await pause(min(left, 0.02))
            self.loading(0.5)
        self.loading(1.0)
        self.tell("ready", {})

    def die(self) -> None:
        self.last_words()
        name = self.flags.fault("crash-signal", "SEGV")
        if name != "0":
            os.kill(os.getpid(), getattr(signal, "SIG" + name))
        os._exit(1)

    async def token(self, seconds: float) -> None:
        """Wait for the next token, if there is one."""
        await pause(seconds)
        wedge = self.flags.fault("wedge")
        if wedge == "1" or (wedge.startswith("after:") and self.tokens >= int(wedge[6:])):
            await asyncio.Event().wait()
        self.tokens += 1
        limit = self.flags.number("crash-after-tokens")
        if limit and self.tokens > limit:
            self.die()


def main() -> None:
    argv = sys.argv[1:]
    if "--help" in argv or "-h" in argv:
        rows = HELP_ROWS + tuple((f"--fake-{name} VALUE", text) for name, text in FAULTS.items())
        sys.stdout.write("----- common params -----\n\n" + "".join(f"{left:<40}{text}\n" for left, text in rows))
    elif "--list-devices" in argv:
        sys.stdout.write("Available devices:\n")
    elif "--version" in argv:
        sys.stderr.write("version: 11434 (fake)\nbuilt with nothing for nowhere\n")
    else:
        asyncio.run(Fake(Flags(argv)).live())


STARTED = time.monotonic()
if __name__ == "__main__":
    main()
