"""llama-server's own web page as a person uses it: the selector, the field, the answers.

The words and labels are those of the page, in both of the builds that the tests see (the embedded engine's and the
one of `tests/upstream_ui.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import upstream_ui
from tests.chromium import Browser, Page
from tests.e2e.conftest import COMPILED
from tests.tiny_gguf import write_llama


@dataclass(frozen=True)
class Setting:
    """Where the page comes from."""

    engine: Path | None

    def arguments(self) -> tuple[object, ...]:
        return ("--path", upstream_ui.folder(), "--threads", 1) if self.engine is not None else ("--threads", 1)


SETTINGS = [
    pytest.param(Setting(None), id="carried"),
    pytest.param(Setting(COMPILED), id="folder", marks=[pytest.mark.compiled, pytest.mark.ui]),
]

ANSWERS = "[...document.querySelectorAll('[aria-label^=\"Assistant message\"]')]"
LAST_ANSWER = f"{ANSWERS}.at(-1)"
STOP = '[aria-label="Stop generation"]'
# Remembers how long the answer was after each change: one that streams grows, one that does not jumps.
_WATCH = f"""
window.lengths = new Set();
new MutationObserver(() => window.lengths.add(({LAST_ANSWER})?.innerText.length))
  .observe(document.body, {{subtree: true, childList: true, characterData: true}});
"""


class WebPage:
    """The page in a tab of a browser."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @classmethod
    def open(cls, browser: Browser, url: str) -> WebPage:
        """Open it, and wait until it can be written to."""
        opened = cls(browser.open(url))
        opened.until_ready()
        return opened

    def until_ready(self) -> None:
        """Until it can be written to; then its changes are watched."""
        self.page.wait_for("document.querySelector('textarea')", seconds=20)
        self.page.evaluate(_WATCH)

    def enter_key(self, key: str, picture: Path) -> None:
        """Answer the page's question for a key."""
        self.page.click("button", "Enter API Key", seconds=20)
        self.screenshot(picture)
        self.page.type("input", key)
        self.page.press("Enter")
        self.until_ready()
        # A second after "success" the page goes to its start, whatever was written by then: it has a timer for that,
        # so another one that begins now rings later.
        self.page.evaluate("new Promise(done => setTimeout(done, 1000))")
        self.until_ready()

    # --- the selector of models -------------------------------------------------------------------------------------

    def open_selector(self, shown: str) -> None:
        """Open the selector, whose button shows the model `shown`."""
        self.page.click("form button", shown)
        self.page.wait_for("document.querySelectorAll('[role=option]').length")

    def pick(self, model: str) -> None:
        """Click on a row of the open selector."""
        self.page.click("[role=option]", model)

    def pick_and_load(self, model: str) -> None:
        """Click on a row of the open selector whose model is not loaded: the page has it loaded, and says so."""
        self.pick(model)
        self.until_says(f"Model loaded: {model}", seconds=20)

    def press_in_row(self, model: str, label: str) -> None:
        """Press a button that a row of the open selector shows under the pointer."""
        self.page.hover("[role=option]", model)
        self.page.click(f"[role=option]:hover [aria-label='{label}']")

    def until_row_offers(self, model: str, label: str, seconds: float = 20) -> None:
        """Until a row of the open selector has a button: it says what the page takes the model's state to be."""
        row = f"[...document.querySelectorAll('[role=option]')].find(row => row.innerText.trim() === '{model}')"
        self.page.wait_for(f"({row}).querySelector(\"[aria-label='{label}']\")", seconds)

    # --- the conversation -------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Write a message and send it."""
        self.page.wait_for("!document.querySelector('[role=option]')")  # a selector that closes takes the focus along
        self.page.evaluate("window.lengths.clear()")
        self.page.type("textarea", text)
        self.page.wait_for(f"document.querySelector('textarea').value === {json.dumps(text)}")
        self.page.press("Enter")

    def ask(self, text: str, answers: int) -> None:
        """Send a message and wait until its answer, the last of so many, came in pieces and is complete."""
        self.send(text)
        self.page.wait_for(f"{ANSWERS}.length === {answers}")
        self.page.wait_for(f"/tokens[^]*t\\/s/.test(({LAST_ANSWER}).innerText) && window.lengths.size > 2", seconds=30)
        self.page.wait_for(f"!document.querySelector('{STOP}')", seconds=30)

    def models_of_answers(self) -> object:
        """The model that each answer of the conversation names."""
        return self.page.evaluate(
            f"{ANSWERS}.map(answer => [...answer.querySelectorAll('button')]"
            ".map(button => button.innerText.trim()).find(text => /^[abc]$/.test(text)))"
        )

    def last_answer(self) -> str:
        return str(self.page.evaluate(f"({LAST_ANSWER}).innerText"))

    def until_says(self, text: str, seconds: float = 20) -> None:
        """Until a text stands somewhere on the page, if only for a while."""
        self.page.wait_for(f"document.body.innerText.includes({json.dumps(text)})", seconds)

    # --- what went wrong --------------------------------------------------------------------------------------------

    def wrong(self) -> list[str]:
        """Requests that failed, but for the tools: they are switched off, and the page copes with the 403."""
        failed = [
            each
            for each in self.page.failed_requests()
            if not (urlsplit(each.url).path.endswith("/tools") and each.status == 403)
        ]
        return [f"{each.method} {urlsplit(each.url).path} {each.status or each.failure}" for each in failed]

    def said(self) -> list[str]:
        """What the console says, but for the tools."""
        return [each for each in self.page.console_errors() if not each.endswith("/tools")]

    def screenshot(self, file: Path) -> None:
        self.page.screenshot(file)


def write_slow(path: Path) -> Path:
    """A model that talks for a long time, about as fast as a person reads: a page that shows it keeps up."""
    return write_llama(path, seed=2, n_ctx=32768, n_embd=512, n_layer=6, quant="Q8_0")
