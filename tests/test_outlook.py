"""What somebody who waits is told."""

from __future__ import annotations

import pytest

from llamarouter.core.child_protocol import LoadProgress
from llamarouter.core.errors import ModelCrashed
from llamarouter.core.outlook import Need, Outlook, words_behind, words_of, words_of_download, words_of_waking
from tests.stories import (
    MEMORY,
    ask,
    evict,
    gone,
    grant,
    one_place,
    play,
    ready,
    refuse,
    release,
    start,
    tick,
    two_places,
)


def test_who_waits_for_a_slot_is_told_how_many_are_before_him() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=1), grant(1, "a")),
        (1, ask(2, "a")),
        (1, ask(3, "a")),
        (1, ask(4, "a", slot=False), grant(4, "a")),
        (1, ask(5, "a", slot=False), grant(5, "a")),
        (1, ask(6, "a", slot=False)),
    )
    assert scheduler.outlook(2, 2) == Outlook("a", 1, Need.SLOT)
    assert scheduler.outlook(3, 2) == Outlook("a", 2, Need.SLOT)
    assert scheduler.outlook(6, 2) == Outlook("a", 1, Need.CONNECTION)
    assert scheduler.outlook(1, 2) is None  # inside
    play(scheduler, (7, release(1), grant(2, "a")))
    assert scheduler.outlook(3, 8) == Outlook("a", 1, Need.SLOT, seconds=6)


def test_a_load_is_told_from_its_start_with_what_the_last_one_took() -> None:
    scheduler = play(one_place(), (0, ask(1, "a"), start("a")), (0, ask(2, "a")))
    assert scheduler.outlook(2, 4) == Outlook("a", 2, Need.LOAD, loading=4)
    play(
        scheduler,
        (20, ready("a", slots=1), grant(1, "a")),
        (30, release(1), grant(2, "a")),
        (31, release(2)),
        (50, ask(3, "b"), evict("a")),
        (51, gone("a"), start("b")),
        (52, ready("b"), grant(3, "b")),
        (53, release(3)),
        (60, ask(4, "a"), evict("b")),
        (60, ask(5, "a")),
    )
    assert scheduler.outlook(5, 60) == Outlook("a", 2, Need.FREEING, seconds=30)  # the load, and an answer
    play(scheduler, (61, gone("b"), start("a")))
    assert scheduler.outlook(4, 66) == Outlook("a", 1, Need.LOAD, seconds=15, loading=5)
    assert scheduler.outlook(5, 66) == Outlook("a", 2, Need.LOAD, seconds=25, loading=5)
    assert scheduler.outlook(5, 99) == Outlook("a", 2, Need.LOAD, loading=38)  # longer than ever: nobody knows
    assert (scheduler.loaded_since("a", 60, 99), scheduler.loaded_since("b", 60, 99)) == (38, 0)
    play(scheduler, (100, ready("a", slots=1), grant(4, "a")))
    assert (scheduler.loaded_since("a", 60, 110), scheduler.loaded_since("a", 90, 110)) == (39, 10)
    assert (scheduler.loaded_since("a", 101, 110), scheduler.loaded_since("b", 60, 110)) == (0, 0)


def test_of_a_load_that_failed_it_is_known_how_long_it_was() -> None:
    broken = ModelCrashed("broken")
    scheduler = play(one_place(), (0, ask(1, "a"), start("a")), (7, gone("a", broken), refuse(1, "model_crashed")))
    assert (scheduler.loaded_since("a", 0, 7), scheduler.loaded_since("a", 5, 7)) == (7, 2)
    assert scheduler.loaded_since("a", 8, 9) == 0


