"""Options as data: a table of them, read from `llama-server --help`, and the reading of a command line by it.

    --help text -> OptionTable -> find("-ngl") find_key("no-jinja") find_env("LLAMA_ARG_NO_JINJA") nearest("ctx-sise")
    argv + tables -> split_argv -> Given values, each with the option it means and where it was written

Nothing here knows a single option of llama-server by name. What its `--help` looks like (build b11434,
`common/arg.cpp`, `common_arg::to_string`): an option's head begins in column 0 with its spellings, the negative ones
last, then the hint of its value; its text stands in column 40, on the next line where the head is longer than 37.
Two values only where two words in capitals are hinted (`START END`); `<tensor name pattern>=<buffer type>` is one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from llamarouter.core.errors import UsageError

_TEXT_COLUMN = 40
_SPELLING = re.compile(r"(-[^\s,]+)(,?)\s*")
_ENV = re.compile(r"\(env: (\w+)\)")
_TWO_VALUES = re.compile(r"[A-Z][A-Z0-9_]* [A-Z][A-Z0-9_]*")
_NO_ENV_PREFIX = "LLAMA_ARG_NO_"
_ENV_PREFIX = "LLAMA_ARG_"

COMMAND_LINE = "command line"

_TRUE = frozenset({"on", "enabled", "true", "1", "yes"})
_FALSE = frozenset({"off", "disabled", "false", "0", "no"})


def boolean_of(text: str) -> bool | None:
    """The truth of llama-server's words (`on enabled true 1`, `off disabled false 0`), and of yes and no, in any
    case; None for any other text."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


class Option(Struct, frozen=True, kw_only=True):
    """One option with all its spellings, as printed, dashes included."""

    names: tuple[str, ...]
    negatives: tuple[str, ...] = ()  # `--no-jinja`, `-nkvo`: only options without a value have them
    arity: int = 0
    envs: tuple[str, ...] = ()
    hint: str = ""
    help: str = ""

    @property
    def canonical(self) -> str:
        """The last positive spelling: the one that a child's command line carries, and the option's identity."""
        return self.names[-1]

    @property
    def negative_envs(self) -> tuple[str, ...]:
        """`LLAMA_ARG_NO_X`: understood for every option with negative spellings, though never printed."""
        if not self.negatives:
            return ()
        return tuple(_NO_ENV_PREFIX + env.removeprefix(_ENV_PREFIX) for env in self.envs if env.startswith(_ENV_PREFIX))

    @property
    def removed(self) -> bool:
        """llama-server knows the option only to say that it is no more."""
        return "argument has been removed" in self.help


class Match(Struct, frozen=True):
    """An option, and whether it was named by a negative spelling."""

    option: Option
    negated: bool


class Given(Struct, frozen=True, kw_only=True):
    """An option as somebody wrote it. `on`: the truth of an option without a value; `values`: those of the others."""

    option: Option
    values: tuple[str, ...] = ()
    on: bool = True
    written: str  # the spelling that was used
    origin: str  # `command line`, `environment LLAMA_ARG_CTX_SIZE`, `presets/demo.ini:12`


class OptionTable:
    """Options by each of their spellings. Immutable."""

    def __init__(self, options: Iterable[Option]) -> None:
        self.options: tuple[Option, ...] = tuple(options)
        self._by_spelling: dict[str, Match] = {}
        self._by_env: dict[str, Match] = {}
        for option in self.options:
            for name in option.negatives:
                self._by_spelling[name] = Match(option, True)
            for name in option.names:
                self._by_spelling[name] = Match(option, False)
        for option in self.options:
            for env in option.negative_envs:
                self._by_env.setdefault(env, Match(option, True))
        for option in self.options:  # printed names last: LLAMA_ARG_NO_HOST is an option of its own
            for env in option.envs:
                self._by_env[env] = Match(option, False)
        self._by_key = {spelling.lstrip("-"): match for spelling, match in self._by_spelling.items()}

    @classmethod
    def parse(cls, help_text: str) -> OptionTable:
        """The table of a `--help` text; empty where the text is not llama-server's."""
        return cls(_options_of(help_text))

    def find(self, spelling: str) -> Match | None:
        """The option of a command line's spelling, dashes included; long ones may have `_` for `-`."""
        match = self._by_spelling.get(spelling)
        if match is None and spelling.startswith("--"):
            match = self._by_spelling.get(spelling.replace("_", "-"))
        return match

    def find_key(self, key: str) -> Match | None:
        """The option of an INI key: a spelling without its dashes, or an environment name."""
        match = self._by_env.get(key) or self._by_key.get(key)
        if match is None and "_" in key:
            match = self._by_key.get(key.replace("_", "-"))
        return match

    def find_env(self, name: str) -> Match | None:
        """The option of an environment variable."""
        return self._by_env.get(name)

    def find_option(self, option: Option) -> Option | None:
        """This table's own version of an option of another table: the one that shares a positive spelling."""
        for name in reversed(option.names):
            match = self._by_spelling.get(name)
            if match is not None and not match.negated:
                return match.option
        return None

    def nearest(self, name: str) -> str | None:
        """The real spelling that a mistyped one probably meant: with dashes if `name` has them, else as a key."""
        wanted = name.replace("_", "-").lower()
        if name.startswith("-"):
            found = difflib.get_close_matches(wanted, self._by_spelling, n=1, cutoff=0.7)
        elif name.startswith(_ENV_PREFIX):
            found = difflib.get_close_matches(name, self._by_env, n=1, cutoff=0.7)
        else:
            found = difflib.get_close_matches(wanted, self._by_key, n=1, cutoff=0.7)
        return found[0] if found else None


