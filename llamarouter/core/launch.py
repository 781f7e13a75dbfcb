"""A launch: everything a child is started with, each flag with the place it came from. Nothing is spawned that
could not have been printed first.
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.own_environment import Variable

DEFAULT_ORIGIN = "llamarouter (default)"
FORCED_ORIGIN = "llamarouter (always)"  # nobody can say otherwise
_SECRET_OPTIONS = frozenset({"--hf-token", "--api-key", "--mcp-servers-json"})


class Flag(Struct, frozen=True, eq=False):
    """One option of a child, as it stands on its command line."""

    option: str  # `--ctx-size`, `--no-warmup`
    values: tuple[str, ...]
    origin: str  # `presets/demo.ini:12`, `command line`, `environment LLAMA_ARG_CTX_SIZE`

    # The origin is not compared: who adds a comment at the top of a preset moves every line below, and starts no child
    # anew.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flag) and self.option == other.option and self.values == other.values

    def __hash__(self) -> int:
        return hash((self.option, self.values))


class Launch(Struct, frozen=True):
    """How the child of one model is started, but for the binary and where it listens."""

    engine_key: str | None  # the `lr-engine` that it asks for; None: the engine of the router
    flags: tuple[Flag, ...]  # in llama-server's order
    variables: tuple[Variable, ...] = ()  # of its environment, besides what every child gets
    stop_timeout: float = 10.0  # seconds from the wish that it ends until it is killed

    def argv(self) -> tuple[str, ...]:
        """The arguments, without the binary, `--host` and `--port`."""
        return tuple(word for flag in self.flags for word in (flag.option, *flag.values))

    def environment(self) -> dict[str, str]:
        """What its environment has besides what every child gets."""
        return {each.name: each.value for each in self.variables}


def without_secrets(argv: tuple[str, ...]) -> list[str]:
    """A command line as it may be shown: the values of secret options are starred."""
    shown = []
    hide = False
    for word in argv:
        shown.append("***" if hide else word)
        hide = word in _SECRET_OPTIONS
    return shown
