"""The values of our own options: from the command line, else from the environment, else from `config.ini`, else a
default.

Each reader says in one line what is wrong with a value, naming the spelling or the variable that it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.flags import Given, boolean_of
from llamarouter.core.model import Skipped
from llamarouter.core.own_options import OWN_TABLE, SHARED
from llamarouter.core.sizes import bytes_of

_MAX_SECONDS = 1e9
_MAX_BYTES = 1 << 50
_OPTIONS = {name: option for option in OWN_TABLE.options for name in option.names}


class Said(Struct, frozen=True):
    """One value as somebody wrote it."""

    where: str  # for messages: the spelling or the variable
    text: str
    from_environment: bool


class OwnValues:
    """The values of our own options: from the command line, else from the environment, else from `config.ini`."""

    def __init__(
        self,
        own: Sequence[Given],
        environ: Mapping[str, str],
        warnings: list[Skipped],
        config: Sequence[Given] = (),
    ) -> None:
        self._environ = environ
        self._config = {given.option.canonical: given for given in config}
        self._given: dict[str, list[Given]] = {}
        self._places = {given.option.canonical: place for place, given in enumerate(own)}
        for given in own:
            name = given.option.canonical
            said = self._given.setdefault(name, [])
            # Of what is shared with the children it is said where their options are taken.
            if said and name not in SHARED and (reason := _repetition(said[-1], given)) is not None:
                warnings.append(Skipped(given.origin, reason))
            said.append(given)

    def of(self, name: str) -> list[tuple[str, str]]:
        """All values of an option, each with what the operator must be told where it is wrong."""
        option = _OPTIONS[name]
        beneath = self._config.get(option.canonical)
        found = [(beneath.written, beneath.values[0])] if beneath is not None and beneath.values else []
        found += [(env, self._environ[env]) for env in option.envs if self._environ.get(env)]
        found += [(each.written, each.values[0]) for each in self._given.get(option.canonical, ()) if each.values]
        return found

    def last_of(self, name: str) -> Said | None:
        """The value that holds; None where the option is nowhere."""
        found = self.of(name)
        if not found:
            return None
        where, text = found[-1]
        return Said(where, text, from_environment=_OPTIONS[name].canonical not in self._given)

    def written(self, name: str) -> str:
        """How an option was said, for messages."""
        found = self.of(name)
        return found[-1][0] if found else name

    def place_of(self, name: str) -> int:
        """Where on the command line an option stands last, counted in options; -1: not there."""
        return self._places.get(name, -1)

    def text(self, name: str) -> str | None:
        found = self.of(name)
        if not found:
            return None
        where, text = found[-1]
        if not text.strip():
            raise UsageError(f"{where} is empty")
        return text

    def truth(self, name: str, default: bool) -> bool:
        said = self.truth_if_said(name)
        return default if said is None else said

    def truth_if_said(self, name: str) -> bool | None:
        option = _OPTIONS[name]
        if (given := self._given.get(option.canonical)) is not None:
            return given[-1].on
        if any(env in self._environ for env in option.negative_envs):
            return False
        for where, text in self.of(name):
            truth = boolean_of(text)
            if truth is None:
                raise UsageError(f"{where} must be on or off, not {text!r}")
            return truth
        beneath = self._config.get(option.canonical)
        return None if beneath is None else beneath.on

    def integer(self, name: str, default: int, low: int = -(2**31), high: int = 2**31 - 1) -> int:
        for where, text in self.of(name)[-1:]:
            try:
                number = int(text, 10)
            except ValueError:
                raise UsageError(f"{where} must be a whole number, not {text!r}") from None
            if not low <= number <= high:
                raise UsageError(f"{where} must be from {low} to {high}, not {number}")
            return number
        return default

    def seconds(self, name: str, default: float, *, may_be_zero: bool = False) -> float:
        for where, text in self.of(name)[-1:]:
            try:
                number = float(text)
            except ValueError:
                number = math.nan
            if math.isnan(number) or number < 0 or number > _MAX_SECONDS or (number == 0 and not may_be_zero):
                least = "0 or more" if may_be_zero else "more than 0"
                raise UsageError(f"{where} must be a number of seconds, {least}, not {text!r}")
            return number
        return default

    def size(self, name: str, default: int, low: int) -> int:
        """A number of bytes."""
        for where, text in self.of(name)[-1:]:
            number = bytes_of(text)
            if number is None or not low <= number <= _MAX_BYTES:
                least = f"{low >> 20}M or more"
                raise UsageError(f"{where} must be a number of bytes, {least} (as in 512M or 2G), not {text!r}")
            return number
        return default

    def word(self, name: str, default: str, choices: Sequence[str]) -> str:
        text = self.text(name)
        if text is None:
            return default
        if text.lower() not in choices:
            raise UsageError(f"{self.written(name)} must be one of {', '.join(choices)}, not {text!r}")
        return text.lower()


def _repetition(before: Given, given: Given) -> str | None:
    """What is said where an option of ours stands twice; keys add up."""
    if given.option.canonical == "--api-key" or (given.option.arity == 0 and before.on is given.on):
        return None
    if before.written == given.written:
        return f"{given.written} is given twice: the last one holds"
    return f"{before.written} is said again by {given.written}, which holds"
