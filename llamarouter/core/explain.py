"""A launch in words: the whole command, and for each flag its value and where that came from; and the whole
catalogue as an INI preset that llama-server's own router reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from llamarouter.core.catalog import Catalog
from llamarouter.core.entry import Entry
from llamarouter.core.ids import is_repo
from llamarouter.core.ini import GLOBAL_SECTION
from llamarouter.core.launch import DEFAULT_ORIGIN, FORCED_ORIGIN, Flag, without_secrets
from llamarouter.core.policy_rules import LOAD_ON_STARTUP

# What ends or changes a value in llama-server's INI, which knows no quotes.
_UNWRITABLE = re.compile(r"[;#\r\n]|^[ \t]|[ \t]$")
_FILES = ("--model", "--mmproj")

Explanation = dict[str, Any]  # as JSON: model, command, env, variables, flags, policy, problem


def explain(entry: Entry, engine_command: Sequence[str], environment: dict[str, str]) -> Explanation:
    """How a model would be started, and where each flag came from; of one that cannot be only why.

    `environment`: what is set for every process; what it inherits is not said, for there may be secrets among it.
    Secrets in the command are starred. `variables`: what is set for this one besides.
    """
    launch = entry.launch
    if launch is None:
        wanted = entry.hf_wanted and f"its files are not here yet: {entry.hf_wanted} is fetched at the first request"
        return {"model": entry.id, "problem": entry.problem or wanted}
    flags = [
        {"option": flag.option, "values": without_secrets((flag.option, *flag.values))[1:], "origin": flag.origin}
        for flag in launch.flags
    ]
    return {
        "model": entry.id,
        "command": without_secrets((*engine_command, *launch.argv())),
        "env": environment | launch.environment(),
        "variables": [{"name": each.name, "value": each.value, "origin": each.origin} for each in launch.variables],
        "flags": flags,
        "policy": [{"key": rule.key, "value": rule.text, "origin": rule.origin} for rule in entry.rules],
        "problem": entry.problem,
    }


def as_llama_server_ini(catalog: Catalog) -> str:
    """A preset with which `llama-server --models-preset FILE` serves the same models with the same options.

    What its grammar cannot express stands in a comment, with the reason. A model of the cache is named by its
    repository (its files would come twice otherwise), every other one by its file.
    """
    parts = [
        "; Written by lr explain --llama-server. Every value is final: nothing is inherited from [*].\nversion = 1\n"
    ]
    parts += [_section(entry) for entry in catalog.entries.values()]
    return "\n".join(parts)


def _section(entry: Entry) -> str:
    launch = entry.launch
    if launch is None:
        problem = entry.problem or f"not here yet: {entry.hf_wanted}"
        return f"; [{_one_line(entry.id)}] cannot be started: {_one_line(problem)}\n"
    if "]" in entry.id or entry.id in (GLOBAL_SECTION, ""):
        return f"; {_one_line(entry.id)}: llama-server cannot have a section of this name\n"
    lines = [f"[{entry.id}]"]
    by_repo = entry.model.repo if _is_in_hub_cache(entry) else None
    if by_repo is not None:
        lines.append(f"hf-repo = {by_repo}")
    flags = [flag for flag in _for_people(launch.flags) if not (by_repo and flag.option in _FILES) and not _ours(flag)]
    if any(flag.option == "--model" and _UNWRITABLE.search(flag.values[0]) for flag in flags):
        # Without its file the section would be a model that loads for ever.
        return f"; [{_one_line(entry.id)}]: llama-server would cut the path of its file: it knows no quotes\n"
    lines += [_line(flag) for flag in flags]
    names = (("alias", entry.aliases), ("tags", entry.tags))
    lines += [_written(key, ", ".join(words)) for key, words in names if words]
    alike = "(llama-server's router gives all models its own environment)"
    lines += [f"; lr-env = {_one_line(f'{each.name}={each.value}')}   {alike}" for each in launch.variables]
    if entry.load_on_startup:
        lines.append(f"{LOAD_ON_STARTUP} = true")
    lines += [
        f"; {rule.key} = {_one_line(rule.text)}   (llama-server has nothing like it)"
        for rule in entry.rules
        if rule.key != LOAD_ON_STARTUP
    ]
    lines.append(f"stop-timeout = {max(1, round(launch.stop_timeout))}")
    return "\n".join(lines) + "\n"


def _for_people(flags: Iterable[Flag]) -> list[Flag]:
    """By name: a command has the order of llama-server, which goes by the short spellings."""
    return sorted(flags, key=lambda flag: flag.option)


def _is_in_hub_cache(entry: Entry) -> bool:
    """Whether llama-server's router lists this id by itself.

    It knows neither the old flat layout, nor files without a tag, nor repositories without a user, without a ref or
    with `--` in their name.
    """
    files, (repo, colon, _) = entry.model.files, entry.id.partition(":")
    listed = bool(colon) and is_repo(repo) and "--" not in repo and not entry.model.unreferenced
    return listed and files is not None and entry.model.repo == entry.id and "/snapshots/" in files.model


def _ours(flag: Flag) -> bool:
    return flag.origin == FORCED_ORIGIN or (flag.origin == DEFAULT_ORIGIN and flag.option != "--offline")


def _line(flag: Flag) -> str:
    key = flag.option.lstrip("-")
    if len(flag.values) > 1:
        return f"; {key} = {_one_line(' '.join(flag.values))}   (llama-server's router takes no option with two values)"
    return _written(key, flag.values[0] if flag.values else "true")


def _written(key: str, value: str) -> str:
    if _UNWRITABLE.search(value):
        return f"; {key} = {_one_line(value)}   (llama-server would cut this value: it knows no quotes)"
    return f"{key} = {value}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
