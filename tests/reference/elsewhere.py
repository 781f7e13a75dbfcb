"""Intended differences that no row of the comparison shows, each with the tests that do.

`docs/differences.md` is written from this table (`scripts/compare-with-llama-server --write`), and a test collects
every test that is named here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Elsewhere:
    """`there` the reference, `here` this router."""

    there: str
    here: str
    why: str
    tests: tuple[str, ...]


def _also(there: str, here: str, why: str, *tests: str) -> Elsewhere:
    return Elsewhere(there, here, why, tests)


_PRESETS = "tests/test_table_presets.py::test_here"
_FOLDERS = "tests/test_table_discovery.py::test_here"

ELSEWHERE: tuple[Elsewhere, ...] = (
    _also(
        "In a folder of several models each gets the projector and the draft that the directory names last; a file "
        "called `eagle3-*` is a model.",
        "Each gets those that carry its name; `eagle3-*` is a draft.",
        "A wrong projector cannot be loaded, nor a draft by itself.",
        _FOLDERS,
    ),
    _also(
        "Of an id with a comma only its first part stands in answers.",
        "It stands there as `a%2Cb`, which is understood as well.",
        "`--alias`, by which a child learns its name, is a list.",
        "tests/test_conflicts.py::test_names_that_no_command_line_can_say_are_answered_to",
    ),
    _also(
        "`[user/repo:Q4_K_XL-thinking]` becomes `user/repo:THINKING`.",
        "It keeps its name; `user/repo:THINKING` is understood.",
        "Two such sections are two models.",
        _PRESETS,
    ),
    _also(
        "An indented key, or one with `_` for `-`, ends the start; `no` and `FALSE` turn an option on; `~/` is a "
        "folder called `~`.",
        "Such keys are taken; `no` and `FALSE` turn it off; `~/` is the home folder.",
        "What is written is meant.",
        _PRESETS,
    ),
    _also(
        "A reload that cannot read a file fails half-way.",
        "It changes nothing; a section that has become wrong keeps its last good version.",
        "One typing error must not stop the others.",
        "tests/test_reload.py::test_a_wrong_section_keeps_its_last_good_version_and_its_child",
    ),
    _also(
        "What llama.cpp's `config.ini` says of one model (`model`, `hf-repo`, `alias`) makes a server of that model.",
        "It is not for the router.",
        "All of llama.cpp's programs share the file.",
        "tests/test_config_ini.py::test_the_model_of_other_programs_is_not_the_one_that_is_served",
    ),
    _also(
        "`--model-url`, `--mmproj-url` and `--...-default` have every process download for itself, and the "
        "`preset.ini` of a repository sets its options.",
        "One line refuses them; such a file is not used.",
        "One download at a time, resumed and checked; options from the network could name files here.",
        "tests/test_option_fates.py::test_what_is_refused_says_why_in_one_line",
    ),
    _also(
        "A stream that waits hears nothing until its first token, or until some proxy gives up.",
        "After `--wait-comment` (5 s) it hears comments: its position, what it waits for, how far a load is. What "
        "fails then is an error event.",
        "nginx ends a silence of a minute; loads take three.",
        "tests/test_waits.py::test_a_stream_hears_of_its_load_and_then_of_its_position",
        "tests/test_relay_patience.py::test_a_refusal_behind_a_comment_is_the_error_event_of_its_dialect",
        "tests/e2e/test_nginx.py::test_comments_keep_a_stream_alive_through_a_load_that_is_longer_than_the_patience_of_"
        "nginx",
    ),
    _also(
        "A request that names no model is a 400.",
        "So it is here, but `--default-model ID` answers it.",
        "Old clients never name one.",
        "tests/test_relay_default.py::test_the_default_answers_who_names_none",
    ),
    _also(
        "An answer in which nothing moves for `--timeout` is a 500 whose text is no JSON.",
        "It is a 504, or an error event.",
        "Clients can tell what happened.",
        "tests/test_relay_silence.py::test_a_silent_answer_is_broken_off_with_its_reason",
        "tests/test_relay_silence.py::test_a_stream_that_stops_ends_in_an_error_event",
    ),
    _also(
        "A request of which nothing more comes may hold its thread for `--timeout`.",
        "After 75 to 150 s it is a 408.",
        "Slow clients must not take the places of others.",
        "tests/test_relay_door.py::test_a_request_of_which_nothing_more_comes_is_given_up",
    ),
    _also(
        "A list of `--cors-origins` is sent as it is.",
        "The origin that asks is sent, if it is in the list.",
        "Browsers take one origin only.",
        "tests/test_cors.py::test_who_may_read",
    ),
    _also(
        "One of `--ssl-key-file` and `--ssl-cert-file` alone, or files that cannot be used, mean no TLS, in silence.",
        "They end the start with a line. UNIX sockets stay plain.",
        "Who asks for TLS must have it; a socket's file has an owner.",
        "tests/test_tls.py::test_each_wrong_file_is_named_with_what_is_wrong",
        "tests/e2e/test_doors.py::test_a_unix_socket_beside_tls_speaks_plainly",
    ),
    _also(
        "A client that takes no gzip gets a 415 for the page.",
        "The page goes to any client.",
        "Clients differ.",
        "tests/test_page.py::test_assets_are_public_compressed_or_not_and_known_by_their_etag",
    ),
    _also(
        "A delete cuts the answers of a model that is loaded off, and what was downloaded of one is gone.",
        "The answers end first; a download that is stopped keeps what is here, and another delete deletes that.",
        "Downloads are large, and nobody's answer is cut off by another's tidying.",
        "tests/test_download_requests.py::test_a_delete_lets_answers_end_and_turns_the_others_away",
        "tests/test_download_requests.py::test_a_delete_stops_a_download_and_keeps_its_part_and_one_more_deletes_that",
    ),
)
