"""llama-server's own web page, unmodified, on a whole router: a person picks models, chats, switches, unloads.

It is seen twice: as the embedded engine carries it, and as the folder of `--path DIR` before the compiled engine, which
carries none. Every test leaves pictures in its folder, to look at when one fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import Browser
from tests.e2e.conftest import COMPILED, Router, Serve, until
from tests.e2e.web_page import ANSWERS, SETTINGS, Setting, WebPage, write_slow
from tests.tiny_gguf import write_llama

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]  # a browser is slow on a busy machine


@pytest.mark.parametrize("setting", SETTINGS)
def test_models_are_loaded_chatted_with_in_one_conversation_stopped_and_unloaded(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path, setting: Setting
) -> None:
    for seed, name in enumerate("ab"):
        write_llama(models_dir / f"{name}.gguf", seed=seed, n_ctx=4096)
    write_slow(models_dir / "c.gguf")
    preset = tmp_path / "preset.ini"
    preset.write_text("[*]\nignore-eos = true\n[a]\nn-predict = 150\n[b]\nn-predict = 150\n")
    words = ("--models-dir", models_dir, "--models-preset", preset, *setting.arguments())
    router = serve(setting.engine, *words)
    page = WebPage(browser.open(router.url))
    if setting.engine is None:
        page.screenshot(tmp_path / "waiting.png")
        assert "The page comes with the first model that is loaded" in page.page.text()
    router.lr("load", "a")  # the page that waits looks again by itself
    page.until_ready()

    page.open_selector("a")
    assert "models" in page.page.text()  # the selector of the router mode, not a single model's name
    page.screenshot(tmp_path / "selector.png")
    page.press_in_row("b", "Load model")
    page.until_row_offers("b", "Unload model")  # it heard of it by the feed
    assert router.state("b") == "loaded"
    page.screenshot(tmp_path / "loaded.png")
    page.pick("b")
    page.ask("Hello you", 1)
    page.screenshot(tmp_path / "first.png")

    page.open_selector("b")
    page.pick("a")
    page.ask("And you?", 2)
    page.screenshot(tmp_path / "second.png")
    assert page.models_of_answers() == ["b", "a"]

    page.open_selector("a")
    page.pick_and_load("c")
    page.send("Tell me all")
    page.page.wait_for(f"{ANSWERS}.length === 3 && {ANSWERS}[2].innerText.length > 200")
    page.screenshot(tmp_path / "long.png")
    page.page.click("form button", "Stop")
    until(lambda: in_flight(router, "c") == 0, seconds=15)

    page.open_selector("c")
    page.press_in_row("a", "Unload model")
    page.until_row_offers("a", "Load model")
    assert router.state("a") == "unloaded"
    assert router.state("b") == "loaded"
    page.screenshot(tmp_path / "unloaded.png")
    assert page.wrong() == []
    assert page.said() == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_with_a_key_the_page_asks_for_it_and_a_load_that_fails_says_why(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path, setting: Setting
) -> None:
    preset = tmp_path / "preset.ini"
    preset.write_text(f"[b]\nlora = {models_dir / 'a.gguf'}\n")  # which is no adapter: only the engine finds out
    words = ("--models-dir", models_dir, "--models-preset", preset, "--api-key", "sesame", *setting.arguments())
    router = serve(setting.engine, *words)
    router.lr("load", "a")
    page = WebPage(browser.open(router.url))
    page.enter_key("sesame", tmp_path / "key.png")
    closed = page.wrong()
    assert {each.rpartition(" ")[2] for each in closed} == {"401"}
    page.open_selector("a")
    page.pick("b")
    page.page.wait_for("/Failed to load model: b/.test(document.body.innerText)")
    page.send("Hello")
    page.until_says("model 'b'")
    page.screenshot(tmp_path / "failed.png")
    assert str(models_dir) not in page.page.text()
    # The message comes while the failed load cools down, or after it and then fails by itself.
    chat = "POST /v1/chat/completions"
    assert page.wrong()[len(closed) :] in ([f"{chat} 503"], [f"{chat} 500"])


@pytest.mark.parametrize("setting", SETTINGS)
def test_below_a_prefix_it_finds_its_way(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path, setting: Setting
) -> None:
    write_llama(models_dir / "a.gguf", n_ctx=4096)
    preset = tmp_path / "preset.ini"
    preset.write_text("[*]\nignore-eos = true\nn-predict = 50\n")
    words = ("--models-dir", models_dir, "--models-preset", preset, "--api-prefix", "/our/llm", *setting.arguments())
    router = serve(setting.engine, *words)
    router.lr("load", "a")
    page = WebPage(browser.open(router.url))  # without the slash at its end, as people write it
    page.until_ready()
    page.open_selector("a")
    page.pick("a")
    page.ask("Hello you", 1)
    page.screenshot(tmp_path / "prefix.png")
    assert page.wrong() == []
    assert page.said() == []


@pytest.mark.compiled
@pytest.mark.ui
def test_a_model_that_sleeps_is_shown_so_wakes_and_is_unloaded(
    serve: Serve, browser: Browser, models_dir: Path, tmp_path: Path
) -> None:
    setting = Setting(COMPILED)
    write_llama(models_dir / "b.gguf", seed=1, n_ctx=4096)
    words = ("--models-dir", models_dir, "--sleep-idle-seconds", 1, "-n", 50, *setting.arguments())
    router = serve(setting.engine, *words)
    page = WebPage.open(browser, router.url)
    page.open_selector("a")
    page.press_in_row("b", "Load model")
    page.page.wait_for(f"document.querySelector('[role=option] {SLEEPING}')", seconds=20)
    page.screenshot(tmp_path / "sleeping.png")
    assert router.state("b") == "sleeping"
    page.pick("b")
    page.ask("Good morning", 1)
    until(lambda: router.state("b") == "sleeping")
    page.open_selector("b")
    page.press_in_row("b", "Unload model")
    page.until_row_offers("b", "Load model")
    assert page.wrong() == []
    assert page.said() == []


SLEEPING = ".bg-orange-400"  # the dot


def in_flight(router: Router, model: str) -> object:
    ours = router.models()[model]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]
