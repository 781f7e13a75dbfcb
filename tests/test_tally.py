"""What was counted, and the page of it."""

from __future__ import annotations

import time

from llamarouter.core.exposition import Page
from llamarouter.core.metric_table import METRICS
from llamarouter.core.tally import RouteTally, Tally, add_tokens
from llamarouter.core.tally_page import write_tally
from llamarouter.core.tokens import Tokens
from tests.prometheus import read, read_open, series, value


def page_of(tally: Tally, *, open_metrics: bool = False) -> bytes:
    page = Page(open_metrics=open_metrics)
    write_tally(page, tally)
    return b"".join(page.pieces())


def add(route: RouteTally, status: int, seconds: float, first: float | None, bytes_in: int, bytes_out: int) -> None:
    """One request."""
    route.add((status,), (seconds,), () if first is None else (first,), (bytes_in,), (bytes_out,))


def test_a_request_is_counted_by_its_model_its_kind_and_its_status() -> None:
    tally = Tally()
    for status in (200, 200, 204, 404, 503, 799):
        add(tally.model("m").route("chat"), status, 1.0, 0.5, 0, 0)
    add(tally.model("m").route("chat"), 0, 1.0, None, 0, 0)
    tally.model("").route("health").statuses[2] += 1
    text = page_of(tally)
    requests = {
        status: value(text, "llamarouter_requests_total", model="m", route="chat", status=status)
        for status in ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "7xx")
    }
    assert requests == {"none": 1, "1xx": None, "2xx": 3, "3xx": None, "4xx": 1, "5xx": 1, "7xx": 1}
    assert value(text, "llamarouter_requests_total", model="", route="health", status="2xx") == 1


def test_times_and_bytes_are_of_those_that_were_in_a_model() -> None:
    tally = Tally()
    model = tally.model("m")
    add(model.route("chat"), 200, 2.0, 0.25, 7, 9)
    add(model.route("chat"), 200, 0.5, 0.5, 1, 1)  # came as a whole
    add(model.route("chat"), 0, 0.5, None, 1, 0)
    add(model.route("tokens"), 200, 0.001, 0.001, 0, 0)
    model.route("chat").statuses[4] += 1  # the router has answered it
    model.waited(1.5, 7.0)
    known = series(read(page_of(tally)))
    route = frozenset({("model", "m"), ("route", "chat")})
    assert known["llamarouter_request_duration_seconds_count", route] == 3
    assert known["llamarouter_request_duration_seconds_sum", route] == 3.0
    assert known["llamarouter_request_duration_seconds_bucket", route | {("le", "0.5")}] == 2
    assert known["llamarouter_time_to_first_byte_seconds_count", route] == 2
    assert known["llamarouter_time_to_first_byte_seconds_sum", route] == 0.75
    assert known["llamarouter_time_to_first_byte_seconds_bucket", route | {("le", "0.25")}] == 1
    assert known["llamarouter_time_to_first_byte_seconds_bucket", route | {("le", "0.5")}] == 2
    m = frozenset({("model", "m")})
    assert known["llamarouter_queue_wait_seconds_count", m] == 4
    assert known["llamarouter_queue_wait_seconds_bucket", m | {("le", "0.01")}] == 3
    assert known["llamarouter_queue_wait_seconds_sum", m] == 1.5
    assert known["llamarouter_load_wait_seconds_total", m] == 7
    assert known["llamarouter_relay_bytes_total", m | {("direction", "in")}] == 9
    assert known["llamarouter_relay_bytes_total", m | {("direction", "out")}] == 10


def test_what_was_in_no_model_has_no_times() -> None:
    tally = Tally()
    tally.model("").route("health").statuses[2] += 1
    assert b"_seconds" not in page_of(tally)


