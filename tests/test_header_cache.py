"""Headers are read once, kept between starts, and read again when a file changes; what is no file is never opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamarouter.core.model import Model, Source
from llamarouter.host import header_cache
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.model_files import describe_file, model_of, read_now
from tests.test_gguf import SMALL
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "state" / "headers.json"


def spoil_in_place(path: Path) -> None:
    """Make the content unreadable as a GGUF, with size and mtime as before."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"XXXX")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_start_reads_no_header(tmp_path: Path, kept: Path) -> None:
    good, bad = write_llama(tmp_path / "a.gguf"), tmp_path / "bad.gguf"
    bad.write_bytes(b"nothing")
    first = HeaderCache(kept)
    assert first.facts_of(str(good)).header is not None
    assert "magic" in str(first.facts_of(str(bad)).problem)
    first.save()
    # What the second one knows can only come from here.
    kept.write_bytes(kept.read_bytes().replace(b"llama", b"other").replace(b"magic", b"spell"))
    second = HeaderCache(kept)
    header = second.facts_of(str(good)).header
    assert header is not None
    assert header.architecture == "other"
    assert "spell" in str(second.facts_of(str(bad)).problem)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "a.gguf", name="one")
    headers = HeaderCache(None)
    assert headers.facts_of(str(path)).problem is None
    spoil_in_place(path)
    assert headers.facts_of(str(path)).problem is not None
    write_llama(path, name="other")
    header = headers.facts_of(str(path)).header
    assert header is not None
    assert header.name == "other"


def test_what_there_is_no_time_for_stays_unread_and_what_is_known_is_not(tmp_path: Path) -> None:
    known, new = (str(write_llama(tmp_path / f"{name}.gguf")) for name in ("known", "new"))
    headers = HeaderCache(None)
    before = headers.facts_of(known)
    headers.read_within(-1)
    assert headers.facts_of(known) == before
    unread = headers.facts_of(new)
    assert (unread.header, unread.problem, unread.unread, headers.unread) == (None, None, True, 1)
    now = headers.facts_of(new, at_once=True)
    assert (now.size, now.stamp, now.unread) == (unread.size, unread.stamp, False)
    assert now.header is not None
    assert headers.facts_of(new) == now
    headers.read_within(60)
    assert headers.facts_of(str(write_llama(tmp_path / "more.gguf"))).header is not None
    assert headers.unread == 1


def test_a_model_is_unread_where_any_of_its_files_is_and_can_be_read_for_itself(tmp_path: Path) -> None:
    shards = write_sharded_llama(tmp_path / "m")
    alone = write_llama(tmp_path / "alone.gguf")
    projector = write_mmproj(tmp_path / "mmproj.gguf")
    headers = HeaderCache(None)
    headers.facts_of(str(alone))
    headers.facts_of(str(shards[0]))
    headers.read_within(-1)
    models = [
        model_of(headers, str(path), id="m", source=Source.PRESET, mmproj=str(beside) if beside else None)
        for path, beside in ((alone, None), (alone, projector), (shards[0], None))
    ]
    assert [(model.unread, model.problem) for model in models] == [(False, None), (True, None), (True, None)]
    read = [read_now(model, headers) for model in models]
    assert [model.unread for model in read] == [False] * 3
    assert read[1].projects == ("image",)
    assert read[2] == model_of(HeaderCache(None), str(shards[0]), id="m", source=Source.PRESET)
    assert read_now(Model(id="m", source=Source.PRESET), headers) == Model(id="m", source=Source.PRESET)


def test_without_a_file_it_works_in_memory(tmp_path: Path) -> None:
    headers = HeaderCache(None)
    assert headers.facts_of(str(write_llama(tmp_path / "a.gguf"))).header is not None
    headers.save()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version":0,"files":{}}', b"\xff\xfe", b'{"version":1,"files":7}', b"[" * 100_000]
)
def test_an_unreadable_file_is_an_empty_cache(tmp_path: Path, kept: Path, content: bytes) -> None:
    kept.parent.mkdir()
    kept.write_bytes(content)
    headers = HeaderCache(kept)
    assert headers.facts_of(str(write_llama(tmp_path / "a.gguf"))).header is not None
    headers.save()
    assert kept.read_bytes() != content


def test_another_version_is_an_empty_cache(tmp_path: Path, kept: Path) -> None:
    path = write_llama(tmp_path / "a.gguf")
    headers = HeaderCache(kept)
    headers.facts_of(str(path))
    headers.save()
    kept.write_bytes(kept.read_bytes().replace(b'"version":2', b'"version":1').replace(b"llama", b"other"))
    header = HeaderCache(kept).facts_of(str(path)).header
    assert header is not None
    assert header.architecture == "llama"


def test_a_kept_file_that_is_a_pipe_or_a_folder(tmp_path: Path, kept: Path) -> None:
    kept.parent.mkdir()
    os.mkfifo(kept)
    HeaderCache(kept)
    HeaderCache(tmp_path)
    unwritable = HeaderCache(kept.parent)  # a folder: cannot be replaced
    unwritable.facts_of(str(write_llama(tmp_path / "a.gguf")))
    unwritable.save()


def test_nothing_new_is_not_written(tmp_path: Path, kept: Path) -> None:
    path = str(write_llama(tmp_path / "a.gguf"))
    first = HeaderCache(kept)
    first.facts_of(path)
    first.save()
    before = kept.stat().st_ino
    second = HeaderCache(kept)
    second.facts_of(path)
    second.save()
    assert kept.stat().st_ino == before


def test_the_longest_unused_are_forgotten(tmp_path: Path, kept: Path) -> None:
    paths = [str(write_llama(tmp_path / f"{name}.gguf")) for name in "abc"]
    headers = HeaderCache(kept, entries_max=2)
    for path in (*paths, paths[0]):
        headers.facts_of(path)
    headers.save()
    content = kept.read_text()
    assert [path in content for path in paths] == [True, False, True]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "file").write_bytes(b"")
    headers = HeaderCache(None)
    reasons = {
        name: headers.facts_of(str(tmp_path / name)).problem
        for name in ("pipe", "folder", "dangling", "loop", "socket", "file", "missing", "nul\0", "file/below")
    }
    assert reasons == {
        "pipe": "a named pipe, not a file",
        "folder": "a folder, not a file",
        "dangling": "a symbolic link that leads nowhere",
        "loop": "a loop of symbolic links",
        "socket": "a socket, not a file",
        "file": "the file is empty",
        "missing": "there is no such file",
        "nul\0": "no valid path",
        "file/below": "cannot be read (not a directory)",
    }
    assert headers.facts_of("/dev/zero").problem == "a device, not a file"


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        header_cache.open_plain(str(tmp_path / "pipe"), os.O_RDONLY)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=6))
def test_whatever_is_known_of_a_file_is_known_at_the_next_start(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL)
    for offset, value in changes:
        content[offset] = value
    file = tmp_path / "m.gguf"
    file.write_bytes(bytes(content))
    headers = HeaderCache(tmp_path / "headers.json")
    facts = headers.facts_of(str(file))
    assert (facts.header is None) is (facts.problem is not None)
    headers.save()
    again = HeaderCache(tmp_path / "headers.json")
    assert again.facts_of(str(file)) == facts
    assert describe_file(str(file), again) == describe_file(str(file))
