"""llama-server's own web page, unmodified, on a whole router: a person picks models, chats, switches, unloads.

The page comes from the first child that is ready (the embedded engine carries it). Every test leaves pictures in its
folder: `page.png` and the like, to look at when one fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser, Page
from tests.e2e.conftest import Router, Serve, until
from tests.tiny_gguf import write_llama

pytestmark = pytest.mark.browser

ANSWERS = "[...document.querySelectorAll('[aria-label^=\"Assistant message\"]')]"
LAST_ANSWER = f"{ANSWERS}.at(-1)"
# Remembers how long the page was after each change: an answer that streams grows, one that does not jumps.
WATCH = f"""
window.lengths = new Set();
new MutationObserver(() => window.lengths.add(({LAST_ANSWER})?.innerText.length))
  .observe(document.body, {{subtree: true, childList: true, characterData: true}});
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    folder = tmp_path / "browser"
    folder.mkdir()
    with Browser(folder) as browser:
        yield browser


def option(model: str) -> str:
    """A row of the model selector."""
    return f"[role=option]:has(span[title={model}])"


def ask(page: Page, text: str, answers: int) -> None:
    """Send a message and wait until its answer, the last of so many, is complete with its figures."""
    page.evaluate("window.lengths.clear()")
    page.type("textarea", text)
    page.press("Enter")
    page.wait_for(f"{ANSWERS}.length === {answers}")
    page.wait_for(f"/tokens[^]*t\\/s/.test(({LAST_ANSWER}).innerText) && window.lengths.size > 2", seconds=30)
    page.wait_for("!document.querySelector('[aria-label=\"Stop generation\"]')", seconds=30)


def wrong(page: Page) -> list[str]:
    """What failed, but for the tools: they are switched off, and the page copes with the 403."""
    return [f"{each}" for each in page.failed_requests() if not (each.url.endswith("/tools") and each.status == 403)]


def test_models_are_loaded_chatted_with_in_one_conversation_stopped_and_unloaded(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    for seed, name in enumerate("abc"):
        write_llama(models_dir / f"{name}.gguf", seed=seed, n_ctx=32768)  # c would talk for a long time
    preset = tmp_path / "preset.ini"
    preset.write_text("[a]\nn-predict = 400\n[b]\nn-predict = 400\n[c]\nignore-eos = true\n")
    router = serve(None, "--models-dir", models_dir, "--models-preset", preset, "--threads", 1)
    page = browser.open(router.url)
    page.screenshot(tmp_path / "waiting.png")
    assert "The page comes with the first model that is loaded" in page.text()

    router.lr("load", "a")
    page.wait_for("document.querySelector('textarea')", seconds=20)  # it has looked again by itself
    page.evaluate(WATCH)
    page.click("button", "a")
    page.wait_for("document.querySelectorAll('[role=option]').length === 3")
    assert "Loaded models" in page.text()  # the selector of the router mode, not a single model's name
    page.screenshot(tmp_path / "selector.png")
    page.click(f"{option('a')} span[title]")
    ask(page, "Hello you", 1)
    page.screenshot(tmp_path / "first.png")

    page.click("form button", "a")
    page.click(f"{option('b')} span[title]")
    until(lambda: router.state("b") == "loaded")
    ask(page, "And you?", 2)
    page.screenshot(tmp_path / "second.png")
    assert models_of_answers(page) == ["a", "b"]

    page.click("form button", "b")
    page.click(f"{option('c')} span[title]")
    until(lambda: router.state("c") == "loaded")
    page.type("textarea", "Tell me all")
    page.press("Enter")
    page.wait_for(f"{ANSWERS}.length === 3 && {ANSWERS}[2].innerText.length > 200")
    page.screenshot(tmp_path / "long.png")
    page.click("form button", "Stop")
    until(lambda: in_flight(router, "c") == 0, seconds=3)

    page.click("form button", "c")
    page.hover(option("a"))
    page.click(f"{option('a')} [aria-label='Unload model']")
    until(lambda: router.state("a") == "unloaded")
    page.wait_for("document.querySelectorAll('[aria-label=\"Unload model\"]').length === 2")  # it heard of it
    page.screenshot(tmp_path / "unloaded.png")
    assert router.state("b") == "loaded"
    assert wrong(page) == []


def test_with_a_key_the_page_asks_for_it_and_a_load_that_fails_says_why(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "preset.ini"
    preset.write_text(f"[b]\nmmproj = {models_dir / 'a.gguf'}\n")  # a model without eyes
    router = serve(None, "--models-dir", models_dir, "--models-preset", preset, "--api-key", "sesame", "--threads", 1)
    router.lr("load", "a")
    page = browser.open(router.url)
    page.click("button", "Enter API Key")
    page.screenshot(tmp_path / "key.png")
    page.type("input", "sesame")
    page.press("Enter")
    page.click("form button", "a", seconds=20)
    page.click(f"{option('b')} span[title]")
    page.wait_for("/Failed to load model: b/.test(document.body.innerText)")
    page.type("textarea", "Hello")
    page.press("Enter")
    page.wait_for("/failed to load multimodal model, 'a.gguf'/.test(document.body.innerText)")
    page.screenshot(tmp_path / "failed.png")
    assert str(models_dir) not in page.text()


def models_of_answers(page: Page) -> object:
    """The model that each answer of the conversation names."""
    return page.evaluate(
        f"{ANSWERS}.map(answer =>"
        " [...answer.querySelectorAll('button')].map(button => button.innerText.trim()).find(t => /^[abc]$/.test(t)))"
    )


def in_flight(router: Router, model: str) -> object:
    ours = router.models()[model]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]
