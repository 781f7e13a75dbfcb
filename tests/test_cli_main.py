"""How `lr` ends: exit codes, one line on stderr, nothing heavy imported, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from llamarouter.cli.commands import COMMANDS, lr
from llamarouter.cli.main import main
from llamarouter.host.runtime_folder import RuntimeFolder
from tests.router_double import Reply, error, routing

HEAVY = (
    *("huggingface_hub", "rich", "starlette", "uvicorn", "httpx", "anyio", "msgspec", "asyncio", "numpy"),
    *("dataclasses", "tempfile"),
)


def lr_process(*arguments: str, code: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "llamarouter", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LR_", "LLAMA_", "XDG_"))}
    return subprocess.run(command, env={**clean, **environ}, capture_output=True, text=True, timeout=30, check=False)


def heavy_modules(*arguments: str, **environ: str) -> set[str]:
    """Which of the heavy modules `lr ARGUMENTS` has imported when it ends, in a process of its own."""
    code = (
        f"import sys; from llamarouter.cli.main import main; status = main({list(arguments)!r});"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    done = lr_process(code=code, **environ)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()[1:])


def test_the_help_imports_nothing_heavy_and_not_even_the_commands() -> None:
    code = (
        "import sys; from llamarouter.cli.main import main; main(['--help']);"
        "print(*sorted(name for name in sys.modules if name.startswith('llamarouter.')), file=sys.stderr)"
    )
    done = lr_process(code=code)
    assert heavy_modules("--help") == set()
    assert set(done.stderr.split()) == {
        "llamarouter.cli",
        "llamarouter.cli.commands",
        "llamarouter.cli.failures",
        "llamarouter.cli.main",
    }


@pytest.mark.parametrize("command", ["ls", "ps"])
def test_ls_and_ps_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    environ = {"LR_RUNTIME_DIR": str(tmp_path)}
    with routing({}) as router:
        assert heavy_modules(command, LR_URL=router.url) == set()
    with RuntimeFolder.open(environ, 8080) as folder, routing({}, unix=folder.admin_socket):
        assert heavy_modules(command, **environ) <= {"msgspec"}  # 6 ms, with the errors of the core


def test_ls_without_a_router_imports_nothing_heavy(tmp_path: Path) -> None:
    environ = {name: str(tmp_path / name) for name in ("HOME", "LR_RUNTIME_DIR", "LR_STATE_DIR")}
    (tmp_path / "models").mkdir()
    # The catalogue is put together here, and the headers that were read are kept.
    may = {"msgspec", "dataclasses", "tempfile"}
    assert heavy_modules("ls", "--models-dir", str(tmp_path / "models"), **environ) <= may


@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_of_the_help_is_the_commands_own(name: str) -> None:
    listed = COMMANDS[name]
    command = lr.get_command(click.Context(lr), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == listed.summary


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("serve", "engine", "pull", "rm")])
def test_every_help_has_an_example_and_the_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"\n    lr {name}" in shown
    assert "Exit codes: 0 " in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lss"], "lr: there is no command 'lss'; did you mean ls? (see `lr --help`)"),
        (["ls", "--jsn"], "lr: no such option '--jsn'. Did you mean '--json'? (see `lr ls --help`)"),
        (["load"], "lr: missing argument 'MODEL...' (see `lr load --help`)"),
        (
            ["ps", "--port", "x"],
            "lr: invalid value for '--port': 'x' is not a valid integer range (see `lr ps --help`)",
        ),
        (["ps", "--url", "ftp://x"], "lr: 'ftp://x' is not an address; right would be http://127.0.0.1:8080"),
        (["ps", "--url", "http://u:secret@x"], "lr: a key does not belong into the address: set LR_API_KEY"),
        (["unload"], "lr: name the models, or say --all (see `lr unload --help`)"),
        (
            ["ps", "--url", "http://x", "--port", "8080"],
            "lr: --url and --port exclude each other: --port chooses among the routers of this machine",
        ),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", line + "\n")


def test_a_router_that_refuses_is_exit_code_1_and_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = error(503, "draining", "the router is\nstopping \x1b[31m")
    with routing({"GET /models": Reply(refusal, 503)}) as router:
        assert main(["ps", "--url", router.url]) == 1
    assert capsys.readouterr() == ("", "lr: the router is stopping ?[31m\n")


def test_a_router_that_is_not_there_is_exit_code_1() -> None:
    done = lr_process("ps", "--url", "http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lr: cannot reach http://127.0.0.1:1: connection refused\n"


def test_no_router_at_all_says_how_to_start_one(tmp_path: Path) -> None:
    done = lr_process("ps", LR_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "lr: no router is running here; start one with `lr serve` (or name one elsewhere with --url)\n"
    )


UNFORESEEN = """
import sys
import llamarouter.cli.ls
from llamarouter.cli.main import main
def broken(*_):
    raise KeyError("surprise")
