"""Runs what `lr doctor` looks at: side by side, each with its time-out, so that one that hangs keeps nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llamarouter.cli.failures import CommandFailed
from llamarouter.core.errors import UsageError
from llamarouter.core.findings import Finding, Severity

Check = Callable[[], list[Finding]]


@dataclass(slots=True)
class _Running:
    area: str
    done: threading.Event = field(default_factory=threading.Event)
    findings: list[Finding] = field(default_factory=list)


def examine(checks: Iterable[tuple[str, float, Check]]) -> list[Finding]:
    """`checks`: area, seconds, what is looked at. What is not done in time says so; its thread is left behind."""
    running = []
    begun = time.monotonic()
    for area, seconds, check in checks:
        each = _Running(area)
        # A daemon: a disk or a driver that does not answer must not keep the process alive.
        threading.Thread(target=_run, args=(each, check), daemon=True).start()
        running.append((each, seconds))
    findings: list[Finding] = []
    for each, seconds in running:
        if each.done.wait(max(0.0, begun + seconds - time.monotonic())):
            findings += each.findings
        else:
            what = f"no answer within {seconds:g} s: something hangs (a disk, a driver, a network file system)"
            findings.append(Finding(each.area, Severity.ERROR, what, fix="`dmesg` and `mount` may tell what"))
    return findings


def _run(each: _Running, check: Check) -> None:
    each.findings = [Finding(each.area, Severity.ERROR, "this check broke down", fix="report what stands above")]
    try:
        each.findings = check()
    except OSError as error:
        what = f"cannot be looked at: {error.strerror or error}"
        each.findings = [Finding(each.area, Severity.ERROR, what, str(error.filename or ""))]
    except (UsageError, CommandFailed) as error:
        each.findings = [Finding(each.area, Severity.ERROR, str(error))]
    finally:
        each.done.set()
