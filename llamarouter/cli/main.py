"""The console entry of `lr`: runs one command and turns whatever goes wrong into one line and an exit code.

    0 done    1 failed (the router refused, the model did not load)    2 wrong usage    130 interrupted

Nothing heavy is imported here: click comes with the first command, everything else with the command that needs it.
`lr serve` gets its arguments untouched, because click would take llama-server's `-hf` or `-lv` apart.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from types import TracebackType

from llamarouter.cli.failures import CommandFailed, one_line

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run `lr ARGUMENTS` (by default those of the process) and return its exit code."""
    if sys.platform == "win32":
        return _say("llamarouter runs on Linux and macOS; on Windows, use it inside WSL 2", WRONG_USAGE)
    sys.excepthook = _say_unexpected
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no file name and no locale ends a command
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _abandon_stdout()  # the reader (`| head`) has what it wanted
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except CommandFailed as error:
        return _say(error, FAILED)
    except OSError as error:
        if os.environ.get("LR_DEBUG"):
            raise
        _abandon_stdout()
        return _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), FAILED)
    except _usage_error() as error:  # evaluated only once something was raised: the import is not free
        return _say(error, WRONG_USAGE)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["serve"]:
        from llamarouter.cli.serve import serve

        return serve(arguments[1:])
    from llamarouter.cli.commands import run

    return run(arguments)


def _open_standard_streams() -> None:
    """Where the parent left one closed it is /dev/null, else the next socket would become standard output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the closed one
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (as long as we live)


def _abandon_stdout() -> None:
    """What is still buffered must not be tried again at the interpreter's end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error() -> type[Exception]:
    from llamarouter.core.errors import UsageError

    return UsageError


def _say(message: object, status: int) -> int:
    sys.stderr.write(f"lr: {one_line(message)}\n")
    return status


def _say_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw, as one line: `sys.excepthook`, so that the interpreter still ends with code 1."""
    if os.environ.get("LR_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    what = f"{kind.__name__}: {one_line(error)}" if str(error) else kind.__name__
    _say(f"internal error, {what}; run it again with LR_DEBUG=1 and report what it prints", FAILED)
