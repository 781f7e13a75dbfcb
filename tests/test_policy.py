"""How long a model stays: from a preset's keys and the command line to what holds for a model."""

from __future__ import annotations

import pytest

from llamarouter.core.catalog import Catalog
from llamarouter.core.changes import changes_between
from llamarouter.core.policy import Policies, Policy
from llamarouter.core.startup import loads_at_start
from tests.catalogs import CACHED, LOCAL, catalog_of, entry_of, renamed, warnings_of

PINNED = Policy(pinned=True)


def policies_of(catalog: Catalog) -> dict[str, Policy]:
    return {id: entry.policy for id, entry in catalog.entries.items()}


# --- keys ----------------------------------------------------------------------------------------------------


def test_a_section_wins_over_the_command_line_and_that_over_everyone() -> None:
    preset = "[*]\nlr-ttl = 1d\nlr-priority = -3\n[a]\nmodel = a.gguf\nlr_ttl = none\n[b]\nmodel = b.gguf\n"
    catalog = catalog_of(preset, models=[LOCAL])
    assert policies_of(catalog) == {
        "a": Policy(None, priority=-3),
        "b": Policy(86400.0, priority=-3),
        "local": Policy(86400.0, priority=-3),
    }
    catalog = catalog_of(preset, models=[LOCAL], argv=["--ttl", "15m"], environ={"LR_TTL": "1h"})
    assert [entry.policy.ttl for entry in catalog.entries.values()] == [None, 900.0, 900.0]
    assert entry_of(catalog, "b").rules[0].origin == "--ttl"
    catalog = catalog_of(models=[LOCAL], environ={"LR_TTL": "1h"})
    assert (entry_of(catalog, "local").policy.ttl, entry_of(catalog, "local").rules[0].origin) == (
        3600.0,
        "environment LR_TTL",
    )
    assert not warnings_of(catalog)


def test_what_cannot_be_read_is_a_warning_with_its_line_and_the_model_is_served() -> None:
    catalog = catalog_of(
        "[a]\nmodel = a.gguf\nlr-ttl = soon\nlr-priority = 1.5\nlr-pin = perhaps\n[*]\nlr-priority = 9999999\n"
    )
    assert entry_of(catalog, "a").policy == Policy()
    assert entry_of(catalog, "a").launch is not None
    assert warnings_of(catalog) == [
        "p.ini:7: lr-priority must be a whole number from -1000000 to 1000000, not '9999999': the default stays",
        "p.ini:3: lr-ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not 'soon': the default stays",
        "p.ini:4: lr-priority must be a whole number from -1000000 to 1000000, not '1.5': the default stays",
        "p.ini:5: lr-pin must be true or false, not 'perhaps': taken as false",
    ]


def test_who_may_wait_for_a_model_is_said_by_its_section_the_command_line_or_for_everyone() -> None:
    preset = (
        "[*]\nlr-queue-per-model = 50\nlr-queue-timeout = 5m\n[a]\nmodel = a.gguf\nlr-queue-timeout = 1.5\n"
        "[b]\nmodel = b.gguf\nlr_queue_per_model = 2\n"
    )
    catalog = catalog_of(preset, models=[LOCAL])
    assert policies_of(catalog) == {
        "a": Policy(queue=50, queue_timeout=1.5),
        "b": Policy(queue=2, queue_timeout=300.0),
        "local": Policy(queue=50, queue_timeout=300.0),
    }
    catalog = catalog_of(preset, models=[LOCAL], argv=["--queue-timeout", "60"], environ={"LR_QUEUE_PER_MODEL": "9"})
    assert policies_of(catalog)["a"] == Policy(queue=9, queue_timeout=1.5)
    assert policies_of(catalog)["local"] == Policy(queue=9, queue_timeout=60.0)
    origins = [(rule.key, rule.text, rule.origin) for rule in entry_of(catalog, "local").rules]
    assert origins == [
        ("lr-queue-per-model", "9", "environment LR_QUEUE_PER_MODEL"),
        ("lr-queue-timeout", "60", "--queue-timeout"),
    ]
    assert not warnings_of(catalog)
    wrong = catalog_of("[a]\nmodel = a.gguf\nlr-queue-per-model = 0\nlr-queue-timeout = never\n")
    assert entry_of(wrong, "a").policy == Policy()
    assert warnings_of(wrong) == [
        "p.ini:3: lr-queue-per-model must be a whole number, 1 or more, not '0': the default stays",
        "p.ini:4: lr-queue-timeout must be a time, as in 90, 90s or 5m, not 'never': the default stays",
    ]


