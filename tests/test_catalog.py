"""Models, presets, command line and environment, folded into what can be asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from llamarouter.core.catalog import Catalog, engines_wanted
from llamarouter.core.flags import OptionTable
from llamarouter.core.ini import parse_ini
from llamarouter.core.launch import FORCED_ORIGIN
from llamarouter.core.model import Files, Model, Skipped, Source
from tests.catalogs import CACHED, LOCAL, catalog_of, entry_of, flags_of, renamed, warnings_of
from tests.engine_table import TABLE


def test_discovered_models_are_started_by_their_files() -> None:
    catalog = catalog_of(models=[LOCAL, CACHED])
    assert list(catalog.entries) == ["local", "user/repo:Q4_K_M"]
    flags = flags_of(catalog, "user/repo:Q4_K_M")
    assert flags["--model"] == ("/hub/models--user--repo/snapshots/c/R-Q4_K_M.gguf", "found in the cache")
    assert flags["--mmproj"] == ("/hub/models--user--repo/snapshots/c/mmproj-F16.gguf", "found in the cache")
    assert flags["--offline"] == ("", "llamarouter (default)")
    assert flags["--threads-http"] == ("64", "llamarouter (default)")
    assert "--hf-repo" not in flags
    flags = flags_of(catalog, "local")
    assert flags["--model"] == ("/models/local.gguf", "found in --models-dir")
    assert flags["--model-draft"] == ("/models/mtp-local.gguf", "found in --models-dir")
    assert catalog.skipped == ()


def test_the_specific_beats_the_general() -> None:
    """built-in < config.ini < LLAMA_ARG_* < [*] < command line < the model's own section, option by option."""
    catalog = catalog_of(
        "[*]\nc = 4\nn = 4\nb = 4\n[local]\nctx-size = 6\n",
        models=[LOCAL],
        argv=["--ctx-size", "5", "-n", "5"],
        environ={
            "LLAMA_ARG_CTX_SIZE": "3",
            "LLAMA_ARG_N_PREDICT": "3",
            "LLAMA_ARG_BATCH": "3",
            "LLAMA_ARG_UBATCH": "3",
        },
        config="threads-http = 2\nub = 2\n[*]\nt = 2\n[other]\nc = 2\n",
    )
    flags = flags_of(catalog, "local")
    assert flags["--ctx-size"] == ("6", "p.ini:6")
    assert flags["--n-predict"] == ("5", "command line")
    assert flags["--batch-size"] == ("4", "p.ini:4")
    assert flags["--ubatch-size"] == ("3", "environment LLAMA_ARG_UBATCH")
    assert flags["--threads"] == ("2", "config.ini:4")
    assert flags["--threads-http"] == ("2", "config.ini:1")
    assert catalog.skipped == ()


def test_spellings_of_one_option_are_one_option() -> None:
    catalog = catalog_of(
        "[*]\njinja = true\nkvo = 1\n[local]\nno-jinja = on\nLLAMA_ARG_KV_OFFLOAD = off\n", models=[LOCAL]
    )
    flags = flags_of(catalog, "local")
    assert flags["--no-jinja"] == ("", "p.ini:5")
    assert flags["--no-kv-offload"] == ("", "p.ini:6")
    assert "--jinja" not in flags
    assert "--kv-offload" not in flags


def test_a_default_of_ours_can_be_taken_back() -> None:
    flags = flags_of(catalog_of("[local]\nmetrics = false\noffline = 0\nthreads-http = 8\n", models=[LOCAL]), "local")
    assert "--metrics" not in flags
    assert "--offline" not in flags
    assert flags["--threads-http"] == ("8", "p.ini:4")


def test_flags_are_sorted_and_make_the_command_line() -> None:
    launch = entry_of(catalog_of(models=[LOCAL], argv=["-ngl", "9", "--no-warmup"]), "local").launch
    assert launch is not None
    argv = launch.argv()  # `--spec-draft-model` and `-ngl`, `-a`, `-m` are the first spellings that decide
    assert argv == (
        *("--metrics", "--offline", "--model-draft", "/models/mtp-local.gguf", "--threads-http", "64", "--no-warmup"),
        *("--alias", "local", "--model", "/models/local.gguf", "--n-gpu-layers", "9"),
    )


def test_a_section_over_a_discovered_model_adds_to_it() -> None:
    catalog = catalog_of("[user/repo:ud-q4_k_m]\ntemp = 1\n", models=[CACHED])
    entry = entry_of(catalog, "user/repo:Q4_K_M")
    assert list(catalog.entries) == ["user/repo:Q4_K_M"]
    assert entry.model.source is Source.PRESET
    assert entry.model.removable
    assert flags_of(catalog, entry.id)["--temperature"] == ("1", "p.ini:2")
    assert flags_of(catalog, entry.id)["--model"][0].endswith("R-Q4_K_M.gguf")


def test_a_section_with_a_file_of_its_own_uses_that_file_alone() -> None:
    catalog = catalog_of("[user/repo:Q4_K_M]\nmodel = m.gguf\n", models=[CACHED])
    flags = flags_of(catalog, "user/repo:Q4_K_M")
    assert flags["--model"] == ("/cwd/m.gguf", "p.ini:2")
    assert "--mmproj" not in flags
    assert entry_of(catalog, "user/repo:Q4_K_M").model.size == 7


