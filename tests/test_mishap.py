"""What must end nothing else ends in the log, with where it was."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.server.mishap import Mishap


def test_a_mistake_ends_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with Mishap("an errand failed") as found:
        raise ValueError("oh")
    assert str(found.error) == "oh"
    assert caplog.messages == ["an errand failed"]
    assert "in test_a_mistake_ends_in_the_log" in caplog.text


def test_without_one_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with Mishap("an errand failed") as found:
        pass
    assert found.error is None
    assert caplog.messages == []


@pytest.mark.parametrize("end", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_the_end_of_the_task_is_no_mistake(end: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(end), Mishap("an errand failed"):
        raise end
    assert caplog.messages == []
