"""A machine of a test's own: trees for `/proc`, `/sys` and cgroups, a driver of NVIDIA's that is real but for its cards
(`fake_nvml.c`), and an engine that lists what the test says.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from llamarouter.host.devices.roots import Roots

GIB = 1 << 30


@functools.cache
def fake_nvml() -> str:
    """The driver's library, compiled once."""
    folder = Path(tempfile.mkdtemp(prefix="nvml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(__file__).parent / "fake_nvml.c"
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return str(library)


class FakeMachine:
    """Trees below one folder; `roots` leads there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.roots = Roots(*(str(folder / name) for name in ("proc", "sys", "cgroup")), nvml="no-such-driver.so")
        self.env = {"PATH": "/usr/bin:/bin"}
        self._monkeypatch = monkeypatch
        self.memory(64 * GIB, 60 * GIB)

    def write(self, path: str, text: str) -> None:
        """A file below the folder."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def memory(self, total: int, available: int) -> None:
        text = f"MemTotal:  {total // 1024} kB\nMemFree:  1 kB\nMemAvailable:  {available // 1024} kB\n"
        self.write("proc/meminfo", text)

    def process(
        self, pid: int, *, anon: int = 0, file: int = 0, shmem: int = 0, locked: int = 0, kids: str = ""
    ) -> None:
        sizes = {"VmLck": locked, "RssAnon": anon, "RssFile": file, "RssShmem": shmem}
        text = "".join(f"{name}:\t{size // 1024} kB\n" for name, size in sizes.items())
        self.write(f"proc/{pid}/status", f"Name:\tllama-server\n{text}Threads:\t4\n")
        self.write(f"proc/{pid}/task/{pid}/children", kids)

    def nvidia(self, *lines: str) -> None:
        """What NVIDIA's driver says from now on (`fake_nvml.c`)."""
        self.write("nvidia", "\n".join(lines) + "\n")
        self._monkeypatch.setenv("FAKE_NVML", str(self.folder / "nvidia"))
        self.roots = Roots(self.roots.proc, self.roots.sys, self.roots.cgroup, fake_nvml())

    def amd(self, card: str, address: str, total: int, used: int, *, vendor: str = "0x1002") -> None:
        device = self.folder / "sys" / "devices" / address
        for name, text in (("mem_info_vram_total", total), ("mem_info_vram_used", used), ("vendor", vendor)):
            self.write(f"sys/devices/{address}/{name}", f"{text}\n")
        link = self.folder / "sys" / "class" / "drm" / card / "device"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(device)

    def engine(self, name: str, *devices: str, does: str = "") -> tuple[str, ...]:
        """An engine that lists devices: `CUDA0: NVIDIA X (1024 MiB, 512 MiB free)`."""
        listed = "\n".join(f"  {device}" for device in devices) or "  (none)"
        self.write(name, f"#!/bin/sh\n{does}\ncat <<'END'\nAvailable devices:\n{listed}\nEND\n")
        (self.folder / name).chmod(0o755)
        return (str(self.folder / name),)


def listed(name: str, description: str, total: int, free: int) -> str:
    """A line of `--list-devices`."""
    return f"{name}: {description} ({total >> 20} MiB, {free >> 20} MiB free)"


def card(
    at: int, total: int, free: int, *, name: str = "NVIDIA GeForce RTX 4090", held: Mapping[int, int] | None = None
) -> list[str]:
    """Lines of a card for `FakeMachine.nvidia`."""
    lines = [f"card 0000:{at:02x}:00.0 {total} {free} GPU-{at:04d} {name}"]
    return lines + [f"process {pid} {size}" for pid, size in (held or {}).items()]
