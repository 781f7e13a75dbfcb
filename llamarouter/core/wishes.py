"""What the keys of a section mean: options for a child, a source, names, and keys that never leave the router.

    section + option table -> read_section -> Wishes     given options, source, names, problem, warnings

An unknown key is a problem of its section alone; what the router owns is a warning and left out. In `[*]`, in the
environment and in llama.cpp's own `config.ini` nothing spoils anything: what cannot be used is a warning.
Booleans: `on enabled true 1 yes` and `off disabled false 0 no`, in any case; other text counts as given, as in
llama-server. `no-jinja = true` and `LLAMA_ARG_NO_JINJA = 1` mean `--no-jinja`, with `0` they mean `--jinja`.
Keys may have `_` for `-` (in llama-server they may not).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from llamarouter.core.child_env import holds_password
from llamarouter.core.flags import Given, Match, Option, OptionTable, boolean_of
from llamarouter.core.ini import Key, Section
from llamarouter.core.model import Skipped
from llamarouter.core.own_environment import Variable, variables_of
from llamarouter.core.own_options import OWN_TABLE, SHARED
from llamarouter.core.ownership import Role, refusal_of, role_of
from llamarouter.core.policy_rules import RULES, Rule, contradiction_in, rule_of

ENGINE_KEY = "lr-engine"
VERSION_KEY = "version"  # of the file: it says nothing of a model
STOP_TIMEOUT = "stop-timeout"
DEDUP = "dedup-cache-models"
# Sources that may stand where all models are spoken of.
DRAFTS = ("--model-draft", "--hf-repo-draft")
ENVIRONMENT = "lr-env"
FULL_OFFLOAD = "lr-require-full-offload"
OUR_KEYS = (ENGINE_KEY, ENVIRONMENT, FULL_OFFLOAD, *RULES, STOP_TIMEOUT, DEDUP)
_OUR_PREFIX = "lr-"
_ENV_PREFIX = "LLAMA_ARG_"


class Wishes(Struct, kw_only=True):
    """What one section, or one of the places that speak for all models, asks for."""

    given: list[Given] = field(default_factory=list)
    sources: dict[str, Given] = field(default_factory=dict)  # by canonical spelling: `--model`, `--hf-repo` ...
    aliases: tuple[str, ...] = ()
    alias_where: str = ""  # the `file:line` of them
    tags: tuple[str, ...] = ()
    rules: list[Rule] = field(default_factory=list)
    wrong_rules: dict[str, Skipped] = field(default_factory=dict)  # by key, those that cannot be read
    stop_timeout: float | None = None
    dedup: bool | None = None
    variables: tuple[Variable, ...] = ()
    full_offload: bool | None = None  # a load that leaves layers in host memory is refused
    problem: str | None = None  # with its `file:line`
    warnings: list[Skipped] = field(default_factory=list)

    def source(self, spelling: str) -> str | None:
        """The value of a source key, None where it is absent or empty."""
        given = self.sources.get(spelling)
        return given.values[0] or None if given else None

    def spoil(self, where: str, reason: str) -> None:
        """Note the first problem."""
        if self.problem is None:
            self.problem = f"{where}: {reason}"


def read_section(section: Section, table: OptionTable) -> Wishes:
    """What the section of one model asks for; its first problem makes it unusable as a whole."""
    wishes = Wishes()
    if section.problem is not None:
        wishes.spoil(section.problem.where, section.problem.reason)
    for key in section.keys:
        problem = _read_key(key, table, wishes)
        if problem is not None:
            wishes.spoil(key.where, problem)
    _warn_of_contradiction(wishes)
    return wishes


def read_for_everyone(sections: Iterable[Section], table: OptionTable) -> Wishes:
    """What `[*]`, or llama.cpp's `config.ini`, asks for every model; what cannot be used is a warning."""
    wishes = Wishes()
    for section in sections:
        if section.problem is not None:
            wishes.warnings.append(section.problem)
        for key in section.keys:
            problem = _read_key(key, table, wishes)
            if problem is not None:
                wishes.warnings.append(Skipped(key.where, f"left out: {problem}"))
    wishes.warnings += wishes.wrong_rules.values()
    for name, given in tuple(wishes.sources.items()):
        if name not in DRAFTS:
            reason = f"left out: {given.written} belongs into a model's own section"
            wishes.warnings.append(Skipped(given.origin, reason))
            del wishes.sources[name]
    if wishes.aliases:
        wishes.warnings.append(Skipped(wishes.alias_where, "left out: alias belongs into a model's own section"))
    wishes.aliases = ()
    return wishes


