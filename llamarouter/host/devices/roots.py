"""Where the kernel and the drivers are found; tests have trees of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Roots:
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
        """A file's text; empty where it cannot be read."""
        try:
            return Path(*path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