@pytest.mark.parametrize("wish", ["no-mmproj = true", "mmproj-auto = off", "mmproj ="])
def test_a_projector_that_was_found_can_be_left_out(wish: str) -> None:
    assert "--mmproj" not in flags_of(catalog_of(f"[user/repo:Q4_K_M]\n{wish}\n", models=[CACHED]), "user/repo:Q4_K_M")


def test_a_section_may_name_projector_and_draft() -> None:
    flags = flags_of(catalog_of("[local]\nmm = p.gguf\nmd = d.gguf\nno-mmproj = true\n", models=[LOCAL]), "local")
    assert flags["--mmproj"] == ("/cwd/p.gguf", "p.ini:2")
    assert flags["--model-draft"] == ("/cwd/d.gguf", "p.ini:3")


def test_a_repository_that_is_here_is_started_by_its_files() -> None:
    catalog = catalog_of("[mine]\nhf = user/repo:q4_k_m\n", repos={"user/repo:q4_k_m": CACHED})
    entry = entry_of(catalog, "mine")
    assert entry.model.repo == "user/repo:Q4_K_M"
    assert flags_of(catalog, "mine")["--model"] == (
        CACHED.files.model if CACHED.files else "",
        "p.ini:2 (in the cache)",
    )
    assert entry.hf_wanted is None


def test_a_repository_that_is_not_here_is_wanted() -> None:
    catalog = catalog_of(
        "[mine]\nhf-repo = user/new:Q8_0\nalias = m\nload-on-startup = 1\n[file]\nhf = user/new\nhff = a/b.gguf\n"
    )
    entry = entry_of(catalog, "mine")
    assert (entry.hf_wanted, entry.launch, entry.problem) == ("user/new:Q8_0", None, None)
    assert (entry.aliases, entry.load_on_startup) == (("m",), True)
    assert entry_of(catalog, "file").hf_wanted == "user/new/a/b.gguf"
    assert catalog.skipped == ()


def test_a_file_that_is_named_goes_before_a_repository() -> None:
    flags = flags_of(catalog_of("[a]\nhf-repo = user/repo:Q4_K_M\nmodel = a.gguf\n", models=[CACHED]), "a")
    assert flags["--model"] == ("/cwd/a.gguf", "p.ini:3")
    assert "--mmproj" not in flags


def test_a_draft_model_of_the_hub_is_wanted_too() -> None:
    text = "[local]\nhfd = user/draft:Q4_0\n"
    assert entry_of(catalog_of(text, models=[LOCAL]), "local").hf_wanted == "user/draft:Q4_0"
    draft = Model(id="d", source=Source.CACHE, files=Files(model="/hub/d.gguf"))
    flags = flags_of(catalog_of(text, models=[LOCAL], repos={"user/draft:Q4_0": draft}), "local")
    assert flags["--model-draft"] == ("/hub/d.gguf", "p.ini:2 (in the cache)")
    assert "--hf-repo-draft" not in flags
    none = catalog_of("[local]\nhfd =\n", models=[LOCAL])
    assert flags_of(none, "local")["--model-draft"] == ("/models/mtp-local.gguf", "found in --models-dir")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("temp = 1", "p.ini:1: no such model was found, and the section names none: model = PATH, or hf-repo = REPO"),
        ("model = missing.gguf", "/cwd/missing.gguf: no such file"),
        ("hf-repo = nonsense", "p.ini:1: 'nonsense': not the name of a model on the Hub"),
        ("model = a.gguf\nctx-sise = 1", "p.ini:3: no option is called 'ctx-sise'; did you mean ctx-size?"),
        ("model = a.gguf\nlr-engin = x", "p.ini:3: no option is called 'lr-engin'; did you mean lr-engine?"),
        ("model = a.gguf\nlr-frob = 1", "p.ini:3: no option is called 'lr-frob'"),
        ("model = a.gguf\nlr-engine = x", "p.ini:1: lr-engine = x cannot be used"),
        ("model = a.gguf\nlr-engine =", "p.ini:3: lr-engine needs a command"),
        ("model = a.gguf\nfoo-bar = 1\nx-y-z = 1", "p.ini:3: no option is called 'foo-bar'"),
        ("model = a.gguf\nnonsense", "p.ini:3: neither 'key = value', a [section] nor a comment: 'nonsense'"),
        ("model-url = http://x/y.gguf", "p.ini:2: model-url would let the child download"),
        ("gpt-oss-20b-default = true", "p.ini:2: gpt-oss-20b-default would let the child download"),
        ("model = a.gguf\ndraft-max = 3", "p.ini:3: draft-max: the argument has been removed. use --spec-draft-n-max"),
        ("model = a.gguf\ncontrol-vector-layer-range = 1", "p.ini:3: control-vector-layer-range takes 2 values"),
    ],
)
def test_what_is_wrong_with_a_section_is_wrong_with_it_alone(section: str, problem: str) -> None:
    catalog = catalog_of(f"[bad]\n{section}\n[good]\nmodel = g.gguf\n")
    bad = entry_of(catalog, "bad")
    assert bad.launch is None
    assert bad.problem is not None
    assert bad.problem.startswith(problem)
    assert "\n" not in bad.problem
    assert entry_of(catalog, "good").launch is not None


def test_a_wrong_section_is_in_the_list_of_warnings_with_its_line() -> None:
    catalog = catalog_of("[bad]\nctx-sise = 1\n")
    assert warnings_of(catalog) == [
        "p.ini:2: [bad] cannot be used: no option is called 'ctx-sise'; did you mean ctx-size?"
    ]