def read_environment(environ: Mapping[str, str], table: OptionTable) -> Wishes:
    """What `LLAMA_ARG_*` variables ask for every model. `LLAMA_ARG_NO_X` means off, whatever its value."""
    wishes = Wishes()
    for name in sorted(environ):
        if not name.startswith(_ENV_PREFIX):
            continue
        where = f"environment {name}"
        match = table.find_env(name)
        if match is None:
            near = table.nearest(name)
            wishes.warnings.append(Skipped(where, f"no such option{_did_you_mean(near)}"))
            continue
        ours = OWN_TABLE.find_env(name)
        if ours is not None and ours.option.canonical not in SHARED:
            continue
        refusal = refusal_of(match.option)
        if refusal is not None:
            wishes.warnings.append(Skipped(where, f"left out: {match.option.canonical} {refusal}"))
        else:
            value = "1" if match.negated else environ[name]
            _take(match, Key(name, value, where, 0), wishes)
    return wishes


def take_option(given: Given, wishes: Wishes) -> None:
    """What the command line says for every model."""
    role = role_of(given.option)
    if role is Role.TAGS:
        wishes.tags = _list_of(given.values[0])
    elif role is Role.SOURCE:
        wishes.sources[_source_name(given.option)] = given
    else:
        wishes.given.append(given)


def _read_key(key: Key, table: OptionTable, wishes: Wishes) -> str | None:
    """Take one key into `wishes`; the reason where it cannot be."""
    name = key.name.replace("_", "-") if not key.name.startswith(_ENV_PREFIX) else key.name
    if name == VERSION_KEY:
        return None
    if name in OUR_KEYS:
        return _read_ours(name, key, wishes)
    match = None if name.startswith(_OUR_PREFIX) else table.find_key(key.name) or _source(key.name)
    if match is None:
        return f"no option is called {key.name!r}{_did_you_mean(_nearest_key(key.name, table))}"
    if match.option.removed:
        return f"{key.name}: {match.option.help}"
    return _take(match, key, wishes)


def _take(match: Match, key: Key, wishes: Wishes) -> str | None:
    role = role_of(match.option)
    if role is Role.REMOTE:
        return f"{key.name} would let the child download: write hf-repo = user/repo:QUANT, or model = PATH"
    if holds_password(key.value):
        return f"{key.name}: a password in an address would stand in the list of processes; fetch it and name the file"
    if role is Role.ROUTER or role is Role.ACTION:
        wishes.warnings.append(Skipped(key.where, f"{key.name} is ignored: {role.value}"))
    elif role is Role.ALIAS:
        _warn_of_repetition(key.name, wishes.alias_where, key.name, key.where, wishes)
        wishes.alias_where = key.where
        wishes.aliases = _list_of(key.value)
    elif role is Role.TAGS:
        wishes.tags = _list_of(key.value)
    else:
        return _give(match, key, key.where, wishes)
    return None


def _source(name: str) -> Match | None:
    """What says where the files are is read by the router: an engine without it (built without curl) is served, too."""
    match = OWN_TABLE.find_key(name)
    return match if match is not None and role_of(match.option) is Role.SOURCE else None


