"""What a llama-server takes beside its buffers: the program, its vocabulary, and what a driver keeps for each process.

The host's share was measured (build b11434, Linux, as PSS: a model of 0.6 MB, and SmolLM2 with 49,152 tokens; the
embedded engine with both, too). What CUDA takes depends on the card and on the kernels that a model uses: on an H100
(driver 580, CUDA 13) it was 588 to 593 MiB in eight processes that had loaded, and 600 to 702 in those that had
computed (`scripts/check-gpu`). Too much is the safe side: what is learnt from a process that was measured stands above
this guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from llamarouter.core.footprint import HOST, Parts

_MIB = 1 << 20
_PROGRAM = 16 * _MIB
_EMBEDDED = 18 * _MIB  # the interpreter besides
_PER_TOKEN = 160  # bytes of the vocabulary in memory
_DRIVER: Mapping[str, int] = {"CUDA": 600 * _MIB, "ROCm": 400 * _MIB}


def overhead_of(n_vocab: int, devices: Iterable[str], *, embedded: bool = False) -> dict[str, Parts]:
    """On the host, and on each of `devices`: those that hold something of the model."""
    kinds = {device: device.rstrip("0123456789") for device in devices if device != HOST}
    taken = {device: Parts(other=_DRIVER[kind]) for device, kind in kinds.items() if kind in _DRIVER}
    program = _PROGRAM + (_EMBEDDED if embedded else 0)
    return {**taken, HOST: Parts(other=program + _PER_TOKEN * n_vocab)}
