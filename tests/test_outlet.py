"""Writing a log never waits: for a reader that has stopped, nor for a disk that is full."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.host.outlet import Outlet


def notice(lines: int, why: str) -> bytes:
    return f"missing {lines}: {why}\n".encode()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        os.close(end)


def read_all(end: int, until: bytes) -> bytes:
    """What can be read until `until` has come; a thread writes meanwhile, and does not for ever."""
    seen = bytearray()
    stop = threading.Timer(10.0, os._exit, (99,))
    stop.start()
    try:
        while not seen.endswith(until):
            seen += os.read(end, 1 << 16)
    finally:
        stop.cancel()
    return bytes(seen)


def test_a_reader_that_has_stopped_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1], notice, buffer=20_000)
    began = time.monotonic()
    for number in range(1000):
        outlet.put(b"%098d\n" % number, 1)
    assert time.monotonic() - began < 1.0
    assert 700 < outlet.dropped < 1000
    outlet.flush(0.05)  # it is not waited for without end
    dropped = outlet.dropped
    kept = [b"%098d\n" % number for number in range(1000 - dropped)]
    assert read_all(pipe[0], kept[-1]) == b"".join(kept)
    outlet.flush(5.0)
    outlet.put(b"again\n", 1)
    said = read_all(pipe[0], b"again\n")
    assert said == b"missing %d: whoever reads the log does not keep up\nagain\n" % dropped
    outlet.put(b"and again\n", 1)
    assert read_all(pipe[0], b"and again\n") == b"and again\n"


def test_a_disk_that_is_full_costs_lines_which_are_said_once(tmp_path: Path) -> None:
    link = tmp_path / "log"
    link.symlink_to("/dev/full")
    outlet = Outlet(str(link), notice)
    outlet.put(b"a\nb\n", 2)
    outlet.flush(5.0)
    outlet.put(b"c\n", 1)
    outlet.flush(5.0)
    assert outlet.dropped == 3
    link.unlink()  # somebody makes room
    outlet.reopen()
    outlet.put(b"d\n", 1)
    outlet.put(b"e\n", 1)
    outlet.flush(5.0)
    assert link.read_bytes() == b"missing 3: No space left on device\nd\ne\n"
    assert outlet.dropped == 3


def test_a_file_is_written_anew_and_after_it_was_moved_away_again(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("of the last run\n")
    outlet = Outlet(str(file), notice)
    outlet.put(b"a\n", 1)
    outlet.flush(5.0)
    file.rename(tmp_path / "log.1")
    outlet.put(b"b\n", 1)
    outlet.flush(5.0)
    outlet.reopen()
    outlet.put(b"c\n", 1)
    outlet.flush(5.0)
    outlet.reopen()  # nobody has moved it: nothing is lost
    outlet.put(b"d\n", 1)
    outlet.flush(5.0)
    assert (tmp_path / "log.1").read_bytes() == b"a\nb\n"
    assert file.read_bytes() == b"c\nd\n"


def test_a_file_that_cannot_be_opened_again_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    outlet = Outlet(str(folder / "log"), notice)
    outlet.put(b"a\n", 1)
    outlet.flush(5.0)
    folder.rename(tmp_path / "moved")
    outlet.reopen()
    outlet.put(b"b\n", 1)
    outlet.flush(5.0)
    assert (tmp_path / "moved" / "log").read_bytes() == b"a\nb\n"
    with pytest.raises(OSError, match="No such file"):
        Outlet(str(folder / "log"), notice)


def test_what_comes_together_is_written_together() -> None:
    ours, theirs = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)  # each write is a packet of its own, and so is each read
    try:
        outlet = Outlet(theirs, notice)
        pause = threading.Event()
        for number in range(50):
            outlet.put(b"%03d\n" % number, 1)
            pause.wait(0.001)
        outlet.flush(5.0)
        os.set_blocking(ours, False)
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.append(os.read(ours, 4096))
        assert b"".join(packets) == b"".join(b"%03d\n" % number for number in range(50))
        assert len(packets) <= 10
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_fifo_that_nobody_reads_yet_is_waited_for_by_nobody(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    opened: list[Outlet] = []
    thread = threading.Thread(target=lambda: opened.append(Outlet(str(fifo), notice)), daemon=True)
    thread.start()
    thread.join(5.0)
    assert opened, "it waits for a reader"
    outlet = opened[0]
    outlet.put(b"early\n", 1)
    outlet.flush(5.0)
    outlet.reopen()  # nor does a reload
    outlet.flush(5.0)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        outlet.put(b"late\n", 1)
        outlet.flush(5.0)
        assert os.read(reader, 100).endswith(b"late\n")
    finally:
        os.close(reader)