def test_a_missing_file_is_in_the_list_of_warnings_with_its_line() -> None:
    catalog = catalog_of("[a]\nmodel = missing.gguf\n")
    assert warnings_of(catalog) == ["p.ini:2: [a] cannot be used: missing.gguf: /cwd/missing.gguf: no such file"]


def test_a_discovered_model_with_a_wrong_section_is_not_started_without_it() -> None:
    entry = entry_of(catalog_of("[local]\nctx-sise = 1\n", models=[LOCAL]), "local")
    assert entry.launch is None
    assert entry.problem is not None


def test_a_bad_file_is_an_entry_with_its_problem() -> None:
    bad = replace(LOCAL, problem="truncated: 3 of 7 bytes")
    entry = entry_of(catalog_of(models=[bad]), "local")
    assert (entry.problem, entry.launch) == ("truncated: 3 of 7 bytes", None)


@pytest.mark.parametrize(
    "key",
    ["host = 0.0.0.0", "port = 1", "api-key = k", "ssl-key-file = f", "models-max = 3", "tools = all", "hf-token = t"],
)
def test_what_the_router_owns_never_reaches_a_child(key: str) -> None:
    name = key.partition(" ")[0]
    for text in (f"[local]\n{key}\n", f"[*]\n{key}\n"):
        catalog = catalog_of(text, models=[LOCAL])
        assert f"--{name}" not in flags_of(catalog, "local")
        assert warnings_of(catalog) == [f"p.ini:2: {name} is ignored: the router owns it"]
        assert f"{name} =" not in entry_of(catalog, "local").preset_text


@pytest.mark.parametrize("key", ["ui = off", "webui = 0", "no-ui = true", "LLAMA_ARG_NO_UI = 1"])
def test_a_section_may_hide_its_model_from_the_page_and_nobody_else_may(key: str) -> None:
    catalog = catalog_of(f"[local]\n{key}\n", models=[LOCAL], environ={"LLAMA_ARG_UI": "on"})
    assert "--no-webui" in flags_of(catalog, "local")
    assert warnings_of(catalog) == []
    catalog = catalog_of("[local]\nctx-size = 1\n", models=[LOCAL], environ={"LLAMA_ARG_UI": "off"})
    assert not [flag for flag in flags_of(catalog, "local") if "ui" in flag]


def test_nothing_of_the_router_in_the_environment_reaches_a_child() -> None:
    environ = {
        "LLAMA_ARG_HOST": "localhost",
        "LLAMA_ARG_PORT": "9",
        "LLAMA_API_KEY": "k",
        "LLAMA_ARG_MODELS_MAX": "2",
        "LLAMA_ARG_SSL_KEY_FILE": "f",
        "LLAMA_ARG_SSL_CERT_FILE": "c",
        "LLAMA_ARG_API_PREFIX": "/p",
        "LLAMA_ARG_CORS_ORIGINS": "localhost",
        "LLAMA_ARG_NO_CORS_CREDENTIALS": "1",
        "LLAMA_ARG_UI_CONFIG": "{}",
        "LLAMA_ARG_MODEL": "m",
        "LLAMA_ARG_LOG_FILE": "f",
        "HF_TOKEN": "t",
        "LLAMA_CACHE": "/c",
    }
    catalog = catalog_of(models=[LOCAL], environ=environ)
    assert set(flags_of(catalog, "local")) == {
        "--alias",
        "--metrics",
        "--model",
        "--model-draft",
        "--offline",
        "--threads-http",
    }
    assert catalog.skipped == ()


def test_the_environment_may_name_both_signs() -> None:
    environ = {"LLAMA_ARG_NO_JINJA": "0", "LLAMA_ARG_KV_UNIFIED": "off", "LLAMA_ARG_MMAP_": "1"}
    catalog = catalog_of(models=[LOCAL], environ=environ)
    flags = flags_of(catalog, "local")
    assert flags["--no-jinja"] == ("", "environment LLAMA_ARG_NO_JINJA")  # llama-server looks at its presence only
    assert flags["--no-kv-unified"] == ("", "environment LLAMA_ARG_KV_UNIFIED")
    assert [warning.where for warning in catalog.skipped] == ["environment LLAMA_ARG_MMAP_"]


def test_what_is_wrong_for_all_is_left_out_with_a_warning() -> None:
    catalog = catalog_of(
        "[*]\nctx-sise = 1\nmodel = x.gguf\nalias = a\n  broken\ntemp = 1\n", models=[LOCAL], config="zzz = 1\n"
    )
    assert flags_of(catalog, "local")["--temperature"] == ("1", "p.ini:6")
    assert flags_of(catalog, "local")["--model"] == ("/models/local.gguf", "found in --models-dir")
    assert warnings_of(catalog) == [
        "config.ini:1: left out: no option is called 'zzz'",
        "p.ini:5: neither 'key = value', a [section] nor a comment: 'broken'",
        "p.ini:2: left out: no option is called 'ctx-sise'; did you mean ctx-size?",
        "p.ini:3: left out: model belongs into a model's own section",
        "p.ini:4: left out: alias belongs into a model's own section",
    ]


