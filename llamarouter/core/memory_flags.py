"""Which options of a child decide what it holds, and what they say.

    flags of a launch, the engine's table -> Said: `--ctx-size` -> ("8192",), by any spelling of any build
                                          -> memory_key: the same for two launches that need the same
                                          -> arguments_for: what another program is told of it

Names stand as llama-server has them (build b11434), older ones beside them; an option that an engine does not have is
never said. What is not named here (sampling, templates, threads, the network) changes nothing that is worth a byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from llamarouter.core.flags import OptionTable
from llamarouter.core.launch import Flag

# What `llama-fit-params` is told as it is. The slots are not among them: it has its own idea of them.
FOR_FIT = frozenset(
    {
        "--batch-size",
        "--cache-type-k",
        "--cache-type-v",
        "--cpu-moe",
        "--ctx-size",
        "--device",
        "--direct-io",
        "--flash-attn",
        "--kv-offload",
        "--lazy-mode",
        "--load-mode",
        "--main-gpu",
        "--mlock",
        "--mmap",
        "--model",
        "--n-cpu-ffn",
        "--n-cpu-moe",
        "--n-gpu-layers",
        "--no-host",
        "--op-offload",
        "--override-kv",
        "--override-tensor",
        "--repack",
        "--rpc",
        "--split-mode",
        "--swa-full",
        "--tensor-split",
        "--ubatch-size",
    }
)
# What the router reckons itself, or what only tells two launches apart.
_FOR_US = frozenset(
    {
        "--cache-ram",
        "--control-vector",
        "--control-vector-scaled",
        "--ctx-checkpoints",
        "--embeddings",
        "--fit",
        "--fit-ctx",
        "--fit-target",
        "--image-max-tokens",
        "--image-min-tokens",
        "--kv-unified",
        "--kv-unified-per-slot",
        "--lora",
        "--lora-scaled",
        "--mmproj",
        "--mmproj-auto",
        "--mmproj-device",
        "--mmproj-offload",
        "--mtmd-batch-max-tokens",
        "--parallel",
        "--pooling",
        "--reranking",
        "--spec-draft-cpu-moe",
        "--spec-draft-device",
        "--spec-draft-model",
        "--spec-draft-n-cpu-moe",
        "--spec-draft-n-max",
        "--spec-draft-ngl",
        "--spec-draft-override-tensor",
        "--spec-draft-type-k",
        "--spec-draft-type-v",
        "--spec-type",
    }
)
MEMORY_FLAGS = FOR_FIT | _FOR_US


class Value(Struct, frozen=True):
    """What was said of one option."""

    on: bool  # False: by a negative spelling
    values: tuple[str, ...]
    flag: Flag


class Said:
    """What a launch says of the options that matter, by the names of this module."""

    def __init__(self, flags: Iterable[Flag], table: OptionTable) -> None:
        self.table = table
        self._said: dict[str, Value] = {}
        for flag in flags:
            match = table.find(flag.option)
            if match is None:
                continue
            for name in match.option.names:
                if name in MEMORY_FLAGS:
                    self._said[name] = Value(not match.negated, flag.values, flag)

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return iter(sorted(self._said.items()))

    def text(self, name: str) -> str | None:
        """The value of an option; None where nothing was said."""
        value = self._said.get(name)
        return value.values[0] if value is not None and value.values else None

    def number(self, name: str) -> int | None:
        """The same as a whole number; None, too, for what is none."""
        text = self.text(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def truth(self, name: str, default: bool) -> bool:
        """Of an option without a value."""
        value = self._said.get(name)
        return default if value is None else value.on


def memory_key(said: Said) -> tuple[str, ...]:
    """What two launches of the same files, engine and devices must have in common to need the same."""
    return tuple(
        f"{name}{'' if value.on else '!'}" + "".join(f"\0{each}" for each in value.values) for name, value in said
    )


def arguments_for(said: Said, table: OptionTable, *, without: Iterable[str] = ()) -> list[str]:
    """What a program with this table is told of the launch, in its own spellings; `without`: options that are not."""
    words: list[str] = []
    left_out = frozenset(without)
    for name, value in said:
        if name not in FOR_FIT or name in left_out:
            continue
        match = table.find(name)
        if match is None or match.option.arity != len(value.values):
            continue
        option = match.option
        spelling = option.canonical if value.on else option.negatives[-1] if option.negatives else None
        if spelling is not None:
            words += [spelling, *value.values]
    return words