def _options_of(help_text: str) -> list[Option]:
    heads: list[tuple[str, list[str]]] = []
    for line in help_text.splitlines():
        if line.startswith("-") and not line.startswith("-----"):
            # A head that fits leaves two blanks at least before the text.
            fits = line[_TEXT_COLUMN - 2 : _TEXT_COLUMN] == "  "
            head, text = (line[:_TEXT_COLUMN], line[_TEXT_COLUMN:]) if fits else (line, "")
            heads.append((head.rstrip(), [text]))
        elif heads and line.startswith(" "):
            heads[-1][1].append(line.strip())
    return [_option_of(head, " ".join(part for part in text if part)) for head, text in heads]


def _option_of(head: str, text: str) -> Option:
    spellings: list[str] = []
    at = 0
    while (match := _SPELLING.match(head, at)) is not None:
        spellings.append(match[1])
        at = match.end()
        if not match[2]:
            break
    hint = head[at:].strip()
    first_negative = _first_negative(spellings)
    arity = 0 if not hint else 2 if _TWO_VALUES.fullmatch(hint) else 1
    return Option(
        names=tuple(spellings[:first_negative]),
        negatives=tuple(spellings[first_negative:]),
        arity=arity,
        envs=tuple(_ENV.findall(text)),
        hint=hint,
        help=_ENV.sub("", text).strip(),
    )


def _first_negative(spellings: Sequence[str]) -> int:
    """Negatives follow the last long spelling that is not a `--no-`; an option of nothing but those is positive."""
    if not any(name.startswith("--no-") for name in spellings):
        return len(spellings)
    positives = [i for i, name in enumerate(spellings) if name.startswith("--") and not name.startswith("--no-")]
    return positives[-1] + 1 if positives else len(spellings)


def split_argv(argv: Sequence[str], own: OptionTable, engine: OptionTable) -> tuple[Given, ...]:
    """What a command line says, in its order, by `own` options first and then by the engine's.

    `--opt=value` is understood for long spellings. Raises UsageError, in one line, for an option that neither table
    knows (with the nearest real one), a missing value, a value too many and a stray word.
    """
    given: list[Given] = []
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        spelling, equals, attached = word.partition("=") if word.startswith("--") else (word, "", "")
        match = own.find(spelling) or engine.find(spelling)
        if match is None:
            raise UsageError(_unknown(word, spelling, own, engine))
        option = match.option
        if equals:
            if option.arity != 1:
                wants = "two values, apart" if option.arity else f"no value{_or_negative(match)}"
                raise UsageError(f"{word}: {spelling} takes {wants}")
            values: tuple[str, ...] = (attached,)
        else:
            values = tuple(_value(rest, spelling, option, own, engine) for _ in range(option.arity))
        given.append(Given(option=option, values=values, on=not match.negated, written=spelling, origin=COMMAND_LINE))
    return tuple(given)


def _value(rest: list[str], spelling: str, option: Option, own: OptionTable, engine: OptionTable) -> str:
    if not rest:
        raise UsageError(f"{spelling} needs a value: {spelling} {option.hint}")
    value = rest.pop()
    if own.find(value) or engine.find(value):
        joined = f"; where {value} is meant as the value: {spelling}={value}" if spelling.startswith("--") else ""
        raise UsageError(f"{spelling} needs a value ({option.hint}), but {value} follows{joined}")
    return value


def _unknown(word: str, spelling: str, own: OptionTable, engine: OptionTable) -> str:
    if not word.startswith("-") or word == "-":
        return f"unexpected argument {word!r}: every setting has a name, as in --models-dir PATH (see lr serve --help)"
    candidates = [name for name in (own.nearest(spelling), engine.nearest(spelling)) if name is not None]
    # Of two that are equally near (`--prot`: --port, --prio) the one of ours, which stands first.
    best = max(candidates, key=lambda name: difflib.SequenceMatcher(None, spelling, name).ratio(), default=None)
    hint = f"; did you mean {best}?" if best else " (neither lr nor this llama-server knows it; see lr serve --help)"
    return f"unknown option {spelling}{hint}"


def _or_negative(match: Match) -> str:
    negatives = match.option.negatives
    return f" (its opposite is {negatives[-1]})" if negatives and not match.negated else ""