def test_a_misspelt_key_is_named_with_the_real_one() -> None:
    catalog = catalog_of("[a]\nmodel = a.gguf\nlr-tll = 5m\n")
    assert warnings_of(catalog) == [
        "p.ini:3: [a] cannot be used: no option is called 'lr-tll'; did you mean lr-ttl?",
    ]


def test_a_pinned_model_is_kept_whatever_its_time_to_live() -> None:
    catalog = catalog_of("[a]\nmodel = a.gguf\nlr-ttl = 5m\nlr-pin = true\n[b]\nmodel = b.gguf\nlr-ttl=0\nlr-pin=1\n")
    assert warnings_of(catalog) == ["p.ini:3: lr-ttl has no effect: the model is pinned (lr-pin at p.ini:4)"]
    assert entry_of(catalog, "a").policy.expires_after is None
    assert Policy(5.0).expires_after == 5.0


def test_what_a_section_says_twice_is_a_warning_and_the_last_holds() -> None:
    catalog = catalog_of("[a]\nmodel = a.gguf\nlr-ttl = 5m\nlr-pin = on\nlr-pin = off\nlr-ttl = 6m\nlr-ttl = soon\n")
    assert warnings_of(catalog) == [
        "p.ini:4: lr-pin says the same option as lr-pin at p.ini:5, which holds",
        "p.ini:3: lr-ttl says the same option as lr-ttl at p.ini:6, which holds",
        "p.ini:7: lr-ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not 'soon': the default stays",
    ]
    assert entry_of(catalog, "a").policy == Policy(360.0)


def test_what_a_model_is_told_does_not_depend_on_it_so_no_child_is_stopped_for_it() -> None:
    before = catalog_of("[a]\nmodel = a.gguf\nlr-ttl = 5m\n[b]\nmodel = b.gguf\n[c]\nmodel = c.gguf\nlr-ttl = 5m\n")
    after = catalog_of(
        "[a]\nmodel = a.gguf\nlr-ttl = 6m\n[b]\nmodel = b.gguf\nlr-pin = on\n\n[c]\nmodel = c.gguf\nlr-ttl = 5m\n"
    )
    changes = changes_between(before, after)
    assert (changes.changed, changes.stale) == (("a", "b"), ())


# --- pins ----------------------------------------------------------------------------------------------------

THREE = "[c]\nmodel = c.gguf\nlr-pin = 1\n[a]\nmodel = a.gguf\nlr-pin = 1\n[b]\nmodel = b.gguf\nlr-pin = 1\n"


def pinned_in(catalog: Catalog) -> list[str]:
    return [id for id, policy in policies_of(catalog).items() if policy.pinned]


def test_more_pins_than_places_are_one_line_and_the_first_of_the_file_hold() -> None:
    catalog = catalog_of(THREE, argv=["--models-max", "2"])
    assert pinned_in(catalog) == ["a", "c"]
    assert all(entry.launch is not None for entry in catalog.entries.values())
    assert warnings_of(catalog) == ["p.ini:9: 3 models are pinned, and --models-max is 2: not pinned are b (p.ini:9)"]
    assert pinned_in(catalog_of(THREE, argv=["--models-max", "0"])) == ["a", "b", "c"]


def test_a_pin_for_everyone_is_left_out_in_one_line_too() -> None:
    many = [renamed(LOCAL, f"m{number}") for number in range(9)]
    catalog = catalog_of("[*]\nlr-pin = true\n", models=many, argv=["--models-max", "2"])
    assert pinned_in(catalog) == ["m0", "m1"]
    named = ", ".join(f"m{number} (p.ini:2)" for number in range(2, 7))
    assert warnings_of(catalog) == [
        f"p.ini:2: 9 models are pinned, and --models-max is 2: not pinned are {named}, 2 more"
    ]


def test_where_all_places_are_pinned_the_others_are_said_to_have_none() -> None:
    catalog = catalog_of(THREE, models=[LOCAL], argv=["--models-max", "3"])
    assert pinned_in(catalog) == ["a", "b", "c"]
    assert warnings_of(catalog) == [
        "p.ini:9: as many models are pinned as --models-max allows (3): while they are loaded, no other can be"
    ]
    assert not warnings_of(catalog_of(THREE, argv=["--models-max", "3"]))


