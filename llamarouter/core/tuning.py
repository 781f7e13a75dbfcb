"""What the operator has said himself of where a model goes: `device`, `n-gpu-layers`, `tensor-split` and their like.

    flags of the launch -> fixed_of -> Fixed

Some words leave a choice: `-ngl 99` wants all layers on GPUs and not which, `device` which and not how many. A word
on the split, on single tensors, or on `fit` settles it: then nothing is added to what he wrote.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from llamarouter.core.flags import boolean_of
from llamarouter.core.launch import Flag

_SETTLED = frozenset(
    {
        "--tensor-split",
        "--main-gpu",
        "--split-mode",
        "--override-tensor",
        "--cpu-moe",
        "--n-cpu-moe",
        "--n-cpu-ffn",
        "--rpc",
    }
)
# Whoever tunes the fitting wants it.
_FITTING = frozenset({"--fit-target", "--fit-ctx"})


class Fixed(Struct, frozen=True, kw_only=True):
    """What is fixed. `exactly`: nothing is left to choose."""

    exactly: bool = False
    devices: tuple[str, ...] | None = None  # `--device`; empty: none
    layers: int | None = None  # `--n-gpu-layers`
    whole: bool = False  # he has said how many layers: none is taken off
    fit: bool = False  # llama-server may shrink what does not fit


def fixed_of(flags: Iterable[Flag]) -> Fixed:
    """What a launch fixes."""
    said = {flag.option: flag.values for flag in flags}
    devices = _devices_of(said.get("--device"))
    layers = said.get("--n-gpu-layers")
    fit = _wants_fit(said.get("--fit")) or not _FITTING.isdisjoint(said)
    return Fixed(
        exactly=fit or not _SETTLED.isdisjoint(said) or (devices is not None and len(devices) > 1),
        devices=devices,
        layers=_number(layers),
        whole=layers is not None and layers[:1] != ("auto",),
        fit=fit,
    )


def _devices_of(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if not values:
        return None
    names = tuple(name for part in values[0].split(",") if (name := part.strip()))
    return () if names == ("none",) else names or None


def _number(values: tuple[str, ...] | None) -> int | None:
    """A number of layers; `auto`, `all` and negative ones mean all."""
    text = values[0].strip() if values else ""
    return int(text) if text.isdecimal() else None


def _wants_fit(values: tuple[str, ...] | None) -> bool:
    """`--fit` alone, or `--fit on`."""
    return values is not None and (not values or boolean_of(values[0]) is not False)
