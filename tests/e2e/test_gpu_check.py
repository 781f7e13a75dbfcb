"""The check of a GPU on the machine's own memory: hollow models that load, and a router that swaps them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.footprint import HOST
from llamarouter.host.devices.processes import held_by
from llamarouter.host.devices.roots import Roots
from llamarouter.host.inventory import engine_for
from tests.estimates import environ_in, estimate, prompted, resident_of, running
from tests.gpu.report import Report
from tests.gpu.router import Router
from tests.gpu.swaps import Models, chosen, swap
from tests.real_shapes import attention, begin, feed_forward
from tests.sparse_gguf import Hollow
from tests.tiers import ENGINE

pytestmark = [pytest.mark.compiled]

_WIDTH = 512


class HostMeter:
    """The machine's own memory, of which others take and free what they like: only what is held is looked at."""

    name = HOST

    def free(self) -> int:
        return 0

    def taken(self, pids: Iterable[int]) -> int:
        return sum(held_by(Roots(), pid).total for pid in pids)


def hollow(path: Path, n_layer: int) -> Path:
    """A llama of so many layers, 9 MiB each."""
    file = Hollow(path, "llama", spoken=True)
    numbers = {"context_length": 4096, "embedding_length": _WIDTH, "block_count": n_layer, "feed_forward_length": 4096}
    heads = {"attention.head_count": 8, "attention.head_count_kv": 8, "attention.layer_norm_rms_epsilon": 1e-5}
    begin(file, {**numbers, **heads, "rope.dimension_count": 64}, _WIDTH, 1000, "Q8_0")
    for layer in range(n_layer):
        feed_forward(file, attention(file, layer, _WIDTH, _WIDTH, _WIDTH, "Q8_0"), _WIDTH, 4096, "Q8_0")
    return file.finish()


def test_a_spoken_one_takes_no_room_on_the_disk_and_loads(tmp_path: Path) -> None:
    path = hollow(tmp_path / "m.gguf", 8)
    size = path.stat().st_size
    assert size > 50 * MIB
    assert path.stat().st_blocks * 512 < MIB
    with running(path, "-c 1024", tmp_path) as (pid, listen):
        prompted(listen)
        taken = resident_of(pid)
    assert taken > size
    estimated = estimate(path, "-c 1024", engine_for((str(ENGINE),), environ_in(tmp_path)), tmp_path)
    assert estimated.needs[HOST].total == pytest.approx(taken, rel=0.1)


@pytest.mark.timeout(150)
def test_a_router_swaps_them_and_everything_is_looked_at(tmp_path: Path) -> None:
    # Weights that are no pages of their file: a budget is meant for them, too.
    options = {"ctx-size": "1024", "parallel": "2", "load-mode": "none"}
    files = {f"layers-{n_layer}": hollow(tmp_path / f"{n_layer}.gguf", n_layer) for n_layer in (2, 6, 12, 30)}
    engine = engine_for((str(ENGINE),), environ_in(tmp_path))
    needs = {
        id: estimate(path, "-c 1024 -np 2 -lm none", engine, tmp_path).needs[HOST].total for id, path in files.items()
    }
    names, budget = chosen(needs, 1 << 40)
    assert names == tuple(files)
    # What a process takes besides its buffers is more of a small one.
    models = Models(files, options, budget + 40 * MIB, hollow(tmp_path / "large.gguf", 100))
    lines: list[str] = []
    report = Report(lines.append)
    seen: list[set[str]] = []

    def then(router: Router) -> None:
        seen.append(router.loaded())

    with report.part("swaps"):
        swap(report, HostMeter(), ENGINE, models, tmp_path, 60, then, order=(1, 0, 3, 1), requests=8)
    assert report.is_well, "\n".join(lines)
    (loaded,) = seen
    assert "layers-6" in loaded
    assert "8 of 8 requests of 4 clients: 0 lost" in "\n".join(lines)
