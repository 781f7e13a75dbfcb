"""Compiling the engine, as far as it is a plan: backend, arguments, remedies, and what the machine has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.host import build
from llamarouter.host.build_plan import (
    PACKAGE_MANAGERS,
    TARGETS,
    Backend,
    Findings,
    choose,
    cmake_arguments,
    progress_of,
    remedy_of,
)

NVCC = {"nvcc": "/usr/bin/nvcc"}
CUBLAS = {"cublas": "/usr/lib/libcublas.so"}
GPU = {"nvidia_device": "/dev/nvidia0"}


@pytest.mark.parametrize(
    ("found", "backend", "why"),
    [
        ({}, Backend.CPU, "no nvcc"),
        (GPU, Backend.CPU, "no nvcc"),
        (NVCC, Backend.CPU, "not cuBLAS nor a visible NVIDIA GPU"),
        (NVCC | GPU, Backend.CPU, "not cuBLAS"),
        (NVCC | CUBLAS, Backend.CPU, "not a visible NVIDIA GPU"),
        (NVCC | CUBLAS | GPU, Backend.CUDA, "/dev/nvidia0"),
    ],
)
def test_auto_takes_cuda_only_where_it_can_work(found: dict[str, Any], backend: Backend, why: str) -> None:
    choice = choose(Backend.AUTO, Findings(**found))
    assert choice.backend is backend
    assert why in choice.why
    assert not choice.certain


@pytest.mark.parametrize("backend", [Backend.CPU, Backend.CUDA, Backend.HIP, Backend.VULKAN])
def test_what_is_asked_for_is_built(backend: Backend) -> None:
    choice = choose(backend, Findings())
    assert choice.backend is backend
    assert choice.certain


@pytest.mark.parametrize(
    ("backend", "switch"),
    [(Backend.CUDA, "-DGGML_CUDA=ON"), (Backend.HIP, "-DGGML_HIP=ON"), (Backend.VULKAN, "-DGGML_VULKAN=ON")],
)
def test_arguments_of_a_backend(backend: Backend, switch: str) -> None:
    arguments = cmake_arguments("/source", "/build", backend, "11434", Findings())
    switches = [each for each in arguments if each in ("-DGGML_CUDA=ON", "-DGGML_HIP=ON", "-DGGML_VULKAN=ON")]
    assert switches == [switch]


def test_arguments_make_a_static_native_release() -> None:
    arguments = cmake_arguments("/source", "/build", Backend.CPU, "11434", Findings())
    assert arguments[:6] == ("-S", "/source", "-B", "/build", "-G", "Ninja")
    for wanted in (
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_SHARED_LIBS=OFF",
        "-DGGML_NATIVE=ON",
        "-DLLAMA_BUILD_NUMBER=11434",
    ):
        assert wanted in arguments
    assert not any("GGML_CUDA" in each for each in arguments)


def test_nvcc_outside_of_path_is_named_to_cmake() -> None:
    arguments = cmake_arguments("/s", "/b", Backend.CUDA, "1", Findings(nvcc="/usr/local/cuda/bin/nvcc"))
    assert "-DCMAKE_CUDA_COMPILER=/usr/local/cuda/bin/nvcc" in arguments


def test_ninjas_progress_is_read() -> None:
    assert progress_of("[12/345] Building CXX object a.o") == (12, 345)
    assert progress_of("-- Configuring done (0.2s)") is None


@pytest.mark.parametrize("manager", [*PACKAGE_MANAGERS, None])
@pytest.mark.parametrize("missing", ["compiler", "pip"])
def test_every_machine_gets_a_remedy(missing: str, manager: str | None) -> None:
    remedy = remedy_of(missing, manager)
    assert (manager or "package manager").partition("-")[0] in remedy or remedy == "xcode-select --install"


def test_nvcc_and_cublas_are_found_in_a_toolkit(tmp_path: Path) -> None:
    nvcc, cublas = tmp_path / "bin" / "nvcc", tmp_path / "lib64" / "libcublas.so"
    for file in (nvcc, cublas):
        file.parent.mkdir()
        file.touch(mode=0o755)
    found = build.find({"PATH": "/nowhere", "CUDA_HOME": str(tmp_path)})
    assert found.nvcc == str(nvcc)
    assert found.cublas == str(cublas)


def test_nvcc_alone_is_not_cublas(tmp_path: Path) -> None:
    (tmp_path / "nvcc").touch(mode=0o755)
    found = build.find({"PATH": str(tmp_path)})
    assert found.nvcc == str(tmp_path / "nvcc")
    assert choose(Backend.AUTO, found).backend is Backend.CPU or found.cublas is not None


@pytest.mark.parametrize(("answer", "found"), [("", True), ("libgomp.a", False)])
def test_the_compilers_static_openmp_is_linked(tmp_path: Path, answer: str, found: bool) -> None:
    library = tmp_path / "libgomp.a"
    library.touch()
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\n[ $1 = -print-file-name=libgomp.a ] && echo {answer or library}\n")
    compiler.chmod(0o755)
    findings = build.find({"PATH": f"{tmp_path}:/usr/bin:/bin"})
    wanted = f"-DOpenMP_gomp_LIBRARY={library}"
    assert (wanted in cmake_arguments("/s", "/b", Backend.CPU, "1", findings)) is found


def test_no_compiler_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "apt-get").touch(mode=0o755)
    with pytest.raises(UsageError, match=r"^no C\+\+ compiler: sudo apt-get install g\+\+$"):
        build.build(
            Backend.CPU,
            release="1.0.0",
            into=tmp_path / "bin",
            environ={"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)},
        )


class Workshop:
    """A cache folder with a source in it, and tools that only say what they were asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.calls = folder / "calls"
        (folder / "cache" / "llamarouter" / "engine-1.0.0" / "llama.cpp").mkdir(parents=True)
        for tool in ("c++", "ninja"):
            self.tool(tool, "")
        monkeypatch.setenv("PATH", f"{self.tools}:/usr/bin:/bin")
        # pip's cmake in this very environment would come first
        monkeypatch.setattr("sys.prefix", str(folder))
        self.environ = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(folder / "cache")}

    def tool(self, name: str, body: str) -> None:
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{body}\n')
        path.chmod(0o755)

    def cmake(self, configure: str = ":", program: str = 'echo "program $1"') -> None:
        """`configure`: what it does when it is called with -S; compiling makes the two programs."""
        (self.folder / "program").write_text(f"#!/bin/sh\n{program}\n")
        (self.folder / "program").chmod(0o755)
        copies = "; ".join(f'cp {self.folder}/program "$2/bin/{target}"' for target in TARGETS)
        compiled = f'echo "[1/2] a"; echo "[2/2] b"; mkdir -p "$2/bin"; {copies}'
        self.tool("cmake", f'case "$1" in -S) {configure} ;; --build) {compiled} ;; esac')

    def build(self, backend: Backend) -> Path:
        into = self.folder / "bin"
        build.build(backend, release="1.0.0", into=into, environ=self.environ)
        return into


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def test_the_programs_are_copied_and_run(workshop: Workshop, capfd: pytest.CaptureFixture[str]) -> None:
    workshop.cmake()
    into = workshop.build(Backend.CPU)
    assert sorted(path.name for path in into.iterdir()) == ["llama-fit-params", "llama-server"]
    output = capfd.readouterr().out
    for said in ("for cpu: asked for", "100% (2 of 2)", "program --version", "program --list-devices"):
        assert said in output


