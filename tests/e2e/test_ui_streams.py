"""The web page that is loaded anew in the middle of an answer, or of a load, takes the answer up again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import Browser
from tests.e2e.conftest import Router, Serve, until
from tests.e2e.web_page import ANSWERS, SETTINGS, Setting, WebPage, write_slow

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_slow(folder / "c.gguf")
    (tmp_path / "preset.ini").write_text("[*]\nignore-eos = true\n")
    return folder


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_answer_goes_on_where_the_page_was_loaded_anew(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path, setting: Setting
) -> None:
    words = ("--models-dir", models_dir, "--models-preset", tmp_path / "preset.ini", "--api-key", "sesame")
    router = serve(setting.engine, *words, *setting.arguments())
    router.key = "sesame"
    router.lr("load", "c")
    page = WebPage(browser.open(router.url))
    page.enter_key("sesame", tmp_path / "key.png")
    page.send("Tell me all")
    page.page.wait_for(f"{ANSWERS}.length === 1 && {ANSWERS}[0].innerText.length > 100", seconds=30)
    closed = page.wrong()
    begun = letters(page)[:25]
    page.page.reload()
    page.until_ready()
    page.page.wait_for(f"{ANSWERS}.length === 1 && {ANSWERS}[0].innerText.length > 300", seconds=60)
    assert letters(page)[:25] == begun  # the same answer, from its beginning
    seen = len(letters(page))
    page.page.wait_for(f"{ANSWERS}[0].innerText.length > {2 * seen}", seconds=60)
    page.screenshot(tmp_path / "resumed.png")
    assert generations(router) == 1  # nobody asked a second time
    page.page.click("form button", "Stop")
    until(lambda: in_flight(router) == 0, seconds=15)
    assert page.wrong() == closed


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_page_that_is_loaded_anew_while_the_model_loads_gets_its_answer(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path, setting: Setting
) -> None:
    words = ("--models-dir", models_dir, "--models-preset", tmp_path / "preset.ini")
    router = serve(setting.engine, *words, *setting.arguments(), LLAMA_SERVER_DEBUG_FAKE_TIMING="1")
    if setting.engine is None:
        router.lr("load", "c")  # the page comes with it
    page = WebPage.open(browser, router.url)
    if setting.engine is None:
        router.lr("unload", "c")
    page.send("Tell me all")
    until(lambda: router.state("c") == "loading", 20)
    page.page.reload()
    page.until_ready()
    page.page.wait_for(f"{ANSWERS}.length === 1 && {ANSWERS}[0].innerText.length > 300", seconds=60)
    assert generations(router) == 1
    page.screenshot(tmp_path / "resumed.png")


def letters(page: WebPage) -> str:
    """The last answer without what Markdown makes of it."""
    return "".join(filter(str.isalnum, page.last_answer()))


def in_flight(router: Router) -> object:
    ours = router.models()["c"]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]


def generations(router: Router) -> int:
    """How many answers the model has begun to make, by its own log."""
    return router.lr("logs", "c").stdout.count("processing task")
