"""The probe of AMX: it believes a program that ran, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.host.amx import claims_tiles, tiles_work
from llamarouter.host.build_plan import Backend, Findings, cmake_arguments


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A compiler whose programs end as the file `ending` says."""
    path = tmp_path / "cc"
    path.write_text(
        "#!/bin/sh\ncat > /dev/null\n"
        'while [ "$1" != -o ]; do shift; done\n'
        f'printf "#!/bin/sh\\n%s\\n" "$(cat {tmp_path}/ending)" > "$2"\nchmod +x "$2"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("ending", "work"), [("exit 0", True), ("exit 1", False), ("kill -ILL $$", False)])
def test_only_a_program_that_ran_is_believed(compiler: Path, tmp_path: Path, ending: str, work: bool) -> None:
    (tmp_path / "ending").write_text(ending)
    assert tiles_work(str(compiler)) is work


def test_a_compiler_that_fails_or_is_not_there_means_no(tmp_path: Path) -> None:
    assert not tiles_work("/bin/false")
    assert not tiles_work(str(tmp_path / "none"))


def test_what_the_processor_says(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx512f amx_bf16 amx_tile\n")
    assert claims_tiles(str(tmp_path / "cpuinfo"))
    assert not claims_tiles(str(tmp_path / "none"))


def test_a_build_for_a_machine_with_broken_tiles_does_without() -> None:
    arguments = cmake_arguments("s", "b", Backend.CPU, "1", Findings(broken_amx=True))
    assert "-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" in arguments
    assert not any("amx" in argument for argument in cmake_arguments("s", "b", Backend.CPU, "1", Findings()))
