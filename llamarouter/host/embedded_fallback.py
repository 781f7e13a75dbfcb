"""The embedded engine's options by hand: a short list, for a wheel whose own parser cannot be called.

It answers like llama.cpp's parser (`embedded_parser`): fills the parameters, names what it does not know on stderr,
prints a `--help` in the same layout, so that one reader of option tables serves both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_TEXT_COLUMN = 40


@dataclass(frozen=True, slots=True)
class _Row:
    """One option: its spellings, the hint of its value (empty: a switch), what it sets, and how the value is read."""

    names: tuple[str, ...]
    hint: str
    attribute: str  # dotted, on the wheel's `CommonParams`
    read: Callable[[str], object]
    text: str
    env: str = ""


def _comma_separated(text: str) -> list[str]:
    return text.split(",")


def _true(_: str) -> bool:
    return True


def _false(_: str) -> bool:
    return False


_ROWS = (
    _Row(("-m", "--model"), "FNAME", "model.path", str, "model to load", "LLAMA_ARG_MODEL"),
    _Row(("-mm", "--mmproj"), "FILE", "mmproj.path", str, "multimodal projector", "LLAMA_ARG_MMPROJ"),
    _Row(("-a", "--alias"), "STRING", "model_alias", lambda text: set(text.split(",")), "names", "LLAMA_ARG_ALIAS"),
    _Row(("-c", "--ctx-size"), "N", "n_ctx", int, "size of the prompt context", "LLAMA_ARG_CTX_SIZE"),
    _Row(("-n", "--predict", "--n-predict"), "N", "n_predict", int, "tokens to predict", "LLAMA_ARG_N_PREDICT"),
    _Row(("-b", "--batch-size"), "N", "n_batch", int, "logical maximum batch size", "LLAMA_ARG_BATCH"),
    _Row(("-ub", "--ubatch-size"), "N", "n_ubatch", int, "physical maximum batch size", "LLAMA_ARG_UBATCH"),
    _Row(("-np", "--parallel"), "N", "n_parallel", int, "number of server slots", "LLAMA_ARG_N_PARALLEL"),
    _Row(("-t", "--threads"), "N", "cpuparams.n_threads", int, "CPU threads", "LLAMA_ARG_THREADS"),
    _Row(("--threads-http",), "N", "n_threads_http", int, "threads for HTTP requests", "LLAMA_ARG_THREADS_HTTP"),
    _Row(("--embedding", "--embeddings"), "", "embedding", _true, "embeddings only", "LLAMA_ARG_EMBEDDINGS"),
    _Row(("--jinja",), "", "use_jinja", _true, "use the chat template", "LLAMA_ARG_JINJA"),
    _Row(("--no-warmup",), "", "warmup", _false, "no empty run at first", "LLAMA_ARG_NO_WARMUP"),
    _Row(("--metrics",), "", "endpoint_metrics", _true, "serve /metrics", "LLAMA_ARG_ENDPOINT_METRICS"),
    _Row(("--offline",), "", "offline", _true, "no network access", "LLAMA_ARG_OFFLINE"),
    _Row(("-lv", "--verbosity"), "N", "verbosity", int, "verbosity threshold", "LLAMA_ARG_LOG_VERBOSITY"),
    _Row(("--host",), "HOST", "hostnames", _comma_separated, "addresses, or UNIX socket paths ending in .sock"),
    _Row(("--port",), "PORT", "port", int, "port to listen", "LLAMA_ARG_PORT"),
    _Row(("--api-key",), "KEY", "api_keys", _comma_separated, "keys for authentication", "LLAMA_API_KEY"),
)
_BY_NAME = {name: row for row in _ROWS for name in row.names}


def parse(params: Any, argv: Sequence[str]) -> bool:
    """Fill `params` from `argv` (without the program's name); False, with the reason on stderr, where it is wrong."""
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            sys.stdout.write(help_text())
            raise SystemExit(0)
        row = _BY_NAME.get(word)
        if row is None:
            return _refuse(f"invalid argument: {word}")
        value = next(words, None) if row.hint else ""
        if value is None:
            return _refuse(f"expected value for argument: {word}")
        try:
            _set(params, row, value)
        except ValueError:
            return _refuse(f"invalid value for argument: {word} {value}")
    return True


def help_text() -> str:
    """The list in the layout of `llama-server --help`."""
    lines = []
    for row in _ROWS:
        head = ", ".join(row.names) + (f" {row.hint}" if row.hint else "")
        lines.append(f"{head:<{_TEXT_COLUMN}}{row.text}")
        if row.env:
            lines.append(f"{'':<{_TEXT_COLUMN}}(env: {row.env})")
    return "\n".join(lines) + "\n"


def _set(params: Any, row: _Row, value: str) -> None:
    *path, last = row.attribute.split(".")
    for name in path:
        params = getattr(params, name)
    setattr(params, last, row.read(value))


def _refuse(reason: str) -> bool:
    sys.stderr.write(f"error: {reason}\n")
    return False
