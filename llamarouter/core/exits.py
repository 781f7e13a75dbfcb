"""Why a child ended: from its code or signal, the stage it was in and its last words to one cause and one sentence.

    asked                                    -> ASKED, whatever the code (1 and SIGSEGV are seen on orderly stops)
    we killed it for a stall                 -> STALLED_LOADING, STALLED_BUSY
    killed by the kernel for want of memory  -> HOST_MEMORY
    another signal                           -> KILLED (SIGKILL, SIGTERM ... from outside), SIGNAL (it crashed)
    it aborted itself, and said why          -> what it said
    its own words                            -> what they say (`log_words`)
    neither                                  -> ENGINE (126, 127: it never ran), EXITED

llama-server ends with code 1 for every failed load, so the code alone says nothing.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llamarouter.core.causes import KINDS, Cause, hint_for
from llamarouter.core.file_names import without_paths
from llamarouter.core.log_words import bare, cause_in, cause_of_abort, is_error


class Exit(Struct, frozen=True, kw_only=True):
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

    def hint(self, model: str) -> str:
        """What people can do about it."""
        said = "\n".join((self.message, *self.last_words))
        return hint_for(self.cause, model=model, signal=self.signal, said=said)


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

_BIND = re.compile(r"couldn't bind HTTP server socket|[Aa]ddress already in use")


def plain(line: str) -> str:
    """A log line for people: without time stamp, level, colours and paths."""
    return without_paths(bare(line)).strip()


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
        return Exit(cause=Cause.HOST_MEMORY, message=message, signal=signal, last_words=said, memory=True)
    if signal in _FROM_OUTSIDE:
        # In a container the kernel's counter may be out of sight: a load that is killed is taken for a lack of memory.
        memory = loading and signal == "SIGKILL"
        message = f"it was killed {when} ({signal})" + (", perhaps for want of memory" if memory else "")
        return Exit(cause=Cause.KILLED, message=message, signal=signal, last_words=said, memory=memory)
    told = cause_of_abort(lines) if signal == "SIGABRT" else None
    if told is not None:
        return _told(*told, f" ({when}, {signal})", said, signal=signal)
    return Exit(cause=Cause.SIGNAL, message=f"llama-server crashed {when} ({signal})", signal=signal, last_words=said)


def _by_words(loading: bool, code: int | None, lines: tuple[str, ...], said: tuple[str, ...]) -> Exit:
    told = cause_in(lines, loading=loading)
    if told is not None:
        return _told(*told, "", said, code=code)
    if loading and code in (126, 127):
        line = said[-1] if said else f"exit code {code}"
        return _told(Cause.ENGINE, line, "", said, code=code)
    when = "before it was ready" if loading else "while it was loaded"
    # A load that fails is told of on every level that it falls through: the cause first, "exiting" last.
    errors = _errors(lines)
    message = _sentence(f"llama-server exited with code {code} {when}", errors[0 if loading else -1] if errors else "")
    return Exit(cause=Cause.EXITED, message=message, code=code, last_words=said)


def _told(
    cause: Cause, line: str, when: str, said: tuple[str, ...], *, code: int | None = None, signal: str | None = None
) -> Exit:
    kind = KINDS[cause]
    return Exit(
        cause=cause,
        message=_sentence(kind.meaning + when, plain(line)),
        code=code,
        signal=signal,
        last_words=said,
        deterministic=kind.deterministic,
        memory=kind.memory,
    )


def _errors(lines: tuple[str, ...]) -> list[str]:
    return [plain(line) for line in lines if is_error(line)]


def _sentence(meaning: str, words: str) -> str:
    whole = f"{meaning}: {words}" if words else meaning
    return whole if len(whole) <= _MESSAGE_LIMIT else whole[: _MESSAGE_LIMIT - 3] + "..."
