"""The log of `lr serve`: on which stream, in which file, in which form."""

from __future__ import annotations

import json
import logging
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamarouter.cli.serve_log import set_up_log
from llamarouter.core.errors import UsageError
from llamarouter.core.log_values import LogWish
from llamarouter.core.settings import Settings, parse_settings
from llamarouter.server.log_book import LogBook
from tests.engine_table import TABLE

log = logging.getLogger("llamarouter")


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.raiseExceptions = raising


@contextmanager
def stream(number: int, to: int) -> Iterator[None]:
    """In the block what the process writes to this stream goes elsewhere."""
    kept = os.dup(number)
    os.dup2(to, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def said(file: Path, book: LogBook) -> list[str]:
    book.flush()
    return file.read_text(encoding="utf-8").splitlines()


def set_up(settings: Settings, stderr: Path, number: int = 2, **environ: str) -> LogBook:
    """As `lr serve` does it, with standard error (or another stream) in a file."""
    target = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with stream(number, target):
        book = set_up_log(settings, environ)
    # The streams of this process are those of the tests again: the outlet goes on with the file.
    book.places[0].outlet._fd = target
    return book


def test_it_is_on_standard_error_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("of the last run\n")
    book = set_up(Settings(log=LogWish(file=str(file), level="warning", format="text")), tmp_path / "err")
    log.info("not this")
    log.warning("this: %s", "ü")
    (line,) = said(tmp_path / "err", book)
    assert line.endswith(" W this: ü")
    assert said(file, book) == [line]


def test_it_is_text_at_a_terminal_and_json_elsewhere(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with stream(2, theirs):
        book = set_up_log(Settings(log=LogWish(file=str(tmp_path / "log"))), {})
        log.warning("this")
        book.flush()
    shown = os.read(ours, 4096).decode()
    assert shown.endswith(" W this\r\n")
    (line,) = said(tmp_path / "log", book)
    assert json.loads(line)["msg"] == "this"
    os.close(ours)
    os.close(theirs)


def test_what_a_file_is_called_begins_no_line_and_steers_no_terminal(tmp_path: Path) -> None:
    book = set_up(Settings(log=LogWish(format="text")), tmp_path / "err")
    log.info("loading %s", "x\n2026-01-01 00:00:00,000 E all is lost\x1b[2J")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken")
    first, second, third, *_ = said(tmp_path / "err", book)
    assert first.endswith("I loading x 2026-01-01 00:00:00,000 E all is lost\\x1b[2J")
    assert second.endswith(" E broken")
    assert third == "Traceback (most recent call last):"


def test_as_jsonl_it_is_on_standard_output(tmp_path: Path) -> None:
    book = set_up(Settings(log=LogWish(file=str(tmp_path / "log"), jsonl=True)), tmp_path / "out", number=1)
    log.warning('a "quote"\nand a line')
    log.info("b", extra={"facts": {"type": "model", "model": "m"}})
    first, second = (json.loads(line) for line in said(tmp_path / "out", book))
    assert first.pop("time") > 1.6e15  # microseconds
    assert first == {"type": "log", "level": "warn", "msg": 'a "quote"\nand a line'}
    assert (second["type"], second["model"], second["level"], second["msg"]) == ("model", "m", "info", "b")
    assert said(tmp_path / "log", book) == said(tmp_path / "out", book)


def test_a_traceback_is_part_of_the_message(tmp_path: Path) -> None:
    book = set_up(Settings(), tmp_path / "err")
    try:
        raise ValueError("here")
    except ValueError:
        log.exception("failed")
    (line,) = said(tmp_path / "err", book)
    assert "ValueError: here" in json.loads(line)["msg"]
    log.warning("x" * 9000)
    assert json.loads(book.ring.lines()[-1])["msg"] == "x" * 2000 + "..."


def test_the_journal_reads_a_priority_in_front_of_each_line(tmp_path: Path) -> None:
    file = tmp_path / "err"
    file.touch()
    there = file.stat()
    book = set_up(Settings(), file, JOURNAL_STREAM=f"{there.st_dev}:{there.st_ino}")
    log.warning("this")
    log.info("that")
    first, second = said(file, book)
    assert (first[:3], second[:3]) == ("<4>", "<6>")
    assert json.loads(first[3:])["msg"] == "this"


def test_nothing_is_said_where_nothing_is_wanted(tmp_path: Path) -> None:
    book = set_up(Settings(log=LogWish(level="critical")), tmp_path / "err")
    log.error("this")
    assert said(tmp_path / "err", book) == []


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--log-file .*/gone/log: cannot be written \(No such file or directory\)$"):
        set_up_log(Settings(log=LogWish(file=str(tmp_path / "gone" / "log"))), {})


def test_a_disk_that_is_full_ends_nothing(tmp_path: Path) -> None:
    book = set_up(Settings(log=LogWish(file="/dev/full")), tmp_path / "err")
    log.error("this")
    assert len(said(tmp_path / "err", book)) == 1
    assert book.places[1].outlet.dropped == 1


def _none(path: str) -> str:
    raise FileNotFoundError(path)


def test_text_is_no_json() -> None:
    with pytest.raises(UsageError, match=r"^--log-format text: not beside --log-jsonl, which asks for JSON$"):
        parse_settings(["--log-jsonl", "--log-format", "text"], {}, TABLE, _none)
    with pytest.raises(UsageError, match=r"^--log-format must be one of auto, text, json, not 'xml'$"):
        parse_settings(["--log-format", "xml"], {}, TABLE, _none)
    assert parse_settings(["--no-log-requests"], {}, TABLE, _none).log.requests is False