def test_a_repeated_section_replaces_the_earlier_one() -> None:
    catalog = catalog_of("[a]\nmodel = 1.gguf\ntemp = 1\n[b]\nmodel = b.gguf\n[a]\nmodel = 2.gguf\n")
    flags = flags_of(catalog, "a")
    assert flags["--model"] == ("/cwd/2.gguf", "p.ini:7")
    assert "--temperature" not in flags
    assert warnings_of(catalog) == ["p.ini:1: section [a] is replaced by the one at p.ini:6"]


def test_two_spellings_in_one_section_are_a_warning() -> None:
    catalog = catalog_of("[local]\nctx-size = 1\nc = 2\n", models=[LOCAL])
    assert flags_of(catalog, "local")["--ctx-size"] == ("2", "p.ini:3")
    assert warnings_of(catalog) == ["p.ini:2: ctx-size says the same option as c at p.ini:3, which holds"]


def test_keys_before_any_section_are_a_model_called_default() -> None:
    assert list(catalog_of("version = 1\n[a]\nmodel = a.gguf\n").entries) == ["a"]
    catalog = catalog_of("version = 1\nmodel = d.gguf\n[a]\nmodel = a.gguf\n")
    assert list(catalog.entries) == ["a", "default"]


def test_names_tags_and_the_rest_that_stays_here() -> None:
    catalog = catalog_of(
        "[*]\nstop-timeout = 5\ntags = all\n"
        "[a]\nmodel = a.gguf\nalias = y, x,,x, 'q r', \"x\"\ntags = t2,t1\nload-on-startup = on\nstop-timeout = 2\n"
        "[b]\nmodel = b.gguf\nstop-timeout = soon\nload-on-startup = maybe\n",
        argv=["--stop-timeout", "7"],
    )
    a, b = entry_of(catalog, "a"), entry_of(catalog, "b")
    assert a.launch is not None
    assert b.launch is not None
    assert (a.aliases, a.tags, a.load_on_startup, a.launch.stop_timeout) == (("q r", "x", "y"), ("t1", "t2"), True, 2)
    assert (b.aliases, b.tags, b.load_on_startup, b.launch.stop_timeout) == ((), ("all",), False, 5)
    assert flags_of(catalog, "a")["--alias"] == ("a", FORCED_ORIGIN)
    assert flags_of(catalog, "a")["--tags"] == ("t1,t2", FORCED_ORIGIN)
    assert "--stop-timeout" not in flags_of(catalog, "a")
    assert warnings_of(catalog) == [
        "p.ini:12: stop-timeout must be a number of seconds, not 'soon': the default stays",
        "p.ini:13: load-on-startup must be true or false, not 'maybe': taken as false",
    ]


def test_stop_timeout_of_the_command_line() -> None:
    launch = entry_of(catalog_of(models=[LOCAL], argv=["--stop-timeout", "7"]), "local").launch
    assert launch is not None
    assert launch.stop_timeout == 7


def test_an_alias_means_one_model() -> None:
    catalog = catalog_of("[a]\nmodel = a.gguf\nalias = x, b, a\n[b]\nmodel = b.gguf\nalias = x, z\n")
    assert entry_of(catalog, "a").aliases == ("a", "x")
    assert entry_of(catalog, "b").aliases == ("z",)
    assert warnings_of(catalog) == [
        "p.ini:3: alias 'b' of [a] is left out: it already means the model 'b'",
        "p.ini:6: alias 'x' of [b] is left out: it already means the model 'a'",
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("local", "local"),
        ("local.gguf", "local"),
        ("l", "local"),
        ("user/repo:Q4_K_M", "user/repo:Q4_K_M"),
        ("user/repo:q4_k_m", "user/repo:Q4_K_M"),
        ("user/repo:UD-Q4_K_M", "user/repo:Q4_K_M"),
        ("user/repo", "user/repo:Q4_K_M"),
        ("user/one", "user/one:Q2_K"),
        ("user/two", None),
        ("nobody", None),
        ("", None),
    ],
)
def test_what_a_client_may_say(asked: str, found: str | None) -> None:
    names = ("user/repo:Q4_K_M", "user/repo:Q8_0", "user/one:Q2_K", "user/two:Q2_K", "user/two:Q3_K")
    models = [LOCAL, *(renamed(CACHED, name) for name in names)]
    entry = catalog_of("[local]\nalias = l\n", models=models).resolve(asked)
    assert (entry.id if entry else None) == found


def test_a_folder_of_several_models_answers_to_its_name() -> None:
    models = [
        replace(renamed(LOCAL, name), folder=name.partition("/")[0]) for name in ("D/a", "D/b", "D/c", "E", "E/a")
    ]
    assert catalog_of(models=models).resolve("D") is not None
    entry = catalog_of(models=models).resolve("D")
    assert entry is not None
    assert entry.id == "D/c"
    sharded = replace(models[1], files=Files(model="/m/b-1.gguf", shards=("/m/b-1.gguf", "/m/b-2.gguf")))
    entry = catalog_of(models=[models[0], sharded, *models[2:]]).resolve("D")
    assert entry is not None
    assert entry.id == "D/b"
    assert entry_of(catalog_of(models=models), "E/a").aliases == ()
    assert warnings_of(catalog_of(models=models)) == []  # that the name means `E` is nobody's mistake
    # A section over one of them, or one that says the name itself, changes nothing.
    for section in ("[D/c]\ntemp = 1\n", "[D/c]\nalias = D\n"):
        assert entry_of(catalog_of(section, models=models), "D/c").aliases == ("D",)


