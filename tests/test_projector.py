"""What a projector needs, from its header; and what a process takes beside its buffers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.gguf import GgufError
from llamarouter.core.overhead import overhead_of
from llamarouter.core.projector import projector_bytes
from tests import real_shapes
from tests.tiny_gguf import write_mmproj


def taken(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return projector_bytes(lambda offset, count: os.pread(descriptor, count, offset), path.stat().st_size)
    finally:
        os.close(descriptor)


def test_a_vision_tower(tmp_path: Path) -> None:
    """llama-server b11434: "estimated worst-case memory usage of mmproj is 928.94 MiB"."""
    assert taken(real_shapes.gemma3_projector(tmp_path / "p.gguf")) / MIB == pytest.approx(928.94, rel=0.01)


def test_a_header_that_tells_no_tower_leaves_the_weights(tmp_path: Path) -> None:
    assert taken(write_mmproj(tmp_path / "p.gguf")) == 32 * 32 * 2


def test_what_is_no_projector(tmp_path: Path) -> None:
    path = tmp_path / "p.gguf"
    path.write_bytes(b"no")
    with pytest.raises(GgufError):
        taken(path)


def test_a_driver_keeps_something_for_each_process() -> None:
    beside = overhead_of(100_000, ["CUDA0", "CUDA11", "ROCm0", "Vulkan0", HOST])
    assert set(beside) == {"CUDA0", "CUDA11", "ROCm0", HOST}
    assert beside[HOST] == Parts(other=16 * MIB + 16_000_000)
    assert overhead_of(0, [], embedded=True) == {HOST: Parts(other=34 * MIB)}
