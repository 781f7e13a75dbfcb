"""`lr-env`: how it is written, what it may not name, what wins, and that a process has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.explain import as_llama_server_ini, explain
from llamarouter.core.own_environment import variables_of
from tests.catalogs import LOCAL, catalog_of, entry_of
from tests.child_kit import proc
from tests.node_kit import add_model, house

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("CUDA_VISIBLE_DEVICES=0,1", {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ('A=1 B="two words" C=', {"A": "1", "B": "two words", "C": ""}),
        ("A=x=y A=2", {"A": "2"}),
    ],
)
def test_words_as_in_a_shell(text: str, read: dict[str, str]) -> None:
    variables = variables_of(text, "p.ini:1")
    assert not isinstance(variables, str)
    assert {each.name: each.value for each in variables} == read


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("A", "word 1 is not NAME=value"),
        ("A B=1", "word 1 is not NAME=value"),
        ("B=1 1A=1", "word 2 ('1A') is not NAME=value"),
        ("A=' open", "a quote never ends"),
        ('""', "word 1 is not NAME=value"),
        ("", "it needs NAME=value"),
        ("LLAMA_ARG_CTX_SIZE=1", "LLAMA_ARG_CTX_SIZE is an option: write it as a key of its own"),
        ("LLAMA_SERVER_ROUTER_PORT=1", "LLAMA_SERVER_ROUTER_PORT is kept from models"),
        ("LR_MAX_WAIT=1", "LR_MAX_WAIT is kept from models"),
        ("HF_TOKEN=x", "HF_TOKEN is kept from models"),
        ("MY_API_KEY=x", "MY_API_KEY is kept from models"),
        ("https_proxy=x", "https_proxy is kept from models"),
        ("XDG_CONFIG_HOME=/x", "XDG_CONFIG_HOME is the router's own"),
        ("A=http://me:secret@x", "A is kept from models"),
    ],
)
def test_what_cannot_be_given_spoils_its_section_alone(value: str, reason: str) -> None:
    said = variables_of(value, "p.ini:1")
    assert isinstance(said, str)
    assert said.startswith(reason)
    catalog = catalog_of(f"[*]\nlr-env = {value}\n[local]\ntemp = 1\n", models=[LOCAL])
    assert entry_of(catalog, "local").problem is None
    assert catalog.skipped[0].where == "p.ini:2"
    assert catalog.skipped[0].reason.startswith("left out: lr-env: ")
    problem = entry_of(catalog_of(f"[local]\nlr-env = {value}\n", models=[LOCAL]), "local").problem
    assert problem is not None
    assert problem.startswith("p.ini:2: lr-env: ")


def test_lines_add_up_and_a_section_wins_over_everyone() -> None:
    text = "[*]\nlr-env = A=1 B=1\n[local]\nlr-env = B=2\nlr-env = C=3\n"
    entry = entry_of(catalog_of(text, models=[LOCAL]), "local")
    explanation = explain(entry, ("llama-server",), {"PATH": "/bin", "A": "0"})
    assert explanation["env"] == {"PATH": "/bin", "A": "1", "B": "2", "C": "3"}
    assert [(each["name"], each["origin"]) for each in explanation["variables"]] == [
        ("A", "p.ini:2"),
        ("B", "p.ini:4"),
        ("C", "p.ini:5"),
    ]
    assert entry.launch == entry_of(catalog_of("; moved\n" + text, models=[LOCAL]), "local").launch
    assert entry.launch != entry_of(catalog_of(text.replace("C=3", "C=4"), models=[LOCAL]), "local").launch


def test_llama_servers_router_is_told_what_it_cannot_do() -> None:
    catalog = catalog_of("[local]\nlr-env = A=1\n", models=[LOCAL])
    assert "; lr-env = A=1   (llama-server's router" in as_llama_server_ini(catalog)


async def test_a_process_has_it(tmp_path: Path) -> None:
    preset = "[*]\nlr-env = COLOUR=red SHAPE=round\n[a]\nlr-env = COLOUR=blue\n"
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    async with house(tmp_path, preset=preset) as home:
        for name in ("a", "b"):
            await home.node.reception.load(name)
        children = home.node.supervisor.children
        environs = {name: proc(child.pid or 0, "environ").decode().split("\0") for name, child in children.items()}
        assert {"COLOUR=blue", "SHAPE=round"} <= set(environs["a"])
        assert {"COLOUR=red", "SHAPE=round"} <= set(environs["b"])
