"""Which layers of a model see a sliding window alone, and how wide it is.

An array in the header says it layer by layer. Otherwise it is every n-th layer that sees everything, with the n of the
architecture (`load_swa_pattern` in `src/models/*.cpp`, build b11434). Architectures that are not named here see
everything, whatever their header says of a window: so the engine has it (phi3, mistral, qwen2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

_WINDOW = "attention.sliding_window"
_PATTERN = "attention.sliding_window_pattern"


class Rule(Struct, frozen=True):
    """`period`: of so many layers one sees everything, the last (or the first: `dense_first`); 0: none does."""

    period: int
    dense_first: bool = False
    window: int = 0  # tokens, where the header does not say
    layers: int | None = None  # only models of so many layers have one


_RULES: Mapping[str, Rule] = {
    "afmoe": Rule(4),
    "cohere2": Rule(4),
    "cohere2moe": Rule(4, dense_first=True),
    "deepseek4": Rule(0),
    "exaone-moe": Rule(4, window=128),
    "exaone4": Rule(4, window=4096, layers=64),
    "gemma-embedding": Rule(6),
    "gemma2": Rule(2, window=4096),
    "gemma3": Rule(6),
    "gemma3n": Rule(5),
    "gpt-oss": Rule(2),
    "laguna": Rule(4, dense_first=True),
    "lfm2": Rule(0),
    "lfm2moe": Rule(0),
    "llama4": Rule(4, window=8192),
    "mellum": Rule(4),
    "modern-bert": Rule(3, dense_first=True),
    "muse-glimmer": Rule(4),
    "olmo2": Rule(4),
    "plamo3": Rule(8),
    "smallthinker": Rule(4, dense_first=True, window=4096),
}


def windows_of(architecture: str, n_layer: int, each: Callable[[str], tuple[int, ...]]) -> tuple[int, tuple[bool, ...]]:
    """The window in tokens (0: there is none), and whether each layer sees that alone. `each`: the numbers of a key."""
    rule = _RULES.get(architecture)
    pattern, said = each(_PATTERN), each(_WINDOW)
    everything = (0, (False,) * n_layer)
    if rule is not None and rule.layers not in (None, n_layer):
        return everything
    window = said[0] if said else rule.window if rule is not None else 0
    if architecture == "llama4" and window:
        window = 8192  # whatever the header says
    if window <= 0:
        return everything
    if len(pattern) > 1:
        return window, tuple(bool(pattern[layer]) if layer < len(pattern) else False for layer in range(n_layer))
    if rule is None:
        return everything
    period = pattern[0] if pattern else rule.period
    return window, tuple(_is_windowed(layer, period, rule.dense_first) for layer in range(n_layer))


def _is_windowed(layer: int, period: int, dense_first: bool) -> bool:
    """`llama_hparams::set_swa_pattern`."""
    if period <= 0:
        return True
    return layer % period != 0 if dense_first else layer % period < period - 1
