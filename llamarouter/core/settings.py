"""The settings of `lr serve`: its command line and its environment, parsed once into frozen values.

    argv, environment, option tables -> parse_settings -> Settings, or one line of UsageError

The command line wins over the environment, an environment variable over the default. What is not an option of ours
is llama-server's, for every child; what cannot be either is refused by name, with the nearest real one.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from llamarouter.core.budget import Budgets, budgets_of
from llamarouter.core.config_ini import own_of
from llamarouter.core.cors import Cors
from llamarouter.core.door_limits import DoorLimits, limits_of
from llamarouter.core.door_values import api_prefix_of, certificate_of, cors_of, ui_config_of
from llamarouter.core.errors import UsageError
from llamarouter.core.flags import Given, OptionTable, split_argv
from llamarouter.core.hosts import SOCKET_SUFFIX, Hosts, hosts_of, is_loopback
from llamarouter.core.ini import Ini
from llamarouter.core.log_values import LogWish, log_of
from llamarouter.core.media import RemoteMedia
from llamarouter.core.model import Skipped
from llamarouter.core.one_model import OneModel, one_model_of
from llamarouter.core.own_options import OWN, OWN_TABLE, SHARED
from llamarouter.core.own_values import OwnValues
from llamarouter.core.ownership import Role, refusal_of, role_of
from llamarouter.core.pins import NamedPins
from llamarouter.core.policy_rules import DURATIONS, QUEUE, QUEUE_TIMEOUT, TTL, Rule, rule_of

_MAX_SOCKET_PATH = 107  # bytes, without the final NUL (unix(7))
_ENGINE = "--engine"
_SECRET_FILES = ("--api-key-file", "--ssl-key-file")
_LEAST_BYTES = 1 << 20  # what the fast lane takes at once, before anybody counts it
_SECRET = ("api_keys", "hf_token")


class Settings(Struct, frozen=True, kw_only=True):
    """What the operator decided for the whole router. Times are seconds."""

    one_model: OneModel | None = None  # named by the command line, instead of whatever is found
    default_model: str | None = None  # answers requests that name none
    models_dir: str | None = None
    preset: str | None = None
    engine: tuple[str, ...] | None = None  # a command: the binary, perhaps behind a prefix (`numactl ...`)
    models_max: int = 4  # 0: no limit
    rules: tuple[Rule, ...] = ()  # how long every model stays
    pins: NamedPins = NamedPins()
    autoload: bool = True
    host: tuple[str, ...] = ("127.0.0.1",)  # addresses, or paths ending in `.sock`
    port: int = 8080  # 0: any that is free
    api_keys: tuple[str, ...] = ()
    allow_open: bool = False
    api_prefix: str = ""  # before every path: "" or "/some/path"
    certificate: tuple[str, str] | None = None  # the files of key and certificate: TLS where it is not None
    secret_files: tuple[str, ...] = ()  # that hold keys and are read by nobody else
    cors: Cors = Cors()
    remote_media: bool | None = None  # whether requests may have models fetch media; None: as `remote_media_of` says
    names: Hosts = Hosts()
    limits: DoorLimits = DoorLimits()
    max_wait: float = 10.0
    queue_timeout: float = 300.0
    queue_per_model: int = 1024
    queue_in_all: int = 4096
    queue_bytes: int = 256 << 20
    wait_comment: float = 5.0  # until a stream that waits is told what for; 0: never
    load_stall: float = 120.0
    busy_stall: float = 120.0
    drain_timeout: float = 120.0
    stop_timeout: float = 10.0
    timeout: float = 3600.0  # of an answer of which nothing moves
    ui: bool = True
    ui_path: str | None = None  # a folder of static files instead of the engine's own page
    ui_config: dict[str, Any] = field(default_factory=dict)  # what the page's settings are at first
    offline: bool = False
    hf_token: str | None = None
    log: LogWish = LogWish()
    runtime_dir: str | None = None
    memory_check: bool = True  # whether anybody looks at the memory before a model is started
    budgets: Budgets = Budgets()
    options: tuple[Given, ...] = ()  # llama-server's, for every child; of one option the last only
    warnings: tuple[Skipped, ...] = ()  # what was given twice, or means nothing

    def remote_media_of(self) -> RemoteMedia:
        """Whose requests may have a model fetch media: unless somebody says, those of who needs no key on loopback."""
        if self.remote_media is None:
            return RemoteMedia.KEYLESS if all(is_loopback(host) for host in self.host) else RemoteMedia.NOBODYS
        return RemoteMedia.EVERYBODYS if self.remote_media else RemoteMedia.NOBODYS

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name not in _SECRET)
        return f"Settings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def answers_to_any_name(self) -> bool:
        """Whether one model is all that there is: many clients must name some model, and have no other."""
        return self.one_model is not None and self.models_dir is None and self.preset is None


def parse_settings(
    argv: Sequence[str],
    environ: Mapping[str, str],
    table: OptionTable,
    read_file: Callable[[str], str],
    config_ini: Ini | None = None,
    keys_kept: bool = False,
) -> Settings:
    """The settings of a command line (without `serve`) and an environment; raises UsageError (one line).

    `table`: the engine's. `read_file` may raise OSError, UnicodeDecodeError. `keys_kept`: there are keys of `lr key`.
    """
    warnings: list[Skipped] = []
    own, options = _take_apart(argv, table, warnings)
    values = OwnValues(own, environ, warnings, own_of(config_ini))
    one_model = one_model_of(values)
    settings = Settings(
        one_model=one_model,
        default_model=values.text("--default-model") or (one_model.id if one_model is not None else None),
        models_dir=values.text("--models-dir"),
        preset=values.text("--models-preset"),
        engine=_command(values.text(_ENGINE)),
        models_max=max(0, values.integer("--models-max", 4)),
        rules=_rules(values),
        pins=_pins(values),
        autoload=values.truth("--models-autoload", True),
        host=_hosts(values.text("--host")),
        port=values.integer("--port", 8080, 0, 65535),
        api_keys=_keys(values, read_file),
        allow_open=values.truth("--allow-open", False),
        api_prefix=api_prefix_of(values),
        certificate=certificate_of(values),
        secret_files=tuple(path for name in _SECRET_FILES if (path := values.text(name)) is not None),
        cors=cors_of(values),
        max_wait=values.seconds("--max-wait", 10.0, may_be_zero=True),
        queue_timeout=values.seconds("--queue-timeout", 300.0),
        queue_per_model=values.integer("--queue-per-model", 1024, 1),
        queue_in_all=values.integer("--queue-in-all", 4096, 1),
        queue_bytes=values.size("--queue-bytes", 256 << 20, _LEAST_BYTES),
        wait_comment=values.seconds("--wait-comment", 5.0, may_be_zero=True),
        load_stall=values.seconds("--load-stall", 120.0),
        busy_stall=values.seconds("--busy-stall", 120.0),
        drain_timeout=values.seconds("--drain-timeout", 120.0, may_be_zero=True),
        stop_timeout=values.seconds("--stop-timeout", 10.0, may_be_zero=True),
        timeout=values.seconds("--timeout", 3600.0),
        ui=values.truth("--ui", True),
        ui_path=values.text("--path"),
        ui_config=ui_config_of(values, read_file),
        offline=values.truth("--offline", False),
        hf_token=values.text("--hf-token"),
        log=log_of(values),
        runtime_dir=values.text("--runtime-dir"),
        memory_check=values.truth("--memory-check", True),
        budgets=budgets_of(values),
        options=options,
        warnings=(*warnings, *_misspelt(environ)),
    )
    _check_together(settings, keys_kept)
    return replace(_at_the_door(settings, values), warnings=(*settings.warnings, *_unused(settings)))


def _at_the_door(settings: Settings, values: OwnValues) -> Settings:
    return replace(
        settings,
        names=hosts_of(values, settings.host),
        limits=limits_of(values),
        remote_media=values.truth_if_said("--remote-media"),
    )


def engine_of(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The command of `--engine` or `LR_ENGINE`, found before there is any table to read the rest by.

    Raises UsageError where it is not a command.
    """
    text = environ.get("LR_ENGINE") or None
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == _ENGINE:
            text = value if equals else "".join(argv[at + 1 : at + 2])
    return _command(text)


