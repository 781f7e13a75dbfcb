"""What to compile, decided before anything is done: the backend, cmake's arguments, the remedy for what is missing.

    asked backend + Findings -> Choice (backend, why) -> cmake_arguments

Plain functions of what was found on the machine; `host.build` finds it and carries the plan out.
"""

from __future__ import annotations

import enum
import re

from msgspec import Struct

TARGETS = ("llama-server", "llama-fit-params")
_WITHOUT_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
_NINJA_PROGRESS = re.compile(r"\[(\d+)/(\d+)\]")


class Backend(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    HIP = "hip"
    VULKAN = "vulkan"


class Findings(Struct, frozen=True, kw_only=True):
    """What this machine has. Paths, or None."""

    nvcc: str | None = None
    cublas: str | None = None
    nvidia_device: str | None = None
    static_openmp: str | None = None  # the compiler's libgomp.a
    linux: bool = True
    broken_amx: bool = False  # the processor claims AMX tiles, and a program that uses them dies


class Choice(Struct, frozen=True):
    """The backend to build for. `certain`: somebody asked for it, so that a failure is an error, not a reason for
    another build; `why` is for people."""

    backend: Backend
    why: str
    certain: bool


def choose(asked: Backend, findings: Findings) -> Choice:
    """AUTO takes CUDA only where a build can succeed and be of use: nvcc alone is not enough (there are machines
    that have it without cuBLAS, and without a GPU)."""
    if asked is not Backend.AUTO:
        return Choice(asked, "asked for", certain=True)
    if findings.nvcc is None:
        return Choice(Backend.CPU, "no nvcc found", certain=False)
    missing = [
        what
        for what, found in (("cuBLAS", findings.cublas), ("a visible NVIDIA GPU", findings.nvidia_device))
        if found is None
    ]
    if missing:
        return Choice(Backend.CPU, f"nvcc is there ({findings.nvcc}), but not {' nor '.join(missing)}", certain=False)
    return Choice(Backend.CUDA, f"nvcc, cuBLAS and {findings.nvidia_device} are there", certain=False)


def cmake_arguments(
    source: str, build: str, backend: Backend, build_number: str, findings: Findings
) -> tuple[str, ...]:
    """The configuration: a program for this very CPU that needs nothing beside it but the C library (and its GPU's),
    so that a copy runs where there is no build folder and no compiler."""
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_SHARED_LIBS": "OFF",
        "GGML_NATIVE": "ON",
        "LLAMA_BUILD_NUMBER": build_number,
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_APP": "OFF",
        # The page would be fetched from the Hub during the build.
        "LLAMA_USE_PREBUILT_UI": "OFF",
        "OPENSSL_USE_STATIC_LIBS": "ON",
    }
    if findings.broken_amx:
        settings |= dict.fromkeys(("CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"), _WITHOUT_AMX)
    if findings.linux:
        settings["CMAKE_EXE_LINKER_FLAGS"] = "-static-libgcc -static-libstdc++"
        if findings.static_openmp is not None:
            settings["OpenMP_gomp_LIBRARY"] = findings.static_openmp
    match backend:
        case Backend.CUDA:
            settings["GGML_CUDA"] = "ON"
            if findings.nvcc is not None:
                settings["CMAKE_CUDA_COMPILER"] = findings.nvcc
        case Backend.HIP:
            settings["GGML_HIP"] = "ON"
        case Backend.VULKAN:
            settings["GGML_VULKAN"] = "ON"
        case Backend.CPU | Backend.AUTO:
            pass
    return ("-S", source, "-B", build, "-G", "Ninja", *(f"-D{name}={value}" for name, value in settings.items()))


def progress_of(line: str) -> tuple[int, int] | None:
    """(done, all) of a line of ninja's; None for any other line."""
    match = _NINJA_PROGRESS.match(line)
    return (int(match[1]), int(match[2])) if match else None


# Package managers, and how each installs what is missing.
_REMEDIES = {
    "apt-get": {"compiler": "sudo apt-get install g++", "pip": "sudo apt-get install python3-pip"},
    "dnf": {"compiler": "sudo dnf install gcc-c++", "pip": "sudo dnf install python3-pip"},
    "pacman": {"compiler": "sudo pacman -S gcc", "pip": "sudo pacman -S python-pip"},
    "zypper": {"compiler": "sudo zypper install gcc-c++", "pip": "sudo zypper install python3-pip"},
    "apk": {"compiler": "sudo apk add g++ linux-headers", "pip": "sudo apk add py3-pip"},
    "brew": {"compiler": "xcode-select --install", "pip": "brew install python"},
}
PACKAGE_MANAGERS = tuple(_REMEDIES)


def remedy_of(missing: str, manager: str | None) -> str:
    """The command that installs what is missing (`compiler` or `pip`) with this machine's package manager."""
    if manager is None:
        return f"install a {'C++ compiler' if missing == 'compiler' else 'pip'} with your package manager"
    return _REMEDIES[manager][missing]
