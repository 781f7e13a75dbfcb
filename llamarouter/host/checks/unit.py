"""The systemd unit that runs the router, as systemd says its settings are."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from llamarouter.core.findings import Finding, Severity
from llamarouter.core.unit import SERVICE
from llamarouter.core.unit_findings import AREA, PROPERTIES, unit_findings

_SECONDS = 5.0
_MOST_LINES = 64


def check_unit(
    pid: int | None, models_dirs: Sequence[str], environ: Mapping[str, str], *, has_gpu: bool, proc: str = "/proc"
) -> list[Finding]:
    """The unit of the router that runs, else the one that is installed; nothing where there is neither."""
    program = shutil.which("systemctl", path=environ.get("PATH", os.defpath))
    if program is None:
        return []
    found = unit_of(pid, proc) if pid is not None else None
    below_home = tuple(each for each in models_dirs if each.startswith(("/home/", "/root/")))
    return [
        finding
        for unit, scope in ([found] if found is not None else [(SERVICE, ()), (SERVICE, ("--user",))])
        for finding in _of_unit([program, *scope], unit, environ, has_gpu, below_home)
    ]


def unit_of(pid: int, proc: str = "/proc") -> tuple[str, tuple[str, ...]] | None:
    """The service that a process belongs to, and how systemctl is told where; None: it was started by hand."""
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 16).splitlines()
    except OSError:
        return None
    for line in lines:
        services = re.findall(r"[^/:]+\.service", line)
        # A shell of a user is below user@1000.service, in a scope or in a session of its own.
        if services and line.endswith(services[-1]) and not services[-1].startswith("user@"):
            return services[-1], ("--user",) if len(services) > 1 else ()
    return None


def _of_unit(
    command: list[str], unit: str, environ: Mapping[str, str], has_gpu: bool, below_home: tuple[str, ...]
) -> Iterator[Finding]:
    try:
        done = subprocess.run(
            [*command, "show", unit, f"--property={','.join(PROPERTIES)}"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        yield Finding(AREA, Severity.NOTE, f"systemctl does not answer for {unit}", unit)
        return
    pairs = (line.partition("=") for line in done.stdout.splitlines()[:_MOST_LINES])
    said = {name: value for name, _, value in pairs}
    if said.get("LoadState") != "loaded":
        return
    if said.get("ActiveState") == "failed":
        yield Finding(AREA, Severity.ERROR, "it has failed", unit, f"`journalctl -u {unit}` says why")
    yield from unit_findings(unit, said, has_gpu=has_gpu, below_home=below_home)
