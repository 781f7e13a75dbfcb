"""Which engine runs, and why: the order of places, named ones, broken ones, and none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.host.engine import Engine, EngineKind, backends_of, checkout_of, devices_of, named, resolve_engine

ROOT = Path(__file__).parent.parent
HELP = """\
-m, --model FNAME                       model path
--host HOST                             address, or a UNIX socket path
                                        ending in .sock
--models-dir PATH                       models
"""
OLD_HELP = """\
-m, --model FNAME                       model path
--host HOST                             address
"""


class Machine:
    """Folders in which engines are put or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": f"{folder}/path:/usr/bin:/bin", "LR_STATE_DIR": f"{folder}/state"}
        self.checkout = folder / "checkout" / "bin" / "llama-server"
        self.data = folder / "data" / "bin" / "llama-server"
        self.path = folder / "path" / "llama-server"

    def put(self, at: Path, *, help_text: str = HELP, body: str = "", mode: int = 0o755) -> Path:
        at.parent.mkdir(parents=True, exist_ok=True)
        answers = f"--help) cat <<'E'\n{help_text}E\n;; --version) echo 'version: 7 ({at.name})' >&2 ;;"
        devices = "--list-devices) printf 'Available devices:\\n  CUDA0: A (1 MiB)\\n  CUDA1: B\\n  Vulkan0: C\\n' ;;"
        at.write_text(f'#!/bin/sh\n{body}\ncase "$1" in {answers} {devices} esac\n')
        at.chmod(mode)
        return at

    def resolve(self, *wanted: str, **environ: str) -> Engine:
        return resolve_engine(
            wanted or None,
            self.environ | environ,
            checkout=str(self.folder / "checkout"),
            data_dir=str(self.folder / "data"),
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_order_of_places(machine: Machine) -> None:
    assert machine.resolve().kind is EngineKind.EMBEDDED
    for place, words in (
        (machine.path, "PATH"),
        (machine.data, "data folder"),
        (machine.checkout, "checkout"),
    ):
        machine.put(place)
        engine = machine.resolve()
        assert engine.command == (str(place),)
        assert engine.kind is EngineKind.COMPILED
        assert words in engine.origin
        assert engine.build == "7 (llama-server)"


def test_a_named_one_wins_over_every_place(machine: Machine) -> None:
    machine.put(machine.checkout)
    other, third = machine.put(machine.folder / "other"), machine.put(machine.folder / "third")
    by_environment = machine.resolve(LR_ENGINE=str(other))
    assert by_environment.command == (str(other),)
    assert by_environment.origin == "named by LR_ENGINE"
    by_flag = machine.resolve(str(third), LR_ENGINE=str(other))
    assert by_flag.command == (str(third),)
    assert by_flag.origin == "named by --engine"
    assert machine.resolve(str(other), LR_ENGINE=str(other)).origin == "named by LR_ENGINE"


def test_the_embedded_one_can_be_named(machine: Machine) -> None:
    machine.put(machine.checkout)
    engine = machine.resolve("embedded")
    assert engine.command == (sys.executable, "-m", "llamarouter.host.embedded")
    assert engine.unix_socket
    assert engine.state_lines
    assert engine.table.find("-ngl") is not None


def test_a_prefix_is_kept(machine: Machine) -> None:
    machine.put(machine.path)
    engine = machine.resolve(LR_ENGINE="nice -n '3' llama-server")
    assert engine.command[1:] == ("-n", "3", str(machine.path))
    assert engine.command[0].endswith("/nice")
    assert Path(engine.command[0]).is_absolute()


def test_what_an_engine_can_do_is_read_off_its_help(machine: Machine) -> None:
    new, old = machine.put(machine.folder / "new"), machine.put(machine.folder / "old", help_text=OLD_HELP)
    assert machine.resolve(str(new)).unix_socket
    assert machine.resolve(str(new)).state_lines
    assert not machine.resolve(str(old)).unix_socket
    assert not machine.resolve(str(old)).state_lines


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (("/nowhere/llama-server",), "--engine: no such program: /nowhere/llama-server"),
        (("no-such-prefix", "sh"), "--engine: no such program: no-such-prefix"),
        (("cat",), "--engine: not a llama-server"),
    ],
)
def test_a_named_one_that_is_none_is_one_line(machine: Machine, wanted: tuple[str, ...], said: str) -> None:
    machine.put(machine.checkout)
    with pytest.raises(UsageError, match=said) as error:
        machine.resolve(*wanted)
    assert "\n" not in str(error.value)


def test_a_named_one_must_be_executable(machine: Machine) -> None:
    with pytest.raises(UsageError, match="--engine: not executable"):
        machine.resolve(str(machine.put(machine.checkout, mode=0o644)))


def test_quotes_that_do_not_close_are_one_line(machine: Machine) -> None:
    with pytest.raises(UsageError, match="LR_ENGINE: No closing quotation"):
        machine.resolve(LR_ENGINE="numactl 'llama-server")


def test_an_empty_name_is_no_name(machine: Machine) -> None:
    machine.put(machine.checkout)
    assert machine.resolve(LR_ENGINE=" ").command == (str(machine.checkout),)


def test_one_that_does_not_run_is_passed_over_and_said(machine: Machine) -> None:
    machine.put(machine.checkout, body="echo 'libcudart.so.12: not found' >&2; exit 127")
    machine.put(machine.path)
    engine = machine.resolve()
    assert engine.command == (str(machine.path),)
    assert "libcudart.so.12" in engine.origin


def test_none_is_one_message_with_the_ways(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as if the wheel were not installed
    machine.put(machine.data, body="exit 9")
    with pytest.raises(UsageError) as error:
        machine.resolve()
    for way in ("lr engine build", "PATH", "--engine", "llamarouter[embedded]", "exit code 9"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="xllamacpp is not installed"):
        machine.resolve("embedded")


def test_devices_and_backends(machine: Machine) -> None:
    engine = machine.resolve(str(machine.put(machine.checkout)))
    devices = devices_of(engine, machine.environ)
    assert devices == ["CUDA0: A (1 MiB)", "CUDA1: B", "Vulkan0: C"]
    assert backends_of(devices) == ["CUDA", "Vulkan", "CPU"]


def test_the_embedded_one_has_no_devices(machine: Machine) -> None:
    assert devices_of(machine.resolve("embedded"), machine.environ) == []


def test_this_is_a_checkout() -> None:
    assert checkout_of() == str(ROOT)


@pytest.mark.compiled
def test_the_compiled_engine_of_this_checkout(machine: Machine) -> None:
    engine = machine.resolve(str(ROOT / "bin" / "llama-server"))
    assert engine.unix_socket
    assert engine.state_lines
    assert "version" not in engine.build
    assert len(engine.table.options) > 250


def test_what_makes_another_engine_when_it_changes(tmp_path: Path) -> None:
    for name in ("build/llama-server", "build/libllama.so.0", "build/notes.txt", "prefix"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "link").symlink_to("build/llama-server")
    environ = {"PATH": str(tmp_path)}
    library = str(tmp_path / "build" / "libllama.so.0")
    for binary in (tmp_path / "build" / "llama-server", tmp_path / "link"):
        assert named((str(binary),), environ, "--engine").files == (str(binary), library)
        candidate = named(("prefix", "-x", str(binary)), environ, "--engine")
        assert candidate.files == (str(binary), library, str(tmp_path / "prefix"))
