"""A launch: everything a child is started with, each flag with the place it came from. Nothing is spawned that
could not have been printed first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llamarouter.core.own_environment import Variable

DEFAULT_ORIGIN = "llamarouter (default)"
FORCED_ORIGIN = "llamarouter (always)"  # nobody can say otherwise
_SECRET_OPTIONS = frozenset({"--hf-token", "--api-key", "--mcp-servers-json"})


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of a child, as it stands on its command line."""

    option: str  # `--ctx-size`, `--no-warmup`
    values: tuple[str, ...]
    # `presets/demo.ini:12`, `command line`, `environment LLAMA_ARG_CTX_SIZE`. Not compared: who adds a comment at the
    # top of a preset moves every line below, and starts no child anew.
    origin: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Launch:
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
