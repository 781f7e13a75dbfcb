"""A launch in its place: what a choice of devices adds to it, and what that replaces."""

from __future__ import annotations

from llamarouter.core.launch import Flag, Launch
from llamarouter.core.memory import Placement
from llamarouter.core.own_environment import Variable
from llamarouter.core.placed import PLACED_ORIGIN, placed
from tests.engine_table import TABLE

LAUNCH = Launch(
    None,
    (Flag("--ctx-size", ("9",), "p.ini:1"), Flag("--n-gpu-layers", ("auto",), "p.ini:2"), Flag("--offline", (), "x")),
    (Variable("A", "1", "p.ini:3"), Variable("B", "1", "p.ini:3")),
)


def test_its_options_replace_those_of_the_launch_whatever_their_spelling() -> None:
    place = Placement({}, (("--fit", "off"), ("-ngl", "20"), ("--device", "CUDA1")))
    launch = placed(LAUNCH, place, TABLE)
    assert {flag.option: flag.values for flag in launch.flags} == {
        "--ctx-size": ("9",),
        "--offline": (),
        "--fit": ("off",),
        "--n-gpu-layers": ("20",),
        "--device": ("CUDA1",),
    }
    assert {flag.origin for flag in launch.flags if flag.option in ("--fit", "--n-gpu-layers")} == {PLACED_ORIGIN}
    assert launch.environment() == {"A": "1", "B": "1"}


def test_what_the_engine_does_not_know_is_left_out() -> None:
    launch = placed(LAUNCH, Placement({}, (("--no-such-option", "1"),)), TABLE)
    assert launch == LAUNCH


def test_a_negative_spelling_stays_one() -> None:
    launch = placed(Launch(None, (Flag("--warmup", (), "x"),)), Placement({}, (("--no-warmup",),)), TABLE)
    assert [flag.option for flag in launch.flags] == ["--no-warmup"]
