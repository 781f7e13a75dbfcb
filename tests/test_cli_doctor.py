"""`lr doctor` on a good box and on broken ones, each made by the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from llamarouter.cli.examination import examine
from llamarouter.cli.main import main
from llamarouter.core.findings import Finding, Severity
from llamarouter.host.checks.front import check_front, public_way
from llamarouter.host.checks.keys import check_secret_files
from llamarouter.host.checks.unit import check_unit, unit_of
from llamarouter.host.key_file import KEYS
from tests.key_kit import give
from tests.node_kit import add_model, engine_with
from tests.router_double import Reply, routing

Captured = pytest.CaptureFixture[str]
Found = list[dict[str, str]]
Doctor = Callable[..., tuple[int, Found]]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an engine, two models and private folders."""
    for name in list(os.environ):
        if name.startswith(("LR_", "LLAMA_", "HF_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("LR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LR_ENGINE", str(engine_with(tmp_path)))
    for name in ("run", "state"):
        (tmp_path / name).mkdir(mode=0o700)
    add_model(tmp_path / "models", "a")
    with (add_model(tmp_path / "models", "b")).open("ab") as file:
        file.write(b"other bytes")
    return tmp_path


@pytest.fixture
def doctor(box: Path, capsys: Captured) -> Doctor:
    """Runs it with these flags of `lr serve`, on a free port: its exit code, and what it says."""

    def run(*flags: str, options: tuple[str, ...] = ()) -> tuple[int, Found]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["--models-dir", str(box / "models"), "--port", str(port), *flags]
        status = main(["doctor", "--json", *options, "--", *words])
        shown: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert shown["exit_code"] == status
        return status, shown["findings"]

    return run


def bad(findings: Found) -> Found:
    return [each for each in findings if each["severity"] in ("warning", "error") and each["area"] != "limits"]


def the(findings: Found, words: str) -> dict[str, str]:
    (found,) = [each for each in findings if words in each["what"]]
    return found


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(each): (each.lstat().st_mode, each.lstat().st_mtime_ns) for each in folder.rglob("*")}


def test_a_good_box_has_nothing_to_mend_and_is_not_touched(box: Path, doctor: Doctor) -> None:
    before = everything(box)
    _, findings = doctor()
    assert bad(findings) == []
    assert the(findings, "can be started")["what"].startswith("2 can be started")
    assert {"engine", "devices", "folders", "keys", "models", "ports", "limits"} <= {each["area"] for each in findings}
    assert everything(box) == before


def test_folders_that_are_open_or_no_folders(box: Path, doctor: Doctor) -> None:
    (box / "state").chmod(0o755)
    assert the(doctor()[1], "state folder is open to other users (mode 0755)")["severity"] == "warning"
    (box / "state").chmod(0o775)
    (box / "run").rmdir()
    (box / "run").write_text("")
    status, findings = doctor()
    assert status == 2
    found = the(findings, "state folder is open to other users (mode 0775)")
    assert found["severity"] == "error"
    assert found["fix"] == f"chmod 700 {box / 'state'}"
    assert the(findings, "runtime folder is no folder")["where"] == str(box / "run")


def test_broken_half_and_double_models(box: Path, doctor: Doctor) -> None:
    models = box / "models"
    (models / "torn.gguf").write_bytes((models / "a.gguf").read_bytes()[:100])
    shutil.copy(models / "a.gguf", models / "twin.gguf")
    partial = models / "c.gguf.downloadInProgress"
    partial.write_bytes(b"x" * 1000)
    os.utime(partial, (0, 0))
    status, findings = doctor()
    assert status == 1
    assert the(findings, "an unfinished download")["where"] == str(partial)
    assert the(findings, "a, twin are the same file 2 times")["severity"] == "note"
    assert [each["severity"] for each in findings if each["where"].endswith("torn.gguf")] == ["warning"]


def test_one_file_under_two_names_is_not_too_much(box: Path, doctor: Doctor) -> None:
    (box / "models" / "twin.gguf").hardlink_to(box / "models" / "a.gguf")
    _, findings = doctor()
    the(findings, " can be started")
    assert not [each for each in findings if "same file" in each["what"]]


def test_a_preset_with_a_wrong_key_names_its_line(box: Path, doctor: Doctor) -> None:
    preset = box / "p.ini"
    preset.write_text(f"[m]\nmodel = {box}/models/a.gguf\nctx-sise = 5\n")
    status, findings = doctor("--models-preset", str(preset))
    assert status == 2
    found = the(findings, "ctx-sise")
    assert (found["where"], found["severity"]) == (f"{preset}:3", "error")


def test_a_wrong_flag_and_a_folder_that_is_not_there(doctor: Doctor) -> None:
    for flags, words in ((("--ctx-sise", "5"), "--ctx-size"), (("--models-dir", "/nowhere"), "/nowhere")):
        status, findings = doctor(*flags)
        assert status == 2
        assert words in next(each["what"] for each in findings if each["area"] == "settings")


def test_no_engine(box: Path, doctor: Doctor) -> None:
    status, findings = doctor("--engine", str(box / "none"))
    assert status == 2
    assert "no such program" in next(each["what"] for each in findings if each["area"] == "engine")


def test_a_port_that_is_taken_says_by_whom(doctor: Doctor) -> None:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        status, findings = doctor("--port", str(taker.getsockname()[1]))
    assert status == 2
    assert f"in use by process {os.getpid()}" in the(findings, "in use")["what"]


def test_keys_that_others_may_read_and_keys_that_are_over(box: Path, doctor: Doctor) -> None:
    now = datetime.now(UTC)
    give(box / "state", "old", expires=now - timedelta(days=1))
    assert the(doctor()[1], "no other is left")["severity"] == "error"
    give(box / "state", "soon", expires=now + timedelta(days=1))
    status, findings = doctor()
    assert the(findings, "expired, and opening nothing: old")["fix"].startswith("`lr key rm old`")
    assert (status, the(findings, "within 7 days: soon")["severity"]) == (1, "note")
    (box / "state" / KEYS).chmod(0o644)
    status, findings = doctor()
    assert (status, the(findings, "others may read")["fix"]) == (2, f"chmod 600 {box / 'state' / KEYS}")


@pytest.mark.parametrize("option", ["--api-key-file", "--ssl-key-file"])
def test_keys_of_the_operator_that_everybody_may_read(box: Path, doctor: Doctor, option: str) -> None:
    path = box / "secret"
    path.write_text("sk-of-the-operator\n")
    flags = [option, str(path), *(("--ssl-cert-file", str(path)) if option == "--ssl-key-file" else ())]
    for mode, wrong in ((0o644, True), (0o602, True), (0o640, False), (0o600, False)):
        path.chmod(mode)
        status, findings = doctor(*flags)
        said = [each for each in findings if each["where"] == str(path)]
        assert [(each["severity"], f"(mode {mode:o})" in each["what"]) for each in said] == [("error", True)] * wrong
        assert (status == 2) == wrong
        assert "sk-of-the-operator" not in str(findings)
    path.unlink()
    assert check_secret_files([str(path)]) == []


def test_people_read_the_worst_first_with_its_fix(box: Path, doctor: Doctor, capsys: Captured) -> None:
    (box / "state").chmod(0o770)
    status = main(["doctor", "--", "--models-dir", str(box / "models"), "--port", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert status == 2
    assert lines[0].startswith("error   folders  the state folder is open to other users")
    assert lines[2].strip() == f"fix: chmod 700 {box / 'state'}"
    assert lines[-1].startswith("1 error")


def test_what_hangs_is_left_and_said_and_the_others_are_heard() -> None:
    hold = Event()

    def hangs() -> list[Finding]:
        hold.wait(30)
        return []

    def fails() -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/x")

    begun = time.monotonic()
    fine = Finding("good", Severity.FINE, "all right")
    found = examine([("disk", 0.2, hangs), ("good", 5.0, lambda: [fine]), ("bad", 5.0, fails)])
    assert time.monotonic() - begun < 3
    hold.set()
    assert [each.area for each in found] == ["disk", "good", "bad"]
    assert "no answer within 0.2 s" in found[0].what
    assert (found[2].what, found[2].where) == ("cannot be looked at: Permission denied", "/x")


def test_the_unit_of_a_process_is_read_off_its_control_group(tmp_path: Path) -> None:
    groups = {
        1: "0::/system.slice/llamarouter.service\n",
        2: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/llamarouter.service\n",
        3: "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope\n",
    }
    for pid, group in groups.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(group)
    found = [unit_of(pid, str(tmp_path)) for pid in (1, 2, 3, 4)]
    assert found == [("llamarouter.service", ()), ("llamarouter.service", ("--user",)), None, None]


def test_a_unit_is_asked_of_systemctl(tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\necho LoadState=loaded\necho ActiveState=failed\necho OOMPolicy=stop\n")
    program.chmod(0o755)
    found = check_unit(None, [], {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, has_gpu=False)
    assert [each.what.split(":")[0] for each in found[:2]] == ["it has failed", "OOMPolicy=stop"]
    program.write_text("#!/bin/sh\necho LoadState=not-found\n")
    assert check_unit(None, [], {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, has_gpu=False) == []


def test_a_front_that_is_not_there_and_one_that_is_no_url(capsys: Captured) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        (found,) = check_front(url, public_way(url, None), None, None)
    assert (found.severity, "nobody is reached" in found.what) == (Severity.ERROR, True)
    assert main(["doctor", "--url", "ftp://x"]) == 2
    assert "--url: ftp://x: an http://" in capsys.readouterr().err


def test_a_front_that_lets_everybody_administer_and_refuses_the_key() -> None:
    replies: dict[str, Reply | list[Reply]] = {
        "GET /health": Reply({"status": "ok"}),
        "GET /lr/status": Reply({}),
        "GET /v1/models": Reply({}, 401),
        "POST /v1/chat/completions": Reply({}, 504),
    }
    with routing(replies) as double:
        found = check_front(double.url, public_way(double.url, "k"), None, "m")
    (open_to_all,) = [
        each for each in found if each.severity is Severity.NOTE
    ]  # on this machine that is as it should be
    assert open_to_all.what == "administration is open to everybody: /lr/status is answered without a key"
    assert [each.what for each in found if each.severity is Severity.ERROR] == [
        "the key of LR_API_KEY is refused: it is none, or the proxy takes `Authorization` away",
        "the proxy gave up waiting (504)",
    ]


def test_what_hangs_for_ever_does_not_keep_the_process() -> None:
    code = (
        "from threading import Event; from llamarouter.cli.examination import examine;"
        "print(examine([('disk', 0.1, lambda: Event().wait() and [])])[0].area)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout == "disk\n"
