"""The web page before both routers: the same clicks make it ask for the same things, and it gets the same statuses."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import upstream_ui
from tests.chromium import Browser, Request
from tests.e2e.web_page import WebPage
from tests.reference.side import OURS, REFERENCE, running
from tests.tiny_gguf import write_llama

pytestmark = [pytest.mark.browser, pytest.mark.compiled, pytest.mark.ui, pytest.mark.timeout(240)]

Asked = tuple[str, str, tuple[str, ...], int | None]  # method, path, the query's names, status


def test_the_page_asks_both_the_same_and_is_answered_the_same(browser: Browser, tmp_path: Path) -> None:
    assert asked_of(REFERENCE, browser, tmp_path) == asked_of(OURS, browser, tmp_path)


def asked_of(name: str, browser: Browser, folder: Path) -> set[Asked]:
    """What the page asked one of the routers for while a person used it."""
    root = folder / name
    (root / "models").mkdir(parents=True)
    for seed, model in enumerate("ab"):
        write_llama(root / "models" / f"{model}.gguf", seed=seed, n_ctx=4096)
    arguments = ("--models-dir", str(root / "models"), "--path", str(upstream_ui.folder()), "-n", "50", "-t", "1")
    with running(name, root, arguments) as side:
        page = WebPage.open(browser, f"http://127.0.0.1:{side.port}/")
        page.open_selector("a")
        page.press_in_row("b", "Load model")
        page.until_row_offers("b", "Unload model")
        page.pick("b")
        page.ask("Hello", 1)
        page.open_selector("b")
        page.pick_and_load("a")
        page.ask("And you?", 2)
        page.open_selector("a")
        page.press_in_row("b", "Unload model")
        page.until_row_offers("b", "Load model")
        page.screenshot(folder / f"{name}.png")
        return {_row(request) for request in page.page.requests()}


def _row(request: Request) -> Asked:
    url = urlsplit(request.url)
    return request.method, url.path, tuple(sorted(parse_qs(url.query))), request.status
