"""What the settings of a systemd unit mean for a router that it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity

AREA = "systemd"
PROPERTIES = (
    *("LoadState", "ActiveState", "Type", "KillMode", "OOMPolicy", "Restart", "User"),
    *(
        "BindPaths",
        "BindReadOnlyPaths",
        "PrivateDevices",
        "ProtectHome",
        "RuntimeDirectoryMode",
        "StateDirectoryMode",
        "MemoryMax",
        "TimeoutStopUSec",
    ),
)


class _Rule(Struct, frozen=True):
    """What a property must be."""

    name: str
    good: tuple[str, ...]
    severity: Severity
    why: str


_RULES = (
    _Rule("Type", ("notify", "notify-reload"), Severity.WARNING, "systemd does not learn when it is ready"),
    _Rule("KillMode", ("mixed",), Severity.WARNING, "a stop would kill the models before their answers have ended"),
    _Rule("OOMPolicy", ("continue",), Severity.ERROR, "a model that runs out of memory takes the router down with it"),
    _Rule("Restart", ("on-failure", "always"), Severity.WARNING, "after a crash it stays down"),
)
_DIRECTORIES = ("RuntimeDirectoryMode", "StateDirectoryMode")


def unit_findings(
    unit: str, said: Mapping[str, str], *, has_gpu: bool, below_home: tuple[str, ...]
) -> Iterator[Finding]:
    """`said`: what `systemctl show` says; `below_home`: folders of models that lie below a home."""
    bad = False
    for rule in _RULES:
        value = said.get(rule.name)
        if value is not None and value not in rule.good:
            bad = True
            yield _finding(unit, rule.severity, f"{rule.name}={value}: {rule.why}", f"{rule.name}={rule.good[0]}")
    for name in _DIRECTORIES:
        value = said.get(name)
        if value and value.lstrip("0") not in ("700", "750"):
            bad = True
            yield _finding(unit, Severity.ERROR, f"{name}={value}: other users may look in", f"{name}=0700")
    if has_gpu and said.get("PrivateDevices") == "yes":
        bad = True
        yield _finding(unit, Severity.ERROR, "PrivateDevices=yes hides the GPU", "PrivateDevices=no")
    hidden = _hidden(said, below_home)
    if hidden:
        bad = True
        what = f"ProtectHome={said['ProtectHome']} hides {', '.join(hidden)}"
        yield _finding(unit, Severity.ERROR, what, "BindReadOnlyPaths=FOLDER with ProtectHome=tmpfs")
    if not bad:
        yield Finding(AREA, Severity.FINE, "the unit's settings suit a router", unit)


def _hidden(said: Mapping[str, str], below_home: tuple[str, ...]) -> list[str]:
    """The folders that the unit does not see: below a home, and not bound into its view."""
    if said.get("ProtectHome") not in ("yes", "tmpfs"):
        return []
    bound = [
        each.partition(":")[0].rstrip("/")
        for name in ("BindPaths", "BindReadOnlyPaths")
        for each in said.get(name, "").split()
    ]
    return [folder for folder in below_home if not any(f"{folder}/".startswith(f"{each}/") for each in bound)]


def _finding(unit: str, severity: Severity, what: str, setting: str) -> Finding:
    return Finding(AREA, severity, what, unit, f"{setting} in its [Service] (`systemctl edit {unit}`)")
