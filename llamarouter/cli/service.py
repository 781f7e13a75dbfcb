"""`lr service`: the router as a service of systemd. What is written is shown first, each line with its reason."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from llamarouter.cli.failures import CommandFailed, one_line
from llamarouter.cli.output import say, styled

if TYPE_CHECKING:
    from llamarouter.core.settings import Settings
    from llamarouter.core.unit import Service
    from llamarouter.host.service_files import ServicePlan

_OWN_NAMES = ("LR_", "LLAMA_", "HF_", "AIP_")


@click.group()
def service() -> None:
    """Run the router as a service of systemd.

    \b
      sudo lr service install --models-dir /srv/models -- -c 8192 -ngl 99
      lr service install --user --print
      sudo lr service uninstall

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


_user = click.option("--user", is_flag=True, help="A service of this user, without root; it ends with the session.")


@service.command()
@_user
@click.option("--models-dir", metavar="PATH", help="A folder of GGUF files; the service sees it, wherever it lies.")
@click.option("--models-preset", metavar="PATH", help="An INI file, as for lr serve.")
@click.option("--host", metavar="HOST", help="IP addresses to listen on, by commas (127.0.0.1).")
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="The port (8080).")
@click.option("--engine", metavar="COMMAND", help="The llama-server to run (that of `lr engine`).")
@click.option("--hf-token-file", metavar="FILE", help="Holds a Hugging Face token; systemd reads it as root.")
@click.option("--api-key-file", metavar="FILE", help="Holds admin keys, one a line; systemd reads it as root.")
@click.option("--print", "print_only", is_flag=True, help="Show the files and commands, and do nothing.")
@click.option("--no-start", is_flag=True, help="Write and enable it; it starts with the next boot.")
@click.argument("arguments", metavar="[-- OPTIONS OF LR SERVE]", nargs=-1, type=click.UNPROCESSED)
def install(
    user: bool,
    models_dir: str | None,
    models_preset: str | None,
    host: str | None,
    port: int | None,
    engine: str | None,
    hf_token_file: str | None,
    api_key_file: str | None,
    print_only: bool,
    no_start: bool,
    arguments: tuple[str, ...],
) -> None:
    """Write the units of the service, enable and start it.

    The system's service runs as the user llamarouter, sees nothing of the homes but what it is told to read, keeps its
    one cache in /var/cache/llamarouter (`lr pull` of root and of the group llamarouter fills that one), and its keys in
    /var/lib/llamarouter.

    \b
      sudo lr service install --models-dir /srv/models
      sudo lr service install --host 0.0.0.0 --api-key-file /etc/llamarouter/keys
      lr service install --user -- -ngl 99

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    from llamarouter.host.service_files import plan_installation, write

    given = {
        "--models-dir": _absolute(models_dir),
        "--models-preset": _absolute(models_preset),
        "--host": host,
        "--port": None if port is None else str(port),
        "--engine": engine,
    }
    argv = [*(word for name, value in given.items() if value is not None for word in (name, value)), *arguments]
    files = {"hf-token": _absolute(hf_token_file), "api-keys": _absolute(api_key_file)}
    wanted = _service_of(argv, tuple((name, path) for name, path in files.items() if path), user=user)
    plan = plan_installation(wanted, os.environ, start=not no_start)
    if print_only:
        _show(plan)
        return
    write(plan)
    for path in plan.files:
        say(f"wrote {path}")
    _carry_out(plan)
    _say_what_now(wanted, started=not no_start)


@service.command()
@_user
def uninstall(user: bool) -> None:
    """Stop the service, and delete what `lr service install` has written.

    Keys, models and the user llamarouter stay.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    from llamarouter.host.service_files import delete, plan_removal

    plan = plan_removal(os.environ, user=user)
    if not plan.files:
        say("there is no service here", err=True)
        return
    _carry_out(plan, go_on=True)
    delete(plan)
    for path in plan.files:
        say(f"deleted {path}")


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(path))


def _service_of(argv: list[str], credentials: tuple[tuple[str, str], ...], *, user: bool) -> Service:
    """What the units are made of; the router's own rules say what is wrong with its options."""
    from llamarouter.core.unit import Service
    from llamarouter.host.service_files import folders_of_lr, gpu_groups, python_of_lr

    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_NAMES)}
    settings, command = _settings_of(argv, environ)
    _check_secrets(argv, settings)
    engine_at = next((word for word in command if os.path.isabs(word)), None)
    if engine_at is not None and settings.engine is None:
        argv = [*argv, "--engine", engine_at]
    named = [settings.models_dir, settings.preset, engine_at, _one_file(settings), settings.ui_path]
    named += dict.fromkeys((*settings.secret_files, *(settings.certificate or ())))
    seen = [*folders_of_lr(), *(os.path.abspath(path) for path in named if path)]
    for path in named:
        if path and not os.path.isabs(path):
            raise _wrong(f"{path}: a service is in no folder of yours, give the whole path")
        if path and not os.path.exists(path):
            raise _wrong(f"{path}: there is no such file or folder")
    _warn_of_unreadable([path for path in named if path], user=user)
    _warn_of_unwritable(settings.log.file, user=user)
    for name, path in credentials:
        if not os.path.isfile(path):
            raise _wrong(f"{path}: there is no such file (for the credential {name})")
    return Service(
        command=(*python_of_lr(), "serve", *argv),
        listen=_listen_of(settings),
        seen=tuple(dict.fromkeys(seen)),
        groups=gpu_groups(),
        credentials=credentials,
        user=user,
        network=not settings.offline or not all(map(_is_loopback, settings.host)),
        drain=settings.drain_timeout,
        stop=settings.stop_timeout,
    )


