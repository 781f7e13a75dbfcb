"""The units of systemd for a router that runs as a service: pure text, each line of it with its reason.

    Service (what the operator wants, what the machine has) -> units_of -> {file name: text}

The system's service has a user of its own and sees next to nothing of the machine; one of a user has the same sandbox
as far as the user's own manager may build it. Written for systemd 247 and later.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.service_name import ADMIN_SOCKET, NAME

ADMIN = "admin"  # what systemd calls the socket of administration when it passes it on
SERVICE, SOCKET, ADMIN_UNIT = f"{NAME}.service", f"{NAME}.socket", f"{NAME}-admin.socket"
SYSUSERS = f"{NAME}.conf"

# Folders that the sandbox replaces by empty ones.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
# Beyond the drain and the end of the children: closing connections, writing what was learnt.
_LAST_SECONDS = 20


class Service(Struct, frozen=True, kw_only=True):
    """What the units are made of. Paths are absolute."""

    command: tuple[str, ...]  # `lr serve` and its arguments
    listen: tuple[str, ...]  # `address:port` of each, as ListenStream has them
    seen: tuple[str, ...] = ()  # what the service has to read, wherever it lies
    groups: tuple[str, ...] = ()  # of the machine, that own its GPUs
    credentials: tuple[tuple[str, str], ...] = ()  # name and file: read by systemd as root
    user: bool = False  # a service of this user, not of the system
    network: bool = True  # False: nothing but this machine is reached, and reaches it
    drain: float = 120.0  # seconds
    stop: float = 10.0  # seconds

    @property
    def shown(self) -> tuple[str, ...]:
        """Of what it reads, that which lies where its sandbox hides everything; no path below another."""
        hidden = sorted({path for path in self.seen if any(is_below(path, each) for each in _HIDDEN)})
        return tuple(path for path in hidden if not any(path != each and is_below(path, each) for each in hidden))


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def units_of(service: Service) -> dict[str, str]:
    """The files by name. Raises `UsageError` for a path that no unit can hold."""
    units = {SERVICE: _text(_service_lines(service)), SOCKET: _text(_socket_lines(service))}
    if not service.user:
        units[ADMIN_UNIT] = _text(_admin_lines())
    return units


def sysusers_text() -> str:
    """What `systemd-sysusers` makes: the user, and the group of the same name."""
    return f'# Written by `lr service install`.\nu {NAME} - "llamarouter" /var/lib/{NAME}\n'


# One line of a unit: a comment, a section, or `Directive=value`.
_Lines = Iterator[str]


def _text(lines: _Lines) -> str:
    return "\n".join(["# Written by `lr service install`; changes of your own: systemctl edit.", *lines, ""])


def _service_lines(service: Service) -> _Lines:
    yield from ("", "[Unit]", "Description=llamarouter, one door to every GGUF model", f"Requires={SOCKET}")
    yield f"After={SOCKET} network-online.target" if not service.user else f"After={SOCKET}"
    if not service.user:
        yield f"Wants=network-online.target {ADMIN_UNIT}"
        yield f"After={ADMIN_UNIT}"
    yield "# Ten starts within five minutes that fail: it stays down, and `systemctl status` says why."
    yield from ("StartLimitIntervalSec=300", "StartLimitBurst=10", "", "[Service]")
    yield from _life(service)
    yield from _folders(service)
    yield from _limits(service)
    yield from _sandbox(service)
    if not service.user:
        yield from _machine_sandbox(service)
    yield from ("", "[Install]", f"WantedBy={'default' if service.user else 'multi-user'}.target", f"Also={SOCKET}")
    if not service.user:
        yield f"Also={ADMIN_UNIT}"


def _life(service: Service) -> _Lines:
    yield "# It says when it is ready, what it does, and every few seconds from its event loop that it is well."
    yield from ("Type=notify", "NotifyAccess=main", "WatchdogSec=30", "TimeoutStartSec=180")
    yield f"ExecStart={' '.join(_argument(word) for word in service.command)}"
    yield from ("ExecReload=/bin/kill -HUP $MAINPID", "Restart=on-failure", "RestartSec=1")
    yield "# SIGTERM is for the router alone, which lets answers end; what is left after it is killed."
    yield from ("KillMode=mixed", f"TimeoutStopSec={round(service.drain + service.stop + _LAST_SECONDS)}")
    yield "# A model that the kernel kills for memory takes nothing else down."
    yield "OOMPolicy=continue"
    if not service.user:
        yield from ("OOMScoreAdjust=-500", f"User={NAME}", f"Group={NAME}")
    if service.groups and not service.user:
        yield "# Who may use the GPUs."
        yield f"SupplementaryGroups={' '.join(service.groups)}"


def _folders(service: Service) -> _Lines:
    yield from ("", "# Its sockets, what it keeps (keys, what it learnt), and the one cache: `lr pull` fills it.")
    yield from (f"RuntimeDirectory={NAME}", "RuntimeDirectoryMode=0700", "UMask=0077", "Environment=PYTHONUNBUFFERED=1")
    if service.user:
        for name, path in service.credentials:
            yield _environment(_VARIABLES[name], path.replace("%", "%%"))
        return
    yield from (f"StateDirectory={NAME}", "StateDirectoryMode=0700")
    yield from (f"CacheDirectory={NAME}", "CacheDirectoryMode=0700")
    yield f"Environment=HOME=%S/{NAME} LR_STATE_DIR=%S/{NAME} LR_DATA_DIR=%S/{NAME}/data"
    yield f"Environment=LR_RUNTIME_DIR=%t/{NAME} HF_HUB_CACHE=%C/{NAME}/hub"
    if service.credentials:
        yield "# systemd reads them as root; nobody but the service sees its copies, and no model does."
    for name, path in service.credentials:
        yield f"LoadCredential={name}:{_path(path)}"
        yield _environment(_VARIABLES[name], f"%d/{name}")


# Where the router looks for what a credential holds.
_VARIABLES = {"hf-token": "HF_TOKEN_PATH", "api-keys": "LLAMA_ARG_API_KEY_FILE"}
CREDENTIALS = tuple(_VARIABLES)


def _limits(service: Service) -> _Lines:
    yield from ("", "# Connections, threads of models, models locked in memory; no dump holds what somebody wrote.")
    yield "# Not 0, with which the kernel still hands a crashed process to a program such as systemd-coredump."
    yield from ("LimitCORE=1", "TasksMax=4096")
    if not service.user:
        yield from ("LimitNOFILE=65536", "LimitMEMLOCK=infinity")


def _sandbox(service: Service) -> _Lines:
    yield from ("", "# The sandbox: models and requests are files that strangers wrote, parsed by a native program.")
    yield from ("NoNewPrivileges=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes")
    yield from ("LockPersonality=yes", "SystemCallArchitectures=native")
    yield "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"
    yield "SystemCallFilter=@system-service"
    yield "SystemCallFilter=~@privileged @mount @swap @reboot @raw-io @module @cpu-emulation @obsolete @debug"
    yield "# A call that is not allowed fails; the process that tried it is not killed for a probe."
    yield "SystemCallErrorNumber=EPERM"
    yield "# Not MemoryDenyWriteExecute: CUDA compiles its kernels while it runs."


def _machine_sandbox(service: Service) -> _Lines:
    shown = service.shown
    yield from ("CapabilityBoundingSet=", "AmbientCapabilities=", "ProtectSystem=strict", "ProtectHome=tmpfs")
    yield from ("PrivateTmp=yes", "PrivateMounts=yes")
    if shown:
        yield "# What it reads of the folders that are hidden by the lines above; nothing of them can be written to."
        yield from (f"BindReadOnlyPaths={_path(path)}" for path in shown)
    yield "# GPUs, and no other device. (Not PrivateDevices, which hides them.)"
    yield from ("DevicePolicy=closed", "DeviceAllow=char-nvidia* rw", "DeviceAllow=char-drm rw")
    yield "DeviceAllow=/dev/kfd rw"
    yield from ("ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes")
    yield from ("ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes")
    yield "# Not ProcSubset=pid, which hides how much memory there is; not PrivateUsers, which hides the GPUs' groups."
    yield from ("ProtectProc=invisible", "RemoveIPC=yes")
    if not service.network:
        yield "# It serves this machine and fetches nothing: no model reaches any other."
        yield from ("IPAddressDeny=any", "IPAddressAllow=localhost")


def _socket_lines(service: Service) -> _Lines:
    yield "# systemd holds the address: who connects while the router starts anew waits, and is not refused."
    yield from ("", "[Unit]", "Description=where llamarouter listens", "", "[Socket]")
    yield from (f"ListenStream={each}" for each in service.listen)
    yield "Backlog=4096"
    yield f"BindIPv6Only={'ipv6-only' if len(service.listen) > 1 else 'both'}"
    yield "# An address that comes up later than this unit is no failure."
    yield from ("FreeBind=yes", f"Service={SERVICE}", "", "[Install]", "WantedBy=sockets.target")


def _admin_lines() -> _Lines:
    yield f"# Administration without a key, for root and the group {NAME}: `lr` finds this socket by itself."
    yield from ("", "[Unit]", "Description=administration of llamarouter", "", "[Socket]")
    yield from (f"ListenStream={ADMIN_SOCKET}", f"FileDescriptorName={ADMIN}", f"Service={SERVICE}")
    yield from (f"SocketUser={NAME}", f"SocketGroup={NAME}", "SocketMode=0660", "RemoveOnStop=yes")
    yield from ("", "[Install]", "WantedBy=sockets.target")


def _argument(word: str) -> str:
    """One word of a command line, as systemd.service(5) and systemd.syntax(7) take it apart."""
    return _quoted(word.replace("%", "%%").replace("$", "$$"))


def _environment(name: str, value: str) -> str:
    return f"Environment={_quoted(f'{name}={value}')}"


def _path(path: str) -> str:
    if ":" in path:
        raise UsageError(f"{path}: a unit of systemd cannot name a path with a colon; give it another name")
    return _quoted(path.replace("%", "%%"))


def _quoted(word: str) -> str:
    if any(not sign.isprintable() for sign in word):
        raise UsageError(f"{word!r}: a unit of systemd is made of printable signs")
    if word and not any(sign in word for sign in " \"'\\;"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
