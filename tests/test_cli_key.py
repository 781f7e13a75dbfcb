"""`lr key`, with and without a router that runs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.cli.main import main
from llamarouter.core.access import Keyring
from llamarouter.host.key_file import KEYS, KeyFile
from llamarouter.host.runtime_folder import RuntimeFolder
from tests.router_double import Reply, RouterDouble, routing

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No router runs here, and the state folder is the test's own."""
    monkeypatch.setenv("LR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("LR_URL", raising=False)


def file_of(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / KEYS)


def test_a_key_is_made_and_its_secret_alone_is_printed(tmp_path: Path, capsys: Captured) -> None:
    words = ["--models", "a/*,b", "--rpm", "6", "--concurrent", "2", "--tokens-per-day", "100"]
    assert main(["key", "add", "ann", *words, "--expires", "2099-12-31", "--default-model", "b"]) == 0
    shown = capsys.readouterr()
    (secret,) = shown.out.splitlines()
    assert secret.startswith("sk-lr-")
    assert len(secret) == 49
    assert "not shown again" in shown.err
    assert "first key" in shown.err
    found = Keyring(file_of(tmp_path).read()).find(secret.encode())
    assert found is not None
    assert (found.id, found.admin, found.default_model) == ("ann", False, "b")
    assert main(["key", "ls"]) == 0
    listed = capsys.readouterr().out
    assert secret not in listed
    name, rights, models, *rest = listed.splitlines()[1].split()
    assert (name, rights, models) == ("ann", "use", "a/*,b")
    assert " ".join(rest) == "6 a minute, 2 at once, 100 tokens a day b 2100-01-01T00:00Z -"


def test_a_key_for_metrics_is_made_and_listed(tmp_path: Path, capsys: Captured) -> None:
    assert main(["key", "add", "prometheus", "--metrics"]) == 0
    found = Keyring(file_of(tmp_path).read()).find(capsys.readouterr().out.strip().encode())
    assert found is not None
    assert (found.id, found.admin, found.metrics_only, found.sees("a")) == ("prometheus", False, True, False)
    assert main(["key", "ls"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["prometheus", "metrics", "none"]


def test_a_key_gets_a_new_secret_and_is_taken_away(tmp_path: Path, capsys: Captured) -> None:
    secrets = []
    for words in (["add", "ann", "--json"], ["add", "ops", "--admin", "--json"], ["rotate", "ann", "--json"]):
        assert main(["key", *words]) == 0
        secrets.append(json.loads(capsys.readouterr().out)["secret"])
    ring = Keyring(file_of(tmp_path).read())
    assert ring.find(secrets[0].encode()) is None
    assert [(found := ring.find(secret.encode())) and found.id for secret in secrets[1:]] == ["ops", "ann"]
    assert main(["key", "rm", "ann", "ops"]) == 0
    assert capsys.readouterr().out.splitlines() == ["ann is no key any more", "ops is no key any more"]
    assert main(["key", "ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file_of(tmp_path).path), "keys": []}
    assert main(["key", "ls"]) == 0
    assert "no keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a b"], "cannot name a key"),
        (["add", "there"], "there is a key there already"),
        (["add", "x", "--models", "a", "--admin"], "exclude each other"),
        (["add", "x", "--metrics", "--rpm", "5"], "goes with --expires alone"),
        (["add", "x", "--models", ","], "ids are needed"),
        (["add", "x", "--rpm", "0"], "--rpm 0"),
        (["add", "x", "--expires", "soon"], "--expires soon"),
        (["rm", "there", "nobody"], "there is no key 'nobody'; there are"),
        (["rotate", "nobody"], "there is no key 'nobody'"),
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    tmp_path: Path, capsys: Captured, words: list[str], said: str
) -> None:
    assert main(["key", "add", "there"]) == 0
    before = file_of(tmp_path).path.read_bytes()
    capsys.readouterr()
    assert main(["key", *words]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert file_of(tmp_path).path.read_bytes() == before


def test_keys_are_made_where_their_router_is(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("LR_URL", "http://192.0.2.1:8080")
    assert main(["key", "ls"]) == 2
    assert "on the machine of their router" in capsys.readouterr().err


class Here:
    """A router of this machine: a double on an admin socket. Its file of keys is its own."""

    def __init__(self, admin_socket: str, folder: Path) -> None:
        self.socket = admin_socket
        self.file = KeyFile(folder / KEYS)
        self.replies: dict[str, Reply | list[Reply]] = {
            "GET /lr/status": Reply({"key_file": str(self.file.path)}),
            "GET /lr/keys": Reply({"keys": []}),
        }


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Here]:
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="lr-") as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LR_RUNTIME_DIR", runtime)
        with RuntimeFolder.open({"LR_RUNTIME_DIR": runtime}, 4242) as folder:
            yield Here(folder.admin_socket, tmp_path / "theirs")


def test_the_router_that_runs_is_told_and_its_file_is_the_one(router: Here, capsys: Captured) -> None:
    with routing(router.replies, router.socket) as double:
        assert main(["key", "add", "ann", "--models", "user/*,nope", "--default-model", "small"]) == 0
        assert [key.name for key in router.file.read()] == ["ann"]
        assert "--models nope: no model has such an id" in capsys.readouterr().err
        assert asked_last(double) == "/lr/keys"
        assert main(["key", "add", "bob", "--models", "broken", "--default-model", "small"]) == 2
        assert "small: user/small:Q4_1 is not among" in capsys.readouterr().err
        assert main(["key", "add", "bob", "--default-model", "gone"]) == 0
        assert "there is no such model now" in capsys.readouterr().err
        double.asked.clear()
        assert main(["key", "rm", "ann", "bob"]) == 0
        assert asked_last(double) == "/lr/keys"
        assert "no key is left" in capsys.readouterr().err


def asked_last(double: RouterDouble) -> str:
    return double.asked[-1].path


def test_what_keys_have_used_is_shown_and_those_of_the_command_line_too(router: Here, capsys: Captured) -> None:
    router.file.change(lambda keys: keys)
    used = {"name": "ann", "admin": False, "models": None, "tokens_today": 1234, "inside": 1}
    router.replies["GET /lr/keys"] = Reply({"keys": [used, {"name": "api-key", "admin": True, "models": None}]})
    with routing(router.replies, router.socket):
        assert main(["key", "add", "ann", "--rpm", "5"]) == 0
        capsys.readouterr()
        assert main(["key", "ls"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["ann", "use", "all", "5", "a", "minute", "-", "never", "1234", "tokens"],
        ["api-key", "admin", "all", "none", "-", "never", "-"],
    ]


def test_a_folder_that_is_somebody_elses_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    assert main(["key", "add", "ann"]) == 2
    assert "lr key runs as the user whose router it is" in capsys.readouterr().err
    assert os.path.isfile(tmp_path / "state")
