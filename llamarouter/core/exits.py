"""Why a child ended: from its code or signal, the stage it was in and its last words to one cause and one sentence.

    asked                                    -> ASKED, whatever the code (1 and SIGSEGV are seen on orderly stops)
    we killed it for a stall                 -> STALLED_LOADING, STALLED_BUSY
    killed by the kernel for want of memory  -> OUT_OF_MEMORY
    another signal                           -> KILLED (SIGKILL, SIGTERM ... from outside), SIGNAL (it crashed)
    its own words, first row that matches    -> OUT_OF_MEMORY, BAD_OPTION, ENGINE, BAD_FILE
    neither                                  -> ENGINE (126, 127: it never ran), EXITED

llama-server ends with code 1 for every failed load, so the code alone says nothing. The words are those of b11434
(`src/llama-model-loader.cpp`, `ggml/src/gguf.cpp`, `common/arg.cpp`, the allocators of the backends).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Cause(enum.Enum):
    """One word for people and programs; the value stands in the API."""

    ASKED = "asked"
    BAD_FILE = "bad_file"
    BAD_OPTION = "bad_option"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    SIGNAL = "signal"
    STALLED_LOADING = "stalled_loading"
    STALLED_BUSY = "stalled_busy"
    ENGINE = "engine"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a child ended. `code` and `signal` exclude each other; `message` is one line without paths."""

    cause: Cause
    message: str
    code: int | None = None
    signal: str | None = None  # SIGSEGV
    last_words: tuple[str, ...] = ()  # oldest first, at most `LAST_WORDS`, without paths
    deterministic: bool = False  # it would fail in the same way again
    memory: bool = False  # another try may succeed once memory is free

    @property
    def exit_code(self) -> int:
        """One number for it, as a shell has it: 128 and more for a signal; never 0, for it was not asked for."""
        if self.signal is not None:
            return next((code for code, name in _SHELL_SIGNALS.items() if name == self.signal), 1)
        return self.code or 1


LAST_WORDS = 8
_MESSAGE_LIMIT = 400

# What a shell or a command prefix reports for a signal: 128 + its number.
_SHELL_SIGNALS = {
    129: "SIGHUP",
    130: "SIGINT",
    131: "SIGQUIT",
    132: "SIGILL",
    134: "SIGABRT",
    135: "SIGBUS",
    136: "SIGFPE",
    137: "SIGKILL",
    139: "SIGSEGV",
    143: "SIGTERM",
}
_FROM_OUTSIDE = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})

_MEMORY = re.compile(
    r"out of memory|failed to allocate|unable to allocate|cannot allocate memory|std::bad_alloc|cudaMalloc failed"
    r"|OutOfDeviceMemory|OutOfHostMemory|insufficient memory|failed to fit|CUDA_ERROR_OUT_OF_MEMORY",
    re.IGNORECASE,
)
_OPTION = re.compile(
    r"^error: (?:invalid argument|unknown argument|unknown value|the argument)|error while handling argument"
    r"|error: invalid value|expected value for argument|argument has been removed|error parsing",
    re.IGNORECASE,
)
_ENGINE = re.compile(
    r"couldn't bind HTTP server socket|error while loading shared libraries|cannot open shared object"
    r"|no CUDA-capable device|driver version is insufficient|failed to execute|Exec format error|^setpriv: "
    r"|llamarouter engine: ",
    re.IGNORECASE,
)
_FILE = re.compile(
    r"invalid magic|failed to open GGUF|gguf_init_from|not within the file bounds|unknown model architecture"
    r"|missing tensor|corrupted or incomplete|wrong number of tensors|unknown pre-tokenizer|unknown tokenizer"
    r"|wrong shape|error loading model|failed to load (?:the )?model|No such file or directory|invalid split"
    r"|failed to load multimodal|unsupported model|failed to (?:load|apply) (?:lora|control vector)",
    re.IGNORECASE,
)
_TABLE = (
    (Cause.OUT_OF_MEMORY, _MEMORY, "it needs more memory than there is"),
    (Cause.BAD_OPTION, _OPTION, "llama-server refuses an option"),
    (Cause.ENGINE, _ENGINE, "llama-server cannot run here"),
    (Cause.BAD_FILE, _FILE, "its file cannot be loaded"),
)
_BIND = re.compile(r"couldn't bind HTTP server socket|[Aa]ddress already in use")

_STAMP = re.compile(r"^\d+\.\d\d\.\d{3}\.\d{3} (?P<level>[DIWE]) ")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PATH = re.compile(r"(?<![\w:/.])/(?:[^\s'\"/:,]+/)*([^\s'\"/:,)]+)")
_QUOTED_PATH = re.compile(r"(?P<quote>['\"])/(?:[^'\"/]*/)*([^'\"/]*)(?P=quote)")


