"""Rows that are a start each: which command lines, environments and presets serve, and which end the router."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.reference.row import COMMAND_LINE, PRESETS
from tests.reference.seen import Seen
from tests.reference.side import try_start


@dataclass(frozen=True)
class StartRow:
    """A start and what came of it. `preset`: the text of a file that is given by `--models-preset`."""

    about: str
    name: str
    arguments: tuple[str, ...] = ("--models-dir", "models/one")
    preset: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.about}: {self.name}"

    def look(self, side: str, root: Path) -> Seen:
        """Start that side in its folder."""
        arguments = list(self.arguments)
        if self.preset is not None:
            file = root / f"{self.name.replace(' ', '-')}.ini"
            file.write_text(self.preset, encoding="utf-8")
            arguments += ["--models-preset", file.name]
        # No cache: what is found there is looked at elsewhere.
        return try_start(side, root, arguments, **{"LLAMA_CACHE": str(root / "home"), **self.environ}).seen()


_MODEL = "model = models/alpha.gguf\n"


def _line(name: str, *arguments: str, **environ: str) -> StartRow:
    given = arguments if "--models-dir" in arguments or environ else ("--models-dir", "models/one", *arguments)
    return StartRow(COMMAND_LINE, name, given, None, environ)


def _preset(name: str, text: str, *arguments: str) -> StartRow:
    return StartRow(PRESETS, name, ("--models-dir", "models/one", *arguments), text)


STARTED: tuple[StartRow, ...] = (
    _line("a folder of models", "--models-dir", "models/quants/.."),
    _line("settings from the environment", LLAMA_ARG_MODELS_DIR="models/one", LLAMA_ARG_MODELS_MAX="2"),
    _line("autoload off by the environment", LLAMA_ARG_MODELS_DIR="models/one", LLAMA_ARG_MODELS_AUTOLOAD="0"),
    _line("autoload off by its own variable", LLAMA_ARG_MODELS_DIR="models/one", LLAMA_ARG_NO_MODELS_AUTOLOAD="1"),
    _line(
        "the command line before the environment",
        "--models-max",
        "3",
        "--models-dir",
        "models/one",
        LLAMA_ARG_MODELS_MAX="2",
    ),
    _line("underscores for hyphens", "--models_max", "3"),
    _line("an option that is given twice", "--models-max", "3", "--models-max", "5"),
    _line("any number of models", "--models-max", "0"),
    _line("fewer models than none", "--models-max", "-1"),
    _line("options for every child", "-c", "256", "-ngl", "0", "--temp", "0.5", "--no-warmup"),
    _line("a folder that is not there", "--models-dir", "nowhere"),
    _line("a folder that is a file", "--models-dir", "models.ini"),
    _line("a preset that is not there", "--models-preset", "nowhere.ini"),
    _line("a file of keys that is not there", "--api-key-file", "nowhere"),
    _line("an unknown option", "--no-such-option"),
    _line("an option without its value", "--models-max"),
    _line("a number that is none", "--models-max", "many"),
    _line("a number that is none, for a child", "--ctx-size", "many"),
    _line("an option with two values", "--control-vector-layer-range", "1", "2"),
    _line("two addresses and any port", "--host", "127.0.0.1,::1"),
    _line("an address that is none", "--host", "999.999.999.999"),
    _line("tools", "--tools", "all"),
    _line("the proxy for MCP servers", "--ui-mcp-proxy"),
    _line("the port shared with others", "--reuse-port"),
    _preset("an unknown key", f"[m]\n{_MODEL}no-such-key = 1\n"),
    _preset("an indented line", f"[m]\n  {_MODEL}"),
    _preset("a line without an equals sign", f"[m]\n{_MODEL}nonsense\n"),
    _preset("a key with underscores", f"[m]\n{_MODEL}ctx_size = 256\n"),
    _preset("an alias that is a models id", f"[m]\n{_MODEL}alias = model\n[model]\n{_MODEL}"),
    _preset("an alias given twice", f"[m]\n{_MODEL}alias = x\n[n]\n{_MODEL}alias = x\n"),
    _preset(
        "more to load than places",
        f"[m]\n{_MODEL}load-on-startup = 1\n[n]\n{_MODEL}load-on-startup = 1\n",
        "--models-max",
        "1",
    ),
    _preset("to load at start with any number of places", f"[m]\n{_MODEL}load-on-startup = 1\n", "--models-max", "0"),
    _preset("keys before any section", _MODEL),
    _preset("a section without a model", "[m]\ntemp = 1\n"),
    _preset("an empty file", ""),
)
