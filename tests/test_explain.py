"""Launches in words, and a catalogue as llama-server's own preset."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from llamarouter.core.explain import as_llama_server_ini, explain
from llamarouter.core.ini import parse_ini
from llamarouter.core.model import Files
from tests.catalogs import CACHED, LOCAL, catalog_of, entry_of, renamed
from tests.engine_table import TABLE

BINARY = Path(__file__).parents[1] / "bin" / "llama-server"


def test_the_whole_command_and_where_it_came_from() -> None:
    catalog = catalog_of("[*]\ntemp = 1\n[local]\nsystem = \nlora = my file.gguf\n", models=[LOCAL])
    assert entry_of(catalog, "local").problem is not None
    catalog = catalog_of("[*]\ntemp = 1\n[local]\nlora = my file.gguf\n", models=[LOCAL], argv=["-c", "9"])
    explanation = explain(entry_of(catalog, "local"), ("numactl", "llama-server"), {"A": "b"})
    assert shlex.join(explanation["command"]) == (
        "numactl llama-server --lora 'my file.gguf' --metrics --offline --model-draft /models/mtp-local.gguf "
        "--temperature 1 --threads-http 64 --alias local --ctx-size 9 --model /models/local.gguf"
    )
    assert [(flag["option"], flag["values"], flag["origin"]) for flag in explanation["flags"]] == [
        ("--lora", ["my file.gguf"], "p.ini:4"),
        ("--metrics", [], "llamarouter (default)"),
        ("--offline", [], "llamarouter (default)"),
        ("--model-draft", ["/models/mtp-local.gguf"], "found in --models-dir"),
        ("--temperature", ["1"], "p.ini:2"),
        ("--threads-http", ["64"], "llamarouter (default)"),
        ("--alias", ["local"], "llamarouter (always)"),
        ("--ctx-size", ["9"], "command line"),
        ("--model", ["/models/local.gguf"], "found in --models-dir"),
    ]
    assert (explanation["env"], explanation["problem"]) == ({"A": "b"}, None)


def test_how_long_it_stays_and_where_that_was_said() -> None:
    preset = "[*]\nlr-ttl = 2h\n[local]\nlr-pin = yes\nload-on-startup = 1\n"
    catalog = catalog_of(preset, models=[LOCAL], environ={"LR_TTL": "1d"})
    told = explain(entry_of(catalog, "local"), ("x",), {})["policy"]
    assert [tuple(rule.values()) for rule in told] == [
        ("lr-ttl", "1d", "environment LR_TTL"),
        ("lr-pin", "true", "p.ini:4"),
        ("load-on-startup", "true", "p.ini:5"),
    ]
    written = as_llama_server_ini(catalog)
    assert "; lr-ttl = 1d   (llama-server has nothing like it)\n; lr-pin = true   (" in written
    assert parse_ini(written, "p.ini").sections[-1].problem is None


def test_without_a_launch_there_is_the_reason() -> None:
    catalog = catalog_of("[a]\nhf = u/r:Q8_0\n[b]\ntemp = 1\n")
    wanted = explain(entry_of(catalog, "a"), ("x",), {})
    assert wanted == {
        "model": "a",
        "problem": "its files are not here yet: u/r:Q8_0 is fetched at the first request",
    }
    broken = explain(entry_of(catalog, "b"), ("x",), {})
    assert set(broken) == {"model", "problem"}
    assert "no such model was found" in broken["problem"]


PRESET = """
[*]
temp = 0.5
[local]
no-jinja = true
samplers = top_k;temperature
control-vector-layer-range = 1 2
alias = x, y
tags = t
load-on-startup = true
stop-timeout = 0.4
chat-template-kwargs = {"a": 1}
[new]
hf = u/r:Q8_0
[bad]
temprature = 1
"""


def test_a_preset_for_llama_server() -> None:
    text = as_llama_server_ini(catalog_of(PRESET, models=[LOCAL, CACHED]))
    sections = {section.name: section for section in parse_ini(text, "out.ini").sections}
    assert list(sections) == ["default", "local", "user/repo:Q4_K_M"]
    local = {key.name: key.value for key in sections["local"].keys}
    assert local == {
        "chat-template-kwargs": '{"a": 1}',
        "model": "/models/local.gguf",
        "model-draft": "/models/mtp-local.gguf",
        "no-jinja": "true",
        "offline": "true",
        "temperature": "0.5",
        "alias": "x, y",
        "tags": "t",
        "load-on-startup": "true",
        "stop-timeout": "1",
    }
    cached = {key.name: key.value for key in sections["user/repo:Q4_K_M"].keys}
    assert cached["hf-repo"] == "user/repo:Q4_K_M"
    assert "model" not in cached
    assert "mmproj" not in cached
    comments = [line for line in text.splitlines() if line.startswith(";")]
    assert "; samplers = top_k;temperature   (llama-server would cut this value: it knows no quotes)" in comments
    assert any(line.startswith("; control-vector-layer-range = 1 2   (") for line in comments)
    assert "; [new] cannot be started: not here yet: u/r:Q8_0" in comments
    assert any(line.startswith("; [bad] cannot be started: p.ini:") for line in comments)


def test_a_name_that_llama_server_cannot_have() -> None:
    text = as_llama_server_ini(catalog_of(models=[renamed(LOCAL, "a]b")]))
    assert "; a]b: llama-server cannot have a section of this name" in text
    assert "[a]b]" not in text


def test_a_name_that_llama_server_would_cut() -> None:
    text = as_llama_server_ini(catalog_of('[local]\nalias = "x;y"\ntags = "t#u"\n', models=[LOCAL]))
    assert "; alias = x;y   (llama-server would cut this value: it knows no quotes)" in text.splitlines()
    assert "; tags = t#u   (llama-server would cut this value: it knows no quotes)" in text.splitlines()


def test_a_file_whose_path_llama_server_would_cut() -> None:
    files = Files(model="/models/c#.gguf")
    text = as_llama_server_ini(catalog_of(models=[replace(LOCAL, files=files)]))
    assert "; [local]: llama-server would cut the path of its file: it knows no quotes" in text.splitlines()
    assert parse_ini(text, "o").sections[1:] == ()


def test_every_key_of_it_is_an_option() -> None:
    for section in parse_ini(as_llama_server_ini(catalog_of(PRESET, models=[LOCAL, CACHED])), "o").sections[1:]:
        for key in section.keys:
            assert key.name in ("load-on-startup", "stop-timeout") or TABLE.find_key(key.name) is not None


@contextmanager
def _router(preset: Path, address: Path) -> Iterator[None]:
    """llama-server's own router over a preset; it loads nothing."""
    command = [str(BINARY), "--models-preset", str(preset), "--host", str(address), "--no-models-autoload", "--offline"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(preset.parent), "LLAMA_CACHE": str(preset.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "listening" in line:
                break
        else:
            raise AssertionError("".join(lines))
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


@pytest.mark.compiled
def test_llama_server_accepts_it(tmp_path: Path) -> None:
    preset = PRESET.replace("load-on-startup = true\n", "")
    path = tmp_path / "out.ini"
    path.write_text(as_llama_server_ini(catalog_of(preset, models=[LOCAL])), encoding="utf-8")
    address = tmp_path / "r.sock"
    with _router(path, address):
        connection = _Unix(str(address))
        connection.request("GET", "/models", headers={"Host": "x"})
        listed = json.loads(connection.getresponse().read())
        connection.close()
    (model,) = listed["data"]
    assert (model["id"], model["aliases"], model["tags"]) == ("local", ["x", "y"], ["t"])
    arguments = model["status"]["args"]
    assert arguments[arguments.index("--model") + 1] == "/models/local.gguf"
    assert arguments[arguments.index("--temperature") + 1] == "0.5"
    assert arguments[arguments.index("--chat-template-kwargs") + 1] == '{"a": 1}'
    assert "--no-jinja" in arguments


@pytest.mark.parametrize("id", ["user/a--b:Q8_0", "alone:Q8_0", "user/repo/plain.gguf", "user/no-ref:Q8_0"])
def test_a_cached_model_that_llama_server_does_not_find_is_named_by_its_file(id: str) -> None:
    model = replace(renamed(CACHED, id), repo=id, unreferenced="no-ref" in id)
    text = as_llama_server_ini(catalog_of(models=[model]))
    assert "hf-repo" not in text
    assert "model = /hub/models--user--repo/snapshots/c/R-Q4_K_M.gguf" in text
