"""Models that come and go while the web page looks: downloads with their progress, paused, taken up again, deleted.

Neither build of the page begins a download by itself; `lr pull` or a request does, and the page shows it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import upstream_ui
from tests.chromium import Browser, Page
from tests.e2e.conftest import COMPILED, Router, Serve, until
from tests.e2e.web_page import WebPage
from tests.fake_hub import FakeHub, Fault, running
from tests.tiny_gguf import write_llama

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SPEC = "user/repo:F32"
ROW = "user/repo\nF32"  # as the page shows it


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with running() as hub:
        hub.add("user/repo", {"repo-F32.gguf": write_llama(tmp_path / "source.gguf", n_ctx=4096).read_bytes()})
        yield hub


def begin(router: Router) -> None:
    with router.client() as client:
        assert client.post("/models", json={"model": SPEC}).json() == {"success": True}


def test_a_download_is_shown_paused_and_resumed_loaded_and_deleted(
    serve: Serve, browser: Browser, hub: FakeHub, models_dir: Path, tmp_path: Path
) -> None:
    hold = threading.Event()
    hub.faults.append(Fault(cut=200_000, hold=hold))
    router = serve(None, "--models-dir", models_dir, "--threads", 1, HF_ENDPOINT=hub.endpoint)
    router.lr("load", "a")
    page = WebPage.open(browser, router.url)
    begin(router)
    tab = page.page
    tab.click("button", "Models")  # the page's list of models, with what can be done about each
    tab.wait_for(r"/Downloading[^]*user\/repo[^]*\d+%/.test(document.body.innerText)")
    page.screenshot(tmp_path / "downloading.png")
    press(tab, "Pause downloading")
    until(lambda: SPEC not in router.models())
    (partial,) = (tmp_path / "cache").rglob("*.lr-partial")
    kept = partial.stat().st_size
    assert kept > 0
    page.screenshot(tmp_path / "paused.png")

    hold.set()
    press(tab, "Resume downloading")
    page.until_says("Download finished: repo:F32", seconds=20)
    assert hub.fetched()[-1].headers["range"] == f"bytes={kept}-"
    assert router.state(SPEC) == "unloaded"
    press(tab, "Load model")
    page.until_says("Model loaded: repo:F32", seconds=20)
    page.screenshot(tmp_path / "loaded.png")

    tab.evaluate(f"{ACTIONS}.id = 'actions'")
    tab.click("#actions")
    tab.click("*", "Delete from disk")
    tab.click("button", "Delete")
    until(lambda: SPEC not in router.models())
    tab.wait_for("!document.body.innerText.includes('user/repo')")
    page.screenshot(tmp_path / "deleted.png")
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    assert page.wrong() == []
    assert page.said() == []


ACTIONS = """[...document.querySelectorAll('[role=dialog] button')].find(
  button => button.innerText.trim() === 'Model actions' && button.closest('.grid').innerText.includes('user/repo'))"""


def press(tab: Page, label: str) -> None:
    """Press what the row shows under the pointer."""
    tab.hover("*", ROW)
    tab.click("button", label)


@pytest.mark.compiled
@pytest.mark.ui
def test_what_was_downloaded_is_in_the_list(
    serve: Serve, browser: Browser, hub: FakeHub, models_dir: Path, tmp_path: Path
) -> None:
    words = ("--models-dir", models_dir, "--path", upstream_ui.folder(), "--threads", 1)
    router = serve(COMPILED, *words, HF_ENDPOINT=hub.endpoint)
    page = WebPage.open(browser, router.url)
    begin(router)
    until(lambda: router.models().get(SPEC, {}).get("source") == "cache", 20)
    page.page.reload()  # this build of the page takes up new names only then
    page.until_ready()
    page.open_selector("a")
    page.screenshot(tmp_path / "appeared.png")
    (row,) = page.page.evaluate(
        "[...document.querySelectorAll('[role=option]')].map(row => row.innerText).filter(text => text.length > 1)"
    )
    page.pick(row.strip())
    page.until_says("Model loaded:", seconds=20)
    assert router.state(SPEC) == "loaded"
    page.ask("Hello", 1)
    page.screenshot(tmp_path / "answered.png")
    assert page.wrong() == []
    assert page.said() == []
