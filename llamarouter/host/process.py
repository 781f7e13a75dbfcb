"""A child's life is one coroutine: the line it is at is the state it is in.

    spawn -> load: state lines, /health, stalls -> introduce: /props -> watch: exit, stalls -> wind down -> Exit
       `--------------- cancel() at any point: ask it to go, then press, then kill ----------'

Stop is `cancel()`. A loaded child gets the exit line; a second later its stdin is closed and SIGTERM follows (one that
got the line in the instant it became ready has lost it, and listens to nothing else). One that loads, or was not
built for a router, gets SIGTERM at once. KILL comes at the stop time-out, or with a second cancel. Whatever happens,
the life ends only when the process is reaped, its group killed, its pipes closed, its socket unlinked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from typing import Protocol

import msgspec
from msgspec import Struct, field

from llamarouter.core.child_facts import facts_of
from llamarouter.core.child_protocol import ROUTER_VARIABLE, STATES, Address, LoadProgress, StateLine, progress_of
from llamarouter.core.discretion import without_debug
from llamarouter.core.exits import Exit, classify, engine_failure, is_bind_failure
from llamarouter.host import probe
from llamarouter.host.child_log import LogRing
from llamarouter.host.child_process import ChildProcess, SpawnError, spawn
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.host.vitals import out_of_memory_kills
from llamarouter.host.watching import Watching, Work

_HEARD_WITHIN = 1.0  # from the exit line to stronger means
_LOADING_STOP = 2.0  # from SIGTERM to KILL while it loads
_LAST_WORDS_WITHIN = 0.2  # from the exit to the end of its pipes, which a grandchild may hold open
_PROPS_WITHIN = 2.0
_MOST_UNKNOWN = 8  # words of a child that are wondered at
_BIND_TRIES = 3
# With state lines /health is the second source, for a build that words them differently.
_FIRST_PROBE, _FIRST_STEP, _LAST_STEP = 1.0, 0.25, 1.0
_LINE_WITHIN = 0.5  # from an answer of /health to the `ready` line that it overtook
# Without them it is the only one.
_FIRST_PROBE_ALONE, _FIRST_STEP_ALONE, _LAST_STEP_ALONE = 0.002, 0.002, 0.1


logger = logging.getLogger("llamarouter")


class ChildSpec(Struct, frozen=True, kw_only=True):
    """What to run, and how patiently. Times are seconds."""

    model: str
    command: tuple[str, ...]  # engine and options, without host and port
    env: Mapping[str, str]  # the whole environment of the child
    unix_socket: bool  # False: loopback TCP with a key of our own
    state_lines: bool  # the engine may be told that it runs under a router
    stop_timeout: float
    load_stall: float
    busy_stall: float


class ReadyChild(Struct, frozen=True, kw_only=True):
    """A child that answers."""

    address: Address
    api_key: str | None
    slots: int
    n_ctx: int | None  # tokens of one slot
    info: Mapping[str, object] = field(default_factory=dict)  # payload of the `ready` line
    props: Mapping[str, object] = field(default_factory=dict)  # `GET /props`
    layers_offloaded: int | None = None
    layers: int | None = None
    unified: bool | None = None  # its slots have one cache together
    load_seconds: float = 0.0


class ChildObserver(Work, Protocol):
    """Who is told about a child, and who knows what is going on inside it."""

    def spawned(self, pid: int) -> None: ...
    def progress(self, value: LoadProgress) -> None: ...
    def ready(self, ready: ReadyChild) -> None: ...
    def state(self, word: str) -> None:
        """A state line after the first `ready`: `sleeping`, and `ready` on waking."""

    def close_connections(self) -> None:
        """Cut every connection to the child."""


async def live(spec: ChildSpec, folder: RuntimeFolder, log: LogRing, observer: ChildObserver) -> Exit:
    """Run one child from spawn to reap, and say why it ended.

    Cancelled, it stops the child and raises `CancelledError` once that is reaped (a stop that was asked for has no
    cause worth telling); cancelled again, it kills it first.
    """
    for tries_left in reversed(range(_BIND_TRIES)):
        since = log.total
        end = await _Life(spec, folder, log, observer).run()
        taken = not spec.unix_socket and is_bind_failure(log.lines_since(since))
        if not taken or not tries_left:
            break
    return end


class _Life:
    """One spawn."""

    def __init__(self, spec: ChildSpec, folder: RuntimeFolder, log: LogRing, observer: ChildObserver) -> None:
        self._spec = spec
        self._folder = folder
        self._log = log
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._since = log.total
        self._address: Address = ("127.0.0.1", 0)  # until it has a place
        self._api_key: str | None = None
        self._info: Mapping[str, object] = {}
        self._unknown: set[str] = set()  # states that mean nothing to us
        self._loaded = False  # it says so, or answers
        self._announced = False  # and the observer knows
        self._child: ChildProcess
        self._watching: Watching

    async def run(self) -> Exit:
        try:
            return await self._run()
        finally:  # also where it was cancelled while it was being spawned: it may have been quicker
            if isinstance(self._address, str):
                with contextlib.suppress(OSError):
                    os.unlink(self._address)

    async def _run(self) -> Exit:
        spec, log = self._spec, self._log
        kills = out_of_memory_kills()
        try:
            command, env = self._place()
            self._child = await spawn(command, env, log)
        except (SpawnError, OSError) as error:
            log.note(f"{spec.model}: cannot be started: {error}")
            return engine_failure(f"llama-server cannot be started: {error}")
        stalled: str | None = None
        orderly = False
        try:
            self._watching = Watching(
                self._child,
                self._address,
                self._api_key,
                self._observer,
                load_stall=spec.load_stall,
                busy_stall=spec.busy_stall,
            )
            log.note(f"{spec.model}: started as process {self._child.pid}")
            self._observer.spawned(self._child.pid)
            stalled = await self._serve()
        except asyncio.CancelledError:
            orderly = True
            raise
        finally:
            await self._end(orderly)
        return classify(
            loading=not self._announced,
            code=self._child.code,
            signal=self._child.signal_name,
            lines=self._words(),
            stalled=stalled,
            kernel_oom=out_of_memory_kills() > kills,
        )

    def _words(self) -> tuple[str, ...]:
        """What this spawn has said, without our own notes and what is for debugging only."""
        return tuple(line for line in without_debug(self._log.lines_since(self._since)) if not line.startswith("--- "))

    def _place(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Where it will listen; the command and the environment that say so."""
        spec = self._spec
        env = dict(spec.env)
        if spec.state_lines:
            env[ROUTER_VARIABLE] = "1"
        if spec.unix_socket:
            self._address = self._folder.socket_path()
            return (*spec.command, "--host", self._address), env
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._address = ("127.0.0.1", port)
        # Anybody on this machine can connect: so there is a key, and it is not in argv.
        self._api_key = env["LLAMA_API_KEY"] = secrets.token_urlsafe(32)
        return (*spec.command, "--host", "127.0.0.1", "--port", str(port)), env

    async def _serve(self) -> str | None:
        """Until it has exited, or is found stuck: then what was seen."""
        stalled = await self._load()
        if stalled is not None or self._child.exited.is_set():
            return stalled
        ready = await self._introduce()
        if self._child.exited.is_set():
            return None
        self._announced = True
        self._watching.load_is_over()
        self._observer.ready(ready)
        return await self._watch()

    # --- loading ----------------------------------------------------------------------------------------------------

    async def _load(self) -> str | None:
        child, loop, watching = self._child, self._loop, self._watching
        watching.load_is_at(0.0)
        first, step, last_step = (
            (_FIRST_PROBE, _FIRST_STEP, _LAST_STEP)
            if self._spec.state_lines
            else (_FIRST_PROBE_ALONE, _FIRST_STEP_ALONE, _LAST_STEP_ALONE)
        )
        next_probe, next_look = loop.time() + first, loop.time() + watching.look_every
        while True:
            self._heed_lines()
            if self._loaded or child.exited.is_set():
                return None
            if loop.time() >= next_probe:
                if await self._is_healthy():
                    await self._hear_who_it_is()
                next_probe, step = loop.time() + step, min(2 * step, last_step)
                continue
            if loop.time() >= next_look:
                next_look = loop.time() + watching.look_every
                if (stalled := watching.stuck_loading()) is not None:
                    return stalled
            await self._until_news(min(next_probe, next_look) - loop.time())

    async def _hear_who_it_is(self) -> None:
        """It answers; its `ready` line, which says who it is, may be on its way and is given a moment."""
        end = self._loop.time() + (_LINE_WITHIN if self._spec.state_lines else 0.0)
        self._heed_lines()
        while not (self._loaded or self._child.exited.is_set()) and (left := end - self._loop.time()) > 0:
            await self._until_news(left)
            self._heed_lines()
        self._loaded = True

    async def _is_healthy(self) -> bool:
        try:
            answer = await probe.get(self._address, "/health", api_key=self._api_key, seconds=1.0)
        except probe.ProbeError:
            return False
        return answer.status == 200

    def _heed_lines(self) -> None:
        lines = self._child.lines
        # What comes behind the first `ready` (a child may sleep at once) is heard once that was announced.
        while lines and (self._announced or not self._loaded):
            self._heed(lines.popleft())

    def _heed(self, line: StateLine) -> None:
        if (progress := progress_of(line)) is not None:
            self._watching.load_is_at(progress.value)
            self._observer.progress(progress)
        elif line.state not in STATES:
            self._wonder_at(line.state)
        elif line.state == "ready" and not self._announced:
            self._loaded, self._info = True, line.payload
        elif line.state in ("ready", "sleeping"):
            self._watching.load_is_over()
            self._observer.state(line.state)

    def _wonder_at(self, state: str) -> None:
        """A word of a later llama-server: nothing depends on it."""
        if state not in self._unknown and len(self._unknown) < _MOST_UNKNOWN:
            self._unknown.add(state)
            logger.warning("%s: its llama-server says an unknown state: %.40r", self._spec.model, state)

    # --- ready ------------------------------------------------------------------------------------------------------

    async def _introduce(self) -> ReadyChild:
        """Who it is: by `/props`, else by its log, else by its options."""
        seconds = self._loop.time() - self._started
        props: dict[str, object] = {}
        with contextlib.suppress(probe.ProbeError, msgspec.DecodeError):
            answer = await probe.get(self._address, "/props", api_key=self._api_key, seconds=_PROPS_WITHIN)
            if answer.status == 200:
                props = msgspec.json.decode(answer.body, type=dict[str, object])
        facts = facts_of(self._words())
        slots = _positive(props.get("total_slots")) or facts.slots or _parallel_of(self._spec.command) or 1
        n_ctx = _positive(_inside(props, "default_generation_settings", "n_ctx"))
        return ReadyChild(
            address=self._address,
            api_key=self._api_key,
            slots=slots,
            n_ctx=n_ctx or _positive(_inside(self._info, "meta", "n_ctx")) or facts.n_ctx,
            info=self._info,
            props=props,
            layers_offloaded=facts.layers_offloaded,
            layers=facts.layers,
            unified=facts.unified,
            load_seconds=seconds,
        )

    async def _watch(self) -> str | None:
        child, watching = self._child, self._watching
        next_look = self._loop.time() + watching.look_every
        while True:
            self._heed_lines()
            if child.exited.is_set():
                return None
            if self._loop.time() >= next_look:
                if (stalled := await watching.stuck()) is not None:
                    return stalled
                next_look = self._loop.time() + watching.look_every
            next_look = min(next_look, self._loop.time() + watching.look_every)  # it may have begun to wake
            await self._until_news(next_look - self._loop.time())

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _end(self, orderly: bool) -> None:
        """Wind down to the last step, whoever cancels: each cancel on the way kills, none leaves before the reap."""
        work = self._loop.create_task(self._wind_down(orderly), name=f"end of {self._spec.model}")
        cancelled = False
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                cancelled = True
                self._child.signal_group(signal.SIGKILL)
        work.result()
        if cancelled:
            raise asyncio.CancelledError

    async def _wind_down(self, orderly: bool) -> None:
        child = self._child
        try:
            if orderly:
                self._observer.close_connections()
                await self._ask()
        finally:
            if not child.exited.is_set():
                child.signal_group(signal.SIGKILL)
            await child.exited.wait()
            child.signal_group(signal.SIGKILL)  # what it has forked
            await _within(child.drained, _LAST_WORDS_WITHIN)
            child.release()

    async def _ask(self) -> None:
        """Ask the child to go, by the means that it heeds in its state, up to the stop time-out."""
        child, patience = self._child, self._spec.stop_timeout
        self._heed_lines()
        if not self._loaded:
            child.signal_group(signal.SIGTERM)
            await _within(child.exited, min(_LOADING_STOP, patience))
            return
        if self._spec.state_lines:
            child.ask_to_exit()
            if await _within(child.exited, min(_HEARD_WITHIN, patience)):
                return
            patience -= _HEARD_WITHIN
            child.close_stdin()
        child.signal_group(signal.SIGTERM)
        await _within(child.exited, patience)

    async def _until_news(self, seconds: float) -> None:
        news = self._child.news
        await _within(news, seconds)
        news.clear()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, `seconds` at most; whether it came."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _inside(value: Mapping[str, object], outer: str, inner: str) -> object:
    found = value.get(outer)
    return found.get(inner) if isinstance(found, dict) else None


def _parallel_of(command: tuple[str, ...]) -> int | None:
    """The number of slots that the command asks for, last word first."""
    for option, value in reversed(tuple(itertools.pairwise(command))):
        if option in ("-np", "--parallel") and value.isdigit():
            return int(value)
    return None
