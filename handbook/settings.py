"""docs/settings.md: every option of `lr serve`, every key of ours in a preset, every variable that is read."""

from __future__ import annotations

from itertools import groupby

from handbook.markdown import cell, code, table
from handbook.preset_keys import KEYS
from handbook.variables import VARIABLES
from llamarouter.core.flags import Option
from llamarouter.core.own_option import OwnOption
from llamarouter.core.own_options import OWN
from llamarouter.core.ownership import Role, role_of
from llamarouter.core.wishes import OUR_KEYS

# What `lr reload` (or SIGHUP) reads again of what an option names. The option itself counts from start to end.
READ_AGAIN = {
    "--models-dir": "the files in it",
    "--models-preset": "the file",
    "--hf-repo": "its files in the cache",
    "--model": "the file",
    "--mmproj": "the file",
    "--log-file": "opened again",
    "--api-key-file": "the file",
    "--ssl-key-file": "the file",
    "--ssl-cert-file": "the file",
}

_HEAD = """\
# All settings

Written by `scripts/write-reference` from the tables that the program itself reads; a test holds it.

Where a value may stand, the later over the earlier: the default; llama.cpp's `config.ini` (`/etc/llama.cpp/`, then
`$XDG_CONFIG_HOME/llama.cpp/` or `~/.config/llama.cpp/`: the keys before any section, and those of `[*]`); the variable;
the command line. What holds for a model has two more places, its `[*]` and its own section in the preset:
`lr explain MODEL` shows for each flag where it came from.

`lr reload` (or SIGHUP) reads presets, folders, `config.ini` (as far as it speaks of models), the keys of
`--api-key-file` and the certificate again. A file that cannot be read, or split into sections, refuses all of it, and
says which line.

A model whose command has changed is drained and starts anew at its next request; the keys of a preset that say how long
it stays and who may wait for it hold at once, without touching its process. Keys of `lr key`, their limits included,
hold at once without any reload. The other options of `lr serve` count from its start to its end: after a change start
it anew (`systemctl restart`: the sockets of the unit refuse nobody meanwhile).
"""

_KEYS = """\
## Keys of a preset

In a section for its model, in `[*]` for all. Beside these, every option of llama-server by its long or short spelling
without the dashes, or by its variable (`ctx-size = 8192`, `c = 8192`, `LLAMA_ARG_CTX_SIZE = 8192`). A wrong value
leaves the default, or the last good one, and is a warning with file and line.
"""

_VARIABLES = """\
## Variables

Beside those of the options above. An empty one counts as not there. None of them reaches a model but what its column
says: credentials, `LLAMA_*`, `HF_*`, `LR_*` and proxies are taken out of a child's environment.
"""


def page_of_settings() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group, rows in groupby(OWN, key=lambda row: row.group):
        parts.append(f"## {group}\n")
        head = ("option", "variable", "in config.ini", "default", "what it changes", "a reload reads again")
        parts.append(table(head, [_row(row) for row in rows]))
    parts.append(_KEYS)
    keys = [(key, *KEYS[key]) for key in (*OUR_KEYS, *(key for key in KEYS if key not in OUR_KEYS))]
    head = ("key", "value", "default", "what it changes", "after a reload")
    parts.append(table(head, [(code(key), *map(cell, rest)) for key, *rest in keys]))
    parts.append(_VARIABLES)
    rows = [(code(name), cell(who), cell(what)) for name, (who, what) in sorted(VARIABLES.items())]
    parts.append(table(("variable", "who reads it", "what for"), rows))
    return "\n".join(parts)


def _row(row: OwnOption) -> tuple[str, ...]:
    option = row.option
    spellings = ", ".join(code(name) for name in (*option.names, *option.negatives))
    return (
        f"{spellings} {cell(option.hint)}".strip(),
        ", ".join(map(code, option.envs)),
        "" if role_of(option) in (Role.SOURCE, Role.ALIAS) else code(_key_of(option)),
        code(row.default),
        cell(option.help) + ("; every model gets it as well" if row.shared else ""),
        cell(READ_AGAIN.get(option.canonical, "")),
    )


def _key_of(option: Option) -> str:
    """The first long spelling, without its dashes."""
    return next(name for name in option.names if name.startswith("--")).removeprefix("--")