def test_of_two_models_with_one_id_the_one_of_the_models_folder_holds() -> None:
    cached = renamed(CACHED, "local")
    for models in ([cached, LOCAL], [LOCAL, cached]):
        assert entry_of(catalog_of(models=models), "local").model.source is Source.MODELS_DIR


def test_files_of_a_deduplicating_section_are_listed_once() -> None:
    other = replace(renamed(CACHED, "user/other:Q8_0"), files=Files(model="/hub/o.gguf"))
    text = "[mine]\nhf = user/repo:Q4_K_M\ndedup-cache-models = true\n"
    catalog = catalog_of(text, models=[CACHED, other], repos={"user/repo:Q4_K_M": CACHED})
    assert {name: entry.hidden for name, entry in catalog.entries.items()} == {
        "mine": False,
        "user/other:Q8_0": False,
        "user/repo:Q4_K_M": True,
    }
    assert catalog.resolve("user/repo:Q4_K_M") is not None
    drafting = "[mine]\nmodel = a.gguf\nhfd = user/repo:Q4_K_M\ndedup-cache-models = true\n"
    catalog = catalog_of(drafting, models=[CACHED, other], repos={"user/repo:Q4_K_M": CACHED})
    assert [entry.id for entry in catalog.entries.values() if entry.hidden] == ["user/repo:Q4_K_M"]


SMALL = OptionTable.parse("-m, --model FILE   the model\n-c, --context N    tokens\n")


def test_another_engine_reads_the_layers_with_its_own_table() -> None:
    catalog = catalog_of(
        "[*]\ntemp = 1\n[a]\nmodel = a.gguf\nlr-engine = small\ncontext = 9\n[b]\nmodel = b.gguf\n",
        argv=["--ctx-size", "5", "-ngl", "3"],
        tables={None: TABLE, "small": SMALL},
    )
    launch = entry_of(catalog, "a").launch
    assert launch is not None
    assert launch.engine_key == "small"
    assert launch.argv() == ("--context", "9", "--model", "/cwd/a.gguf")  # -c of the command line is known there too
    assert flags_of(catalog, "b")["--temperature"] == ("1", "p.ini:2")
    assert warnings_of(catalog) == [
        "command line: -ngl is left out where lr-engine = small: unknown there",
    ]


def test_an_engine_for_all() -> None:
    text = "[*]\nlr-engine = small\n[a]\nmodel = a.gguf\n[b]\nmodel = b.gguf\nlr-engine = other\n"
    assert engines_wanted(parse_ini(text, "p.ini")) == ("small", "other")
    assert engines_wanted(None) == ()
    catalog = catalog_of(text, tables={None: TABLE, "small": SMALL})
    launch = entry_of(catalog, "a").launch
    assert launch is not None
    assert launch.engine_key == "small"
    assert entry_of(catalog, "b").problem == "p.ini:5: lr-engine = other cannot be used"
    entry = entry_of(catalog_of("[*]\nlr-engine = gone\n", models=[LOCAL]), "local")
    assert entry.problem == "[*]: lr-engine = gone cannot be used"
    assert entry.model.source is Source.MODELS_DIR


def test_an_engine_that_knows_no_draft_models_gets_none() -> None:
    text = "[local]\nlr-engine = small\nmm = p.gguf\n"
    draft = Model(id="d", source=Source.CACHE, files=Files(model="/hub/d.gguf"))
    table = OptionTable.parse("-m, --model FILE   x\n-mm, --mmproj FILE    y\n-hfd, --hf-repo-draft REPO    z\n")
    catalog = catalog_of(
        text + "hfd = user/draft\n", models=[LOCAL], tables={None: TABLE, "small": table}, repos={"user/draft": draft}
    )
    assert set(flags_of(catalog, "local")) == {"--model", "--mmproj"}


def test_a_section_that_became_wrong_keeps_its_last_good_version() -> None:
    good = catalog_of("[a]\nmodel = a.gguf\ntemp = 1\n[b]\nmodel = b.gguf\n")
    later = catalog_of("[a]\nmodel = a.gguf\ntemprature = 2\n[b]\nmodel = b.gguf\ntemp = 3\n", previous=good)
    assert entry_of(later, "a") == entry_of(good, "a")
    assert flags_of(later, "b")["--temperature"] == ("3", "p.ini:6")
    assert warnings_of(later) == [
        "p.ini:3: [a] cannot be used: no option is called 'temprature'; did you mean temperature?",
        "p.ini:3: [a] keeps its last good version",
    ]
    assert entry_of(catalog_of("[a]\nmodel = missing.gguf\n", previous=good), "a").problem is not None
    assert "a" not in catalog_of("[b]\nmodel = b.gguf\n", previous=good).entries


def test_a_wrong_word_about_how_long_it_stays_keeps_the_last_good_one() -> None:
    good = catalog_of("[a]\nmodel = a.gguf\nlr-pin = on\nlr-ttl = 2h\n")
    later = catalog_of("[a]\nmodel = a.gguf\nlr-pin = onn\nlr-ttl = soon\nlr-priority = high\n", previous=good)
    policy = entry_of(later, "a").policy
    assert (policy.pinned, policy.ttl, policy.priority) == (True, 7200.0, 0)
    assert warnings_of(later) == [
        "p.ini:3: lr-pin must be true or false, not 'onn': [a] keeps its last good lr-pin = true",
        "p.ini:4: lr-ttl must be 1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never), not 'soon': "
        "[a] keeps its last good lr-ttl = 2h",
        "p.ini:5: lr-priority must be a whole number from -1000000 to 1000000, not 'high': the default stays",
    ]
    again = catalog_of("[a]\nmodel = a.gguf\nlr-pin = onn\n", previous=later)
    assert (entry_of(again, "a").policy.pinned, entry_of(again, "a").policy.ttl) == (True, None)


