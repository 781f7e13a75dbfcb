"""A table of the grammar of presets: what a text means, here and in llama-server's router.

The right column is checked always, the left one where there is a compiled llama-server: it is what that really does.
`None` there: the router does not start. A row in which they differ says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.their_router import Looks, ours, theirs
from tests.tiny_gguf import write_llama, write_mmproj

Said = dict[str, dict[str, str]]  # by id: options of the command line; `alias`, `tags` and `takes` where they matter


@dataclass(frozen=True)
class Row:
    """`M` in the text is the model's line; warnings here are looked for by their beginning."""

    what: str
    text: str
    there: Said | None
    here: Said
    why: str = ""
    warnings: tuple[str, ...] = ()


def same(what: str, text: str, said: Said, warnings: tuple[str, ...] = ()) -> Row:
    return Row(what, text, said, said, warnings=warnings)


MODEL = {"--model": "m.gguf"}
BROKEN: dict[str, str] = {}  # listed, with its problem, and without a command line
NO_QUOTES = "quotes, and text in quotes, are whole"
ALONE = "what is wrong spoils its section alone"

ROWS = (
    same("comments", "; x\n# y\n[a]\nM ; z\ntemp = 1 # z\n", {"a": {**MODEL, "--temperature": "1"}}),
    Row(
        "; in a value",
        "[a]\nM\nsamplers = top_k;temperature\n",
        {"a": {**MODEL, "--samplers": "top_k"}},
        {"a": {**MODEL, "--samplers": "top_k;temperature"}},
        "a comment follows a blank",
    ),
    Row(
        "# in a value",
        "[a]\nM\nreverse-prompt = p#q\n",
        {"a": {**MODEL, "--reverse-prompt": "p"}},
        {"a": {**MODEL, "--reverse-prompt": "p#q"}},
        "a comment follows a blank",
    ),
    Row(
        "; in JSON",
        '[a]\nM\nchat-template-kwargs = {"a": "b ; c"}\n',
        {"a": {**MODEL, "--chat-template-kwargs": '{"a": "b'}},
        {"a": {**MODEL, "--chat-template-kwargs": '{"a": "b ; c"}'}},
        NO_QUOTES,
    ),
    Row(
        "quotes",
        '[a]\nM\nreverse-prompt = "x y"\n',
        {"a": {**MODEL, "--reverse-prompt": '"x y"'}},
        {"a": {**MODEL, "--reverse-prompt": "x y"}},
        NO_QUOTES,
    ),
    Row("an indented key", "[a]\n  M\n\ttemp = 1\n", None, {"a": {**MODEL, "--temperature": "1"}}, "it is clear"),
    Row(
        "a line without =",
        "[a]\nM\nwords\n[b]\nM\n",
        None,
        {"a": BROKEN, "b": MODEL},
        ALONE,
        ("p.ini:3: [a] cannot be used: neither 'key = value'",),
    ),
    Row(
        "an unknown key",
        "[a]\nM\ntempp = 1\n[b]\nM\n",
        None,
        {"a": BROKEN, "b": MODEL},
        ALONE,
        ("p.ini:3: [a] cannot be used: no option is called 'tempp'; did you mean temp?",),
    ),
    Row("underscores", "[a]\nM\nctx_size = 5\n", None, {"a": {**MODEL, "--ctx-size": "5"}}, "as on the command line"),
    Row("blanks round a name", "[ a b ]\nM\n", {"a b ": MODEL}, {"a b": MODEL}, "nobody sees the blank at the end"),
    same("a ] and odd letters in a name", "[we[ird 模型 \"'x]\nM\n", {"we[ird 模型 \"'x": MODEL}),
    same("a comma in a name", "[a,b]\nM\n", {"a,b": MODEL}),
    same("a very long name", f"[{'x' * 3000}]\nM\n", {"x" * 3000: MODEL}),
    Row(
        "an empty name",
        "[]\nM\n[b]\nM\n",
        None,
        {"b": MODEL},
        ALONE,
        ("p.ini:1: a section is left out: a section needs a name",),
    ),
    Row(
        "a header that does not end",
        "[a]\nM\n[b\nM\n[c] x\nM\n",
        None,
        {"a": MODEL, "b": BROKEN, "c] x": BROKEN},
        ALONE,
        ("p.ini:3: [b] cannot be used: a section's name must end in ']'", "p.ini:5: [c] x] cannot be used: "),
    ),
    same("keys before any section", "M\ntemp = 1\n[b]\nM\n", {"default": {**MODEL, "--temperature": "1"}, "b": MODEL}),
    same("version alone before any section", "version = 1\n[b]\nversion = 2\nM\n", {"b": MODEL}),
    same(
        "a repeated section",
        "[a]\nM\ntemp = 1\n[a]\nM\ntop-k = 3\n",
        {"a": {**MODEL, "--top-k": "3"}},
        ("p.ini:1: section [a] is replaced by the one at {p}:4",),
    ),
    same(
        "a repeated key",
        "[a]\nM\ntemp = 1\ntemp = 2\n",
        {"a": {**MODEL, "--temperature": "2"}},
        ("p.ini:3: temp says the same option as temp at {p}:4, which holds",),
    ),
    Row(
        "several spellings of one option",
        "[a]\nM\nctx-size = 1\nc = 2\nLLAMA_ARG_CTX_SIZE = 3\n",
        {"a": {**MODEL, "--ctx-size": "1"}},
        {"a": {**MODEL, "--ctx-size": "3"}},
        "the last line holds (there: the last in the order of the letters)",
        ("p.ini:3: ctx-size says the same option as c", "p.ini:4: c says the same option as LLAMA_ARG_CTX_SIZE"),
    ),
    same("[*], wherever it stands", "[a]\nM\n[*]\ntemp = 1\n", {"a": {**MODEL, "--temperature": "1"}}),
    same(
        "a section over [*]",
        "[*]\ntemp = 1\nc = 1\n[a]\nM\ntemperature = 2\n",
        {"a": {**MODEL, "--temperature": "2", "--ctx-size": "1"}},
    ),
    same("a tag in small letters", "[u/r:ud-q4_k_xl]\nM\n[x:y]\nM\n", {"u/r:Q4_K_XL": MODEL, "x:Y": MODEL}),
    Row(
        "a tag with a word behind it",
        "[u/r:Q4_K_XL-thinking]\nM\n[u/r:Q4_0-thinking]\nM\n",
        {"u/r:THINKING": MODEL},
        {"u/r:Q4_0-thinking": MODEL, "u/r:Q4_K_XL-thinking": MODEL},
        "they are two models",
    ),
    same("line ends \\r\\n", "[a]\r\nM\r\ntemp = 1\r\n", {"a": {**MODEL, "--temperature": "1"}}),
    same("line ends \\r", "[a]\rM\rtemp = 1\r", {"a": {**MODEL, "--temperature": "1"}}),
    same(
        "environment names",
        "[a]\nM\nLLAMA_ARG_CTX_SIZE = 3\nLLAMA_ARG_KV_UNIFIED = 0\n",
        {"a": {**MODEL, "--ctx-size": "3", "--no-kv-unified": ""}},
    ),
    Row(
        "negative environment names",
        "[a]\nM\nLLAMA_ARG_NO_KV_UNIFIED = 1\nLLAMA_ARG_NO_JINJA = 0\n",
        {"a": {**MODEL, "--kv-unified": "", "--no-jinja": ""}},
        {"a": {**MODEL, "--no-kv-unified": "", "--jinja": ""}},
        "NO means no",
    ),
    same(
        "truth",
        "[a]\nM\njinja = on\nkv-unified = enabled\nwarmup = true\nperf = 1\n",
        {"a": {**MODEL, "--jinja": "", "--kv-unified": "", "--warmup": "", "--perf": ""}},
    ),
    same(
        "falsehood",
        "[a]\nM\njinja = off\nkv-unified = disabled\nwarmup = false\nperf = 0\n",
        {"a": {**MODEL, "--no-jinja": "", "--no-kv-unified": "", "--no-warmup": "", "--no-perf": ""}},
    ),
    same(
        "negative spellings",
        "[a]\nM\nno-jinja = true\nno-warmup = 0\n",
        {"a": {**MODEL, "--no-jinja": "", "--warmup": ""}},
    ),
    same(
        "other text for an option that is on or off",
        "[a]\nM\njinja = yes\nwarmup = maybe\n",
        {"a": {**MODEL, "--jinja": "", "--warmup": ""}},
        ("p.ini:4: warmup is neither on nor off: 'maybe' is taken as on",),
    ),
    Row(
        "capitals",
        "[a]\nM\nkv-unified = FALSE\nno-jinja = TRUE\n",
        {"a": {**MODEL, "--kv-unified": "", "--jinja": ""}},
        {"a": {**MODEL, "--no-kv-unified": "", "--no-jinja": ""}},
        "what is written is meant",
    ),
    Row(
        "no", "[a]\nM\njinja = no\n", {"a": {**MODEL, "--jinja": ""}}, {"a": {**MODEL, "--no-jinja": ""}}, "no means no"
    ),
    same("an option without a negative", "[a]\nM\nmetrics = false\nembeddings = off\n", {"a": MODEL}),
    same("an empty value", "[a]\nM\nchat-template =\n", {"a": {**MODEL, "--chat-template": ""}}),
    same("a relative path", "[a]\nmodel = m.gguf\n", {"a": MODEL}),
    Row(
        "a path that begins at home",
        "[a]\nmodel = ~/m.gguf\nlora = ~/l.gguf\n",
        {"a": {**MODEL, "--lora": "~/l.gguf"}},
        {"a": {**MODEL, "--lora": "{home}/l.gguf"}},
        "there it is opened as it is written, and not found",
    ),
    same(
        "keys of the router",
        "[*]\nload-on-startup = 0\nstop-timeout = abc\n[a]\nM\nstop-timeout = 3\nload-on-startup = maybe\n",
        {"a": MODEL},
        ("p.ini:3: stop-timeout must be a number of seconds, not 'abc'", "p.ini:7: load-on-startup must be true or"),
    ),
    same(
        "aliases and tags",
        "[a]\nM\nalias = y, x ,x,\ntags = t2,t1\n",
        {"a": {**MODEL, "alias": "x y", "tags": "t1 t2"}},
    ),
    Row(
        "an alias that is an id",
        "[a]\nM\nalias = b, c\n[b]\nM\n",
        None,
        {"a": {**MODEL, "alias": "c"}, "b": MODEL},
        "a conflict is a warning, and an id goes first",
        ("p.ini:3: alias 'b' of [a] is left out: it already means the model 'b'",),
    ),
    Row(
        "an alias twice",
        "[a]\nM\nalias = k\n[b]\nM\nalias = k\n",
        None,
        {"a": {**MODEL, "alias": "k"}, "b": MODEL},
        "a conflict is a warning, and the first goes first",
        ("p.ini:6: alias 'k' of [b] is left out: it already means the model 'a'",),
    ),
    Row(
        "a section without a source",
        "[a]\ntemp = 1\n",
        {"a": {"--temperature": "1"}},
        {"a": BROKEN},
        "there it loads for ever",
        ("p.ini:1: [a] cannot be used: no such model was found, and the section names none",),
    ),
    Row(
        "a projector",
        "[a]\nM\nmmproj = see.gguf\n[b]\nM\nmmproj = missing.gguf\n",
        {"a": {**MODEL, "--mmproj": "see.gguf", "takes": "text+image"}, "b": {**MODEL, "--mmproj": "missing.gguf"}},
        {"a": {**MODEL, "--mmproj": "{cwd}/see.gguf", "takes": "text+image"}, "b": BROKEN},
        "a full path; what is missing is known before a load",
        ("p.ini:6: [b] cannot be used: mmproj = missing.gguf: there is no such file",),
    ),
    Row(
        "what the router owns",
        "[a]\nM\nport = 1\nhost = 0.0.0.0\napi-key = x\n",
        {"a": MODEL},
        {"a": MODEL},
        warnings=("p.ini:3: port is ignored", "p.ini:4: host is ignored", "p.ini:5: api-key is ignored"),
    ),
)


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative paths begin; the home of the user is `home` in it."""
    write_llama(tmp_path / "m.gguf", n_embd=32, n_layer=1, quant="Q4_0")
    write_mmproj(tmp_path / "see.gguf")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "m.gguf").symlink_to(tmp_path / "m.gguf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def preset(row: Row, cwd: Path) -> list[str]:
    lines = (
        line.replace("M", "model = m.gguf") if line.strip() in ("M", "M ; z") else line for line in _lines(row.text)
    )
    (cwd / "p.ini").write_text("".join(lines), encoding="utf-8", newline="")
    return ["--models-preset", str(cwd / "p.ini")]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def environ_of(cwd: Path) -> dict[str, str]:
    home = str(cwd / "home")
    return {"HF_HUB_CACHE": f"{home}/none", "HOME": home, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home}


def compare(looks: Looks, wanted: Mapping[str, Mapping[str, str]], cwd: Path) -> None:
    assert list(looks) == sorted(wanted)
    for id, said in wanted.items():
        options = {
            name: value.format(home=cwd / "home", cwd=cwd) if "{home}" in value or "{cwd}" in value else value
            for name, value in said.items()
            if name.startswith("--")
        }
        assert looks[id].says() == options
        assert " ".join(looks[id].aliases) == said.get("alias", "")
        assert " ".join(looks[id].tags) == said.get("tags", "")
        assert looks[id].takes == said.get("takes", "text")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_here(row: Row, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = environ_of(cwd)
    monkeypatch.setenv("HOME", environ["HOME"])
    looks, warnings, _ = ours(preset(row, cwd), environ)
    compare(looks, row.here, cwd)
    assert len(warnings) == len(row.warnings), warnings
    for wanted in row.warnings:
        beginning = wanted.format(p=cwd / "p.ini").replace("p.ini:", f"{cwd}/p.ini:", 1)
        assert any(line.startswith(beginning) for line in warnings), warnings


@pytest.mark.compiled
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_there(row: Row, cwd: Path) -> None:
    looks = theirs(preset(row, cwd), environ_of(cwd), cwd)
    if row.there is None or looks is None:
        assert row.there is looks
    else:
        compare(looks, row.there, cwd)


def test_every_difference_has_a_reason() -> None:
    for row in ROWS:
        assert row.there == row.here or row.why, row.what
