"""What of a child's log is shown: not what somebody asked."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llamarouter.core.discretion import WITHHELD, discreet, without_debug
from llamarouter.core.incidents import log_tail
from llamarouter.host.child_log import LogRing
from tests.waiting import until

SECRET = "what only they know"
# As b11434 writes them: the line, and how it begins when it is shown.
LEAKS = {
    f'0.02.124.538 W srv    operator(): got exception: {{"error":{{"message":"{SECRET}"}}}}': "got exception: ",
    f"parse: error parsing grammar: expecting ')' at\n{SECRET}\n\nroot ::= {SECRET}": "error parsing grammar: ",
    f"0.02.1.1 E x: error initializing grammar sampler for grammar:\n{SECRET}\n\nGeneration prompt:\n'{SECRET}'": "r:",
    f"0.02.124.538 W common_chat_peg_parse: unparsed Hermes output: {SECRET}\n\n{SECRET}": "parse: unparsed ",
    f"0.02.124.538 E slot release: got exception: Invalid diff: '{SECRET}' not found": "got exception: ",
    f"0.02.124.538 E anthropic string not as expected: {SECRET}": "as expected: ",
    f"0.02.124.538 I srv  handle_media: downloading image from '{SECRET}'": "image from ",
}
PLAIN = "0.03.000.000 I slot update_slots: id  3 | task 0 | prompt processing done, n_tokens = 19"
CRASH = "/src/ggml/src/ggml-cpu/ops.cpp:4242: GGML_ASSERT(ne0 == 1) failed"


@pytest.mark.parametrize("text", LEAKS)
def test_what_somebody_asked_is_not_shown_and_that_it_happened_is(text: str) -> None:
    for behind in (PLAIN, CRASH, "--- m: started as process 7", "ggml_abort: x", "#0  0x1 in raise ()"):
        ring = LogRing()
        ring.feed(f"{PLAIN}\n{text}\n{behind}\n".encode())
        shown = ring.lines()
        assert shown[0] == PLAIN
        assert shown[1].endswith(f"{LEAKS[text].rstrip()} {WITHHELD}")
        assert shown[2:] == (behind,)
        assert ring.lines_since(0) == shown


@pytest.mark.anyio
@pytest.mark.parametrize("text", LEAKS)
async def test_who_reads_along_reads_the_same(text: str) -> None:
    ring, heard = LogRing(), list[str]()

    async def read() -> None:
        async for line in ring.subscribe():
            heard.append(line)

    reading = asyncio.get_running_loop().create_task(read())
    await until(lambda: ring._followers)
    for letter in f"{text}\n{CRASH}\n":
        ring.feed(letter.encode())
    await until(lambda: CRASH in heard)
    assert len(heard) == 2
    assert SECRET not in heard[0]
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


def test_a_log_without_any_of_it_is_shown_as_it_is() -> None:
    lines = [PLAIN, "a line without a stamp", CRASH, "0.03.000.000 I srv  x: error: none"]
    assert list(discreet(lines)) == lines


def test_what_is_for_debugging_goes_into_no_file() -> None:
    lines = (PLAIN, f"0.03.000.001 D srv  log: request:  {SECRET}", SECRET, CRASH, f"0.03.000.001 D {SECRET}")
    assert without_debug(lines) == [PLAIN, CRASH]
    assert log_tail(lines) == (PLAIN, CRASH)
    coloured = f"\x1b[34m0.03.000.001 \x1b[0m\x1b[33mD {SECRET}"
    assert without_debug([coloured, SECRET]) == []