def test_the_same_input_gives_the_same_catalogue() -> None:
    text = "[*]\nc = 1\n[a]\nmodel = a.gguf\nalias = x\n"
    assert catalog_of(text, models=[LOCAL]).entries == catalog_of(text, models=[LOCAL]).entries


def test_preset_text_is_a_section_that_says_the_same() -> None:
    entry = entry_of(catalog_of("[a]\nmodel = a.gguf\nno-jinja = 1\nload-on-startup = 1\n"), "a")
    assert entry.preset_text == (
        "[a]\njinja = false\nmetrics = true\noffline = true\nthreads-http = 64\nmodel = /cwd/a.gguf\n"
        "load-on-startup = true\n\n"
    )
    text = "[a]\nmodel = a.gguf\nstop-timeout = 2.5\ndedup-cache-models = 1\n"
    assert entry_of(catalog_of(text), "a").preset_text.endswith("dedup-cache-models = true\nstop-timeout = 2.5\n\n")


def test_offline_is_not_for_who_names_an_address() -> None:
    flags = flags_of(catalog_of("[local]\nmmproj-url = https://x/y.gguf\n", models=[LOCAL]), "local")
    assert "--offline" not in flags
    catalog = catalog_of("[local]\nmmproj-url = https://x/y.gguf\n", models=[LOCAL], argv=["--offline"])
    assert flags_of(catalog, "local")["--offline"] == ("", "command line")


def test_a_password_in_an_address_reaches_no_command_line() -> None:
    catalog = catalog_of("[local]\nmmproj-url = https://me:CANARY@x/y.gguf\n", models=[LOCAL])
    problem = entry_of(catalog, "local").problem or ""
    assert "p.ini:2: mmproj-url: a password in an address" in problem
    assert not [text for text in (problem, *warnings_of(catalog)) if "CANARY" in text]


def test_an_empty_catalogue() -> None:
    catalog = Catalog((), [Skipped("here", "why")])
    assert catalog.resolve("x") is None
    assert warnings_of(catalog) == ["here: why"]


@pytest.mark.parametrize(
    ("written", "flag"),
    [
        ("jinja = on", "--jinja"),
        ("jinja = yes", "--jinja"),
        ("jinja = False", "--no-jinja"),
        ("no-jinja = true", "--no-jinja"),
        ("no-jinja = 0", "--jinja"),
        ("LLAMA_ARG_NO_JINJA = 1", "--no-jinja"),
        ("LLAMA_ARG_NO_JINJA = 0", "--jinja"),
        ("jinja = maybe", "--jinja"),
        ("no-jinja = maybe", "--no-jinja"),
        ("jinja =", "--jinja"),
    ],
)
def test_on_and_off(written: str, flag: str) -> None:
    catalog = catalog_of(f"[local]\n{written}\n", models=[LOCAL])
    assert [name for name in flags_of(catalog, "local") if "jinja" in name] == [flag]
    doubtful = "maybe" in written or written.endswith("=")
    assert len(catalog.skipped) == doubtful


KEYS = st.sampled_from(
    [
        "model",
        "m",
        "hf-repo",
        "hf",
        "hff",
        "hfd",
        "c",
        "jinja",
        "no-jinja",
        "LLAMA_ARG_NO_KV_UNIFIED",
        "alias",
        "tags",
        "stop-timeout",
        "load-on-startup",
        "lr-engine",
        "host",
        "control-vector-layer-range",
        "mmproj",
        "nonsense",
        "_",
    ]
)
VALUES = st.sampled_from(["", "a.gguf", "missing", "user/repo", "u/r:Q8_0", "on", "0", "1 2", "x, y", '"', "local"])
NAMES = st.sampled_from(["*", "a", "local", "user/repo:q4_k_m", "default", "x", "", " ", "a]b"])
SECTIONS = st.tuples(NAMES, st.lists(st.tuples(KEYS, VALUES), max_size=5))


@settings(max_examples=200, deadline=None)
@given(st.lists(SECTIONS, max_size=5))
def test_whatever_a_preset_says_each_entry_has_one_fate(sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
    text = "".join(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys) for name, keys in sections)
    catalog = catalog_of(text, models=[LOCAL, CACHED], repos={"u/r:Q8_0": CACHED})
    assert {LOCAL.id, CACHED.id} <= set(catalog.entries)
    names = [alias for entry in catalog.entries.values() for alias in entry.aliases if alias != entry.id]
    assert len(names) == len(set(names))
    assert not set(names) & set(catalog.entries)
    for entry in catalog.entries.values():
        assert [entry.launch is None, entry.problem is None, entry.hf_wanted is None].count(False) == 1
        assert catalog.resolve(entry.id) is entry
        if entry.launch is not None:
            argv = entry.launch.argv()
            assert argv.count("--model") == 1
            assert argv[argv.index("--alias") + 1] == entry.id
            assert not {"--host", "--port", "--hf-repo"} & set(argv)


