"""One option of `lr serve` as its row says it: spellings, value, environment name, default, and what it is for."""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.flags import Option

LISTEN = "Listening"


class OwnOption(Struct, frozen=True):
    """One row. `default` is for people; the value itself is the field's in `Settings`.

    `shared`: the router reads it and every child gets it as well, where its engine knows it.
    """

    group: str
    option: Option
    default: str = ""
    shared: bool = False


def row(
    group: str,
    spellings: str,
    hint: str,
    env: str,
    default: str,
    text: str,
    *,
    negatives: str = "",
    shared: bool = False,
) -> OwnOption:
    """A row; `hint`: what the value is, empty where the option takes none."""
    option = Option(
        names=tuple(spellings.split()),
        negatives=tuple(negatives.split()),
        arity=1 if hint else 0,
        envs=tuple(env.split()),
        hint=hint,
        help=text,
    )
    return OwnOption(group, option, default, shared)
