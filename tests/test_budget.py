"""What the models may take of each device: how it is written, what is refused, and what it means there."""

from __future__ import annotations

import pytest

from llamarouter.core.budget import Allowance, Amount, Budgets, Share, parse_allowance
from llamarouter.core.errors import UsageError
from llamarouter.core.footprint import HOST
from llamarouter.core.settings import Settings, parse_settings
from tests.engine_table import TABLE

GIB = 1 << 30
MACHINE = {"CUDA0": 24 * GIB, "CUDA1": 8 * GIB, HOST: 64 * GIB}
SMALL = {HOST: 4 * GIB}


def settings(*argv: str, **environ: str) -> Settings:
    return parse_settings(argv, environ, TABLE, lambda path: "")


def budgets(budget: str = "", reserve: str = "") -> Budgets:
    return settings(
        *(("--memory-budget", budget) if budget else ()), *(("--memory-reserve", reserve) if reserve else ())
    ).budgets


@pytest.mark.parametrize(
    ("text", "allowance"),
    [
        ("80%", Allowance("x", Amount(percent=80))),
        ("20GiB", Allowance("x", Amount(bytes=20 * GIB))),
        ("1.5G", Allowance("x", Amount(bytes=3 * GIB // 2))),
        (str(GIB), Allowance("x", Amount(bytes=GIB))),
        ("CUDA0=500 MB", Allowance("x", None, (("CUDA0", Amount(bytes=500 << 20)),))),
        (
            " CUDA0 = 20GiB , 50% ,Host=12.5 %",
            Allowance("x", Amount(percent=50), (("CUDA0", Amount(bytes=20 * GIB)), (HOST, Amount(percent=12.5)))),
        ),
    ],
)
def test_what_is_written(text: str, allowance: Allowance) -> None:
    assert parse_allowance("x", text, may_be_zero=False) == allowance


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "--memory-budget '': something is missing at a comma; as in CUDA0=20GiB,Host=32GiB"),
        ("8GiB,", "--memory-budget '8GiB,': something is missing at a comma; as in CUDA0=20GiB,Host=32GiB"),
        ("=8GiB", "--memory-budget '=8GiB': a device is missing before the =, as in CUDA0=20GiB"),
        (
            "a lot",
            "--memory-budget: 'a lot' is no amount of memory; "
            "it takes bytes with a unit (8GiB, 500MB) or a percentage (80%), as in CUDA0=20GiB,Host=50%",
        ),
        (
            "CUDA0=",
            "--memory-budget: '' is no amount of memory; "
            "it takes bytes with a unit (8GiB, 500MB) or a percentage (80%), as in CUDA0=20GiB,Host=50%",
        ),
        ("8", "--memory-budget: 8 is less than a MiB: give bytes with a unit (8GiB, 500MB) or a percentage (80%)"),
        ("101%", "--memory-budget 101%: more than 100% of a device is not there"),
        (
            "0%",
            "--memory-budget 0%: leaves nothing for any model; "
            "it takes bytes with a unit (8GiB, 500MB) or a percentage (80%)",
        ),
        ("8GiB,50%", "--memory-budget '8GiB,50%': every device is given twice"),
        ("CUDA0=8GiB,cuda0=50%", "--memory-budget 'CUDA0=8GiB,cuda0=50%': cuda0 is given twice"),
    ],
)
def test_what_is_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_allowance("--memory-budget", text, may_be_zero=False)
    assert str(caught.value) == line


def test_a_reserve_of_all_there_is_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^--memory-reserve 100%: leaves nothing for any model"):
        budgets(reserve="100%")
    assert budgets(reserve="99%").reserve.everywhere == Amount(percent=99)


def test_by_the_command_line_and_by_the_environment() -> None:
    assert settings("--memory-budget", "8GiB", LR_MEMORY_BUDGET="4GiB").budgets.budget == Allowance(
        "--memory-budget", Amount(bytes=8 * GIB)
    )
    assert settings(LR_MEMORY_RESERVE="0").budgets.reserve == Allowance("LR_MEMORY_RESERVE", Amount(bytes=0))
    with pytest.raises(UsageError, match=r"^LR_MEMORY_BUDGET 0: leaves nothing"):
        settings(LR_MEMORY_BUDGET="0")


@pytest.mark.parametrize(
    ("budget", "reserve", "line"),
    [
        ("4GiB", "4GiB", "--memory-reserve: 4 GiB in reserve leaves nothing of the 4 GiB of --memory-budget"),
        ("50%", "60%", "--memory-reserve: 60% in reserve leaves nothing of the 50% of --memory-budget"),
        (
            "CUDA0=4GiB",
            "cuda0=5GiB",
            "--memory-reserve: 5 GiB of CUDA0 in reserve leaves nothing of the 4 GiB of --memory-budget",
        ),
    ],
)
def test_a_reserve_that_eats_the_budget_is_refused(budget: str, reserve: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        budgets(budget, reserve)
    assert str(caught.value) == line


def test_without_a_word_a_margin_is_kept() -> None:
    assert Budgets().shares(MACHINE) == {
        "CUDA0": Share(None, GIB),
        "CUDA1": Share(None, 8 * GIB // 10),
        HOST: Share(None, GIB),
    }
    assert Budgets().shares(SMALL) == {HOST: Share(None, 4 * GIB // 10)}


def test_a_figure_without_a_name_is_for_each_gpu_or_without_one_for_the_host() -> None:
    assert budgets("50%", "1GiB").shares(MACHINE) == {
        "CUDA0": Share(12 * GIB, GIB),
        "CUDA1": Share(4 * GIB, GIB),
        HOST: Share(None, GIB),
    }
    assert budgets("50%").shares(SMALL) == {HOST: Share(2 * GIB, 0)}


def test_a_name_is_for_its_device_alone_whatever_its_case() -> None:
    shares = budgets("cuda1=2GiB,host=25%,20GiB", "0").shares(MACHINE)
    assert shares == {"CUDA0": Share(20 * GIB, 0), "CUDA1": Share(2 * GIB, 0), HOST: Share(16 * GIB, 0)}


def test_more_than_there_is_is_all() -> None:
    assert budgets("20GiB").shares(MACHINE)["CUDA1"] == Share(8 * GIB, 0)
    assert budgets("20GiB").problems(MACHINE) == []  # it is no mistake to say so of several devices


@pytest.mark.parametrize(
    ("budget", "reserve", "lines"),
    [
        ("CUDA7=1GiB", "", ["--memory-budget CUDA7=1 GiB: no such device; there is CUDA0, CUDA1, Host"]),
        ("", "NPU=10%", ["--memory-reserve NPU=10%: no such device; there is CUDA0, CUDA1, Host"]),
        ("cuda1=20GiB", "", ["--memory-budget cuda1=20 GiB: CUDA1 has 8 GiB in all"]),
        (
            "",
            "10GiB",
            ["--memory-reserve: 10 GiB of CUDA1 in reserve leaves nothing of 8 GiB; the reserve is not kept"],
        ),
        (
            "CUDA1=25%",
            "CUDA1=3GiB",
            [
                "--memory-reserve: 3 GiB of CUDA1 in reserve leaves nothing of the budget of 25%; "
                "the reserve is not kept"
            ],
        ),
    ],
)
def test_what_only_the_devices_tell(budget: str, reserve: str, lines: list[str]) -> None:
    found = budgets(budget, reserve)
    assert [str(each) for each in found.problems(MACHINE)] == lines
    assert all(share.reserve < (share.budget or MACHINE[name]) for name, share in found.shares(MACHINE).items())