def _check_secrets(argv: list[str], settings: Settings) -> None:
    """Raise `UsageError` where one would stand in the unit, which everybody may read, and in the list of processes."""
    secrets = {*settings.api_keys, settings.hf_token}
    for word in argv:
        if not secrets.isdisjoint((*word.split(","), *word.partition("=")[2].split(","))):
            raise _wrong(
                "everybody may read a unit: keys and tokens come by --api-key-file FILE and --hf-token-file FILE"
                " before the --, or by `lr key add`"
            )


def _settings_of(argv: list[str], environ: Mapping[str, str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings of `lr serve` with these arguments, and the engine's command. Raises `UsageError`."""
    from pathlib import Path

    from llamarouter.core.settings import engine_of, parse_settings
    from llamarouter.host.engine import EngineKind
    from llamarouter.host.inventory import engine_for

    engine = engine_for(engine_of(argv, environ), environ)
    settings = parse_settings(
        argv, environ, engine.table, lambda path: Path(path).read_text(encoding="utf-8"), keys_kept=True
    )
    # The embedded one belongs to the interpreter: the service finds it by itself.
    return settings, engine.command if engine.kind is EngineKind.COMPILED else ()


def _one_file(settings: Settings) -> str | None:
    return None if settings.one_model is None else dict(settings.one_model.keys).get("model")


def _listen_of(settings: Settings) -> tuple[str, ...]:
    """The addresses as a socket unit has them: numbers, because it asks nobody for names."""
    import ipaddress

    if settings.port == 0:
        raise _wrong("--port 0: a service has one port for ever; choose one")
    found = []
    for host in settings.host:
        if host.endswith(".sock"):
            raise _wrong(f"--host {host}: a service listens on IP addresses (127.0.0.1 for a proxy on this machine)")
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise _wrong(
                f"--host {host}: a service wants the IP address itself, such as 127.0.0.1 or 0.0.0.0"
            ) from None
        found.append(f"{f'[{address}]' if address.version == 6 else address}:{settings.port}")
    return tuple(found)


def _is_loopback(host: str) -> bool:
    from llamarouter.core.hosts import is_loopback

    return is_loopback(host)


def _warn_of_unreadable(paths: list[str], *, user: bool) -> None:
    from llamarouter.host.service_files import unreadable

    for path in paths if not user else ():
        if (why := unreadable(path)) is not None:
            _warn(f"{path}: the user llamarouter cannot read it: {why}")


def _warn_of_unwritable(log: str | None, *, user: bool) -> None:
    from llamarouter.core.service_name import NAME

    if log is not None and not user and not os.path.abspath(log).startswith(f"/var/lib/{NAME}/"):
        _warn(f"--log-file {log}: the service writes in /var/lib/{NAME}; without it the log is in the journal")


def _wrong(message: str) -> Exception:
    from llamarouter.core.errors import UsageError

    return UsageError(message)


def _warn(text: str) -> None:
    say(styled(one_line(text), err=True, fg="yellow"), err=True)


def _show(plan: ServicePlan) -> None:
    for path, text in plan.files.items():
        say(styled(f"=== {path}", bold=True))
        say(text)
    say(styled("=== then", bold=True))
    for command in plan.commands:
        say(" ".join(command))


def _carry_out(plan: ServicePlan, *, go_on: bool = False) -> None:
    from llamarouter.host.service_files import run

    for command in plan.commands:
        why = run(command)
        if why is None:
            say(f"ran {' '.join(command)}")
        elif go_on:
            _warn(f"{' '.join(command)}: {why}")
        else:
            raise CommandFailed(f"{' '.join(command)}: {why}; the files are written, go on from there by hand")


def _say_what_now(wanted: Service, *, started: bool) -> None:
    from llamarouter.core.service_name import NAME

    of_user = " --user" if wanted.user else ""
    if not started:
        say(f"it starts with the next boot, or: systemctl{of_user} start {NAME}", err=True)
    say(f"see what it does: systemctl{of_user} status {NAME}; journalctl{of_user} -u {NAME} -f", err=True)
    if wanted.user:
        say("it ends with your last session, unless: loginctl enable-linger", err=True)
        return
    say(f"who may use `lr` on it without root: usermod -aG {NAME} USER", err=True)
    has_key = any(name == "api-keys" for name, _ in wanted.credentials) or "--allow-open" in wanted.command
    if not all(_is_loopback(each.rpartition(":")[0].strip("[]")) for each in wanted.listen) and not has_key:
        _warn(f"it starts when there is a key: LR_STATE_DIR=/var/lib/{NAME} lr key add NAME, as root")
