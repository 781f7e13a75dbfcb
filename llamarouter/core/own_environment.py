"""`lr-env`: what a model gets in its environment besides what every child gets.

    lr-env = CUDA_VISIBLE_DEVICES=0,1 GGML_CUDA_GRAPH_OPT=1        words, quoted as in a shell: NAME="two words"

Several lines add up; of one name the last value holds, and a section's own over that of `[*]`. No credential, nothing
that llama.cpp would read as a setting, and nothing that is the router's may be given this way.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from llamarouter.core.child_env import CONFIG_HOME, is_withheld

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a child's environment, and where it was written."""

    name: str
    value: str
    origin: str = field(compare=False)  # `presets/demo.ini:12`


def variables_of(text: str, where: str) -> tuple[Variable, ...] | str:
    """The variables that a value of `lr-env` names, or what is wrong with it, without its words: some may be secret."""
    try:
        words = shlex.split(text)
    except ValueError:
        return "a quote never ends"
    variables = []
    for number, word in enumerate(words, 1):
        name, equals, value = word.partition("=")
        if not equals or not _NAME.fullmatch(name):
            which = f"word {number} ({name!r})" if equals else f"word {number}"
            return f'{which} is not NAME=value (a value with blanks is quoted: NAME="a b")'
        if (reason := _refusal_of(name, value)) is not None:
            return f"{name} {reason}"
        variables.append(Variable(name, value, where))
    return tuple(variables) if variables else "it needs NAME=value"


def over(beneath: Iterable[Variable], above: Iterable[Variable]) -> tuple[Variable, ...]:
    """Both together, by name; of one name the one above holds."""
    merged = {each.name: each for each in (*beneath, *above)}
    return tuple(merged[name] for name in sorted(merged))


def _refusal_of(name: str, value: str) -> str | None:
    if name.startswith("LLAMA_ARG_"):
        return "is an option: write it as a key of its own, without lr-env"
    if name == CONFIG_HOME:
        return "is the router's own: it names the folder in which llama.cpp looks for its config.ini"
    if is_withheld(name, value):
        return "is kept from models: a credential, a proxy, or a name of the router, of llama.cpp or of the Hub"
    return None
