"""`python -m llamarouter.host.embedded ARGS`: the `xllamacpp` wheel as a llama-server process.

A child like any other: llama-server's options, a UNIX socket (`--host X.sock`), the state lines on stdout that it
prints by itself where LLAMA_SERVER_ROUTER_PORT is set, the exit line and the end of its stdin obeyed.

    main thread:     options -> Server(params): loads, listens, prints `ready` -> waits for ever
    control thread:  our stdin -> exit line: end, code 0;  end of file: end, code 1, as llama-server does
                     anything else -> a pipe that the server reads as its own stdin

The server's thread owns file descriptor 0, hence the pipe. The exit line ends the process here and now: it is sent
when no request is inside, or when those inside are to be cut; the server's own shutdown dead-locks, one time in two,
with a stream that still runs, and holds the interpreter's lock meanwhile. While a model loads the lock is free, so
that both ways out work then, too: better than llama-server, which is deaf until it is ready.

It computes on the CPU only. GPU layers are refused by name rather than ignored, as are options nobody knows.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import xllamacpp

from llamarouter.host import embedded_fallback
from llamarouter.host.embedded_parser import wheel_parser

_ROUTER_PORT = "LLAMA_SERVER_ROUTER_PORT"
_EXIT_LINE = b"cmd_router_to_child:exit"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST_LINE = 65536  # bytes; nobody sends more, and what does is not kept
# What `n_gpu_layers` may be without asking for a GPU: -1 is `auto`, the default.
_NO_GPU_LAYERS = (-1, 0)
_DEFAULT_PORT = 8080


def main(argv: Sequence[str]) -> NoReturn:
    if "--version" in argv:
        sys.stderr.write(version_text())
        raise SystemExit(0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an end like SIGTERM's, and no traceback
    is_child = _ROUTER_PORT in os.environ
    if is_child:
        _die_with_parent()
    params = params_of(argv)
    if is_child:
        _obey_stdin()
    server = _serve(params)
    if not is_child:
        sys.stderr.write(f"listening on {server.listening_address}\n")
    while True:
        signal.pause()  # until the control thread, or a signal, ends the process


def version_text() -> str:
    """Like `llama-server --version`; the wheel's own build number is 0, the real one is in the wheel's version."""
    version = importlib.metadata.version("xllamacpp")
    info = xllamacpp.BUILD_INFO
    return (
        f"version: {version.rpartition('.')[2]} (xllamacpp {version})\n"
        f"built with {info['compiler']} for {info['build_target']}\n"
    )


def params_of(argv: Sequence[str]) -> Any:
    """The wheel's parameters for `argv`. Ends the process, code 1, with a line on stderr, for what it cannot do."""
    params = xllamacpp.CommonParams()
    parse = wheel_parser()
    if parse is None:
        sys.stderr.write("warning: this wheel's own option parser cannot be called: only the commonest options work\n")
        parse = embedded_fallback.parse
    if not parse(params, argv):
        _end(1)
    wanted = params.n_gpu_layers, params.speculative.draft.n_gpu_layers
    if any(layers not in _NO_GPU_LAYERS for layers in wanted):
        _fail(f"invalid argument: {_gpu_option(argv)}: the embedded engine computes on the CPU only")
    if not params.model.path:
        _fail("invalid argument: no model (--model FILE): the embedded engine serves one model and fetches none")
    if params.port == 0 and "--port" not in argv:
        params.port = _DEFAULT_PORT
    return params


def _gpu_option(argv: Sequence[str]) -> str:
    for word, value in zip(argv, [*argv[1:], ""], strict=True):
        if word.startswith("-") and ("ngl" in word or "gpu-layers" in word) and value not in ("0", "auto"):
            return f"{word} {value}"
    return "LLAMA_ARG_N_GPU_LAYERS (environment)"


def _serve(params: Any) -> Any:
    try:
        return xllamacpp.Server(params)
    except RuntimeError:
        _end(1)  # why stands in the server's own last lines; a general word after them would only hide it


def _die_with_parent() -> None:
    """Ask Linux for a KILL when the thread that spawned us is gone; elsewhere the end of stdin has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _obey_stdin() -> None:
    """Move stdin away from the server and read it in a thread of ours."""
    control = os.dup(0)
    theirs, ours = os.pipe()
    os.dup2(theirs, 0, inheritable=False)
    os.close(theirs)
    threading.Thread(target=_control, args=(control, ours), name="control", daemon=True).start()


def _control(control: int, server_stdin: int) -> None:
    unfinished = b""
    while received := os.read(control, _LONGEST_LINE):
        *lines, unfinished = (unfinished + received).split(b"\n")
        unfinished = unfinished[-_LONGEST_LINE:]
        for line in lines:
            if _EXIT_LINE in line:
                _end(0)
            os.write(server_stdin, line + b"\n")
    _end(1)


def _fail(reason: str) -> NoReturn:
    sys.stderr.write(f"error: {reason}\n")
    _end(1)


def _end(code: int) -> NoReturn:
    """Leave without the interpreter's clean-up: the server's threads are not made to survive it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
