"""Which request answers a conversation, and for how long that is known."""

from __future__ import annotations

import pytest

from llamarouter.core.conversation_ids import MAX_BYTES, Marks, id_of
from llamarouter.core.conversations import Conversations
from llamarouter.core.errors import BadRequest


def test_the_newest_request_answers() -> None:
    known: Conversations[str] = Conversations()
    assert known.begin("c", "first", 0.0) is None
    assert known.begin("c", "second", 1.0) == "first"
    assert known.find("c", 2.0) == "second"
    assert known.find("d", 2.0) is None


def test_an_answer_is_kept_for_a_while_after_its_end_and_not_before() -> None:
    known: Conversations[str] = Conversations(keep=10.0)
    known.begin("c", "r", 0.0)
    assert known.find("c", 1e6) == "r"
    known.ended("c", "r", 1e6)
    assert known.find("c", 1e6 + 9.9) == "r"
    assert known.find("c", 1e6 + 10.0) is None
    assert len(known) == 0


def test_what_was_replaced_ends_nothing_of_its_successor() -> None:
    known: Conversations[object] = Conversations(keep=10.0)
    old, new = object(), object()
    known.begin("c", old, 0.0)
    known.begin("c", new, 0.0)
    known.ended("c", old, 0.0)
    known.drop("c", old)
    assert known.find("c", 100.0) is new


def test_a_new_answer_takes_the_time_from_the_kept_one() -> None:
    known: Conversations[str] = Conversations(keep=10.0)
    known.begin("c", "old", 0.0)
    known.ended("c", "old", 0.0)
    assert known.begin("c", "new", 5.0) == "old"
    assert known.find("c", 20.0) == "new"


def test_what_had_no_answer_is_forgotten() -> None:
    known: Conversations[str] = Conversations()
    known.begin("c", "r", 0.0)
    known.drop("c", "r")
    assert known.find("c", 0.0) is None


def test_a_stop_forgets_and_says_who_it_was() -> None:
    known: Conversations[str] = Conversations(keep=10.0)
    known.begin("c", "r", 0.0)
    known.ended("c", "r", 0.0)
    assert known.forget("c") == "r"
    assert known.forget("c") is None
    known.begin("c", "next", 1.0)
    assert known.find("c", 11.0) == "next"


def test_no_more_are_kept_than_the_limit_and_the_oldest_end_goes_first() -> None:
    known: Conversations[str] = Conversations(most=2)
    for name in "abcd":
        known.begin(name, name, 0.0)
    for name in "badc":
        known.ended(name, name, 1.0)
    assert [name for name in "abcd" if known.find(name, 1.0)] == ["c", "d"]


def test_the_living_are_not_counted_against_the_limit() -> None:
    known: Conversations[str] = Conversations(most=1)
    for name in "abc":
        known.begin(name, name, 0.0)
    known.ended("a", "a", 0.0)
    assert len(known) == 3


@pytest.mark.parametrize(
    ("value", "conversation"),
    [
        (b"c", "c"),
        (b" c::user/m:Q4_K_M ", "c::user/m:Q4_K_M"),
        (b"", None),
        (b"  ", None),
        ("größe".encode(), "größe"),
        (b"a%3A%3Ab", "a%3A%3Ab"),
        (b"c" * MAX_BYTES, "c" * MAX_BYTES),
    ],
)
def test_an_id_is_taken_as_it_is(value: bytes, conversation: str | None) -> None:
    assert id_of(value) == conversation


@pytest.mark.parametrize("value", [b"\xff", b"c" * (MAX_BYTES + 1)])
def test_what_cannot_be_an_id_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="X-Conversation-Id"):
        id_of(value)


def test_without_keys_an_id_goes_as_it_came() -> None:
    marks = Marks(b"secret")
    assert marks.marked("c::m", b"") == "c::m"
    assert marks.bare("c::m", b"") == "c::m"


def test_the_same_id_of_two_keys_is_two_and_comes_back_to_its_own_key_only() -> None:
    marks = Marks(b"secret")
    one, other = marks.marked("c", b"one"), marks.marked("c", b"other")
    assert len({one, other, "c"}) == 3
    assert marks.bare(one, b"one") == "c"
    assert marks.bare(other, b"one") is None
    assert marks.bare(one + "::m", b"one") == "c::m"


def test_a_mark_shows_nothing_of_its_key_and_differs_between_routers() -> None:
    one, other = Marks(b"a").marked("", b"sk-key"), Marks(b"b").marked("", b"sk-key")
    assert one != other
    assert len(one) == len(other) == 24
    assert "key" not in one
