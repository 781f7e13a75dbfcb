"""What bounds the suite itself, so that it ends wherever and however it is run.

Two dangers, both met: a shell that starts the suite in the background lets it ignore Ctrl-C, and so would every
program that a test starts and interrupts; and a wait that has no end of its own, in clean-up behind a test that
pytest-timeout has failed already, or at the end of a worker, holds up the whole run.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

# Seconds after which a test that has failed for its time, and does not end, is interrupted again, and again.
AGAIN = 20
# Seconds beyond a test's own bound (the mark `timeout`, else the one of pyproject.toml) until its process is ended.
GRACE = 130

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    # A handler of Python's, in the place of "ignored", becomes the default again in what a test starts.
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        config.stash[_stderr] = os.dup(2)


def bound(item: pytest.Item) -> float:
    """Seconds that one test may take, its fixtures included."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0] if mark else item.config.getini("timeout"))


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Iterator[Any]:
    """pytest-timeout interrupts once; what waits for good in a `finally` has to be interrupted there as well."""
    made = yield
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, AGAIN)
    return made


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Say where every thread stands, and end this process, where even a failed test does not end."""
    _end_after(item.config, bound(item) + GRACE)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """The end of a process of tests (threads that are joined, what runs at exit) has its bound as well."""
    if hasattr(session.config, "workerinput"):
        _end_after(session.config, GRACE)
    return (yield)


def _end_after(config: pytest.Config, seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_stderr])