DRAFTED = replace(
    CACHED,
    files=Files(
        model="/hub/R-Q4_K_M.gguf",
        sidecars=("/hub/dflash-R.gguf", "/hub/eagle3-R.gguf", "/hub/mtp-R-Q4_K_M.gguf", "/hub/mtp-R-Q8_0.gguf"),
    ),
)


@pytest.mark.parametrize(
    ("said", "draft"),
    [
        ("", None),
        ("spec-type = none", None),
        ("spec-type = ngram-mod", None),
        ("spec-type = draft-mtp", "/hub/mtp-R-Q4_K_M.gguf"),
        ("spec-type = draft-eagle3", "/hub/eagle3-R.gguf"),
        ("spec-type = draft-dflash, ngram-mod", "/hub/dflash-R.gguf"),
        ("spec-type = draft-dspark", None),
        ("spec-type = draft-mtp\nmodel-draft = own.gguf", "/cwd/own.gguf"),
        ("spec-type = draft-mtp\nmodel-draft =", None),
    ],
)
def test_a_draft_of_the_same_repository_is_taken_where_its_kind_is_asked_for(said: str, draft: str | None) -> None:
    flags = flags_of(catalog_of(f"[user/repo:Q4_K_M]\n{said}\n", models=[DRAFTED]), DRAFTED.id)
    assert flags.get("--model-draft", (None,))[0] == draft


@pytest.mark.parametrize(
    ("said", "draft"),
    [
        ("", "/hub/mtp-R-Q4_K_M.gguf"),
        ("spec-type = draft-eagle3", "/hub/eagle3-R.gguf"),
        ("spec-type = draft-simple", "/hub/R-Q4_K_M.gguf"),
    ],
)
def test_a_repository_named_as_the_draft_means_its_own_draft_where_it_has_one(said: str, draft: str) -> None:
    catalog = catalog_of(f"[local]\nhfd = user/repo\n{said}\n", models=[LOCAL], repos={"user/repo": DRAFTED})
    assert flags_of(catalog, "local")["--model-draft"] == (draft, "p.ini:2 (in the cache)")


def test_the_kind_of_a_draft_that_its_file_does_not_tell_is_said() -> None:
    model = replace(LOCAL, files=Files(model="/models/D/a.gguf", draft="/models/D/eagle3-a.gguf"))
    assert flags_of(catalog_of(models=[model]), "local")["--spec-type"] == ("draft-eagle3", "found in --models-dir")
    said = catalog_of("[local]\nspec-type = draft-simple\n", models=[model])
    assert flags_of(said, "local")["--spec-type"] == ("draft-simple", "p.ini:2")
    assert "--spec-type" not in flags_of(catalog_of(models=[LOCAL]), "local")


SEEING = replace(CACHED, projects=("image",))


@pytest.mark.parametrize(
    ("said", "takes"),
    [
        ("", ("text", "image")),
        ("no-mmproj = true", ("text",)),
        ("mmproj-auto = off", ("text",)),
        ("mmproj =", ("text",)),
        ("mmproj = hears.gguf", ("text", "audio")),
    ],
)
def test_what_a_model_takes_is_what_the_projector_takes_that_it_is_started_with(
    said: str, takes: tuple[str, ...]
) -> None:
    entry = entry_of(catalog_of(f"[user/repo:Q4_K_M]\n{said}\n", models=[SEEING]), SEEING.id)
    assert entry.launch is not None
    assert entry.input_modalities == takes
    assert entry.output_modalities == ("text",)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("mmproj = missing.gguf", "p.ini:2: mmproj = missing.gguf: /cwd/missing.gguf: no such file"),
        ("mm = llama.gguf", "p.ini:2: mm = llama.gguf: a model, not a projector (mmproj)"),
        ("md = missing.gguf", "p.ini:2: md = missing.gguf: /cwd/missing.gguf: no such file"),
    ],
)
def test_a_companion_that_cannot_be_used_is_a_problem_with_its_line(said: str, problem: str) -> None:
    catalog = catalog_of(f"[local]\n{said}\n", models=[LOCAL])
    assert entry_of(catalog, "local").problem == problem
    where, _, reason = problem.partition(": ")
    assert warnings_of(catalog) == [f"{where}: [local] cannot be used: {reason}"]


def test_dedup_for_all_hides_what_sections_use_and_nothing_else() -> None:
    other = replace(renamed(CACHED, "user/other:Q8_0"), files=Files(model="/hub/o.gguf"))
    text = "[*]\ndedup-cache-models = on\n[mine]\nhf = user/repo:Q4_K_M\n"
    catalog = catalog_of(text, models=[CACHED, other], repos={"user/repo:Q4_K_M": CACHED})
    assert [entry.id for entry in catalog.entries.values() if entry.hidden] == ["user/repo:Q4_K_M"]
    overlaid = catalog_of("[user/repo:Q4_K_M]\ndedup-cache-models = on\n", models=[CACHED, other])
    assert not any(entry.hidden for entry in overlaid.entries.values())


