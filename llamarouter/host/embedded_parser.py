"""The embedded engine's options, read by the parser that is compiled into the wheel.

The wheel offers its parameters as attributes and no parser; but it exports llama.cpp's own
(`common_params_parse`, `common/arg.h`), a C++ function that ctypes can call by its mangled name:

    argv -> parse(params, argv) -> params filled; what is wrong goes to stderr as llama-server says it

It needs the address of the C++ object inside the Python one, and the number of an enumerator: neither is a promise
of the wheel. So `wheel_parser` first tries both in a forked process, on an option whose effect can be read back;
a wheel that is built differently is found there, by an answer or by a crash, and costs nothing here.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from xllamacpp import xllamacpp as extension

# bool common_params_parse(int, char **, common_params &, llama_example, void (*)(int, char **))
_SYMBOL = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
# LLAMA_EXAMPLE_SERVER in `enum llama_example` (common/common.h): which program's options are meant.
_EXAMPLE_SERVER = 12
# Only llama-server has this option, so that reading it back proves the enumerator, too.
_PROBE = ("--threads-http", "37")
_PROBE_SECONDS = 5

Parse = Callable[[Any, Sequence[str]], bool]


def wheel_parser() -> Parse | None:
    """The wheel's own parser, tried out; None if this wheel's cannot be called.

    `parse(params, argv)` (argv without the program's name) fills a `CommonParams` and returns False, with the
    reason on stderr, for options that it does not know or cannot read. `--help` and the like print and end the process.
    """
    offset = _offset_of_parameters()
    if offset is None:
        return None
    try:
        function = getattr(ctypes.CDLL(extension.__file__), _SYMBOL)
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_bool
    function.argtypes = (
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
    )

    def parse(params: Any, argv: Sequence[str]) -> bool:
        words = [b"llama-server", *(os.fsencode(word) for word in argv)]
        array = (ctypes.c_char_p * (len(words) + 1))(*words, None)
        return bool(function(len(words), array, id(params) + offset, _EXAMPLE_SERVER, None))

    return parse if _works(parse) else None


def _offset_of_parameters() -> int | None:
    """Bytes from the Python object to the C++ `common_params` inside it, whose first member is `n_predict`."""
    params = extension.CommonParams()
    mark = 0x5A17C0DE
    params.n_predict = mark
    content = ctypes.string_at(id(params), type(params).__basicsize__)
    offset = content.find(mark.to_bytes(4, "little"))
    return offset if offset == object.__basicsize__ else None


def _works(parse: Parse) -> bool:
    """Whether the parser understands a known option; tried in a fork, as a wrong guess may well crash."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(_PROBE_SECONDS)
        params = extension.CommonParams()
        right = parse(params, _PROBE) and params.n_threads_http == int(_PROBE[1])
        os._exit(0 if right else 1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0
