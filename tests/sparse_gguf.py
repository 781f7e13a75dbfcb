"""GGUF files with the shapes of real models and no weights: a header, and a hole of the right length behind it.

An engine's arithmetic reads the header alone, so that a 70B takes a few hundred kilobytes of the disk. One that is
`spoken` has a vocabulary, too: it loads, reads gigabytes of zeros, and takes the memory of a real one. All its answers
are as likely, and its speed says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from tests.tiny_gguf import add_spm_vocabulary

Value = int | float | bool | str | list[int] | list[bool]

QUANT = gguf.GGMLQuantizationType
BLOCKS = gguf.GGML_QUANT_SIZES
_NUMPY = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}


class Hollow:
    """A GGUF file in the making."""

    def __init__(self, path: Path, architecture: str, *, spoken: bool = False) -> None:
        self.path = path
        self.spoken = spoken
        self.writer = gguf.GGUFWriter(path, architecture)
        self.weights = 0  # bytes of all tensors so far

    def keys(self, values: Mapping[str, Value]) -> None:
        """Keys of the architecture, without its name."""
        for key, value in values.items():
            full = f"{self.writer.arch}.{key}"
            match value:
                case bool():
                    self.writer.add_bool(full, value)
                case int():
                    self.writer.add_uint32(full, value)
                case float():
                    self.writer.add_float32(full, value)
                case str():
                    self.writer.add_string(full, value)
                case list():
                    self.writer.add_array(full, value)

    def vocabulary(self, n_vocab: int) -> None:
        """So many tokens; without a word for any of them an engine can reckon, and answers nothing."""
        self.writer.add_uint32(f"{self.writer.arch}.vocab_size", n_vocab)
        if self.spoken:
            add_spm_vocabulary(self.writer, at_least=n_vocab)
        else:
            self.writer.add_tokenizer_model("no_vocab")

    def tensor(self, name: str, *shape: int, kind: str) -> None:
        """`shape` as ggml has it: the inputs (a row) first."""
        quant = QUANT[kind]
        block, size = BLOCKS[quant]
        elements = 1
        for length in shape:
            elements *= length
        n_bytes = elements // block * size
        self.weights += -(-n_bytes // 32) * 32
        # numpy's order, and for a quantised type the bytes of a row.
        rows = tuple(reversed(shape))
        if kind not in _NUMPY:
            rows = (*rows[:-1], shape[0] // block * size)
        self.writer.add_tensor_info(name, rows, _NUMPY.get(kind, np.dtype(np.uint8)), n_bytes, raw_dtype=quant)

    def finish(self) -> Path:
        """Write the header, and let the file end where the last tensor would."""
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_ti_data_to_file()
        self.writer.close()
        header = -(-os.path.getsize(self.path) // 32) * 32
        os.truncate(self.path, header + self.weights)
        return self.path
