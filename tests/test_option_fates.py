"""What becomes of every option of llama-server on the command line of `lr serve`: a table, and everything else passes.

An option that a new build brings is in none of the rows, so it goes to every model with the arity that its help says.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.core.flags import Option, OptionTable
from llamarouter.core.own_options import OWN_TABLE, SHARED
from tests.catalogs import LOCAL, catalog_of, flags_of, warnings_of
from tests.engine_table import TABLE

BINARY = Path(__file__).parents[1] / "bin" / "llama-server"

# The router's own; a model never sees them.
OURS = {
    "--model",
    "--hf-repo",
    "--hf-file",
    "--hf-token",
    "--mmproj",
    "--alias",
    "--log-file",
    "--log-jsonl",
    "--host",
    "--port",
    "--path",
    "--api-prefix",
    "--ui-config",
    "--ui-config-file",
    "--ui",
    "--api-key",
    "--api-key-file",
    "--ssl-key-file",
    "--ssl-cert-file",
    "--models-dir",
    "--models-preset",
    "--models-max",
    "--models-autoload",
    "--cors-origins",
    "--cors-methods",
    "--cors-headers",
    "--cors-credentials",
}
# Read by the router, and given to every model as well.
BOTH = {"--log-disable", "--offline", "--log-verbose", "--log-verbosity", "--timeout"}
# Said in a line why not.
NOT_HERE = {
    "--usage": "prints and exits",
    "--version": "prints and exits",
    "--cache-list": "prints and exits",
    "--completion-bash": "prints and exits",
    "--list-devices": "prints and exits",
    "--model-url": "would let the child download",
    "--docker-repo": "would let the child download",
    "--mmproj-url": "would let the child download",
    "--reuse-port": "is not a feature of lr serve",
    "--ui-mcp-proxy": "is not a feature of lr serve",
    "--tools": "is not a feature of lr serve",
    "--tools-runtime": "is not a feature of lr serve",
    "--mcp-servers-config": "is not a feature of lr serve",
    "--mcp-servers-json": "is not a feature of lr serve",
    "--agent": "is not a feature of lr serve",
    "--draft-max": "use --spec-draft-n-max",
    "--draft-n-min": "use --spec-draft-n-min",
    "--spec-ngram-size-n": "use the respective",
    "--spec-ngram-size-m": "use the respective",
    "--spec-ngram-min-hits": "use the respective",
    "--embd-gemma-default": "would let the child download",
    "--fim-qwen-1.5b-default": "would let the child download",
    "--fim-qwen-3b-default": "would let the child download",
    "--fim-qwen-7b-default": "would let the child download",
    "--fim-qwen-7b-spec": "would let the child download",
    "--fim-qwen-14b-spec": "would let the child download",
    "--fim-qwen-30b-default": "would let the child download",
    "--gpt-oss-20b-default": "would let the child download",
    "--gpt-oss-120b-default": "would let the child download",
    "--vision-gemma-4b-default": "would let the child download",
    "--vision-gemma-12b-default": "would let the child download",
}
# Reaches a model in another shape: shown in the list, fetched by the router, or not at all with a warning.
OTHERWISE = {"--tags", "--hf-repo-draft", "--model-draft", "--log-colors"}


def words_of(option: Option, spelling: str) -> list[str]:
    return [spelling, *(f"v{number}" for number in range(option.arity))]


def ours_of(table: OptionTable) -> set[str]:
    """The options of an engine that are also rows of our own table, by the engine's canonical spelling."""
    return {option.canonical for option in table.options if OWN_TABLE.find_option(option) is not None}


def passes(option: Option, table: OptionTable) -> None:
    """Every spelling of it reaches the model, once, with all its values; off where it is a negative one."""
    for spelling in option.names:
        launched = launched_with(words_of(option, spelling), table)
        assert launched[option.canonical] == [f"v{number}" for number in range(option.arity)], spelling
    for spelling in option.negatives:
        launched = launched_with([spelling], table)
        assert option.negatives[-1] in launched
        assert option.canonical not in launched


