"""Where the kernel and the drivers are found; tests have trees of their own."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

_PIECE = 1 << 16  # bytes; what the kernel makes up for a reader is shorter


class Roots(Struct, frozen=True):
    """Folders, and the library of NVIDIA's driver (NVML)."""

    proc: str = "/proc"
    sys: str = "/sys"
    cgroup: str = "/sys/fs/cgroup"
    nvml: str = "libnvidia-ml.so.1"

    @property
    def has_nvidia(self) -> bool:
        """Whether NVIDIA's driver runs; on WSL 2 it is the one of Windows."""
        return os.path.isabs(self.nvml) or any(
            os.path.exists(path) for path in (f"{self.proc}/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg")
        )

    @property
    def has_amd(self) -> bool:
        """Whether AMD's driver shows the memory of a card."""
        return any(Path(self.sys).glob("class/drm/card*/device/mem_info_vram_total"))

    def number(self, *path: str) -> int | None:
        """The number that is all of a file; None where there is none (`max` is none either)."""
        text = self.text(*path).strip()
        return int(text) if text.isdecimal() else None

    def text(self, *path: str) -> str:
        """A file's text; empty where it cannot be read. A dozen are read for every look at the devices: no frills."""
        try:
            descriptor = os.open("/".join(path), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        pieces = []
        try:
            while piece := os.read(descriptor, _PIECE):
                pieces.append(piece)
        except OSError:
            return ""
        finally:
            os.close(descriptor)
        return b"".join(pieces).decode("utf-8", "replace")