def test_who_wants_a_place_is_told_how_many_models_have_wanted_one_for_longer() -> None:
    scheduler = play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(2, "b")),
        (3, ask(3, "c")),
    )
    assert scheduler.outlook(2, 4) == Outlook("b", 1, Need.PLACE)
    assert scheduler.outlook(3, 4) == Outlook("c", 1, Need.PLACE, models_before=1)
    play(scheduler, (12, tick), (12, ask(4, "a")))  # claimed: who comes now waits behind the others
    assert scheduler.outlook(4, 12) == Outlook("a", 1, Need.PLACE, models_before=2)
    play(scheduler, (13, release(1), evict("a")))
    assert scheduler.outlook(2, 13) == Outlook("b", 1, Need.FREEING)
    assert scheduler.outlook(4, 13) == Outlook("a", 1, Need.FREEING, models_before=2)


def test_a_model_that_has_a_place_is_not_before_anybody() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=1), grant(1, "a")),
        (2, ask(2, "a")),
        (3, ask(3, "b")),
    )
    assert scheduler.outlook(3, 4) == Outlook("b", 1, Need.PLACE)


def test_who_waits_for_nobody_is_about_to_be_loaded() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (8, ready("a"), grant(1, "a")),
        (9, release(1)),
        (9, ask(2, "b")),  # a keeps its place for as long as it took to load
    )
    assert scheduler.outlook(2, 9) == Outlook("b", 1, Need.START)
    play(scheduler, (9, ask(3, "a"), grant(3, "a")))
    assert scheduler.outlook(2, 9) == Outlook("b", 1, Need.PLACE)


def test_a_second_try_waits_for_memory() -> None:
    scheduler = play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, release(1)),
        (3, ask(2, "b"), start("b")),
        (4, gone("b", MEMORY), evict("a")),
    )
    assert scheduler.outlook(2, 5) == Outlook("b", 1, Need.FREEING)


TEXT = LoadProgress(("text_model",), "text_model", 0.425)


@pytest.mark.parametrize(
    ("outlook", "progress", "words"),
    [
        (Outlook("a", 3, Need.SLOT, 12.4), None, "waiting for a free slot; about 12 s more"),
        (Outlook("a", 3, Need.SLOT, 0.2), TEXT, "waiting for a free slot; about 1 s more"),
        (Outlook("a", 3, Need.LOAD, loading=85), TEXT, "the model is loading, 42%; about 115 s more"),
        (Outlook("a", 3, Need.LOAD, 50, loading=85), TEXT, "the model is loading, 42%; about 50 s more"),
        (Outlook("a", 3, Need.LOAD, loading=1), LoadProgress((), "", 0.0), "the model is loading, 0%"),
        (
            Outlook("a", 3, Need.LOAD, loading=9),
            LoadProgress(("text_model", "mmproj_model"), "mmproj_model", 0.9),
            "the model is loading, part 2 of 2 at 90%",
        ),
        (Outlook("a", 3, Need.LOAD), None, "the model is loading"),
        (Outlook("a", 3, Need.PLACE, models_before=1), None, f"{Need.PLACE.value}, another model is before it"),
        (Outlook("a", 3, Need.FREEING, models_before=4), None, f"{Need.FREEING.value}, 4 models are before it"),
    ],
)
def test_its_words(outlook: Outlook, progress: LoadProgress | None, words: str) -> None:
    assert words_of(outlook, progress) == f"position 3 in the queue of model a: {words}"


def test_a_name_ends_no_line() -> None:
    assert words_of(Outlook("a\r\n\ndata: x\u2028", 1, Need.PLACE)).startswith(
        "position 1 in the queue of model a data: x: "
    )


def test_the_words_behind_it() -> None:
    assert words_behind(7.34, 6.0) == "it was its turn after 7.3 s, 6.0 s of them for the load"
    assert words_behind(7.34, 0.0) == "it was its turn after 7.3 s"


def test_the_words_of_a_download() -> None:
    assert words_of_download("a", 0.429) == "model a is being downloaded, 42%"
    assert words_of_download("a", None) == "model a is being downloaded"


def test_the_words_of_a_model_that_wakes_up() -> None:
    assert words_of_waking("a", TEXT) == "model a wakes up, 42%"
    assert words_of_waking("a", None) == words_of_waking("a", LoadProgress((), "", 1.0)) == "model a wakes up"