def launched_with(argv: list[str], table: OptionTable) -> dict[str, list[str]]:
    catalog = catalog_of(models=[LOCAL], argv=argv, tables={None: table}, table=table)
    assert warnings_of(catalog) == []
    return {name: value.split() for name, (value, _) in flags_of(catalog, "local").items()}


def rest_of(table: OptionTable) -> list[Option]:
    named = OURS | set(NOT_HERE) | OTHERWISE | BOTH
    return [option for option in table.options if not named & {*option.names}]


def test_the_rows_are_options_and_no_option_has_two() -> None:
    rows = [*OURS, *BOTH, *NOT_HERE, *OTHERWISE]
    assert len(rows) == len(set(rows))
    for row in rows:
        assert TABLE.find(row) is not None, row
    canonical = {option.canonical for option in OWN_TABLE.options}
    assert ours_of(TABLE) == {option.canonical for option in TABLE.options if (OURS | BOTH) & {*option.names}}
    assert canonical >= SHARED
    assert BOTH == SHARED


@pytest.mark.parametrize("option", rest_of(TABLE), ids=lambda option: option.canonical)
def test_what_is_not_named_here_reaches_every_model_with_all_its_values(option: Option) -> None:
    passes(option, TABLE)


@pytest.mark.parametrize(("name", "reason"), NOT_HERE.items())
def test_what_is_refused_says_why_in_one_line(name: str, reason: str) -> None:
    match = TABLE.find(name)
    assert match is not None
    for spelling in (*match.option.names, *match.option.negatives):
        with pytest.raises(UsageError) as caught:
            catalog_of(argv=words_of(match.option, spelling))
        assert str(caught.value).startswith(f"{spelling}: ")
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["--timeout", "5"], {"--timeout": "5"}),
        (["-lv", "4", "-v"], {"--log-verbosity": "4", "--log-verbose": ""}),
        (["--offline"], {"--offline": ""}),
        (["--control-vector-layer-range", "1", "2"], {"--control-vector-layer-range": "1 2"}),
        (["--chat_template", "a b", "--no_jinja"], {"--chat-template": "a b", "--no-jinja": ""}),
        (["--override-kv=a=int:1", "-n", "-1"], {"--override-kv": "a=int:1", "--n-predict": "-1"}),
    ],
)
def test_a_few_of_them_by_hand(argv: list[str], flags: dict[str, str]) -> None:
    launched = flags_of(catalog_of(models=[LOCAL], argv=argv), "local")
    assert {name: value for name, (value, origin) in launched.items() if origin == "command line"} == flags


def test_nothing_of_the_routers_own_reaches_a_model() -> None:
    argv = ["--port", "1", "--api-key", "k", "--no-ui", "--models-max", "1", "--hf-token", "t", "--log-file", "f"]
    launched = launched_with(argv, TABLE)
    assert not OURS & {name for name in launched if name not in ("--model", "--alias")}


def test_a_new_option_of_a_new_build_is_data() -> None:
    table = OptionTable.parse(
        "-m,    --model FNAME                    model path\n"
        "-nw,   --new-one N                      (env: LLAMA_ARG_NEW_ONE)\n"
        "--newer, --no-newer                     whether\n"
        "--pair START END                        two\n"
        "--newest-default                        use a model (note: can download weights from the internet)\n"
    )
    for option in table.options[1:4]:
        passes(option, table)
    with pytest.raises(UsageError, match="--newest-default: would let the child download"):
        launched_with(["--newest-default"], table)


@pytest.mark.compiled
def test_every_option_of_the_binary_here_has_a_fate() -> None:
    text = subprocess.run([BINARY, "--help"], capture_output=True, text=True, check=True, timeout=20).stdout
    table = OptionTable.parse(text)
    assert len(table.options) > 200
    for option in rest_of(table):
        passes(option, table)