def _read_ours(name: str, key: Key, wishes: Wishes) -> str | None:
    if name == ENGINE_KEY:
        return None if key.value else f"{ENGINE_KEY} needs a command"
    if name == ENVIRONMENT:
        variables = variables_of(key.value, key.where)
        if isinstance(variables, str):
            return f"{name}: {variables}"
        wishes.variables += variables
        return None
    if name == STOP_TIMEOUT:
        seconds = _seconds_of(key.value)
        if seconds is None:
            reason = f"{name} must be a number of seconds, not {key.value!r}: the default stays"
            wishes.warnings.append(Skipped(key.where, reason))
        else:
            wishes.stop_timeout = seconds
        return None
    if name in RULES:
        _read_rule(name, key, wishes)
        return None
    truth = boolean_of(key.value)
    if truth is None:
        wishes.warnings.append(Skipped(key.where, f"{name} must be true or false, not {key.value!r}: taken as false"))
    if name == FULL_OFFLOAD:
        wishes.full_offload = bool(truth)
    else:
        wishes.dedup = bool(truth)
    return None


def _read_rule(name: str, key: Key, wishes: Wishes) -> None:
    rule, doubt = rule_of(name, key.value, key.where)
    if rule is not None:
        before = next((one.origin for one in reversed(wishes.rules) if one.key == name), "")
        _warn_of_repetition(name, before, name, key.where, wishes)
        wishes.rules.append(rule)
    if doubt is not None:
        wishes.wrong_rules[name] = Skipped(key.where, doubt)


def _give(match: Match, key: Key, origin: str, wishes: Wishes) -> str | None:
    option = match.option
    values: tuple[str, ...] = ()
    on = True
    if option.arity == 0:
        truth = boolean_of(key.value)
        if truth is None:
            wishes.warnings.append(Skipped(origin, f"{key.name} is neither on nor off: {key.value!r} is taken as on"))
        on = (truth is not False) is not match.negated
    elif option.arity == 1:
        values = (key.value,)
    else:
        values = tuple(key.value.replace(",", " ").split())
        if len(values) != option.arity:
            return f"{key.name} takes {option.arity} values: {key.name} = {option.hint}"
    given = Given(option=option, values=values, on=on, written=key.name, origin=origin)
    before = next((one for one in (*wishes.given, *wishes.sources.values()) if one.option is option), None)
    if before is not None:
        _warn_of_repetition(before.written, before.origin, key.name, origin, wishes)
    if role_of(option) is Role.SOURCE:
        wishes.sources[_source_name(option)] = given
        return None
    if before is not None:
        wishes.given.remove(before)
    wishes.given.append(given)
    return None


def _source_name(option: Option) -> str:
    """The spelling by which a source is known here, whatever this build prints last."""
    names = ("--model", "--mmproj", "--model-draft", "--hf-repo", "--hf-file", "--hf-repo-draft")
    return next(name for name in names if name in option.names)


def _warn_of_repetition(written: str, where: str, again: str, holds: str, wishes: Wishes) -> None:
    if where:
        reason = f"{written} says the same option as {again} at {holds}, which holds"
        wishes.warnings.append(Skipped(where, reason))


def _warn_of_contradiction(wishes: Wishes) -> None:
    found = contradiction_in(wishes.rules)
    if found is not None:
        wishes.warnings.append(Skipped(found[0].origin, found[1]))


def _nearest_key(name: str, table: OptionTable) -> str | None:
    ours = difflib.get_close_matches(name.lower().replace("_", "-"), OUR_KEYS, n=1, cutoff=0.7)
    return ours[0] if ours else table.nearest(name.lstrip("-"))


def _did_you_mean(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""


def _list_of(text: str) -> tuple[str, ...]:
    return tuple(sorted({_without_quotes(part.strip()) for part in text.split(",")} - {""}))


def _without_quotes(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _seconds_of(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text, re.ASCII) else None
