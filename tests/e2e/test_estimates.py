"""Estimates beside what the engine itself reckons, and beside what a process takes (`tests/estimates.py`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.buffer_lines import footprint_of_log
from llamarouter.core.footprint import HOST, Source
from llamarouter.host.inventory import engine_for
from tests import further_shapes, real_shapes
from tests.estimates import ROWS, SERVER, environ_in, estimate, resident_of, row_of, running, taken_after_a_prompt
from tests.tiny_gguf import write_llama

pytestmark = [pytest.mark.compiled]


@pytest.mark.parametrize(("shape", "flags"), ROWS)
def test_the_table_of_errors(tmp_path: Path, shape: Callable[[Path], Path], flags: str) -> None:
    """The formula within 15% of the engine's figure, this within 5% of what a server would allocate."""
    row = row_of(shape, flags, tmp_path)
    assert row.header.weights == pytest.approx(row.engine.weights, rel=0.01)
    assert row.header.kv == pytest.approx(row.engine.kv, rel=0.01, abs=MIB)
    assert row.header.total == pytest.approx(row.engine.total, rel=0.15)
    assert row.engine.total == pytest.approx(row.rehearsal.total, rel=0.05)
    # Not only because the weights are so much of it. (Its experts go through fewer steps than those of the others.)
    nearly = 0.25 if shape is further_shapes.gpt_oss_120b else 0.1
    assert row.engine.compute == pytest.approx(row.rehearsal.compute, rel=nearly, abs=2 * MIB)
    logits = 4 * MIB  # which the rehearsal leaves out
    assert row.engine.kv == pytest.approx(row.rehearsal.kv, rel=0.01, abs=logits + 2 * MIB)


@pytest.mark.parametrize("flags", ["-c 4096", "-c 4096 -np 1 -ctk q8_0 -ctv q8_0"])
def test_a_process_takes_what_was_estimated(tmp_path: Path, flags: str) -> None:
    path = write_llama(tmp_path / "m.gguf", n_ctx=4096, n_embd=1024, n_layer=4, quant="Q8_0")
    footprint = estimate(path, flags, engine_for((str(SERVER),), environ_in(tmp_path)), tmp_path)
    assert footprint.source is Source.ENGINE
    estimated = footprint.needs[HOST].total
    assert estimated > 100 * MIB
    loaded, served = taken_after_a_prompt(path, flags, tmp_path)
    assert estimated == pytest.approx(served, rel=0.05)
    assert loaded <= served  # pages of the compute buffer that no small batch has touched yet


def test_no_weight_is_read_for_an_estimate(tmp_path: Path) -> None:
    """700 GB of weights would show: in the time, and in what lies of the file in memory or on the disk."""
    path = real_shapes.deepseek_v3(tmp_path / "d.gguf")
    before = path.stat().st_blocks
    engine = engine_for((str(SERVER),), environ_in(tmp_path))
    estimate(path, "-c 8192", engine, tmp_path)
    assert path.stat().st_blocks == before
    assert path.stat().st_size > 400_000 * MIB
    assert before * 512 < MIB


def test_the_log_of_a_load_says_the_same(tmp_path: Path) -> None:
    """With the verbosity at which this build says it."""
    path = write_llama(tmp_path / "m.gguf", n_ctx=8192, n_embd=256, n_layer=4, quant="Q8_0")
    with running(path, "-c 8192 -lv 4", tmp_path) as (pid, _):
        assert resident_of(pid) > 30 * MIB
    lines = (tmp_path / "server.log").read_text().splitlines()
    logged = footprint_of_log(lines, file_bytes=os.path.getsize(path))
    assert logged is not None
    engine = estimate(path, "-c 8192", engine_for((str(SERVER),), environ_in(tmp_path)), tmp_path)
    host, told = engine.needs[HOST], logged.needs[HOST]
    for part in ("weights", "kv", "compute"):
        assert getattr(told, part) == pytest.approx(getattr(host, part), rel=0.05, abs=MIB)
