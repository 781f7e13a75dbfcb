"""The inventory: where a preset's paths lie, llama.cpp's own config.ini, and engines that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.host.inventory import Inventory, engine_for, looked_again, take_inventory
from tests.node_kit import ENGINE, add_model, engine_with, plan_of
from tests.tiny_gguf import write_sharded_llama


def flags_of(inventory: Inventory, model: str) -> dict[str, tuple[str, str]]:
    launch = inventory.catalog.entries[model].launch
    assert launch is not None, inventory.catalog.entries[model].problem
    return {flag.option: (" ".join(flag.values), flag.origin) for flag in launch.flags}


def changed(inventory: Inventory) -> bool:
    return looked_again(inventory, inventory.look) is None


def test_a_presets_paths_are_relative_to_the_working_directory_then_to_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    add_model(tmp_path, "both")
    add_model(tmp_path, "near")
    add_model(here, "both")
    add_model(beside, "sub")
    monkeypatch.chdir(here)
    preset = (
        "[both]\nmodel = both.gguf\n[near]\nmodel = near.gguf\n[sub]\nmodel = beside/sub.gguf\n"
        f"[home]\nmodel = ~/near.gguf\n[absolute]\nmodel = {here}/both.gguf\n[up]\nmodel = ../near.gguf\n"
        "[gone]\nmodel = nowhere.gguf\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory = plan_of(tmp_path, preset=preset).inventory
    paths = {name: entry.model.files.model for name, entry in inventory.catalog.entries.items() if entry.model.files}
    assert paths == {
        "both": str(here / "both.gguf"),
        "near": str(tmp_path / "near.gguf"),
        "sub": str(beside / "sub.gguf"),
        "home": str(tmp_path / "near.gguf"),
        "absolute": str(here / "both.gguf"),
        "up": str(tmp_path / "near.gguf"),
        "gone": str(here / "nowhere.gguf"),
    }
    problem = inventory.catalog.entries["gone"].problem or inventory.catalog.entries["gone"].model.problem
    assert problem == "there is no such file"
    assert flags_of(inventory, "near")["--model"][0] == str(tmp_path / "near.gguf")


def test_llama_cpps_own_config_is_the_lowest_layer_and_says_so(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    config = tmp_path / ".config" / "llama.cpp" / "config.ini"
    config.parent.mkdir(parents=True)
    config.write_text("ctx-size = 111\nthreads = 2\n[m]\ntemp = 0.1\n", encoding="utf-8")
    inventory = plan_of(tmp_path, preset="[*]\nctx-size = 222\n").inventory
    flags = flags_of(inventory, "m")
    assert flags["--ctx-size"][0] == "222"
    threads = next(value for option, value in flags.items() if option == "--threads")
    assert threads == ("2", f"{config}:2")
    elsewhere = tmp_path / "xdg" / "llama.cpp" / "config.ini"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("threads = 3\n", encoding="utf-8")
    inventory = plan_of(tmp_path, environ={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).inventory
    assert flags_of(inventory, "m")["--threads"] == ("3", f"{elsewhere}:1")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"no equals sign\n", None])
def test_a_config_that_cannot_be_read_is_no_reason_not_to_start(tmp_path: Path, content: bytes | None) -> None:
    add_model(tmp_path / "models", "m")
    config = tmp_path / ".config" / "llama.cpp" / "config.ini"
    config.parent.mkdir(parents=True)
    if content is None:
        config.mkdir()
    else:
        config.write_bytes(content)
    assert plan_of(tmp_path).inventory.catalog.entries["m"].launch is not None


def test_an_engine_that_is_missing_spoils_its_section_alone(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    other = engine_with(tmp_path)
    preset = (
        f"[good]\nmodel = {file}\nlr-engine = {other}\n[bad]\nmodel = {file}\nlr-engine = /nowhere/llama-server\n"
        f"[quote]\nmodel = {file}\nlr-engine = llama-server 'open\n[plain]\nmodel = {file}\n"
    )
    inventory = plan_of(tmp_path, preset=preset).inventory
    entries = inventory.catalog.entries
    problems = {name: entry.problem for name, entry in entries.items() if entry.problem}
    assert set(problems) == {"bad", "quote"}
    assert "/nowhere/llama-server" in str(problems["bad"])
    assert any("/nowhere/llama-server" in each.where or "/nowhere" in each.reason for each in inventory.catalog.skipped)
    good, plain = entries["good"].launch, entries["plain"].launch
    assert good is not None
    assert plain is not None
    assert inventory.engine_of(good.engine_key).command == (str(other),)
    assert inventory.engine_of(plain.engine_key) is ENGINE


def test_a_last_good_section_keeps_its_engine(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    other = engine_with(tmp_path)
    plan = plan_of(tmp_path, preset=f"[good]\nmodel = {file}\nlr-engine = {other}\n")
    (tmp_path / "preset.ini").write_text(f"[good]\nmodel = {file}\nfrobnicate = 1\n", encoding="utf-8")
    inventory = take_inventory(plan.settings, plan.environ, plan.engine, plan.headers, plan.inventory)
    launch = inventory.catalog.entries["good"].launch
    assert launch is not None
    assert inventory.engine_of(launch.engine_key).command == (str(other),)
    assert not inventory.swapped(plan.inventory)


def test_another_engine_at_the_same_path_is_seen_and_is_the_one_from_then_on(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    (tmp_path / "own").mkdir()
    default, own = engine_with(tmp_path), engine_with(tmp_path / "own")
    plan = plan_of(tmp_path, preset=f"[own]\nmodel = {file}\nlr-engine = {own}\n[plain]\nmodel = {file}\n")
    engine = engine_for((str(default),), plan.environ)
    first = take_inventory(plan.settings, plan.environ, engine, plan.headers)
    assert not changed(first)

    default.write_text(
        default.read_text().replace("exec ", "if [ $1 = --version ]; then echo version: 7; exit; fi; exec ")
    )
    assert changed(first)
    second = take_inventory(plan.settings, plan.environ, engine, plan.headers, first)
    assert (second.engine_of(None).build, second.swapped(first)) == ("7", {None})
    assert second.run_by({None}) == ["m", "plain"]
    assert not changed(second)

    own.write_text(own.read_text() + "\n")
    third = take_inventory(plan.settings, plan.environ, engine, plan.headers, second)
    assert third.engine_of(None) is second.engine_of(None)
    assert [third.run_by({key}) for key in third.swapped(second)] == [["own"]]

    default.write_text("#!/bin/sh\nexit 1\n")
    fourth = take_inventory(plan.settings, plan.environ, engine, plan.headers, third)
    assert fourth.engine_of(None) is third.engine_of(None)
    assert [str(default) in each.reason for each in fourth.catalog.skipped if each.where == "engine"] == [True]


def test_a_folder_that_changes_is_seen(tmp_path: Path) -> None:
    inventory = plan_of(tmp_path).inventory
    assert not changed(inventory)
    add_model(tmp_path / "models", "m")
    assert changed(inventory)
    inventory = plan_of(tmp_path).inventory
    add_model(tmp_path / "models" / "sub", "n")
    assert changed(inventory)


def test_a_byte_order_mark_is_no_part_of_the_first_section(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    assert "x" in plan_of(tmp_path, preset=f"\ufeff[x]\nmodel = {file}\n").inventory.catalog.entries


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_preset_that_cannot_be_read_is_a_usage_error(tmp_path: Path, content: bytes | None) -> None:
    preset = tmp_path / "p.ini"
    if content is not None:
        preset.write_bytes(content)
    with pytest.raises(UsageError, match=r"--models-preset .*p\.ini: cannot be read"):
        plan_of(tmp_path, "--models-preset", str(preset))


def test_a_file_that_a_preset_names_is_noticed_when_it_comes_and_when_it_changes(tmp_path: Path) -> None:
    preset = "[m]\nmodel = elsewhere/m.gguf\n"
    inventory = plan_of(tmp_path, preset=preset).inventory
    assert inventory.catalog.entries["m"].launch is None
    assert not changed(inventory)
    file = add_model(tmp_path / "elsewhere", "m")
    assert changed(inventory)
    inventory = plan_of(tmp_path, preset=preset).inventory
    assert inventory.catalog.entries["m"].launch is not None
    assert not changed(inventory)
    file.write_bytes(file.read_bytes()[:-1])
    assert changed(inventory)


def test_the_shards_that_a_preset_does_not_name_are_noticed_too(tmp_path: Path) -> None:
    first, second = write_sharded_llama(tmp_path / "S.gguf")
    whole = second.read_bytes()
    second.unlink()
    preset = f"[m]\nmodel = {first}\n"
    inventory = plan_of(tmp_path, preset=preset).inventory
    assert "shard 2 of 2 is missing" in str(inventory.catalog.entries["m"].problem)
    assert not changed(inventory)
    second.write_bytes(whole)
    assert changed(inventory)
    inventory = plan_of(tmp_path, preset=preset).inventory
    assert inventory.catalog.entries["m"].problem is None
    assert not changed(inventory)
    second.unlink()
    assert changed(inventory)
