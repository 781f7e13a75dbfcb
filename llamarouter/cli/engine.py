"""`lr engine`: which llama-server runs and why; `lr engine build`: make one."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from llamarouter.cli.failures import CommandFailed
from llamarouter.cli.output import say, say_json, styled
from llamarouter.cli.parameters import json_option

if TYPE_CHECKING:
    from llamarouter.host.engine import Candidate, Engine

BACKENDS = ("auto", "cpu", "cuda", "hip", "vulkan")


@click.group(invoke_without_command=True)
@click.option("--engine", "wanted", metavar="COMMAND", help="Look at this one, as `lr serve --engine COMMAND` would.")
@json_option
@click.pass_context
def engine(context: click.Context, wanted: str | None, as_json: bool) -> None:
    """Show or build the llama-server that is used.

    The first of these that is there: the one that --engine or LR_ENGINE names, bin/llama-server of the checkout or
    of the data folder, llama-server on PATH, the embedded one. A section of a preset may name its own (lr-engine).

    \b
      lr engine
      lr engine --engine 'numactl --membind 0 /opt/llama.cpp/llama-server'
      lr engine build --backend cuda

    Exit codes: 0 done, 1 failed, 2 wrong usage or no engine at all.
    """
    if context.invoked_subcommand is not None:
        return
    from llamarouter.host.engine import candidates, checkout_of, command_of, devices_of, resolve_engine
    from llamarouter.host.state import data_dir

    checkout, data = checkout_of(), str(data_dir(os.environ))
    command = None if wanted is None else command_of(wanted, "--engine")
    chosen = resolve_engine(command, os.environ, checkout=checkout, data_dir=data)
    devices = devices_of(chosen, os.environ)
    looked_at = list(candidates(os.environ, checkout=checkout, data_dir=data))
    if as_json:
        say_json(_as_json(chosen, devices, looked_at))
    else:
        _show(chosen, devices, looked_at)


@engine.command()
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="What to compute on.")
def build(backend: str) -> None:
    """Compile llama-server from upstream's source.

    Takes about 6 minutes on 2 cores, seconds when nothing has changed. It needs a C++ compiler; cmake and ninja are
    fetched where they are missing. `auto` takes CUDA where nvcc, cuBLAS and a GPU are there, else the CPU.

    \b
      lr engine build
      lr engine build --backend vulkan

    Exit codes: 0 done, 1 the build failed, 2 wrong usage or no compiler.
    """
    from llamarouter.host import build as builder
    from llamarouter.host.build_plan import Backend

    into = builder.bin_folder(os.environ)
    try:
        builder.build(Backend(backend), release=builder.RELEASE, into=into, environ=os.environ)
    except builder.BuildFailed as error:
        for line in error.last_words:
            say(line, err=True)
        raise CommandFailed(str(error)) from error
    except OSError as error:
        raise CommandFailed(str(error)) from error


def _show(chosen: Engine, devices: list[str], looked_at: list[Candidate]) -> None:
    from llamarouter.host.engine import EngineKind, backends_of

    speaks = [
        word for word, does in (("UNIX sockets", chosen.unix_socket), ("state lines", chosen.state_lines)) if does
    ]
    rows = (
        ("engine", shlex.join(chosen.command)),
        ("why", chosen.origin),
        ("build", chosen.build),
        ("backends", ", ".join(backends_of(devices))),
        ("devices", "\n".join(devices) or "none: it computes on the CPU"),
        ("options", str(len(chosen.table.options))),
        ("speaks", ", ".join(speaks) or "HTTP only: it is watched through /health"),
    )
    for name, value in rows:
        first, *others = value.splitlines()
        say(f"{styled(f'{name:<9}', dim=True)} {first}")
        for line in others:
            say(f"{'':<9} {line}")
    say()
    for candidate in looked_at:
        used = candidate.command == chosen.command
        found = candidate.problem or shlex.join(candidate.command)
        say(f"{'*' if used else ' '} {candidate.origin.partition(',')[0]}: {found}")
    if chosen.kind is EngineKind.EMBEDDED:
        say("\nThis one is for a first try, on the CPU: `lr engine build` compiles the real one (about 6 minutes).")


def _as_json(chosen: Engine, devices: list[str], looked_at: list[Candidate]) -> dict[str, object]:
    from llamarouter.host.engine import backends_of

    return {
        "command": chosen.command,
        "kind": chosen.kind.value,
        "origin": chosen.origin,
        "build": chosen.build,
        "backends": backends_of(devices),
        "devices": devices,
        "options": len(chosen.table.options),
        "unix_socket": chosen.unix_socket,
        "state_lines": chosen.state_lines,
        "candidates": [{"origin": each.origin, "command": each.command, "problem": each.problem} for each in looked_at],
    }
