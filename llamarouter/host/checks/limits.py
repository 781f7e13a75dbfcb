"""The limits of the router that runs, else those that one started here would have."""

from __future__ import annotations

import resource

from msgspec.structs import replace

from llamarouter.core.findings import Finding
from llamarouter.core.limit_findings import ProcessLimits, limit_findings


def check_limits(pid: int | None, largest_model: int = 0, locking: tuple[str, ...] = ()) -> list[Finding]:
    """`pid`: of the running router; without one, or without the right to look at it, this process."""
    limits, whose = None, f"process {pid}, the router"
    if pid is not None:
        try:
            limits = limits_of(pid)
        except (OSError, AttributeError):  # not ours; no such call beyond Linux
            limits = None
    if limits is None:
        limits, whose = limits_of(0), "a router that is started here"
        limits = replace(limits, files=limits.files_hard)  # which raises it to what it needs
    return list(limit_findings(limits, whose, largest_model, locking))


def limits_of(pid: int) -> ProcessLimits:
    """Of a process, 0: this one. Raises OSError."""
    files, hard = _both(pid, resource.RLIMIT_NOFILE)
    locked, _ = _both(pid, resource.RLIMIT_MEMLOCK)
    space, _ = _both(pid, resource.RLIMIT_AS)
    return ProcessLimits(files, hard, locked, space)


def _both(pid: int, kind: int) -> tuple[int | None, int | None]:
    soft, hard = resource.prlimit(pid, kind) if pid else resource.getrlimit(kind)
    return _finite(soft), _finite(hard)


def _finite(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit
