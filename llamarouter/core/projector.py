"""What a projector needs: its weights, and a graph over the patches of one picture (or the frames of a sound).

Fitted to what build b11434 reserves for the vision tower of Gemma 3. Towers that take pictures of any size may need
more than their header tells.
"""

from __future__ import annotations

from collections.abc import Callable

from llamarouter.core.gguf import read_contents
from llamarouter.core.shape import SHAPE_KEYS, Keys

_FLOAT = 4
_FRAMES = 1500  # of thirty seconds of sound
_STREAMS = 3  # vectors of the tower's width that live beside the feed-forward part


def projector_bytes(read: Callable[[int, int], bytes], size: int) -> int:
    """Weights and graph of the projector in this file. Raises GgufError."""
    weights: list[int] = []
    contents = read_contents(
        read, size, also=SHAPE_KEYS, on_tensor=lambda _name, n_bytes, _type: weights.append(n_bytes)
    )
    keys = Keys(contents)
    return sum(weights) + max(_graph(keys, "vision", _patches(keys)), _graph(keys, "audio", _FRAMES))


def _graph(keys: Keys, tower: str, steps: int) -> int:
    width = keys.number(f"{tower}.feed_forward_length") + _STREAMS * keys.number(f"{tower}.embedding_length")
    return steps * width * _FLOAT


def _patches(keys: Keys) -> int:
    patch = keys.number("vision.patch_size")
    return (keys.number("vision.image_size") // patch) ** 2 if patch else 0
