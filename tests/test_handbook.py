"""The pages that are made of the code are as the code is, and name everything that is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from handbook.__main__ import PAGES, main
from handbook.preset_keys import KEYS
from handbook.settings import READ_AGAIN
from handbook.variables import VARIABLES
from llamarouter.core.child_env import is_withheld
from llamarouter.core.own_options import OWN
from llamarouter.core.wishes import OUR_KEYS
from llamarouter.host.devices.listings import VARIABLES as OF_DEVICES

ROOT = Path(__file__).resolve().parents[1]
OF_OPTIONS = {env for row in OWN for env in row.option.envs}
# Names of variables in the code that nobody reads: what a child must not have, what we set, what is a prefix.
NOT_READ = {
    "HF_HUB_DISABLE_TELEMETRY",  # set for the process that downloads
    "LLAMA_SERVER_ROUTER_PORT",  # set for every child
}
_OURS = re.compile(r"_?(?:LR|LLAMA|HF|HUGGINGFACE|XDG|AIP|NOTIFY|WATCHDOG|LISTEN)_[A-Z_]*[A-Z]")


def names_in(source: str) -> Iterator[str]:
    """What a source text asks an environment for by name, and whatever looks like one of our names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            yield from _asked_of(node.func.value, node.args[:1])
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            yield from _asked_of(node.value, [node.slice])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _OURS.fullmatch(node.value):
            yield node.value


def _asked_of(what: ast.expr, names: list[ast.expr]) -> Iterator[str]:
    if ast.unparse(what).rpartition(".")[2].lstrip("_") == "environ":
        yield from (each.value for each in names if isinstance(each, ast.Constant) and isinstance(each.value, str))


def test_a_variable_is_seen_however_it_is_read() -> None:
    source = "os.environ.get('A')\nself._environ['B']\nNAMES = ('LR_C', 'no', 'LR_')\nenviron['SET'] = '1'\nd.get('D')"
    assert sorted(names_in(source)) == ["A", "B", "LR_C"]


def test_every_variable_that_is_read_is_in_the_reference() -> None:
    sources = sorted((ROOT / "llamarouter").rglob("*.py"))
    embedded = {"embedded.py", "embedded_fallback.py", "embedded_parser.py", "build_plan.py"}  # an engine's own
    found = {name for file in sources if file.name not in embedded for name in names_in(file.read_text())}
    assert len(found) > 60
    missing = found - VARIABLES.keys() - OF_OPTIONS - NOT_READ
    assert missing == set(), "handbook/variables.py says what each is for"
    assert set(OF_DEVICES) <= VARIABLES.keys()
    assert (VARIABLES.keys() & OF_OPTIONS) == set()


def test_no_variable_stays_in_the_reference_that_nobody_reads() -> None:
    text = "".join(file.read_text() for file in (ROOT / "llamarouter").rglob("*.py"))
    assert [name for name in VARIABLES if f'"{name}"' not in text and name != "HF_TOKEN_PATH"] == []


def test_what_is_said_of_a_childs_environment_is_so() -> None:
    reaching = {name for name, (who, _) in VARIABLES.items() if "every model" in who}
    assert reaching
    assert not any(is_withheld(name, "x") for name in reaching)


def test_every_key_of_ours_is_in_the_reference() -> None:
    assert set(OUR_KEYS) <= KEYS.keys(), "handbook/preset_keys.py says what each is for"
    assert all(key in OUR_KEYS for key in KEYS if key.startswith("lr-"))


def test_what_a_reload_reads_is_said_of_real_options() -> None:
    assert set(READ_AGAIN) <= {row.option.canonical for row in OWN}


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_are_as_the_code_is(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == PAGES[page](), f"{page} is out of date: scripts/write-reference"


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8"))
        links += re.findall(r"\((\w+\.md)\)", (ROOT / page).read_text(encoding="utf-8"))
        assert links
        assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []


def test_a_page_that_differs_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("handbook.__main__.ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "cli.md").write_text(PAGES["docs/cli.md"]())
    assert main(["--check"]) == 1
    assert capsys.readouterr().out == "docs/settings.md is out of date: scripts/write-reference\n"
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert main(["--chek"]) == 2
