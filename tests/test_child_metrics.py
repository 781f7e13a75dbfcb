"""What children say of themselves, read like a stranger's word and merged."""

from __future__ import annotations

from llamarouter.core.child_metrics import samples_of, write_children
from llamarouter.core.exposition import Kind, Page
from tests.prometheus import read, read_open, series

SAID = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 1.23457e+06
# HELP llamacpp:n_tokens_max Largest observed sequence length (prompt + generation)
# TYPE llamacpp:n_tokens_max counter
llamacpp:n_tokens_max 40
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 1
# HELP llamacpp:spec_decode_num_accepted_tokens_per_pos_total Accepted tokens per draft position
# TYPE llamacpp:spec_decode_num_accepted_tokens_per_pos_total counter
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 7
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="1"} 3
"""


def test_the_figures_of_llama_server_are_read() -> None:
    known = samples_of(SAID)
    assert [(each.metric.name.removeprefix("llamacpp:"), each.labels, each.value) for each in known] == [
        ("prompt_tokens_total", "", 1234570.0),
        ("n_tokens_max", "", 40.0),
        ("requests_processing", "", 1.0),
        ("spec_decode_num_accepted_tokens_per_pos_total", 'position="0"', 7.0),
        ("spec_decode_num_accepted_tokens_per_pos_total", 'position="1"', 3.0),
    ]
    assert [each.metric.kind for each in known[:3]] == [Kind.COUNTER, Kind.COUNTER, Kind.GAUGE]
    assert known[0].metric.help == "Number of prompt tokens processed, excluding cached tokens"


def test_several_children_are_one_family_each() -> None:
    children = {'a"b': samples_of(SAID), "c": samples_of(SAID.replace("40", "50"))}
    for open_metrics in (False, True):
        page = Page(open_metrics=open_metrics)
        write_children(page, children)
        known = series((read_open if open_metrics else read)(b"".join(page.pieces())))
        assert known["llamacpp:n_tokens_max" if open_metrics else "llamacpp:n_tokens_max_total", _labels('a"b')] == 40
        assert known["llamacpp:requests_processing", _labels("c")] == 1
        position = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total"
        assert known[position, _labels("c") | {("position", "1")}] == 3


def _labels(model: str) -> frozenset[tuple[str, str]]:
    return frozenset({("model", model)})


def test_what_an_engine_makes_up_gets_onto_no_page() -> None:
    lies = [
        'llamacpp:x{model="other"} 1',
        "llamarouter_requests_total 1",
        "up 1",
        'llamacpp:x{a="b"} 1 1700000000000',
        'llamacpp:x{a="\\n"} 1',
        'llamacpp:x{a="b",c="d"} 1',
        "llamacpp:x one",
        "llamacpp:x 0x10",
        "llamacpp:x NaN",
        "llamacpp:" + "x" * 1000 + " 1",
        "# HELP",
        "# TYPE llamacpp:y",
        "# HELP llamacpp:z " + "z" * 10_000,
        "{}",
        "\x00",
        "<html>",
    ]
    assert samples_of("\n".join(lies)) == ()


def test_an_engine_cannot_fill_the_page() -> None:
    assert len(samples_of("".join(f"llamacpp:x{number} 1\n" for number in range(10_000)))) == 256


def test_a_sample_that_comes_twice_is_there_once() -> None:
    assert [each.value for each in samples_of("llamacpp:x 1\nllamacpp:x 2\n")] == [1.0]


def test_two_engines_of_two_minds_about_a_metric_make_one_family() -> None:
    page = Page()
    old = samples_of("# TYPE llamacpp:x gauge\n# HELP llamacpp:x Old.\nllamacpp:x 1\n")
    new = samples_of("# TYPE llamacpp:x counter\nllamacpp:x 2\nllamacpp:y 3\n")
    write_children(page, {"old": old, "new": new, "none": ()})
    families = read(b"".join(page.pieces()))
    assert {name: (family.type, len(family.samples)) for name, family in families.items()} == {
        "llamacpp:x": ("gauge", 2),
        "llamacpp:y": ("unknown", 1),
    }