def test_cuda_that_was_only_a_guess_becomes_a_cpu_build(
    workshop: Workshop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.cmake(configure='case "$*" in *GGML_CUDA=ON*) echo "Target CUDA::cublas not found"; exit 1 ;; esac')
    found = Findings(nvcc="/usr/bin/nvcc", cublas="/usr/lib/libcublas.so", nvidia_device="/dev/nvidia0")
    monkeypatch.setattr(build, "find", lambda environ: found)
    assert (workshop.build(Backend.AUTO) / "llama-server").is_file()
    assert "cuda cannot be configured" in capfd.readouterr().out
    configured = [line for line in workshop.calls.read_text().splitlines() if " -S " in line]
    assert ["GGML_CUDA=ON" in line for line in configured] == [True, False]


def test_cuda_that_was_asked_for_fails_with_its_reason(workshop: Workshop) -> None:
    workshop.cmake(configure='case "$*" in *GGML_CUDA=ON*) echo "Target CUDA::cublas not found"; exit 1 ;; esac')
    with pytest.raises(build.BuildFailed, match="cmake failed") as failure:
        workshop.build(Backend.CUDA)
    assert failure.value.last_words == ["Target CUDA::cublas not found"]


def test_what_does_not_run_is_a_failure(workshop: Workshop) -> None:
    workshop.cmake(program="exit 4")
    with pytest.raises(build.BuildFailed, match="does not run"):
        workshop.build(Backend.CPU)


@pytest.mark.parametrize(("name", "code"), [("--backend", 2), ("--nonsense", 2)])
def test_wrong_words_are_refused(name: str, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        build.main([name, "abacus"])
    assert exit_info.value.code == code
    assert "abacus" in capfd.readouterr().err
