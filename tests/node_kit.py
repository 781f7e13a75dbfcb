"""A whole router inside a test: the real parts over fake children, reached as an ASGI application and by its door.

    async with house(tmp_path, "--api-key", "k", preset="[m]\\nmodel = m.gguf\\n") as home:
        await home.client.get("/models")                # the application, without a socket
        await (await home.knock()).ask("/tokenize")     # a raw client on a connection to the fast lane

Models are real (small) GGUF files in `home.models`; the engine is `fake_llama_server.py`.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from llamarouter.core.settings import parse_settings
from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.inventory import take_inventory
from llamarouter.host.key_file import KEYS, KeyFile
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.server.app import application
from llamarouter.server.appraiser import Footprints
from llamarouter.server.assembly import Plan, assemble
from llamarouter.server.doors import public_door
from llamarouter.server.memory import Devices
from llamarouter.server.node import Node
from tests.child_kit import FAKE
from tests.engine_table import HELP, TABLE
from tests.relay_rig import Client
from tests.tiny_gguf import write_llama
from tests.waiting import until

ENGINE = Engine(
    command=FAKE,
    kind=EngineKind.COMPILED,
    origin="test",
    build="b11434",
    unix_socket=True,
    state_lines=True,
    table=TABLE,
    help_text=HELP,
)


@dataclass
class House:
    """A router, its application and its door."""

    node: Node
    app: ASGIApp
    admin: ASGIApp  # as the admin socket has it
    port: int
    models: Path
    stopped: asyncio.Event
    client: httpx.AsyncClient
    knocked: list[Client] = field(default_factory=list)

    async def knock(self) -> Client:
        """A connection to the fast lane."""
        client = await Client.connect(self.port)
        self.knocked.append(client)
        return client


def asgi_client(app: ASGIApp, **options: Any) -> httpx.AsyncClient:
    """A client of an application, without a socket."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://router", **options)


def add_model(folder: Path, name: str) -> Path:
    """A small model that can be listed; the bytes are made once for all tests."""
    path = folder / f"{name}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_sample())
    return path


def engine_with(folder: Path, *flags: str) -> Path:
    """An executable that is the fake llama-server with these faults: for `lr-engine`, or for `--engine`."""
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*FAKE, *flags])} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@functools.cache
def _sample() -> bytes:
    with tempfile.TemporaryDirectory(prefix="lr-sample-") as folder:
        return write_llama(Path(folder) / "sample.gguf").read_bytes()


def plan_of(
    tmp_path: Path,
    *argv: str,
    preset: str | None = None,
    environ: Mapping[str, str] | None = None,
    read_within: float = math.inf,
) -> Plan:
    """What is known before a router runs, over `tmp_path`/models (with -m and -hf: nothing) and the preset's text.

    `read_within`: the time that there is for headers, in seconds.
    """
    models = tmp_path / "models"
    models.mkdir(exist_ok=True)
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLAMA_CACHE": str(tmp_path / "cache")}
    variables["LR_ALLOWED_HOSTS"] = "h,router"  # what the tests' clients call it
    variables |= environ or {}
    # A router of one model looks nowhere else unless it is told to.
    words = [*argv] if {"-m", "-hf"} & set(argv) else ["--models-dir", str(models), *argv]
    if preset is not None:
        (tmp_path / "preset.ini").write_text(preset, encoding="utf-8")
        words += ["--models-preset", str(tmp_path / "preset.ini")]
    keys = KeyFile(tmp_path / KEYS)
    settings = parse_settings(
        words, variables, TABLE, lambda path: Path(path).read_text(encoding="utf-8"), keys_kept=bool(keys.read())
    )
    headers = HeaderCache(tmp_path / "headers.json")
    headers.read_within(read_within)
    inventory = take_inventory(settings, variables, ENGINE, headers)
    headers.read_within(math.inf)
    return Plan(
        settings=settings,
        environ=variables,
        engine=ENGINE,
        headers=headers,
        inventory=inventory,
        state=str(tmp_path),
        keys=keys,
    )


@asynccontextmanager
async def house(
    tmp_path: Path,
    *argv: str,
    preset: str | None = None,
    environ: Mapping[str, str] | None = None,
    read_within: float = math.inf,
    devices: Devices | None = None,
    footprints: Footprints | None = None,
) -> AsyncIterator[House]:
    """A router for a test's duration; it drains nothing at the end. Without `devices` nobody looks at the memory."""
    plan = plan_of(tmp_path, *argv, preset=preset, environ=environ, read_within=read_within)
    plan = replace(plan, devices=devices, footprints=footprints)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    with (
        tempfile.TemporaryDirectory(prefix="lr-") as runtime,
        RuntimeFolder.open({"LR_RUNTIME_DIR": runtime}, None) as folder,
    ):
        async with asyncio.TaskGroup() as tasks:
            node = assemble(plan, folder, tasks, stopped.set)
            app = application(node, trusted=False)
            config = public_door(node)
            config.load()
            state = ServerState()
            protocol: Any = config.http_protocol_class
            server = await loop.create_server(lambda: protocol(config, state, {}, _loop=loop), "127.0.0.1", 0)
            async with node.running(), asgi_client(app) as client:
                home = House(
                    node,
                    app,
                    application(node, trusted=True),
                    server.sockets[0].getsockname()[1],
                    tmp_path / "models",
                    stopped,
                    client,
                )
                try:
                    yield home
                finally:
                    node.feed.end()
                    node.downloads.end()
                    node.supervisor.close(0.0)
                    await node.supervisor.lives.until_empty()
                    server.close()
                    for each in home.knocked:
                        each.close()
                    await until(lambda: not state.tasks and not state.connections)
