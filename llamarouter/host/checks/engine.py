"""The engine: whether there is one, what it can do, and whether it sees the devices that the drivers show."""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.errors import UsageError
from llamarouter.core.findings import Finding, Severity
from llamarouter.host.devices.drivers import Drivers
from llamarouter.host.devices.roots import Roots
from llamarouter.host.engine import Engine, EngineKind, devices_of

ENGINE, DEVICES = "engine", "devices"
_BUILD = "`lr engine build`"
_DRIVER_SECONDS = 5.0


def engine_findings(engine: Engine) -> list[Finding]:
    """What the engine is, and what it lacks."""
    where = engine.command[-1] if engine.kind is EngineKind.COMPILED else "embedded"
    findings = [Finding(ENGINE, Severity.FINE, f"{engine.build}: {engine.origin}", where)]
    if engine.kind is EngineKind.EMBEDDED:
        what = "the embedded engine is for a first try: CPU only"
        findings.append(Finding(ENGINE, Severity.NOTE, what, where, f"{_BUILD} compiles the real one"))
    if not engine.unix_socket:
        what = "this build cannot listen on UNIX sockets: other users of the machine reach its models without a key"
        findings.append(Finding(ENGINE, Severity.ERROR, what, where, f"a newer llama-server: {_BUILD}"))
    if not engine.state_lines:
        what = "this build does not report its states: it is watched through /health alone"
        findings.append(Finding(ENGINE, Severity.WARNING, what, where, f"a newer llama-server: {_BUILD}"))
    return findings


def device_findings(engine: Engine, environ: Mapping[str, str], roots: Roots | None = None) -> list[Finding]:
    """What the engine lists beside what the drivers know. Each of both has its time-out."""
    roots = roots or Roots()
    try:
        listed = devices_of(engine, environ)
    except UsageError as error:
        fix = "run it with --list-devices by hand; a driver that was updated needs a restart of the machine"
        return [Finding(DEVICES, Severity.ERROR, f"the engine does not list its devices: {error}", fix=fix)]
    cards, findings = 0, []
    drivers = Drivers(roots)
    if drivers.are_there:
        answer = drivers.ask((), _DRIVER_SECONDS)
        drivers.close()
        cards = len(answer.cards)
        findings += [
            Finding(DEVICES, Severity.ERROR, problem, fix="`nvidia-smi` (or `rocm-smi`) says more; restart the driver")
            for problem in answer.problems
        ]
    if cards and not listed:
        kind = "cuda" if roots.has_nvidia else "hip"
        what = f"the driver shows {cards} GPU{'s' if cards > 1 else ''}, of which this engine uses none"
        findings.append(
            Finding(DEVICES, Severity.WARNING, what, engine.command[-1], f"`lr engine build --backend {kind}`")
        )
    shown = ", ".join(listed) if listed else "none but the CPU"
    return [Finding(DEVICES, Severity.FINE, f"the engine lists {shown}"), *findings]
