"""The check of a GPU, as far as it needs none: what it reads, chooses, notes and finds (`tests/gpu`)."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.footprint import Footprint, Parts, Source
from llamarouter.core.ini import parse_ini
from llamarouter.host.devices.roots import Roots
from tests.fake_machine import GIB, FakeMachine, card, listed
from tests.gpu import __main__ as check
from tests.gpu.card import Card, NoCardError, is_gone, seconds_until, smi_processes
from tests.gpu.report import Report
from tests.gpu.router import Answer, preset_of
from tests.gpu.swaps import TOO_LARGE, Models, chosen
from tests.gpu.weighing import Weighed

NAME = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    return FakeMachine(tmp_path, monkeypatch)


def test_what_nvidia_smi_says_of_processes() -> None:
    said = "4711, 5120\n4712, [N/A]\n\n 4713 , 700 \n4711, 10\nNo running processes found\n"
    assert smi_processes(said) == {4711: 5130 * MIB, 4713: 700 * MIB}


def test_four_are_chosen_of_which_the_largest_leaves_no_room() -> None:
    needs = {"a": 1 * GIB, "b": 3 * GIB, "c": 6 * GIB, "d": 18 * GIB, "e": 41 * GIB, "f": 200 * GIB}
    assert chosen(needs, 78 * GIB) == (("b", "c", "d", "e"), 41 * GIB + 3 * GIB // 2)
    assert chosen(needs, 20 * GIB) == (("a", "b", "c", "d"), 18 * GIB + GIB // 2)
    assert chosen(needs, 18 * GIB) == (("a", "b", "c", "d"), 18 * GIB)
    with pytest.raises(ValueError, match="four models of 6 have to fit"):
        chosen(needs, 17 * GIB)


def test_the_preset_means_the_layers_of_what_is_too_large(tmp_path: Path) -> None:
    models = Models({"a": tmp_path / "a.gguf"}, {"ctx-size": "512"}, GIB, tmp_path / "b.gguf")
    assert preset_of({"x": {"model": "/x"}}) == "[x]\nmodel = /x\n"
    sections = {
        section.name: {key.name: key.value for key in section.keys}
        for section in parse_ini(models.preset, "p").sections
    }
    assert sections["a"] == {"model": str(tmp_path / "a.gguf"), "ctx-size": "512"}
    assert sections[TOO_LARGE]["n-gpu-layers"] == "999"


def test_what_goes_wrong_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    lines: list[str] = []
    report = Report(lines.append)
    assert not report.is_well  # nothing was looked at
    report.check("one", True)
    assert report.is_well
    with report.part("a part"):
        report.table("sizes", ("name", ">MiB"), [("x", "1"), ("long", "1000")])
        raise OSError("it broke")
    assert not report.is_well
    report.check("two", False, "3 of 4")
    report.end()
    report.save(tmp_path / "deep" / "report.json")
    text = "\n".join(lines)
    assert "x        1\nlong  1000" in text
    assert text.endswith("NOT WELL: 3 checks, 2 failed")
    kept = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert kept["sizes"] == [{"name": "x", "MiB": "1"}, {"name": "long", "MiB": "1000"}]
    assert [each["name"] for each in kept["checks"] if not each["held"]] == ["a part: it runs to its end", "two"]
    assert kept["well"] is False


@pytest.mark.parametrize(("taken", "near"), [(1000, True), (1290, True), (1310, False), (700, True), (690, False)])
def test_a_small_model_may_be_off_by_300_mebibytes(taken: int, near: bool) -> None:
    assert _weighed(1000 * MIB, taken * MIB).is_near is near


def test_a_large_one_by_a_twentieth() -> None:
    assert _weighed(40 * GIB, 42 * GIB).is_near
    assert not _weighed(40 * GIB, 43 * GIB).is_near


def _weighed(estimated: int, served: int) -> Weighed:
    footprint = Footprint(needs={"CUDA0": Parts(weights=estimated)}, source=Source.ENGINE)
    return Weighed("m", "-c 8", footprint, footprint, "CUDA0", served, served, True, None, 0, 0, 0, 0, 1.0, 0.1, 0.1)


def test_an_answer_is_whole_when_the_model_says_its_end() -> None:
    whole = Answer(200, {"stop": True, "content": ""}, 0.1)
    assert whole.is_whole
    assert not replace(whole, status=503).is_whole
    assert not replace(whole, body={"error": {}}).is_whole
    assert not replace(whole, body=None).is_whole


def test_a_wait_has_its_bound() -> None:
    assert seconds_until(lambda: True, 0.0) is not None
    assert seconds_until(lambda: False, 0.01) is None
    assert is_gone(2**22 + 1)
    assert not is_gone(1)


def test_without_a_driver_there_is_nothing_to_check(tmp_path: Path) -> None:
    roots = Roots(str(tmp_path), str(tmp_path), str(tmp_path), str(tmp_path / "no-such-library.so"))
    with pytest.raises(NoCardError, match=r"there is no GPU of NVIDIA's here \(NVIDIA's library cannot be used"):
        Card.found(Path("/bin/false"), {}, roots)


def test_without_an_engine_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["check-gpu", "--engine", "/no/such/llama-server"])
    assert check.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("check-gpu: --engine: ")
    assert said.err.count("\n") == 1


@pytest.mark.cc
def test_the_card_is_the_one_that_the_engine_means(machine: FakeMachine) -> None:
    machine.nvidia(*card(65, 80 * GIB, 70 * GIB, name=NAME, held={4711: 5 * GIB, 4712: GIB}))
    (engine,) = machine.engine("llama-server", listed("CUDA0", NAME, 79 * GIB, 70 * GIB))
    found = Card.found(Path(engine), machine.env, machine.roots)
    try:
        assert (found.name, found.total, found.free()) == ("CUDA0", 80 * GIB, 70 * GIB)
        assert found.taken((4711, 4712, 9)) == 6 * GIB
        assert found.taken((9,)) is None
        machine.nvidia(*card(65, 80 * GIB, 76 * GIB, name=NAME))
        assert found.free() == 76 * GIB
    finally:
        found.drivers.close()


@pytest.mark.cc
def test_an_engine_without_cuda_is_said(machine: FakeMachine) -> None:
    machine.nvidia(*card(65, 80 * GIB, 70 * GIB, name=NAME))
    (engine,) = machine.engine("llama-server")
    with pytest.raises(NoCardError, match="lists no device of CUDA's"):
        Card.found(Path(engine), machine.env, machine.roots)
