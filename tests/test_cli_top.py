"""`lr top` and `lr events`: one picture, a person at the keys, and the feed in lines."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console

from llamarouter.cli.main import main
from llamarouter.cli.models import Failure, Listing, Row
from llamarouter.cli.top_frame import KEYS, Scene, frame_of
from tests.router_double import Reply, RouterDouble, error, routing
from tests.terminal import Terminal

Captured = pytest.CaptureFixture[str]

STATUS = {"version": "0.1.0", "listen": ["http://127.0.0.1:8080"], "uptime": 75.0}
DEVICES = {"devices": [{"name": "CUDA0", "total": 24e9, "free": 6e9, "booked": 17e9, "stale": True}]}


def record(model: str, event: str, data: object = None) -> str:
    return f"data: {json.dumps({'model': model, 'event': event, 'data': data})}\n\n"


FEED = (
    record("a", "status_change", {"status": "loaded"}),
    ": ping\n\n",
    record("b", "status_change", {"status": "loading", "progress": {"value": 0.42}}),
    record("*", "snapshot_complete"),
    record("b", "status_change", {"status": "unloaded", "reason": "signal", "message": "ended by SIGSEGV"}),
    record("c", "download_progress", {"progress": {"u": {"done": 1, "total": 4}}}),
    record("*", "models_reload"),
)


@pytest.fixture
def router() -> Iterator[RouterDouble]:
    hold = Event()
    replies: dict[str, Reply | list[Reply]] = {
        "GET /lr/status": Reply(STATUS),
        "GET /lr/devices": Reply(DEVICES),
        "GET /models/sse": Reply(pieces=FEED, hold=hold),
        "POST /models/load": Reply(error(503, "no_place", "every place is busy"), 503),
        "POST /models/unload": Reply({"success": True}),
        "POST /lr/pin": Reply({"success": True}),
    }
    with routing(replies) as double:
        yield double
        hold.set()


def shown(scene: Scene, chosen: str | None = None, width: int = 120, height: int = 30) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, no_color=True).print(frame_of(scene, chosen, width, height))
    return out.getvalue().splitlines()


ROWS = (
    Row(id="done", state="loaded", in_flight=0, slots=4, tokens_per_second=99.0),
    Row(id="idle", state="unloaded", stopped="evicted", stopped_ago=12.0, stopped_for="busy", stopped_lacks="memory"),
    Row(id="busy", state="loaded", in_flight=2, slots=4, waiting=3, tokens_per_second=31.5, held={"CUDA0": 17 * 10**9}),
    Row(id="gone\x1b[2J", state="unloaded", failure=Failure(reason="x", message="ended by SIGSEGV", seconds_ago=5.0)),
)


def test_a_picture_has_models_devices_and_the_last_ends_with_their_reasons() -> None:
    lines = shown(Scene(STATUS, Listing(ROWS), DEVICES["devices"], ("10:00:00  a  loaded",)), "busy")
    assert "2 of 4 in memory   2 in flight   3 waiting   31.5 tok/s" in lines[0]
    assert lines[2].split() == [">", "busy", "loaded", "2/4", "3", "31.5", "CUDA0", "17.0", "GB", "now"]
    text = "\n".join(lines)
    assert " CUDA0    [###############.....] 17.0 GB by models, 6.0 GB of 24.0 GB free  (does not answer" in text
    assert text.index("5.0 s ago: gone?[2J ended by SIGSEGV") < text.index(
        "12 s ago: idle made room for busy, which needed its memory"
    )
    assert "\x1b" not in text
    assert lines[-2:] == [" 10:00:00 a loaded", KEYS]


def test_the_picture_of_the_docs_has_the_columns_and_keys_of_this_one() -> None:
    page = (Path(__file__).parents[1] / "docs" / "top.md").read_text(encoding="utf-8")
    assert f"`{KEYS}`" in page
    assert shown(Scene(STATUS, Listing(ROWS)))[1].split() == page.splitlines()[6].split()


@pytest.mark.parametrize(("width", "height"), [(60, 8), (80, 12), (200, 50)])
def test_a_picture_fits_its_terminal_and_shows_what_is_chosen(width: int, height: int) -> None:
    rows = tuple(Row(id=f"model-{number:03}", state="unloaded") for number in range(100))
    for chosen in ("model-000", "model-050", "model-099"):
        lines = shown(Scene(STATUS, Listing(rows)), chosen, width, height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width
        assert any(line.split()[:2] == [">", chosen] for line in lines)


def test_once_prints_one_picture_without_a_terminal(router: RouterDouble, capsys: Captured) -> None:
    assert main(["top", "--once", "--url", router.url]) == 0
    text = capsys.readouterr().out
    assert "user/small:Q4_1" in text
    assert "CUDA0" in text
    assert "\x1b" not in text
    assert main(["top", "--url", router.url]) == 1
    assert "`lr top --once` prints one picture" in capsys.readouterr().err


def test_a_person_sees_chooses_and_asks(router: RouterDouble) -> None:
    terminal = Terminal("top", "--url", router.url)
    terminal.until("small:Q4_1")
    terminal.type("p")
    assert router.asked_for("user/small:Q4_1").wait(10)
    assert router.bodies("/lr/pin") == [{"model": "user/small:Q4_1"}]
    terminal.type("\x1b[B")
    terminal.type("l")
    terminal.until("load broken: every place is busy")
    assert router.bodies("/models/load") == [{"model": "broken"}]
    terminal.type("q")
    rest = terminal.end()
    assert terminal.process.returncode == 0
    assert "\x1b[?1049l" in rest  # the screen is as it was


def test_who_is_told_to_end_leaves_the_terminal_as_it_was(router: RouterDouble) -> None:
    terminal = Terminal("top", "--url", router.url)
    terminal.until("small:Q4_1")
    terminal.process.terminate()
    assert "\x1b[?1049l" in terminal.end()
    assert terminal.process.returncode == 128 + 15


def test_it_asks_at_most_twice_a_second_however_much_happens() -> None:
    hold, many = Event(), tuple(record("a", "status_change", {"status": "loaded"}) for _ in range(500))
    replies: dict[str, Reply | list[Reply]] = {
        "GET /lr/status": Reply(STATUS),
        "GET /models/sse": Reply(pieces=many, hold=hold),
    }
    with routing(replies) as double:
        begun = time.monotonic()
        terminal = Terminal("top", "--url", double.url)
        terminal.until("loaded")
        terminal.type("j" * 3)
        terminal.until("\x1b[7mcrashed")
        terminal.type("q")
        terminal.end()
        asked = sum(each.path == "/models" for each in double.asked)
        hold.set()
    assert asked <= 2 * (time.monotonic() - begun) + 2


def test_a_router_that_is_not_there(capsys: Captured) -> None:
    assert main(["top", "--once", "--url", "http://127.0.0.1:1"]) == 1
    assert "cannot reach" in capsys.readouterr().err


def test_events_without_follow_are_how_it_is_now(router: RouterDouble, capsys: Captured) -> None:
    assert main(["events", "--url", router.url]) == 0
    assert [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines()] == [
        ["a", "loaded"],
        ["b", "loading 42%"],
    ]
    assert router.asked[-1].query == {"ids": "1", "snapshot": "1", "ping": "15"}


def test_events_of_one_model_as_json(router: RouterDouble, capsys: Captured) -> None:
    assert main(["events", "--model", "a", "--json", "--url", router.url]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"model": "a", "event": "status_change", "data": {"status": "loaded"}}
    ]


def test_events_of_a_model_that_is_not_there(router: RouterDouble, capsys: Captured) -> None:
    assert main(["events", "--model", "nobody", "--url", router.url]) == 1
    assert "there is no model 'nobody'" in capsys.readouterr().err


def test_events_follow_until_the_feed_ends(capsys: Captured) -> None:
    with routing({"GET /models/sse": Reply(pieces=FEED)}) as double:
        assert main(["events", "-f", "--url", double.url]) == 0
    assert [line.split("  ")[1:] for line in capsys.readouterr().out.splitlines()] == [
        ["a", "loaded"],
        ["b", "loading 42%"],
        ["b", "unloaded: ended by SIGSEGV"],
        ["c", "downloading 25%"],
        ["all", "models reload"],
    ]


def test_each_event_is_printed_when_it_comes(router: RouterDouble) -> None:
    terminal = Terminal("events", "-f", "--url", router.url)
    terminal.until("unloaded: ended by SIGSEGV")
    assert terminal.process.poll() is None
    terminal.type("\x03")
    terminal.end()
    assert terminal.process.returncode == 130
