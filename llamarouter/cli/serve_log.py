"""The log of `lr serve`: where it goes, how much of it, and in which form.

--log-level, -lv, -v, --log-disable   how much
--log-file FILE                       there as well as on standard error
--log-format auto|text|json           auto: text where a terminal reads, else one JSON object a line
--log-jsonl                           JSON everywhere, and on standard output, as by llama-server; what is said at the
                                      start, too

The lines, and what stands in them: `server/log_book.py`, `docs/logs.md`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from llamarouter.core.errors import UsageError

if TYPE_CHECKING:
    from llamarouter.core.settings import Settings
    from llamarouter.server.log_book import Form, LogBook

_QUIET = ("uvicorn", "uvicorn.error", "asyncio", "httpx")
_STDOUT, _STDERR = 1, 2


def set_up_log(settings: Settings, environ: Mapping[str, str]) -> LogBook:
    """Raises `UsageError` where the file cannot be written."""
    from llamarouter.server.log_book import LogBook

    logging.raiseExceptions = False  # a full disk is not worth a traceback for each line
    root = logging.getLogger()
    root.setLevel(settings.log.level.upper())
    book = LogBook(root.level)
    stream = _STDOUT if settings.log.jsonl else _STDERR
    book.add(stream, _form(settings, os.isatty(stream)), priorities=_is_journal(stream, environ))
    if settings.log.file is not None:
        try:
            book.add(settings.log.file, _form(settings, terminal=False))
        except OSError as error:
            what = error.strerror or error
            raise UsageError(f"--log-file {settings.log.file}: cannot be written ({what})") from error
    root.addHandler(book)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    return book


def _form(settings: Settings, terminal: bool) -> Form:
    from llamarouter.server.log_book import Form

    if settings.log.jsonl or settings.log.format == "json":
        return Form.JSON
    return Form.TEXT if terminal or settings.log.format == "text" else Form.JSON


def _is_journal(stream: int, environ: Mapping[str, str]) -> bool:
    """Whether journald reads this stream: systemd says which file it has made it."""
    there = os.fstat(stream)
    return environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