@pytest.mark.parametrize(
    ("section", "id", "asked"),
    [
        ("user/repo:ud-q4_k_xl", "user/repo:Q4_K_XL", ("user/repo:q4_k_xl", "user/repo:UD-Q4_K_XL")),
        ("user/repo:Q4_K_XL-thinking", "user/repo:Q4_K_XL-thinking", ("user/repo:THINKING",)),
        ("llama3:8b", "llama3:8B", ("llama3:8b",)),
        ("x:y-low", "x:y-low", ("x:LOW",)),
        (" a b ", "a b", ("a b ", " a b")),
        ("a,b", "a,b", ("a%2Cb",)),
        ("模型 ü", "模型 ü", ()),
        ("x" * 5000, "x" * 5000, ()),
        ("a/b/c", "a/b/c", ()),
        ("we[ird", "we[ird", ()),
        ("gpt-4.1", "gpt-4.1", ()),
    ],
)
def test_the_id_of_a_section_and_what_a_client_may_call_it(section: str, id: str, asked: tuple[str, ...]) -> None:
    catalog = catalog_of(f"[{section}]\nmodel = a.gguf\n")
    assert list(catalog.entries) == [id]
    for name in (id, *asked):
        entry = catalog.resolve(name)
        assert entry is not None
        assert entry.id == id


def test_only_sections_are_collapsed() -> None:
    catalog = catalog_of("[s:a-b]\nmodel = a.gguf\n", models=[renamed(LOCAL, "f:a-b")])
    assert catalog.resolve("s:B") is not None
    assert catalog.resolve("f:B") is None


def test_a_tag_that_two_sections_collapse_to_means_neither() -> None:
    catalog = catalog_of("[u/r:Q8_0-x]\nmodel = a.gguf\n[u/r:Q4_0-x]\nmodel = b.gguf\n")
    assert list(catalog.entries) == ["u/r:Q4_0-x", "u/r:Q8_0-x"]
    assert catalog.resolve("u/r:X") is None


@pytest.mark.parametrize(("id", "name"), [("a,b", "a%2Cb"), (" a b ", "%20a b%20"), ("m", "m"), ("a,,b", "a%2C%2Cb")])
def test_the_name_of_a_child_is_one_word_of_its_alias_option(id: str, name: str) -> None:
    catalog = catalog_of(models=[renamed(LOCAL, id)])
    assert flags_of(catalog, id)["--alias"] == (name, FORCED_ORIGIN)
    entry = catalog.resolve(name)
    assert entry is not None
    assert entry.id == id


@pytest.mark.parametrize("header", ["[]", "[ ]", "[a\x01b]", "[a\x85b]", "[a\u2028b]"])
def test_a_section_without_a_name_that_can_be_shown_is_a_warning_and_no_model(header: str) -> None:
    catalog = catalog_of(f"{header}\nmodel = a.gguf\n[b]\nmodel = b.gguf\n")
    assert list(catalog.entries) == ["b"]
    (warning,) = warnings_of(catalog)
    assert warning.startswith("p.ini:1: a section is left out: ")


@pytest.mark.parametrize(
    ("first", "second"),
    [("temp = 1", "temp = 2"), ("m = b.gguf", "model = c.gguf"), ("alias = x", "alias = y"), ("c = 1", "ctx-size = 2")],
)
def test_a_repeated_key_is_a_warning_with_both_lines_and_the_last_holds(first: str, second: str) -> None:
    once = catalog_of(f"[a]\nmodel = c.gguf\n{second}\n" if "m = " not in first else f"[a]\n{second}\n")
    twice = catalog_of(f"[a]\n{first}\n{second}\n" + ("" if "m = " in first else "model = c.gguf\n"))
    assert entry_of(twice, "a").launch == entry_of(once, "a").launch
    assert entry_of(twice, "a").aliases == entry_of(once, "a").aliases
    before, after = first.partition(" ")[0], second.partition(" ")[0]
    assert warnings_of(twice) == [f"p.ini:2: {before} says the same option as {after} at p.ini:3, which holds"]


def test_a_path_in_a_preset_may_begin_at_home() -> None:
    text = "[local]\nlora = ~/a.gguf\nchat-template-file = ~/t.jinja\nsystem-prompt = x\nlog-file = ~x\nhost = ~/y\n"
    text = text.replace("system-prompt = x\n", "samplers = ~/s\n")
    flags = flags_of(catalog_of(text, models=[LOCAL], environ={"HOME": "/home/me/"}), "local")
    assert flags["--lora"][0] == "/home/me/a.gguf"
    assert flags["--chat-template-file"][0] == "/home/me/t.jinja"
    assert flags["--samplers"][0] == "~/s"
    assert flags["--log-file"][0] == "~x"
    assert flags_of(catalog_of(text, models=[LOCAL]), "local")["--lora"][0] == "~/a.gguf"


def test_what_was_to_be_fetched_is_a_last_good_version_too() -> None:
    good = catalog_of("[a]\nhf-repo = user/repo:Q8_0\n")
    later = catalog_of("[a]\nhf-repo = user/repo:Q8_0\ntemprature = 2\n", previous=good)
    assert entry_of(later, "a").hf_wanted == "user/repo:Q8_0"


def test_a_projector_that_is_broken_is_a_problem_only_where_it_is_used() -> None:
    files = CACHED.files
    assert files is not None
    model = replace(CACHED, broken=(Skipped(str(files.mmproj), "truncated: 7 bytes (a/b)"),))
    assert entry_of(catalog_of(models=[model]), CACHED.id).problem == "mmproj-F16.gguf: truncated: 7 bytes (a/b)"
    for said in ("no-mmproj = 1", "mmproj = hears.gguf"):
        entry = entry_of(catalog_of(f"[{CACHED.id}]\n{said}\n", models=[model]), CACHED.id)
        assert entry.problem is None
        assert entry.launch is not None