def test_the_command_line_pins_by_any_name_before_the_preset_and_a_section_has_the_last_word() -> None:
    preset = "[a]\nmodel = a.gguf\nlr-pin = no\nalias = x\n[b]\nmodel = b.gguf\nalias = y\n"
    catalog = catalog_of(preset, models=[CACHED, LOCAL], argv=["--pin", "x, y ,user/repo"])
    assert pinned_in(catalog) == ["b", "user/repo:Q4_K_M"]
    assert entry_of(catalog, "b").rules[-1].origin == "--pin"
    assert not warnings_of(catalog)
    catalog = catalog_of(THREE, models=[LOCAL], environ={"LR_PIN": "local,lokal"}, argv=["--models-max", "2"])
    assert pinned_in(catalog) == ["c", "local"]
    assert warnings_of(catalog) == [
        "environment LR_PIN: no model is called 'lokal'; did you mean local?",
        "p.ini:6: 4 models are pinned, and --models-max is 2: not pinned are a (p.ini:6), b (p.ini:9)",
    ]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("LOCAL", "did you mean local?"),
        ("repo", "did you mean user/repo:Q4_K_M?"),
        ("fine-name", "did you mean a-fine-name?"),
        ("nosuch", "see lr ls"),
    ],
)
def test_a_pin_that_means_no_model_says_which_it_may_have_meant(name: str, advice: str) -> None:
    preset = "[a]\nmodel = a.gguf\nalias = a-fine-name\n"
    catalog = catalog_of(preset, models=[CACHED, LOCAL], argv=["--pin", name])
    assert warnings_of(catalog) == [f"--pin: no model is called {name!r}; {advice}"]


# --- at the start -----------------------------------------------------------------------------------------------------


def test_at_the_start_pinned_ones_come_first_then_the_highest_priority() -> None:
    preset = "[*]\nload-on-startup = on\n[d]\nmodel = d.gguf\nlr-pin = on\n[c]\nmodel = c.gguf\nlr-priority = 5\n"
    preset += "[b]\nmodel = b.gguf\n[a]\nmodel = a.gguf\n[no]\nmodel = n.gguf\nload-on-startup = off\n"
    entries = catalog_of(preset).entries.values()
    assert loads_at_start(entries, 0) == (["d", "c", "a", "b"], [])
    assert loads_at_start(entries, 3) == (["d", "c", "a"], ["b"])
    assert loads_at_start(entries, 9) == (["d", "c", "a", "b"], [])


# --- at run time ----------------------------------------------------------------------------------------------------


def test_what_is_said_at_run_time_holds_until_the_preset_says_something_else() -> None:
    policies = Policies()
    policies.set({"a": Policy(5.0), "b": PINNED})
    policies.pin("a", True)
    policies.pin("b", False)
    assert (policies.of("a"), policies.of("b"), policies.of("z")) == (Policy(5.0, pinned=True), Policy(), Policy())
    assert list(policies.changed()) == ["a", "b"]
    assert policies.pinned() == ["a"]
    policies.set({"a": Policy(6.0), "b": Policy(pinned=True, priority=1)})  # the words about pins are the same
    assert (policies.of("a"), policies.of("b")) == (Policy(6.0, pinned=True), Policy(priority=1))
    policies.set({"a": Policy(pinned=True), "b": Policy()})
    assert not list(policies.changed())
    policies.set({"a": Policy(), "b": PINNED})
    assert (policies.of("a"), policies.of("b")) == (Policy(), PINNED)


def test_a_word_that_changes_nothing_is_none() -> None:
    policies = Policies()
    policies.set({"a": Policy(), "b": PINNED})
    policies.pin("a", False)
    policies.pin("b", True)
    assert not list(policies.changed())
    policies.pin("a", True)
    policies.pin("a", None)
    assert policies.of("a") == Policy()


def test_a_model_that_is_gone_takes_its_pin_with_it() -> None:
    policies = Policies()
    policies.set({"a": Policy()})
    policies.pin("a", True)
    policies.set({})
    policies.set({"a": Policy()})
    assert not policies.of("a").pinned
