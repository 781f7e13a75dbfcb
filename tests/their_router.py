"""llama-server's own router on the same folders and presets, for the tables that lay it beside this one.

Both sides are looked at in one form: ids, each with its names, what it takes and answers with, and its options.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llamarouter.core.catalog import Catalog
from llamarouter.core.settings import parse_settings
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.inventory import take_inventory
from tests.engine_table import TABLE
from tests.node_kit import ENGINE
from tests.tiers import ENGINE as BINARY

# What either router adds by itself: where a child listens, what it is called, and the defaults of this one.
_OWN = {"--host", "--port", "--alias", "--tags", "--log-colors", "--offline", "--threads-http", "--metrics"}


@dataclass(frozen=True)
class Look:
    """One model as a client sees it before any load."""

    options: Mapping[str, str]  # of its command line; an option without a value has an empty one
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    takes: str  # `text+image`
    answers: str

    def says(self) -> dict[str, str]:
        """Its options but for the model's file, of which the name alone counts."""
        return {name: Path(value).name if name == "--model" else value for name, value in self.options.items()}


Looks = dict[str, Look]


def theirs(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path) -> Looks | None:
    """What llama-server's router lists with these arguments; None where it does not start."""
    command = [str(BINARY), *arguments, "--port", "0", "--offline"]
    with subprocess.Popen(
        command, env=dict(environ), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        with contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            for line in process.stdout:
                if (found := re.search(r"http://[0-9.]+:[0-9]+", line)) is not None:
                    # Directly: no proxy of the environment is asked.
                    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                    with opener.open(f"{found[0]}/models", timeout=30) as answer:
                        return {entry["id"]: _their_look(entry) for entry in json.load(answer)["data"]}
            return None


def _their_look(entry: Mapping[str, object]) -> Look:
    status, architecture = entry["status"], entry["architecture"]
    assert isinstance(status, dict)
    assert isinstance(architecture, dict)
    aliases, tags = entry["aliases"], entry["tags"]
    assert isinstance(aliases, list)
    assert isinstance(tags, list)
    return Look(
        _options_of(status["args"][1:]),
        tuple(aliases),
        tuple(tags),
        "+".join(architecture["input_modalities"]),
        "+".join(architecture["output_modalities"]),
    )


def ours(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[Looks, list[str], Catalog]:
    """What this router lists with these arguments, and its warnings."""
    settings = parse_settings(arguments, environ, TABLE, lambda path: Path(path).read_text(encoding="utf-8"))
    catalog = take_inventory(settings, environ, ENGINE, HeaderCache(None)).catalog
    looks = {
        entry.id: Look(
            _options_of(entry.launch.argv() if entry.launch is not None else ()),
            entry.aliases,
            entry.tags,
            "+".join(entry.input_modalities),
            "+".join(entry.output_modalities),
        )
        for entry in catalog.entries.values()
        if not entry.hidden
    }
    return looks, [str(warning) for warning in catalog.skipped], catalog


def _options_of(argv: Sequence[str]) -> dict[str, str]:
    """A command line as options and values; which have one is known from the table."""
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        match = TABLE.find(word)
        assert match is not None, word
        value = next(words) if match.option.arity else ""
        if word not in _OWN:
            options[word] = value
    return options