def _take_apart(
    argv: Sequence[str], table: OptionTable, warnings: list[Skipped]
) -> tuple[list[Given], tuple[Given, ...]]:
    """What a command line says to the router, and what to every model: of one option the last only."""
    own: list[Given] = []
    options: dict[str, Given] = {}
    for given in split_argv(argv, OWN_TABLE, table):
        if OWN_TABLE.find(given.written) is None:
            _take_option(given, options, warnings)
            continue
        own.append(given)
        if given.option.canonical in SHARED and (theirs := table.find_option(given.option)) is not None:
            _take_option(replace(given, option=theirs), options, warnings)
    return own, tuple(options.values())


def _take_option(given: Given, options: dict[str, Given], warnings: list[Skipped]) -> None:
    refusal = refusal_of(given.option)
    if refusal is not None:
        raise UsageError(f"{given.written}: {refusal}")
    if role_of(given.option) is Role.ROUTER:
        warnings.append(Skipped(given.origin, f"{given.written} is ignored: {Role.ROUTER.value}"))
        return
    before = options.pop(given.option.canonical, None)
    if before is not None:
        reason = f"{before.written} is said again by {given.written}, which holds"
        warnings.append(Skipped(given.origin, reason))
    options[given.option.canonical] = given


def _command(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{_ENGINE} {text}: {str(error).lower()}") from error
    if not words:
        raise UsageError(f"{_ENGINE} needs a command, as in {_ENGINE} /opt/llama.cpp/bin/llama-server")
    return words


def _rules(values: OwnValues) -> tuple[Rule, ...]:
    """What holds for every model that says nothing else, as the command line or a variable says it."""
    rules = []
    text = values.text("--ttl")
    if text is not None:
        rule, _ = rule_of(TTL, text, _origin("--ttl", values))
        if rule is None:
            raise UsageError(f"{values.written('--ttl')} must be {DURATIONS}, not {text!r}")
        rules.append(rule)
    queue = values.integer("--queue-per-model", 1024, 1)
    timeout = values.seconds("--queue-timeout", 300.0)
    for name, key, value in (("--queue-per-model", QUEUE, queue), ("--queue-timeout", QUEUE_TIMEOUT, timeout)):
        if values.text(name) is not None:
            rules.append(Rule(key, f"{value:g}", value, _origin(name, values)))
    return tuple(rules)


def _pins(values: OwnValues) -> NamedPins:
    text = values.text("--pin")
    if text is None:
        return NamedPins()
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if not names:
        raise UsageError(f"{values.written('--pin')} names no model: {values.written('--pin')} ID, several by commas")
    return NamedPins(names, _origin("--pin", values))


def _origin(name: str, values: OwnValues) -> str:
    """Where a value stands, as its origin is shown."""
    said = values.last_of(name)
    return f"environment {said.where}" if said is not None and said.from_environment else name


def _hosts(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ("127.0.0.1",)
    hosts = tuple(dict.fromkeys(part.strip().removeprefix("[").removesuffix("]") for part in text.split(",")))
    for host in hosts:
        if not host or any(letter.isspace() for letter in host):
            raise UsageError(f"--host {text}: an address, several by commas, or a path that ends in .sock")
        if host.endswith(SOCKET_SUFFIX) and len(host.encode("utf-8", "surrogateescape")) > _MAX_SOCKET_PATH:
            raise UsageError(f"--host {host}: longer than the {_MAX_SOCKET_PATH} bytes that a socket's path may have")
    return hosts


def _keys(values: OwnValues, read_file: Callable[[str], str]) -> tuple[str, ...]:
    """All keys, from all places: they add up, as in llama-server. No message shows one."""
    keys: list[str] = []
    for where, text in values.of("--api-key"):
        keys += _checked([part.strip() for part in text.split(",") if part.strip()], where)
    path = values.text("--api-key-file")
    if path is not None:
        try:
            text = read_file(path)
        except OSError as error:
            raise UsageError(f"--api-key-file {path}: {error.strerror or 'cannot be read'}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--api-key-file {path}: not a text file") from error
        lines = [line.strip() for line in text.splitlines()]
        keys += _checked([line for line in lines if line and not line.startswith("#")], f"--api-key-file {path}")
    return tuple(dict.fromkeys(keys))


def _checked(keys: list[str], where: str) -> list[str]:
    if not keys:
        raise UsageError(f"{where} holds no key")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise UsageError(f"{where}: a key is made of ASCII letters, digits and signs, without blanks")
    return keys


def listening_on(settings: Settings, hosts: tuple[str, ...], port: int | None, *, keys_kept: bool) -> Settings:
    """The settings of a router whose sockets somebody else has bound (none: it binds its own).

    Raises UsageError where it may not have them.
    """
    if not hosts:
        return settings
    names = replace(settings.names, own=hosts)
    moved = replace(settings, host=hosts, port=settings.port if port is None else port, names=names)
    _check_together(moved, keys_kept)
    return moved


def _check_together(settings: Settings, keys_kept: bool) -> None:
    addresses = [host for host in settings.host if not host.endswith(SOCKET_SUFFIX)]
    if settings.port == 0 and len(addresses) > 1:
        raise UsageError("--port 0 finds a port for one address: give one --host, or a port")
    if settings.api_keys or settings.allow_open or keys_kept:
        return
    for host in settings.host:
        if not is_loopback(host):
            raise UsageError(
                f"--host {host} can be reached from other machines and there is no key: "
                "`lr key add NAME` makes one (or --api-key-file FILE), --allow-open lets everybody use it"
            )


def _unused(settings: Settings) -> list[Skipped]:
    """What was given and means nothing beside something else."""
    found = []
    if settings.ui_path is not None and not settings.ui:
        found.append(Skipped(f"--path {settings.ui_path}", "not served, as there is --no-ui"))
    if not settings.memory_check:
        found += [Skipped(where, "not kept, as there is --no-memory-check") for where in settings.budgets.written]
    return found


def _misspelt(environ: Mapping[str, str]) -> list[Skipped]:
    """Variables that mean nothing here but look as if they did."""
    real = [env for row in OWN for env in row.option.envs if env.startswith("LR_")]
    others = ("LR_URL", "LR_API_KEY", "LR_STATE_DIR", "LR_DATA_DIR", "LR_ADMIN_SOCKET", "LR_COMPLETION_SECONDS")
    found = []
    if environ.get("AIP_MODE") == "PREDICTION":
        reason = "the predict route of Vertex AI is not a feature of lr serve: ask /v1/chat/completions"
        found.append(Skipped("environment AIP_MODE", reason))
    for name in sorted(environ):
        near = difflib.get_close_matches(name, real, n=1, cutoff=0.85) if name.startswith("LR_") else []
        if near and name not in real and name not in others:
            found.append(Skipped(f"environment {name}", f"no such setting; did you mean {near[0]}?"))
    return found
