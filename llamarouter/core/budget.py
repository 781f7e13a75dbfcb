"""How much of each device the models may take together: `--memory-budget` and `--memory-reserve`.

    "80%"  "20GiB"  "CUDA0=20GiB,CUDA1=50%,Host=32GiB"  "80%,Host=16GiB"    text -> Allowance
    both + the devices that there are                                       -> budget and reserve of each, in bytes

A figure without a name is meant for every GPU by itself; where there is none, for `Host`. The budget is what the
models may hold; the reserve is what must stay free of what there is. Where neither is said, a margin of 1 GiB (a
tenth, on small devices) is kept: estimates err, and drivers take memory that nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.footprint import HOST
from llamarouter.core.model import Skipped
from llamarouter.core.own_values import OwnValues
from llamarouter.core.sizes import bytes_of

_BUDGET = "--memory-budget"
_RESERVE = "--memory-reserve"
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) *%")
_LEAST = 1 << 20  # bytes; a smaller figure lacks its unit
_MARGIN = 1 << 30
_SIZES = "bytes with a unit (8GiB, 500MB) or a percentage (80%)"


class Amount(Struct, frozen=True):
    """A number of bytes, or a share of what a device has."""

    bytes: int | None = None
    percent: float | None = None

    def of(self, total: int) -> int:
        """In bytes, of a device with so many."""
        return self.bytes if self.bytes is not None else int(total * (self.percent or 0.0) / 100)

    def is_at_least(self, other: Amount) -> bool:
        """Whether it is as much as the other on any device; False where that hangs on the device."""
        if self.bytes is not None and other.bytes is not None:
            return self.bytes >= other.bytes
        if self.percent is not None and other.percent is not None:
            return self.percent >= other.percent
        return False

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent is not None else f"{(self.bytes or 0) / _MARGIN:.4g} GiB"


class Allowance(Struct, frozen=True):
    """One of the two options. `names` are as somebody wrote them; `where`: how he said it, for messages."""

    where: str
    everywhere: Amount | None = None  # of each GPU that has no word of its own; without a GPU, of Host
    names: tuple[tuple[str, Amount], ...] = ()

    def of(self, device: str, *, plain: bool) -> Amount | None:
        """What is said of a device; `plain`: whether a figure without a name is meant for it."""
        for name, amount in self.names:
            if name.casefold() == device.casefold():
                return amount
        return self.everywhere if plain else None


class Share(Struct, frozen=True):
    """What the operator leaves of one device, in bytes. `budget` None: all of it."""

    budget: int | None
    reserve: int


class Budgets(Struct, frozen=True):
    """Both options together."""

    budget: Allowance = Allowance(_BUDGET)
    reserve: Allowance = Allowance(_RESERVE)

    @property
    def written(self) -> tuple[str, ...]:
        """How the options were said that were said at all."""
        return tuple(each.where for each in (self.budget, self.reserve) if each.everywhere or each.names)

    def shares(self, totals: Mapping[str, int]) -> dict[str, Share]:
        """By device, of these totals. What contradicts a device counts as not said: see `problems`."""
        return {name: self._share(name, total, plain=_is_meant(name, totals)) for name, total in totals.items()}

    def said(self, totals: Mapping[str, int]) -> frozenset[str]:
        """The devices of which the operator has said something."""
        of = {name: self._amounts(name, plain=_is_meant(name, totals)) for name in totals}
        return frozenset(name for name, amounts in of.items() if amounts != (None, None))

    def problems(self, totals: Mapping[str, int]) -> list[Skipped]:
        """What cannot be meant, now that the devices are known: a line each. Everything else holds."""
        found = []
        for allowance in (self.budget, self.reserve):
            for name, amount in allowance.names:
                device = next((each for each in totals if each.casefold() == name.casefold()), None)
                if device is None:
                    found.append(
                        Skipped(f"{allowance.where} {name}={amount}", f"no such device; there is {', '.join(totals)}")
                    )
                elif amount.of(totals[device]) > totals[device]:
                    reason = f"{device} has {_gib(totals[device])} in all"
                    found.append(Skipped(f"{allowance.where} {name}={amount}", reason))
        for name, total in totals.items():
            budget, reserve = self._amounts(name, plain=_is_meant(name, totals))
            if reserve is not None and reserve.of(total) >= min(total, budget.of(total) if budget else total):
                left = f"of the budget of {budget}" if budget is not None else f"of {_gib(total)}"
                reason = f"{reserve} of {name} in reserve leaves nothing {left}; the reserve is not kept"
                found.append(Skipped(self.reserve.where, reason))
        return found

    def _amounts(self, name: str, *, plain: bool) -> tuple[Amount | None, Amount | None]:
        return self.budget.of(name, plain=plain), self.reserve.of(name, plain=plain)

    def _share(self, name: str, total: int, *, plain: bool) -> Share:
        said, kept = self._amounts(name, plain=plain)
        budget = None if said is None else min(said.of(total), total)
        if kept is None:
            return Share(budget, 0 if said is not None else min(_MARGIN, total // 10))
        reserve = kept.of(total)
        return Share(budget, reserve if reserve < (total if budget is None else budget) else 0)


def budgets_of(values: OwnValues) -> Budgets:
    """The two options as the operator gave them. Raises UsageError, in one line."""
    budget, reserve = allowance_of(values, _BUDGET), allowance_of(values, _RESERVE)
    for name in (None, *(name for name, _ in budget.names)):
        most = budget.everywhere if name is None else budget.of(name, plain=True)
        least = reserve.everywhere if name is None else reserve.of(name, plain=False)
        if most is not None and least is not None and least.is_at_least(most):
            of = "" if name is None else f" of {name}"
            raise UsageError(f"{reserve.where}: {least}{of} in reserve leaves nothing of the {most} of {budget.where}")
    return Budgets(budget, reserve)


def allowance_of(values: OwnValues, option: str) -> Allowance:
    """One of the options. Raises UsageError, in one line."""
    said = values.last_of(option)
    if said is None:
        return Allowance(option)
    return parse_allowance(said.where, said.text, may_be_zero=option == _RESERVE)


def parse_allowance(where: str, text: str, *, may_be_zero: bool) -> Allowance:
    """`AMOUNT`, `DEVICE=AMOUNT`, or several of them by commas, at most one without a name. Raises UsageError."""
    everywhere: Amount | None = None
    names: dict[str, tuple[str, Amount]] = {}
    for part in text.split(","):
        name, equals, size = (word.strip() for word in part.rpartition("="))
        if not part.strip():
            raise UsageError(f"{where} {text!r}: something is missing at a comma; as in CUDA0=20GiB,Host=32GiB")
        if equals and not name:
            raise UsageError(f"{where} {part.strip()!r}: a device is missing before the =, as in CUDA0=20GiB")
        amount = _amount_of(where, size, may_be_zero=may_be_zero)
        if name.casefold() in names or (not name and everywhere is not None):
            raise UsageError(f"{where} {text!r}: {name or 'every device'} is given twice")
        if name:
            names[name.casefold()] = (name, amount)
        else:
            everywhere = amount
    return Allowance(where, everywhere, tuple(names.values()))


def _amount_of(where: str, text: str, *, may_be_zero: bool) -> Amount:
    if (share := _PERCENT.fullmatch(text)) is not None:
        percent = float(share[1])
        if percent > 100:
            raise UsageError(f"{where} {text}: more than 100% of a device is not there")
        if may_be_zero and percent == 100:
            raise UsageError(f"{where} {text}: leaves nothing for any model; it takes {_SIZES}")
        amount = Amount(percent=percent)
    else:
        size = bytes_of(text)
        if size is None:
            raise UsageError(f"{where}: {text!r} is no amount of memory; it takes {_SIZES}, as in CUDA0=20GiB,Host=50%")
        if 0 < size < _LEAST:
            raise UsageError(f"{where}: {text} is less than a MiB: give {_SIZES}")
        amount = Amount(bytes=size)
    if not may_be_zero and not (amount.bytes or amount.percent):
        raise UsageError(f"{where} {text}: leaves nothing for any model; it takes {_SIZES}")
    return amount


def _is_meant(name: str, totals: Mapping[str, int]) -> bool:
    """Whether a figure without a name is meant for the device."""
    return name != HOST or len(totals) == 1


def _gib(size: int) -> str:
    return f"{size / _MARGIN:.4g} GiB"
