"""What is weak in llama-server's router, by a label each, and the tests that show that it is not so here.

`W1` to `W30`: what was seen of build b11434, or read in its source. `docs/differences.md` is written from this table
(`scripts/compare-with-llama-server --write`), and a test collects every test that is named here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weakness:
    """`there`: what is weak in the reference. `here`: what this router does, shown by tests or excused by `why_not`."""

    label: str
    there: str
    here: str
    tests: tuple[str, ...] = ()
    why_not: str = ""


def _weak(label: str, there: str, here: str, *tests: str, why_not: str = "") -> Weakness:
    return Weakness(label, there, here, tests, why_not)


_HERE = "tests/reference/test_not_here.py"

WEAKNESSES: tuple[Weakness, ...] = (
    _weak(
        "W1",
        "A client that leaves does not end an answer that is not streamed: the child makes it to the end, and counts "
        "as idle meanwhile.",
        "The child's connection is closed within 100 ms, and its slot is free.",
        f"{_HERE}::test_who_leaves_an_answer_that_is_not_streamed_frees_its_slot",
        "tests/test_relay_leaving.py::test_the_childs_connection_is_closed",
    ),
    _weak(
        "W2",
        "A reload that brings an alias which is another model's id wedges the router: every later load hangs, and so "
        "does SIGTERM.",
        "The name stays with whom it meant; that is a warning, and all is served.",
        "tests/test_conflicts.py::test_a_new_section_that_takes_known_names_is_served_without_them",
        "tests/test_conflicts.py::test_a_new_section_called_as_an_alias_takes_the_name",
        f"{_HERE}::test_a_reload_with_a_conflict_wedges_nothing",
    ),
    _weak(
        "W3",
        "A download whose process crashes stays `downloading` for ever; unload, delete and SIGTERM hang on it.",
        "It is a failure with its reason, and can be tried again.",
        "tests/test_download_requests.py::test_a_fetching_process_that_is_killed_is_a_failure_and_can_be_tried_again",
        "tests/test_fetching.py::test_a_process_that_dies_is_a_failure",
    ),
    _weak(
        "W4",
        "A section that names no model starts a second router as its child, which loads for ever and outlives its "
        "parent.",
        "The section is a warning, and a request for it is refused at once.",
        f"{_HERE}::test_a_section_without_a_model_starts_nothing",
        "tests/test_catalog.py::test_what_is_wrong_with_a_section_is_wrong_with_it_alone",
    ),
    _weak(
        "W5",
        "`--models-max 0`, which means any number, ends the start where a model is to be loaded with it.",
        "Any number means any number.",
        f"{_HERE}::test_any_number_of_models_may_be_loaded_at_the_start",
    ),
    _weak(
        "W6",
        "A token from the command line stands in `/models`.",
        "Secrets stay with the router: no child gets them, and none is listed.",
        "tests/test_listing.py::test_no_secret_is_listed",
        "tests/test_listing.py::test_values_of_secret_options_are_starred",
        "tests/e2e/test_serving.py::test_keys_close_everything_but_the_public_list_and_appear_nowhere",
        "tests/test_download_requests.py::test_the_token_of_the_command_line_reaches_the_hub_and_no_command_line",
    ),
    _weak(
        "W7",
        "TLS files or a key that come by the environment reach the children as well: every relayed request fails.",
        "They are the router's alone.",
        "tests/e2e/test_doors.py::test_tls_by_environment_is_the_routers_alone",
        "tests/test_child_env.py::test_what_is_none_of_its_business_goes",
    ),
    _weak(
        "W8",
        "Below a prefix not even `/health` is public and answers cannot be taken up again; with a key, the files of "
        "`--path` are refused.",
        "What is public without a prefix is public below it; the page's files are public.",
        "tests/test_prefix.py::test_what_is_public_stays_so",
        "tests/test_prefix.py::test_an_answer_is_taken_up_again_below_it",
        f"{_HERE}::test_a_page_in_a_folder_is_public_and_what_it_calls_is_not",
    ),
    _weak(
        "W9",
        "Models are evicted by their number alone, whatever memory they need, and a load that found too little is not "
        "tried again.",
        "By number as well, so far; a load that dies of memory evicts an idle model and is tried once more.",
        why_not="Placing models by memory is a later release's; what the number leaves to luck is mended afterwards.",
    ),
    _weak(
        "W10",
        "No pins, priorities or least time of stay: two models can evict each other with each request.",
        "A fresh model keeps its place for as long as it took to load, and one that waits has its turn in time; there "
        "are no pins and no priorities.",
        why_not="Pins and priorities are a later release's. The least time of stay is there, and is tested.",
    ),
    _weak(
        "W11",
        "Nothing bounds a queue, a wait or a load; a child that hangs is never noticed, and one that crashes is "
        "started again at once.",
        "Queues, waits and silent loads are bounded; a child that hangs is killed; failures cool down.",
        "tests/test_scheduler_stories.py::test_the_queue_is_bounded_for_each_model_in_all_and_in_bytes",
        "tests/test_scheduler_waiting.py::test_queue_timeout_holds_whatever_happens",
        "tests/faults/test_child_faults.py::test_a_load_without_progress_is_killed",
        "tests/faults/test_child_faults.py::test_stopped_with_work_it_is_probed_then_killed",
        "tests/test_scheduler_failures.py::test_a_load_that_fails_is_told_to_every_waiter_and_cools_down",
    ),
    _weak(
        "W12",
        "Two threads for each request, one for each reader of events, and a new connection every time.",
        "No threads, and connections are kept on both sides.",
        f"{_HERE}::test_requests_and_readers_cost_no_threads",
        "tests/test_relay_real.py::test_200_requests_keep_few_connections",
    ),
    _weak(
        "W13",
        "What a slow client does not read piles up without bound; that it has left is noticed after half a second.",
        "The child is paused until the client reads; bodies have a budget; leaving is noticed at once.",
        "tests/test_relay_leaving.py::test_a_child_is_paused_while_the_client_does_not_read",
        "tests/test_relay_requests.py::test_bodies_that_are_being_read_have_a_budget_together",
        "tests/test_relay_leaving.py::test_a_client_that_does_not_read_is_missed_too",
    ),
    _weak(
        "W14",
        "One lock over all state, and a copy of every model's state for each request.",
        "One owner, no locks: a warm request is granted in one plain call that looks at its own model.",
        f"{_HERE}::test_no_lock_guards_any_state",
        "tests/test_supervisor.py::test_a_cold_model_is_started_once_and_everybody_gets_in",
    ),
    _weak(
        "W15",
        "Errors have the wrong status (400 and 500 for an unknown model), lose their text or are text that says it is "
        "JSON; none says when to come back.",
        "One shape, the right status, a reason, and `Retry-After`.",
        "tests/e2e/test_serving.py::test_errors_have_the_status_reason_and_shape_that_clients_expect",
        "tests/test_relay_failures.py::test_a_child_that_dies_before_its_answer_is_a_502_with_the_reason",
        "tests/test_scheduler_waiting.py::test_a_queue_timeout_says_when_to_come_back",
    ),
    _weak(
        "W16",
        "An unload of a loading model is listed as a failure; every signal is exit code 1; no reason is kept.",
        "It is no failure; signals keep their number, failures their reason and last words.",
        "tests/test_events_api.py::test_an_unload_while_it_loads_is_no_failure",
        "tests/test_events_api.py::test_an_end_that_nobody_asked_for_is_told_with_its_signal_and_in_the_list",
        "tests/test_listing.py::test_a_model_that_failed_says_why_until_it_is_loaded_again",
    ),
    _weak(
        "W17",
        "The event feed has no snapshot, ids or pings: who reconnects has missed something, and a reader that does not "
        "read costs memory without bound.",
        "Ids and a replay for who comes back, a snapshot and pings on request; a reader that is too slow is dropped.",
        "tests/test_feed.py::test_who_comes_back_with_an_id_is_told_all_that_it_missed",
        "tests/test_feed.py::test_a_snapshot_comes_first_and_what_happens_meanwhile_behind_it",
        "tests/test_feed.py::test_a_silent_feed_says_that_it_lives_when_asked_to",
        "tests/test_feed.py::test_a_reader_that_does_not_read_is_dropped_and_the_others_go_on",
    ),
    _weak(
        "W18",
        "A download of a repository that does not exist is `download_finished`; the token of the command line is not "
        "used, `--offline` is not heeded, cancelling deletes what came, and `/models` shows no progress.",
        "It is a failure with its reason; the token is used; offline is refused; a cancelled download goes on later.",
        "tests/test_download_requests.py::test_a_repository_that_does_not_exist_is_a_failure_with_its_reason",
        "tests/test_download_requests.py::test_the_token_of_the_command_line_reaches_the_hub_and_no_command_line",
        "tests/test_download_requests.py::test_offline_refuses_at_once",
        "tests/test_downloads.py::test_a_download_that_is_stopped_tells_its_waiters_and_goes_on_from_there",
        "tests/test_downloads.py::test_a_download_by_request_is_listed_while_it_runs_and_stays",
    ),
    _weak(
        "W19",
        "A cached model asks the Hub at each load and may change its weights; an importance matrix is a model, shards "
        "are many, folders are searched one deep, and of several quants one is served.",
        "Cached models start from their file; the matrix is none, shards are one, any depth, every quant.",
        "tests/test_catalog.py::test_discovered_models_are_started_by_their_files",
        "tests/test_catalog.py::test_a_repository_that_is_here_is_started_by_its_files",
        "tests/test_models_folder.py::test_shards_are_one_model",
        "tests/test_models_folder.py::test_folders_at_any_depth",
        "tests/test_models_folder.py::test_several_models_in_a_folder",
        "tests/reference/test_side_by_side.py::test_every_intended_difference_occurs",
    ),
    _weak(
        "W20",
        "Presets know no quotes; `;` and `#` cut JSON and lists; an indented line or a wrong key ends the router, and "
        "a blank at the end of a section's name belongs to it.",
        "Quotes are quotes, values are whole, and what is wrong spoils its section alone.",
        "tests/test_ini.py::test_value",
        "tests/test_ini.py::test_keys_may_be_indented",
        "tests/test_ini.py::test_a_value_in_quotes_is_whole",
        "tests/test_ini.py::test_a_bad_line_spoils_its_section_alone",
        "tests/reference/test_side_by_side.py::test_every_intended_difference_occurs",
    ),
    _weak(
        "W21",
        "POST `/lora-adapters` cannot be routed, for its body is an array; a scrape of `/metrics` loads the model.",
        "The query may name the model; a scrape loads nothing.",
        "tests/test_scrape.py::test_adapters_are_set_by_an_array_whose_model_stands_in_the_query",
        "tests/test_scrape.py::test_a_scrape_of_a_model_that_is_not_loaded_says_so_and_loads_nothing",
        "tests/test_scrape.py::test_a_scrape_of_a_loaded_model_is_no_use_of_it",
    ),
    _weak(
        "W22",
        "Vertex AI's predict route is there, and always fails.",
        "It is not there, and says so: a warning at the start, and 403 `feature_disabled`.",
        f"{_HERE}::test_the_predict_route_says_that_it_is_not_there",
    ),
    _weak(
        "W23",
        "An answer cannot be taken up again while its model sleeps, though it is kept; whose it was is never "
        "forgotten.",
        "It can; and no more owners are remembered than answers are kept.",
        f"{_HERE}::test_an_answer_is_taken_up_again_though_its_model_sleeps",
        "tests/test_conversations.py::test_an_answer_is_kept_for_a_while_after_its_end_and_not_before",
        "tests/test_conversations.py::test_no_more_are_kept_than_the_limit_and_the_oldest_end_goes_first",
    ),
    _weak(
        "W24",
        "Options for tools and MCP reach every child, which starts its own servers.",
        "They are refused in one line, and none of the router's options reaches a child.",
        "tests/test_option_fates.py::test_nothing_of_the_routers_own_reaches_a_model",
        "tests/test_option_fates.py::test_what_is_refused_says_why_in_one_line",
    ),
    _weak(
        "W25",
        "One flat list of keys, each of which may do everything; the comparison takes longer the more of it is right.",
        "One list as well, so far; the comparison takes the same time for every key.",
        why_not="Keys with scopes and quotas are a later release's.",
    ),
    _weak(
        "W26",
        "A child's port is found free, given back, and may be another's when the child binds it.",
        "Children listen on UNIX sockets under names that are new each time; where an engine cannot, another port is "
        "tried.",
        "tests/reference/test_side_by_side.py::test_every_intended_difference_occurs",
        "tests/faults/test_child_faults.py::test_a_port_that_is_taken_is_tried_again",
    ),
    _weak(
        "W27",
        "Between leaving the queue and being counted, a request's model may be evicted; a model that a reload removed "
        "may come back as a phantom.",
        "The grant is the count; nobody serving is stopped, and what is gone from the catalogue is drained.",
        "tests/test_scheduler_places.py::test_a_busy_model_is_passed_over_even_if_it_was_used_least_recently",
        "tests/properties/test_scheduler_properties.py::test_a_life_of_a_house",
        "tests/test_shelf.py::test_a_model_that_comes_later_is_found_and_one_that_goes_is_not",
    ),
    _weak(
        "W28",
        "A word that the router does not know from a child aborts the router; its end hangs on a child that loads.",
        "The word is let through; a signal ends it while models load.",
        "tests/test_child_protocol.py::test_a_word_of_a_later_build_is_let_through",
        "tests/e2e/test_starting.py::test_a_signal_while_models_load_at_the_start_ends_it_at_once",
    ),
    _weak(
        "W29",
        "Two presets of one file are two processes with a copy of the weights each; a model has one instance, on this "
        "machine.",
        "The same.",
        why_not="One process per model is what keeps a crash to itself; the operating system shares the file's pages. "
        "Several instances and machines are beyond a router for one machine.",
    ),
    _weak(
        "W30",
        "The logs of all children are one stream, and no model can have an environment of its own.",
        "`lr logs MODEL` and `/lr/logs`; `lr-env = NAME=value` sets variables for one model.",
        f"{_HERE}::test_each_model_has_its_log_and_may_have_its_environment",
        "tests/test_child_log.py::test_lines_come_out_as_they_went_in",
    ),
    _weak(
        "W31",
        "A web page whose name is made to point to 127.0.0.1 may ask and read everything: any `Host` is answered.",
        "On loopback the names of this machine, of `--host` and of `--allowed-hosts` only; others are 421.",
        "tests/test_hosts.py::test_a_page_with_a_name_of_its_own_reads_nothing",
    ),
)
