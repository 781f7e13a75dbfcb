"""Footprints are kept between starts, so many of them, and a file that is no cache is an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.host import footprint_cache
from llamarouter.host.footprint_cache import FootprintCache

ONE = Footprint(
    needs={"CUDA0": Parts(weights=1, kv=2, compute=3, projector=4, other=5), HOST: Parts(weights=6, mapped=6)},
    source=Source.ENGINE,
    prompt_cache_limit=7,
    doubts=("eight",),
)


def test_a_second_start_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "estimates.json"
    first = FootprintCache(path)
    assert first.get("a") is None
    first.put("a", ONE)
    first.save()
    assert FootprintCache(path).get("a") == ONE
    path.unlink()
    first.save()  # nothing new
    assert not path.exists()


def test_the_longest_unused_are_forgotten() -> None:
    cache = FootprintCache(None, entries_max=2)
    for key in ("a", "b"):
        cache.put(key, ONE)
    assert cache.get("a") is ONE
    cache.put("c", ONE)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (ONE, None, ONE)
    cache.save()


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 99, "footprints": {}}', b"[" * 5000, b'{"version": 1}'])
def test_a_file_that_is_no_cache(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "estimates.json"
    path.write_bytes(content)
    cache = FootprintCache(path)
    assert cache.get("a") is None
    cache.put("a", ONE)
    cache.save()
    assert FootprintCache(path).get("a") == ONE


def test_a_file_of_another_version_or_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "estimates.json"
    cache = FootprintCache(path)
    cache.put("a", ONE)
    cache.save()
    monkeypatch.setattr(footprint_cache, "FILE_MAX", 10)
    assert FootprintCache(path).get("a") is None
    monkeypatch.undo()
    monkeypatch.setattr(footprint_cache, "VERSION", footprint_cache.VERSION + 1)
    assert FootprintCache(path).get("a") is None


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = FootprintCache(tmp_path / "file" / "estimates.json")
    cache.put("a", ONE)
    cache.save()
    assert cache.get("a") is ONE
