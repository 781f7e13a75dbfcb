"""State lines: every cut of the stream gives the same lines, and nonsense is only text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.child_protocol import LoadProgress, StateLine, StateLines, parse_state, progress_of

READY = b'cmd_child_to_router:state:{"state":"ready","payload":{"id":"m"}}'
LOADING = (
    b'cmd_child_to_router:state:{"state":"loading","payload":{"stages":["text_model"],"current":"text_model",'
    b'"value":0.5}}'
)


def test_the_lines_of_b11434() -> None:
    assert parse_state(READY) == StateLine("ready", {"id": "m"})
    line = parse_state(LOADING)
    assert line is not None
    assert progress_of(line) == LoadProgress(("text_model",), "text_model", 0.5)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"cmd_child_to_router:state:",
        b"cmd_child_to_router:state:{",
        b'cmd_child_to_router:state:{"payload":{}}',
        b'cmd_child_to_router:state:{"state":1}',
        b'cmd_child_to_router:state:{"state":"x","payload":[]}',
        b'cmd_child_to_router:state:{"state":"\xff"}',
        b" " + READY,
        b"cmd_child_to_router:state:" + b"[" * 100_000,
    ],
)
def test_what_is_no_state_line_is_none(line: bytes) -> None:
    assert parse_state(line) is None


def test_a_state_may_have_nothing_to_say() -> None:
    for line in (b'{"state":"sleeping","payload":null}', b'{"state":"sleeping"}'):
        assert parse_state(b"cmd_child_to_router:state:" + line) == StateLine("sleeping", {})


def test_a_word_of_a_later_build_is_let_through() -> None:
    assert parse_state(b'cmd_child_to_router:state:{"state":"dreaming","payload":{},"more":1}') == StateLine(
        "dreaming", {}
    )


@pytest.mark.parametrize(
    ("payload", "progress"),
    [
        ({}, LoadProgress((), "", 0.0)),
        ({"value": 7}, LoadProgress((), "", 1.0)),
        ({"value": -1.0, "current": "x"}, LoadProgress((), "x", 0.0)),
        ({"stage": "mmproj_model"}, LoadProgress(("mmproj_model",), "mmproj_model", 0.0)),
        ({"value": "half"}, None),
        ({"stages": "text_model"}, None),
    ],
)
def test_progress_of_odd_payloads(payload: dict[str, object], progress: LoadProgress | None) -> None:
    assert progress_of(StateLine("loading", payload)) == progress


def test_only_loading_lines_have_progress() -> None:
    assert progress_of(StateLine("ready", {"value": 0.5})) is None


@given(st.lists(st.integers(0, 300), max_size=8))
def test_cut_anywhere(cuts: list[int]) -> None:
    stream = b"noise\n" + LOADING + b"\n\n" + READY + b"\nrest"
    lines = StateLines()
    seen: list[StateLine | bytes] = []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        seen += lines.feed(stream[start:end])
    assert seen == [b"noise", parse_state(LOADING), parse_state(READY)]


def test_an_endless_line_is_dropped_whole_and_costs_no_memory() -> None:
    lines = StateLines()
    for _ in range(40):
        assert lines.feed(b"x" * 65536) == []
    assert len(lines._rest) <= 1 << 20
    assert lines.feed(b"end\n" + READY + b"\n") == [parse_state(READY)]