llamarouter.cli.ls.find_server = broken
sys.exit(main(["ls"]))
"""


def test_what_nobody_foresaw_is_one_line_and_no_traceback() -> None:
    done = lr_process(code=UNFORESEEN)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "lr: internal error, KeyError: 'surprise'; run it again with LR_DEBUG=1 and report what it prints\n"
    )


def test_the_traceback_is_there_for_those_who_ask() -> None:
    done = lr_process(code=UNFORESEEN, LR_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_windows_is_refused_in_one_line_before_anything_is_imported() -> None:
    done = lr_process(
        code="import sys; sys.platform = 'win32'; from llamarouter.cli.main import main; sys.exit(main())"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lr: llamarouter runs on Linux and macOS; on Windows, use it inside WSL 2\n"


def test_a_reader_that_leaves_is_not_an_error() -> None:
    with routing({"GET /lr/logs": Reply(pieces=["a line\n" * 100] * 200)}) as router:
        command = f"{sys.executable} -m llamarouter logs m --url {router.url} | head -1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("a line\n0\n", "")


def test_a_full_disk_is_one_line() -> None:
    with routing({}) as router, open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "llamarouter", "ls", "--url", router.url]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, "lr: No space left on device\n")


def test_closed_standard_streams_end_no_command() -> None:
    with routing({}) as router:
        command = f"{sys.executable} -m llamarouter ls --url {router.url} <&- >&- 2>&-"
        assert subprocess.run(["bash", "-c", command], timeout=30, check=False).returncode == 0
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m llamarouter serve --no-such-option <&- >&-"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr.startswith("lr: ")) == (2, True)


def test_no_locale_ends_a_command() -> None:
    models = {"data": [{"id": "snow\u2603", "status": {"value": "unloaded"}}]}
    with routing({"GET /models": Reply(models)}) as router:
        done = lr_process("ls", "--url", router.url, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("snow\\u2603 ")


def test_a_name_that_is_no_text_is_only_unknown() -> None:
    refusal = Reply(error(404, "model_not_found", "model not found"), 404)
    with routing({"GET /lr/logs": refusal}) as router:
        done = lr_process("logs", "\udcff", "--url", router.url)
    assert done.returncode == 1
    assert done.stderr.startswith("lr: there is no model '\\udcff'; ")


def test_serve_gets_its_arguments_whole() -> None:
    code = """
import sys, types
module = types.ModuleType("llamarouter.cli.serve")
module.serve = lambda argv: print(argv, "click" in sys.modules) or 7
sys.modules["llamarouter.cli.serve"] = module
from llamarouter.cli.main import main
sys.exit(main(["serve", "-hf", "a/b", "-lv", "3", "--help", "-ngl", "-1"]))
"""
    done = lr_process(code=code)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "['-hf', 'a/b', '-lv', '3', '--help', '-ngl', '-1'] False\n"


def test_the_shell_completes_commands_and_models() -> None:
    with routing({}) as router:
        environ = {"_LR_COMPLETE": "bash_complete", "LR_URL": router.url}
        commands = lr_process(COMP_LINE="lr un", **environ)
        models = lr_process(COMP_LINE="lr load s", **environ)
    assert commands.stdout == "plain,unload\nplain,unpin\n"
    assert models.stdout == "plain,small\n"