def without_paths(line: str) -> str:
    """The line with every absolute path cut down to the name of its file."""
    return _PATH.sub(r"\1", _QUOTED_PATH.sub(r"'\2'", line))


def plain(line: str) -> str:
    """A log line for people: without time stamp, level, colours and paths."""
    return without_paths(_STAMP.sub("", _ANSI.sub("", line))).strip()


def is_bind_failure(lines: tuple[str, ...]) -> bool:
    """Whether the child died because somebody else had taken its port."""
    return any(_BIND.search(line) for line in lines)


def stopped() -> Exit:
    """The end of a child that was asked to go."""
    return Exit(cause=Cause.ASKED, message="stopped")


def engine_failure(message: str) -> Exit:
    """The end of a child that never ran."""
    return Exit(cause=Cause.ENGINE, message=message, deterministic=True)


def classify(
    *,
    loading: bool,
    code: int | None,
    signal: str | None,
    lines: tuple[str, ...],
    stalled: str | None = None,
    kernel_oom: bool = False,
) -> Exit:
    """Name the end of a child that nobody asked to go.

    `lines` are the log lines of this spawn. `stalled` is set where we killed it for a stall: what was observed.
    `kernel_oom`: the kernel killed something for want of memory while this child lived.
    """
    hidden = _SHELL_SIGNALS.get(code) if code is not None else None
    if hidden is not None:
        code, signal = None, hidden
    said = tuple(text for line in lines[-40:] if (text := plain(line)))[-LAST_WORDS:]
    if stalled is not None:
        cause = Cause.STALLED_LOADING if loading else Cause.STALLED_BUSY
        return Exit(cause=cause, message=stalled, signal=signal, code=code, last_words=said)
    if signal is not None:
        return _by_signal(loading, signal, lines, said, kernel_oom)
    return _by_words(loading, code, lines, said)


def _by_signal(loading: bool, signal: str, lines: tuple[str, ...], said: tuple[str, ...], kernel_oom: bool) -> Exit:
    when = "while loading" if loading else "while serving"
    if signal == "SIGKILL" and kernel_oom:
        message = f"the kernel killed it {when}: the machine is out of memory"
        return Exit(cause=Cause.OUT_OF_MEMORY, message=message, signal=signal, last_words=said, memory=True)
    if signal in _FROM_OUTSIDE:
        # In a container the kernel's counter may be out of sight: a load that is killed is taken for a lack of memory.
        memory = loading and signal == "SIGKILL"
        message = f"it was killed {when} ({signal})" + (", perhaps for want of memory" if memory else "")
        return Exit(cause=Cause.KILLED, message=message, signal=signal, last_words=said, memory=memory)
    # ggml aborts where an allocation fails.
    words = next((plain(line) for line in lines if _MEMORY.search(line)), None) if signal == "SIGABRT" else None
    if words is not None:
        message = _sentence(f"it ran out of memory {when} ({signal})", words)
        return Exit(cause=Cause.OUT_OF_MEMORY, message=message, signal=signal, last_words=said, memory=True)
    return Exit(cause=Cause.SIGNAL, message=f"llama-server crashed {when} ({signal})", signal=signal, last_words=said)


def _by_words(loading: bool, code: int | None, lines: tuple[str, ...], said: tuple[str, ...]) -> Exit:
    for cause, pattern, meaning in _TABLE if loading else _TABLE[:1]:
        words = next((plain(line) for line in lines if pattern.search(_ANSI.sub("", line))), None)
        if words is not None:
            memory = cause is Cause.OUT_OF_MEMORY
            message = _sentence(meaning, words)
            return Exit(
                cause=cause, message=message, code=code, last_words=said, deterministic=not memory, memory=memory
            )
    if loading and code in (126, 127):
        message = _sentence("llama-server cannot run here", said[-1] if said else f"exit code {code}")
        return Exit(cause=Cause.ENGINE, message=message, code=code, last_words=said, deterministic=True)
    when = "before it was ready" if loading else "while it was loaded"
    # A load that fails is told of on every level that it falls through: the cause first, "exiting" last.
    errors = _errors(lines)
    message = _sentence(f"llama-server exited with code {code} {when}", errors[0 if loading else -1] if errors else "")
    return Exit(cause=Cause.EXITED, message=message, code=code, last_words=said)


def _errors(lines: tuple[str, ...]) -> list[str]:
    stamps = ((line, _STAMP.match(_ANSI.sub("", line))) for line in lines)
    return [plain(line) for line, stamp in stamps if stamp is not None and stamp["level"] == "E"]


def _sentence(meaning: str, words: str) -> str:
    whole = f"{meaning}: {words}" if words else meaning
    return whole if len(whole) <= _MESSAGE_LIMIT else whole[: _MESSAGE_LIMIT - 3] + "..."
