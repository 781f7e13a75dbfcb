"""The log of `lr serve`: where it goes, how much of it, and in which form.

--log-level, -lv, -v, --log-disable   how much
--log-file FILE                       there as well as on standard error
--log-jsonl                           {"type":"log","time":<us since 1970>,"level":"info","msg":"..."} a line, on
                                      standard output, as by llama-server; what is said at the start, too
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from llamarouter.cli.failures import one_line
from llamarouter.core.errors import UsageError

if TYPE_CHECKING:
    from llamarouter.core.settings import Settings

_LINE = "%(asctime)s %(levelname).1s %(message)s"
_QUIET = ("uvicorn", "uvicorn.error", "asyncio", "httpx")
_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}  # where llama-server's word is another


class PlainLines(logging.Formatter):
    """One line a record, whatever files are called; a traceback stands below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """What llama-server writes with `--log-jsonl`; a traceback is part of the message."""
        import msgspec

        message = super().format(record)
        level = _LEVELS.get(record.levelname, record.levelname.lower())
        line = {"type": "log", "time": int(record.created * 1e6), "level": level, "msg": message}
        return msgspec.json.encode(line).decode()


def set_up_log(settings: Settings) -> None:
    """Raises `UsageError` where the file cannot be written."""
    logging.raiseExceptions = False  # a full disk is not worth a traceback for each line
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout if settings.log_jsonl else sys.stderr)]
    if settings.log_file is not None:
        handlers.append(_file(settings.log_file))
    formatter = JsonLines() if settings.log_jsonl else PlainLines(_LINE)
    root = logging.getLogger()
    root.setLevel(settings.log_level.upper())
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _file(path: str) -> logging.Handler:
    try:
        # Written anew at every start, as by llama-server.
        return logging.FileHandler(path, mode="w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"--log-file {path}: cannot be written ({error.strerror or error})") from error
