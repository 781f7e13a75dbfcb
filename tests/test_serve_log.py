"""The log of `lr serve`: on which stream, in which file, in which form."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.cli.serve_log import JsonLines, set_up_log
from llamarouter.core.errors import UsageError
from llamarouter.core.settings import Settings

log = logging.getLogger("llamarouter")


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_it_is_on_standard_error_and_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "log"
    file.write_text("of the last run\n")
    set_up_log(Settings(log_file=str(file), log_level="warning"))
    log.info("not this")
    log.warning("this: %s", "ü")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("W this: ü\n")
    assert file.read_text(encoding="utf-8") == shown.err


def test_what_a_file_is_called_begins_no_line_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(Settings())
    log.info("loading %s", "x\n2026-01-01 00:00:00,000 E all is lost\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("I loading x 2026-01-01 00:00:00,000 E all is lost?[2J")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("broken")
    assert "\nTraceback (most recent call last):\n" in capsys.readouterr().err


def test_as_json_it_is_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(Settings(log_file=str(tmp_path / "log"), log_jsonl=True))
    log.warning('a "quote"\nand a line')
    log.info("b")
    shown = capsys.readouterr()
    assert shown.err == ""
    first, second = (json.loads(line) for line in shown.out.splitlines())
    assert first.pop("time") > 1.6e15  # microseconds
    assert first == {"type": "log", "level": "warn", "msg": 'a "quote"\nand a line'}
    assert (second["level"], second["msg"]) == ("info", "b")
    assert (tmp_path / "log").read_text() == shown.out


def test_a_traceback_is_part_of_the_message() -> None:
    try:
        raise ValueError("here")
    except ValueError as error:
        failure = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", None, failure)
    line = JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError: here" in json.loads(line)["msg"]


def test_nothing_is_said_where_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log(Settings(log_level="critical"))
    log.error("this")
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--log-file .*/gone/log: cannot be written \(No such file or directory\)$"):
        set_up_log(Settings(log_file=str(tmp_path / "gone" / "log")))


def test_a_disk_that_is_full_ends_nothing() -> None:
    set_up_log(Settings(log_file="/dev/full"))
    log.error("this")
