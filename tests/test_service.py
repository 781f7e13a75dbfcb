"""`lr service`: what its units say, what systemd itself says of them, and one line for what cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamarouter.core.errors import UsageError
from llamarouter.core.unit import ADMIN_SOCKET, ADMIN_UNIT, SERVICE, SOCKET, Service, units_of
from tests.node_kit import add_model, engine_with

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Service(
    command=(sys.executable, "-m", "llamarouter", "serve", "--models-dir", "/home/ann/my models", "-c", "$9 100%"),
    listen=("127.0.0.1:8080",),
    seen=("/usr", "/home/ann/my models", "/srv/models"),
    groups=("video",),
    credentials=(("hf-token", "/etc/llamarouter/hf-token"), ("api-keys", "/etc/llamarouter/keys")),
)
SERVICES = [
    pytest.param(PLAIN, id="system"),
    pytest.param(replace(PLAIN, network=False, groups=(), credentials=(), seen=()), id="offline"),
    pytest.param(replace(PLAIN, listen=("0.0.0.0:80", "[::]:80")), id="two addresses"),
    pytest.param(replace(PLAIN, user=True), id="user"),
]


def said(service: Service, directive: str, unit: str = SERVICE) -> list[str]:
    """The values of a directive, in order."""
    return re.findall(rf"^{directive}=(.*)$", units_of(service)[unit], re.MULTILINE)


@pytest.mark.systemd
@pytest.mark.parametrize("service", SERVICES)
def test_systemd_has_no_complaint(service: Service, tmp_path: Path) -> None:
    for name, text in units_of(service).items():
        (tmp_path / name).write_text(text)
    whose = ["--user"] if service.user else []
    done = subprocess.run(
        ["systemd-analyze", *whose, "verify", *(str(tmp_path / name) for name in units_of(service))],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.systemd
@pytest.mark.parametrize(("service", "most"), [(PLAIN, 2.0), (replace(PLAIN, network=False), 1.5)])
def test_its_exposure_is_small(service: Service, most: float, tmp_path: Path) -> None:
    (tmp_path / SERVICE).write_text(units_of(service)[SERVICE])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / SERVICE)],
        capture_output=True,
        text=True,
        check=False,
    )
    level = re.search(r"Overall exposure level for llamarouter.service: ([0-9.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= most


def test_words_reach_the_router_as_they_were_written() -> None:
    (line,) = said(PLAIN, "ExecStart")
    assert line.endswith(' serve --models-dir "/home/ann/my models" -c "$$9 100%%"')


def test_what_it_reads_is_seen_in_spite_of_the_sandbox_and_no_more() -> None:
    assert said(PLAIN, "ProtectHome") == ["tmpfs"]
    assert said(PLAIN, "BindReadOnlyPaths") == ['"/home/ann/my models"']
    nested = replace(PLAIN, seen=("/home/ann", "/home/ann/models", "/home/annie/x", "/tmp/m", "/tmpfiles"))
    assert said(nested, "BindReadOnlyPaths") == ["/home/ann", "/home/annie/x", "/tmp/m"]


def test_answers_may_end_before_anything_is_killed() -> None:
    assert said(replace(PLAIN, drain=600, stop=30), "TimeoutStopSec") == ["650"]
    assert said(PLAIN, "KillMode") == ["mixed"]
    assert said(PLAIN, "OOMPolicy") == ["continue"]


def test_secrets_are_credentials() -> None:
    assert said(PLAIN, "LoadCredential") == ["hf-token:/etc/llamarouter/hf-token", "api-keys:/etc/llamarouter/keys"]
    environment = said(PLAIN, "Environment")
    assert "HF_TOKEN_PATH=%d/hf-token" in environment
    assert "LLAMA_ARG_API_KEY_FILE=%d/api-keys" in environment


def test_the_group_reaches_the_socket_of_administration_and_nobody_else_does() -> None:
    assert said(PLAIN, "ListenStream", ADMIN_UNIT) == [ADMIN_SOCKET]
    assert said(PLAIN, "SocketMode", ADMIN_UNIT) == ["0660"]
    assert said(PLAIN, "RuntimeDirectoryMode") == ["0700"]
    assert ADMIN_UNIT not in units_of(replace(PLAIN, user=True))


def test_only_this_machine_is_reached_where_nothing_is_fetched() -> None:
    assert said(PLAIN, "IPAddressDeny") == []
    assert said(replace(PLAIN, network=False), "IPAddressDeny") == ["any"]


@pytest.mark.parametrize("path", ["/home/a:b", "/home/a\nUser=root"])
def test_a_path_that_no_unit_can_hold_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="a unit of systemd"):
        units_of(replace(PLAIN, seen=(path,)))


def test_two_addresses_share_a_port_by_each_taking_its_own_kind() -> None:
    both = replace(PLAIN, listen=("0.0.0.0:80", "[::]:80"))
    assert said(both, "ListenStream", SOCKET) == ["0.0.0.0:80", "[::]:80"]
    assert said(both, "BindIPv6Only", SOCKET) == ["ipv6-only"]


def lr(tmp_path: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `lr service ...` as somebody whose engine is the fake one."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}
    engine = ["--engine", str(engine_with(tmp_path))] if words[0] == "install" else []
    return subprocess.run(
        [sys.executable, "-m", "llamarouter", "service", words[0], *engine, *map(str, words[1:])],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_print_shows_all_and_does_nothing(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "a")
    arguments = ("--models-dir", tmp_path / "models", "--port", 8123, "--print", "--", "-c", "100")
    done = lr(tmp_path, "install", "--user", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"=== {tmp_path}/.config/systemd/user/llamarouter.service" in done.stdout
    assert f"--models-dir {tmp_path}/models --port 8123" in done.stdout
    assert "ListenStream=127.0.0.1:8123" in done.stdout
    assert "systemctl --user enable llamarouter.service" in done.stdout
    assert not (tmp_path / ".config").exists()
    done = lr(tmp_path, "install", *arguments)
    assert done.returncode == 0
    assert f"BindReadOnlyPaths={tmp_path}/models" in done.stdout or not str(tmp_path).startswith("/tmp")


def test_it_is_written_enabled_and_taken_away(tmp_path: Path) -> None:
    # A `systemctl` that keeps what it was asked for.
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (tools / "systemctl").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    done = lr(tmp_path, "install", "--user", PATH=path)
    assert done.returncode == 0, done.stderr
    units = tmp_path / ".config/systemd/user"
    assert sorted(each.name for each in units.iterdir()) == [SERVICE, SOCKET]
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable llamarouter.service",
        "--user stop llamarouter.service",
        "--user restart llamarouter.socket",
        "--user start llamarouter.service",
    ]
    assert lr(tmp_path, "uninstall", "--user", PATH=path).returncode == 0
    assert list(units.iterdir()) == []
    assert (tmp_path / "asked").read_text().splitlines()[5] == (
        "--user disable --now llamarouter.service llamarouter.socket"
    )
    assert "there is no service here" in lr(tmp_path, "uninstall", "--user", PATH=path).stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--host", "name.invalid"), "--host name.invalid: a service wants the IP address itself"),
        (("--models-dir", "/nowhere"), "/nowhere: there is no such file or folder"),
        (("--hf-token-file", "/nowhere"), "/nowhere: there is no such file (for the credential hf-token)"),
        (("--", "--models-dir", "tests"), "tests: a service is in no folder of yours, give the whole path"),
        (("--", "--port", "0"), "--port 0: a service has one port for ever"),
        (("--", "--frobnicate"), "unknown option --frobnicate"),
        (("--host", "/run/x.sock"), "--host /run/x.sock: a service listens on IP addresses"),
        (("--", "--api-key", "sk-secret"), "everybody may read a unit: "),
        (("--", "--api-key=other,sk-secret="), "everybody may read a unit: "),
        (("--", "--hf-token", "sk-secret"), "everybody may read a unit: "),
        (("--", "--path", "/nowhere"), "/nowhere: there is no such"),
        (("--", "--ssl-key-file", "/nowhere", "--ssl-cert-file", "/nowhere"), "/nowhere: there is no such"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, words: tuple[str, ...], line: str) -> None:
    done = lr(tmp_path, "install", "--print", *words)
    assert done.returncode == 2
    (only,) = done.stderr.splitlines()
    assert line in only
    assert "sk-secret" not in only


def test_what_its_options_name_is_seen_and_what_it_cannot_read_or_write_is_said(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("sk-secret\n")
    path.chmod(0o600)
    options = ("--ssl-key-file", path, "--ssl-cert-file", path, "--api-key-file", path, "--log-file", "/var/log/x")
    done = lr(tmp_path, "install", "--print", "--", *options)
    assert done.returncode == 0
    assert f"BindReadOnlyPaths={path}" in done.stdout or not str(tmp_path).startswith("/tmp")
    unreadable, unwritable = done.stderr.splitlines()
    assert unreadable.startswith(f"{path}: the user llamarouter cannot read it")
    assert unwritable.startswith("--log-file /var/log/x: the service writes in /var/lib/llamarouter")
    assert "sk-secret" not in done.stdout + done.stderr
    done = lr(tmp_path, "install", "--print", "--", "--log-file", "/var/lib/llamarouter/log")
    assert (done.returncode, done.stderr) == (0, "")
