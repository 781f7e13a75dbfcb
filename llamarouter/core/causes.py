"""What can end a child, one word each: what it means, what to do about it, and whether it would happen again.

The table is also the one of `docs/failures.md`, which a test holds. By which words of a log a cause is known is said
in `log_words`, how an exit is named in `exits`, what a client is answered in `failures`.
"""

from __future__ import annotations

import enum

from msgspec import Struct


class Cause(enum.Enum):
    """One word for people and programs; the value stands in the API."""

    ASKED = "asked"
    MISSING_FILE = "missing_file"
    PERMISSION = "permission"
    BAD_FILE = "bad_file"
    OLD_ENGINE = "engine_too_old"
    BAD_OPTION = "bad_option"
    DEVICE_MEMORY = "out_of_device_memory"
    HOST_MEMORY = "out_of_host_memory"
    OUT_OF_MEMORY = "out_of_memory"
    LIBRARY = "library_or_driver"
    SOCKET = "socket"
    ENGINE = "engine"
    KILLED = "killed"
    SIGNAL = "signal"
    STALLED_LOADING = "stalled_loading"
    STALLED_BUSY = "stalled_busy"
    EXITED = "exited"


class Kind(Struct, frozen=True):
    """What is always so with a cause."""

    meaning: str  # the beginning of the sentence that tells it
    hint: str  # what to do; MODEL stands for the model's name
    deterministic: bool = False  # it would fail in the same way again
    memory: bool = False  # another try may succeed once memory is free


KINDS = {
    Cause.MISSING_FILE: Kind(
        "a file is missing",
        "Put the file where the line says, or take the option out that names it: `lr explain MODEL` shows which one, "
        "and where it is written. What was fetched comes back with `lr pull MODEL`.",
        deterministic=True,
    ),
    Cause.PERMISSION: Kind(
        "a file may not be read",
        "Let the user who runs the router read the file and enter its folders (`namei -l FILE` shows who may); "
        "a GPU needs the groups `video` and `render`.",
        deterministic=True,
    ),
    Cause.BAD_FILE: Kind(
        "its file cannot be loaded",
        "The file is damaged, cut off, or no model: fetch it again (`lr rm MODEL`, `lr pull MODEL`) or convert it "
        "anew. A new file is tried at once.",
        deterministic=True,
    ),
    Cause.OLD_ENGINE: Kind(
        "this llama-server does not know such a model",
        "A newer llama-server is needed: `lr engine` says which one runs, `lr engine build` makes one, `lr-engine` in "
        "the model's section names another.",
        deterministic=True,
    ),
    Cause.BAD_OPTION: Kind(
        "llama-server refuses an option",
        "`lr explain MODEL` shows each option and the line where it is written; mend it there, then `lr reload`. "
        "Devices are listed by `llama-server --list-devices`.",
        deterministic=True,
    ),
    Cause.DEVICE_MEMORY: Kind(
        "it needs more memory than the device has free",
        "Give it less to hold: a smaller `--ctx-size`, fewer `--parallel`, `--cache-type-k q8_0` and "
        "`--cache-type-v q8_0`, fewer `--n-gpu-layers`, a smaller quant; or let fewer models live at once "
        "(`--models-max`). `nvidia-smi` or `rocm-smi` shows what else holds memory.",
        memory=True,
    ),
    Cause.HOST_MEMORY: Kind(
        "it needs more memory than the machine has free",
        "Give it less to hold: a smaller `--ctx-size` or quant, `--cache-ram 0`, `--load-mode mmap`; or "
        "let fewer models live at once (`--models-max`). In a container its limit counts, not the machine's.",
        memory=True,
    ),
    Cause.OUT_OF_MEMORY: Kind(
        "it needs more memory than there is",
        "Give it less to hold: a smaller `--ctx-size`, fewer `--parallel`, a smaller quant; or let fewer models live "
        "at once (`--models-max`).",
        memory=True,
    ),
    Cause.LIBRARY: Kind(
        "llama-server does not fit the libraries or the driver of this machine",
        "Build it here (`lr engine build`), install the library that the line names, or update the GPU's driver.",
        deterministic=True,
    ),
    Cause.SOCKET: Kind(
        "llama-server cannot listen",
        "Look whether the runtime folder is there and has room (`df`, `LR_RUNTIME_DIR` names another one); an engine "
        "too old for UNIX sockets needs a free port on 127.0.0.1.",
        deterministic=True,
    ),
    Cause.ENGINE: Kind(
        "llama-server cannot run here",
        "`lr engine` says which llama-server is taken, and why; `lr engine build` makes one for this machine.",
        deterministic=True,
    ),
    Cause.KILLED: Kind(
        "somebody else killed it",
        "Neither the router nor the kernel's memory killer is known to have done it: look for a person, a `timeout`, a "
        "service manager or a container's limit (`dmesg`, `journalctl -k`).",
    ),
    Cause.SIGNAL: Kind(
        "llama-server crashed",
        "A bug of llama-server, or broken memory: try a newer one (`lr engine build`). If one request does it each "
        "time, report it upstream with the log's tail and that request.",
    ),
    Cause.STALLED_LOADING: Kind(
        "the load got no further",
        "The disk or the network share of the file hangs, or the GPU's driver does (`dmesg`). A load that is only slow "
        "is given longer by `--load-stall SECONDS`.",
    ),
    Cause.STALLED_BUSY: Kind(
        "it had work and did nothing",
        "The GPU or its driver hangs (`dmesg`; NVIDIA says `Xid`), or llama-server has dead-locked: try a newer one. "
        "What computes in silence for longer needs a longer `--busy-stall SECONDS`.",
    ),
    Cause.EXITED: Kind(
        "llama-server exited",
        "The first error in the log's tail says most; `lr logs MODEL` has all of it, and `--log-verbosity 5` makes it "
        "say more.",
    ),
}

# Where the signal says more than that there was one.
_BY_SIGNAL = {
    "SIGILL": "llama-server was built for another CPU: build it on this machine (`lr engine build`).",
    "SIGBUS": "The model's file was cut off or written over while it was mapped, or its disk fails (`dmesg`): replace "
    "files by renaming a new one over them, and fetch this one again.",
    "SIGFPE": "Often a model whose header holds a zero where none may be: fetch or convert it again, try a newer "
    "llama-server.",
}
_BY_WORDS = (
    (
        ("CUDA error", "ROCm error", "MUSA error", "DeviceLost", "illegal memory access"),
        "The GPU or its driver failed: look for `Xid` or `amdgpu` in `dmesg`, update the driver, try a newer "
        "llama-server.",
    ),
    (
        ("GGML_ASSERT", "GGML_ABORT", "fatal error"),
        "llama-server met what it does not handle and gave up: try a newer one (`lr engine build`). If one request or "
        "option does it each time, report it upstream with the log's tail.",
    ),
)


def hint_for(cause: Cause, *, model: str, signal: str | None = None, said: str = "") -> str:
    """What to do about an end; empty where nothing is to be done. `said`: what the child said last."""
    if cause is Cause.SIGNAL:
        if signal in _BY_SIGNAL:
            return _BY_SIGNAL[signal]
        for words, hint in _BY_WORDS:
            if any(word in said for word in words):
                return hint
    kind = KINDS.get(cause)
    return "" if kind is None else kind.hint.replace("MODEL", model)
