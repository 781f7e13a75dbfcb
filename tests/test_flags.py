"""The option table of a real `--help`, and command lines split by it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.core.flags import OptionTable, boolean_of, split_argv
from llamarouter.core.own_options import OWN_TABLE
from tests.engine_table import TABLE

BINARY = Path(__file__).parents[1] / "bin" / "llama-server"


def test_every_option_of_the_help_is_in_the_table() -> None:
    assert len(TABLE.options) == 256
    assert all(option.names and all(name.startswith("-") for name in option.names) for option in TABLE.options)
    spellings = [name for option in TABLE.options for name in (*option.names, *option.negatives)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("spelling", "canonical", "arity"),
    [
        ("-c", "--ctx-size", 1),
        ("-ngl", "--n-gpu-layers", 1),
        ("-hf", "--hf-repo", 1),
        ("-lv", "--log-verbosity", 1),
        ("-cb", "--cont-batching", 0),
        ("-ctk", "--cache-type-k", 1),
        ("-ot", "--override-tensor", 1),  # `<tensor name pattern>=<buffer type>` is one value
        ("-fa", "--flash-attn", 1),
        ("-dr", "--docker-repo", 1),
        ("--spec-type", "--spec-type", 1),  # a head longer than its column
        ("--control-vector-layer-range", "--control-vector-layer-range", 2),
        ("-h", "--usage", 0),
        ("-md", "--model-draft", 1),
        ("--no-host", "--no-host", 0),
        ("--ctx_size", "--ctx-size", 1),
    ],
)
def test_spelling(spelling: str, canonical: str, arity: int) -> None:
    match = TABLE.find(spelling)
    assert match is not None
    assert (match.option.canonical, match.option.arity, match.negated) == (canonical, arity, False)


def test_only_one_option_takes_two_values() -> None:
    assert [option.canonical for option in TABLE.options if option.arity == 2] == ["--control-vector-layer-range"]


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("-nr", "--repack"),
        ("-nkvo", "--kv-offload"),
        ("-nocb", "--cont-batching"),
        ("-no-kvu", "--kv-unified"),
        ("-no-ag", "--agent"),
        ("--no-mmproj", "--mmproj-auto"),
        ("--no-ui-mcp-proxy", "--webui-mcp-proxy"),
    ],
)
def test_negative_spelling(spelling: str, canonical: str) -> None:
    match = TABLE.find(spelling)
    assert match is not None
    assert (match.option.canonical, match.negated) == (canonical, True)


def test_only_options_without_a_value_have_negatives() -> None:
    assert len([option for option in TABLE.options if option.negatives]) == 27
    assert all(option.arity == 0 for option in TABLE.options if option.negatives)


@pytest.mark.parametrize(
    ("key", "canonical", "negated"),
    [
        ("c", "--ctx-size", False),
        ("ctx-size", "--ctx-size", False),
        ("ctx_size", "--ctx-size", False),
        ("no-jinja", "--jinja", True),
        ("nkvo", "--kv-offload", True),
        ("LLAMA_ARG_CTX_SIZE", "--ctx-size", False),
        ("LLAMA_ARG_NO_JINJA", "--jinja", True),
        ("LLAMA_ARG_NO_KV_UNIFIED", "--kv-unified", True),
        ("LLAMA_ARG_NO_HOST", "--no-host", False),
        ("LLAMA_ARG_NO_MMPROJ_AUTO", "--mmproj-auto", True),
    ],
)
def test_key(key: str, canonical: str, negated: bool) -> None:
    match = TABLE.find_key(key)
    assert match is not None
    assert (match.option.canonical, match.negated) == (canonical, negated)


def test_an_option_without_negatives_has_no_negative_variable() -> None:
    assert TABLE.find_env("LLAMA_ARG_NO_CTX_SIZE") is None
    assert TABLE.find_env("HF_TOKEN") is not None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("--ctx-sise", "--ctx-size"),
        ("--n-gpu-layer", "--n-gpu-layers"),
        ("temprature", "temperature"),
        ("LLAMA_ARG_CTXSIZE", "LLAMA_ARG_CTX_SIZE"),
        ("zzzzzzzz", None),
    ],
)
def test_nearest(name: str, nearest: str | None) -> None:
    assert TABLE.nearest(name) == nearest


def test_removed_options_are_known_as_removed() -> None:
    removed = {option.canonical for option in TABLE.options if option.removed}
    assert "--draft-max" in removed
    assert "--spec-draft-n-max" not in removed
    assert len(removed) == 5


def test_a_text_that_is_no_help_gives_an_empty_table() -> None:
    assert OptionTable.parse("").options == ()
    assert OptionTable.parse("-a, --bb,\n").options[0].names == ("-a", "--bb")
    assert OptionTable.parse("usage: something\n\n  text\n----- common params -----\n").options == ()


def test_another_table_is_searched_by_any_spelling() -> None:
    other = OptionTable.parse("-c, --ctx-size, --context N             tokens\n")
    context = TABLE.find("--ctx-size")
    jinja = TABLE.find("--jinja")
    assert context is not None
    assert jinja is not None
    found = other.find_option(context.option)
    assert found is not None
    assert found.canonical == "--context"
    assert other.find_option(jinja.option) is None


def _split(*argv: str) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(given.option.canonical, given.values, given.on) for given in split_argv(argv, OWN_TABLE, TABLE)]


def test_a_command_line_is_split_by_arity() -> None:
    assert _split("-c", "8192", "-ngl", "99", "-hf", "x", "--models-dir", "m", "-nkvo", "--jinja") == [
        ("--ctx-size", ("8192",), True),
        ("--n-gpu-layers", ("99",), True),
        ("--hf-repo", ("x",), True),
        ("--models-dir", ("m",), True),
        ("--kv-offload", (), False),
        ("--jinja", (), True),
    ]


def test_values_may_be_attached_negative_or_empty() -> None:
    assert _split("--ctx-size=4096", "--override-kv=a=int:1", "-n", "-1", "--models_dir=", "--lora", "") == [
        ("--ctx-size", ("4096",), True),
        ("--override-kv", ("a=int:1",), True),
        ("--n-predict", ("-1",), True),
        ("--models-dir", ("",), True),
        ("--lora", ("",), True),
    ]


def test_two_values() -> None:
    assert _split("--control-vector-layer-range", "1", "2", "-v") == [
        ("--control-vector-layer-range", ("1", "2"), True),
        ("--log-verbose", (), True),
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--ctx-sise", "1"], "unknown option --ctx-sise; did you mean --ctx-size?"),
        (["--model-dir=x"], "unknown option --model-dir; did you mean --models-dir?"),
        (["--zzzz"], "unknown option --zzzz (neither lr nor this llama-server knows it; see lr serve --help)"),
        (["-c"], "-c needs a value: -c N"),
        (["-c", "-ngl", "99"], "-c needs a value (N), but -ngl follows"),
        (
            ["--ctx-size", "--port", "1"],
            "--ctx-size needs a value (N), but --port follows; where --port is meant as the value: --ctx-size=--port",
        ),
        (["--jinja=off"], "--jinja=off: --jinja takes no value (its opposite is --no-jinja)"),
        (["--metrics=1"], "--metrics=1: --metrics takes no value"),
        (["--control-vector-layer-range=1"], "takes two values, apart"),
        (["--control-vector-layer-range", "1"], "--control-vector-layer-range needs a value"),
        (["model.gguf"], "unexpected argument 'model.gguf'"),
        (["-"], "unexpected argument '-'"),
        ([""], "unexpected argument ''"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_helps(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_argv(argv, OWN_TABLE, TABLE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "truth"),
    [("on", True), ("Enabled", True), (" 1 ", True), ("yes", True), ("off", False), ("FALSE", False), ("no", False)],
)
def test_booleans(text: str, truth: bool) -> None:
    assert boolean_of(text) is truth
    assert boolean_of(text + "x") is None


@pytest.mark.compiled
def test_the_help_of_the_binary_here_is_understood() -> None:
    text = subprocess.run([BINARY, "--help"], capture_output=True, text=True, check=True, timeout=20).stdout
    table = OptionTable.parse(text)
    assert len(table.options) > 200
    for name, arity in (("--model", 1), ("--ctx-size", 1), ("--host", 1), ("--port", 1), ("--offline", 0)):
        match = table.find(name)
        assert match is not None
        assert match.option.arity == arity