def test_tokens_are_counted_by_kind_and_by_key() -> None:
    tally = Tally()
    for tokens in (Tokens(10, 5, cached=4), Tokens(3, 2, estimated=True), Tokens(6, 1, cached=6)):
        add_tokens(tally.model("m").tokens, tokens)
        tally.key("ann").add((200,))
        add_tokens(tally.key("ann").tokens, tokens)
    tally.key("bob").add((429,))
    tally.key("bob").refusals["rate_limited"] += 1
    text = page_of(tally)
    for name, whose in (("llamarouter_tokens_total", {"model": "m"}), ("llamarouter_key_tokens_total", {"key": "ann"})):
        counts = {
            (kind, guessed): value(text, name, kind=kind, estimated=guessed, **whose)
            for kind in ("prompt", "cached", "generated")
            for guessed in ("false", "true")
        }
        assert counts == {
            ("prompt", "false"): 6,
            ("cached", "false"): 10,
            ("generated", "false"): 6,
            ("prompt", "true"): 3,
            ("cached", "true"): None,
            ("generated", "true"): 2,
        }
    assert value(text, "llamarouter_key_requests_total", key="ann", status="2xx") == 3
    assert value(text, "llamarouter_key_requests_total", key="bob", status="4xx") == 1
    assert value(text, "llamarouter_key_refusals_total", key="bob", reason="rate_limited") == 1


def test_what_happens_to_a_model_is_counted() -> None:
    tally = Tally()
    model = tally.model("m")
    model.loaded(3.0)
    model.failed("signal", loading=False)
    model.failed("bad_file", loading=True)
    model.stopped("evicted", loading=False)
    model.stopped("unloaded", loading=True)
    model.broken["model"] += 1
    model.refusals["queue_full"] += 1
    known = {
        (name, *sorted(dict(labels).values())): number
        for (name, labels), number in series(read(page_of(tally))).items()
    }
    assert known["llamarouter_loads_total", "m", "ready"] == 1
    assert known["llamarouter_loads_total", "failed", "m"] == 1
    assert known["llamarouter_loads_total", "m", "stopped"] == 1
    assert known["llamarouter_load_duration_seconds_sum", "m"] == 3
    assert known["llamarouter_failures_total", "m", "serving", "signal"] == 1
    assert known["llamarouter_failures_total", "bad_file", "loading", "m"] == 1
    assert known["llamarouter_evictions_total", "evicted", "m"] == 1
    assert known["llamarouter_answers_broken_total", "m", "model"] == 1
    assert known["llamarouter_refusals_total", "m", "queue_full"] == 1


def test_of_what_is_gone_nothing_is_kept() -> None:
    tally = Tally()
    for number in range(1000):
        tally.model(f"m{number}").route("chat")
        tally.key(f"k{number}")
    tally.keep({"m1", "m2"}, {"k1"})
    assert (list(tally.models), list(tally.keys)) == (["m1", "m2"], ["k1"])


def crowd(models: int) -> Tally:
    """So many models, each of which was used in two ways by some keys."""
    tally = Tally()
    for number in range(models):
        for kind in ("chat", "embedding"):
            model = tally.model(f"user/model-{number}:Q4_K_M")
            add(model.route(kind), 200, 1.0, 0.1, 100, 100)
            add_tokens(model.tokens, Tokens(10, 5, cached=4))
            tally.key(f"key-{number % 50}").add((200,))
            add_tokens(tally.key(f"key-{number % 50}").tokens, Tokens(10, 5))
    return tally


def test_a_page_of_many_used_models_can_be_read_whole() -> None:
    tally = crowd(100)
    for known in (read(page_of(tally)), read_open(page_of(tally, open_metrics=True))):
        assert known["llamarouter_requests"].type == "counter"
        assert len(known["llamarouter_requests"].samples) == 200
        assert len(known["llamarouter_key_tokens"].samples) == 100


def test_each_metric_has_a_name_and_a_help_as_prometheus_wants_them() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith("."), metric.name
        assert metric.name.endswith("_total") == (metric.kind.value == "counter"), metric.name
        assert not {"le", "quantile"} & set(metric.labels), metric.name


def test_a_thousand_used_models_are_written_quickly() -> None:
    tally = crowd(1000)
    spent = []
    for _ in range(3):
        started = time.process_time()
        page_of(tally)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.4  # seconds, on any machine; 0.05 on a quiet one
