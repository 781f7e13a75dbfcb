"""Where the units of a service lie, written and taken away; and what of this machine goes into them.

plan -> show -> do: `ServicePlan` names every file and every command before anything is touched.
"""

from __future__ import annotations

import grp
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

import llamarouter
from llamarouter.core.errors import UsageError
from llamarouter.core.unit import ADMIN_UNIT, SERVICE, SOCKET, SYSUSERS, Service, sysusers_text, units_of
from llamarouter.host.state import home_of, write_atomically

_SYSTEM = "/etc/systemd/system"
_SYSUSERS = "/etc/sysusers.d"
_GPU_GROUPS = ("video", "render")


class ServicePlan(Struct, frozen=True):
    """What will be done, in order: files by path, then commands."""

    files: dict[str, str]
    commands: tuple[tuple[str, ...], ...]


def python_of_lr() -> tuple[str, ...]:
    """The command that is `lr` here, wherever it is started: nothing of the folder that it is started in is read."""
    return (sys.executable, "-P", "-m", "llamarouter")


def folders_of_lr() -> tuple[str, ...]:
    """What the interpreter and the package are made of."""
    package = Path(llamarouter.__file__).parents[1]
    found = (sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), package)
    return tuple(dict.fromkeys(str(path) for path in found))


def gpu_groups() -> tuple[str, ...]:
    """Those that this machine has: a group that it lacks would keep the service from starting."""
    here = {each.gr_name for each in grp.getgrall()}
    return tuple(name for name in _GPU_GROUPS if name in here)


def plan_installation(service: Service, environ: Mapping[str, str], *, start: bool) -> ServicePlan:
    """What `lr service install` does. Raises `UsageError`."""
    folder = _folder(environ, user=service.user)
    files = {os.path.join(folder, name): text for name, text in units_of(service).items()}
    manager = _systemctl(user=service.user)
    commands: list[tuple[str, ...]] = [(*manager, "daemon-reload")]
    if not service.user:
        path = os.path.join(_SYSUSERS, SYSUSERS)
        files[path] = sysusers_text()
        commands.insert(0, ("systemd-sysusers", path))
    commands.append((*manager, "enable", SERVICE))
    if start:
        # A socket whose service runs cannot be bound anew.
        sockets = [SOCKET] if service.user else [SOCKET, ADMIN_UNIT]
        commands += [(*manager, "stop", SERVICE), (*manager, "restart", *sockets), (*manager, "start", SERVICE)]
    return ServicePlan(files, tuple(commands))


def plan_removal(environ: Mapping[str, str], *, user: bool) -> ServicePlan:
    """What `lr service uninstall` does; its files are to be deleted. What the service has kept stays."""
    folder = _folder(environ, user=user)
    names = [SERVICE, SOCKET] if user else [SERVICE, SOCKET, ADMIN_UNIT]
    paths = [os.path.join(folder, name) for name in names]
    if not user:
        paths.append(os.path.join(_SYSUSERS, SYSUSERS))
    here = {path: "" for path in paths if os.path.lexists(path)}
    stop = (*_systemctl(user=user), "disable", "--now", *(name for name in names if os.path.join(folder, name) in here))
    return ServicePlan(here, (stop,) if here else ())


def write(plan: ServicePlan) -> None:
    """Write the files. Raises `UsageError` where they cannot be written."""
    for path, text in plan.files.items():
        try:
            write_atomically(Path(path), text.encode(), 0o644)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; run it as root, or with --user") from error


def delete(plan: ServicePlan) -> None:
    """Delete the files. Raises `UsageError` where they cannot be deleted."""
    for path in plan.files:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; run it as root, or with --user") from error


def run(command: tuple[str, ...]) -> str | None:
    """Run one command; why it failed, in a line, or None."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        return error.strerror
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def unreadable(path: str) -> str | None:
    """What of a path keeps the user of the service from reading it; None where all may.

    The folders above do not matter where the unit binds the path itself; of others each must let all pass.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return error.strerror
    wanted = 0o005 if os.path.isdir(path) else 0o004
    return None if mode & wanted == wanted else f"only its owner or group may read it (mode {mode & 0o777:o})"


def _folder(environ: Mapping[str, str], *, user: bool) -> str:
    if not user:
        return _SYSTEM
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home_of(environ), ".config")
    return os.path.join(config, "systemd/user")


def _systemctl(*, user: bool) -> tuple[str, ...]:
    return ("systemctl", "--user") if user else ("systemctl",)
