"""The presets that we ship: each can be read, every option is a real one, every model says where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.catalog import Catalog, build_catalog
from llamarouter.core.ini import parse_ini
from llamarouter.core.model import Files, Model, Source
from llamarouter.core.settings import Settings
from tests.engine_table import TABLE

PRESETS = Path(__file__).parents[1] / "presets"
NAMES = ["ab", "demo", "laptop-cpu", "one-24gb-gpu", "team", "two-gpus"]


def _here(name: str) -> Model:
    return Model(id=name, source=Source.CACHE, repo=name, files=Files(model=f"/hub/{name}"))


def _catalog(name: str, *, cached: bool) -> Catalog:
    path = PRESETS / f"{name}.ini"
    return build_catalog(
        models=(),
        skipped=(),
        ini=parse_ini(path.read_text(encoding="utf-8"), str(path)),
        config_ini=None,
        settings=Settings(),
        environ={},
        tables={None: TABLE},
        describe=_here,
        resolve_repo=_here if cached else lambda spec: None,
    )


def test_these_are_shipped() -> None:
    assert sorted(path.stem for path in PRESETS.glob("*.ini")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_without_fault(name: str) -> None:
    catalog = _catalog(name, cached=True)
    assert catalog.skipped == ()
    assert len(catalog.entries) >= 2
    for entry in catalog.entries.values():
        assert entry.problem is None
        assert entry.launch is not None


@pytest.mark.parametrize("name", NAMES)
def test_every_option_and_value_is_one_that_the_help_names(name: str) -> None:
    for entry in _catalog(name, cached=True).entries.values():
        assert entry.launch is not None
        for flag in entry.launch.flags:
            match = TABLE.find(flag.option)
            assert match is not None
            assert len(flag.values) == match.option.arity
            hint = match.option.hint
            if hint.startswith(("[", "{")) and "<" not in hint:
                assert flag.values[0] in hint.strip("[]{}").replace("|", ",").split(",")
            elif "allowed values: " in match.option.help:
                allowed = match.option.help.partition("allowed values: ")[2].partition(" (")[0].split(", ")
                assert flag.values[0] in allowed
            elif hint in ("N", "INDEX", "SEED"):
                float(flag.values[0])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "demo"])
def test_what_is_not_here_is_fetched(name: str) -> None:
    entries = _catalog(name, cached=False).entries.values()
    assert all(entry.hf_wanted is not None for entry in entries)


def test_the_demo_is_two_names_over_one_file() -> None:
    catalog = _catalog("demo", cached=False)
    assert list(catalog.entries) == ["smol", "smol-creative"]
    launches = [entry.launch for entry in catalog.entries.values() if entry.launch is not None]
    files, temperatures = (
        {_value(launch.argv(), name) for launch in launches} for name in ("--model", "--temperature")
    )
    assert files == {"/hub/.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"}
    assert len(temperatures) == 2
    assert [entry.load_on_startup for entry in catalog.entries.values()] == [True, False]


def _value(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]
