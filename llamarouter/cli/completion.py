"""`lr completion`: what a shell needs to complete the names of commands, options and models; and its answers.

    lr completion bash            a function for the shell, which asks:
    _LR_COMPLETE=bash_complete    the words so far -> what may stand there, a line each

A completion has nobody to complain to and a person who waits: whatever goes wrong, or takes too long, is no names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from llamarouter.cli.failures import CommandFailed
from llamarouter.cli.output import say
from llamarouter.core.errors import UsageError

SHELLS = ("bash", "zsh", "fish")
_PATIENCE = 0.2  # seconds for names of models; a router far away may need more: LR_COMPLETION_SECONDS
_VARIABLE = "_LR_COMPLETE"

# A colon ends a word for bash (COMP_WORDBREAKS), not for us: user/model:Q4_K_M is one name. So the line is sent instead
# of its words, and what bash takes for the words before the last one is cut off from the answers.
_BASH = """\
_lr_completion() {
    local line="${COMP_LINE:0:COMP_POINT}" kind value
    local word="${line##*[[:space:]]}" before=
    if [[ $COMP_WORDBREAKS == *:* && $word == *:* && $word != [\\"\\']* ]]; then
        word="${word##*=}"
        before="${word%"${word##*:}"}"
    fi
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) printf -v value %q "$value"; COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMP_LINE="$line" _LR_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _lr_completion lr 2>/dev/null || complete -F _lr_completion lr
"""


class _Bash(BashComplete):
    source_template = _BASH

    def source(self) -> str:
        return _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is being written, and that one."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)
        unfinished = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], unfinished


@click.command()
@click.argument("shell", required=False, type=click.Choice(SHELLS))
def completion(shell: str | None) -> None:
    """Print what a shell needs to complete commands, options and models.

    SHELL is bash, zsh or fish (else that of SHELL in the environment). Names of models come from the running router,
    else from the folders and caches; where neither answers within 0.2 s (LR_COMPLETION_SECONDS) there are none.

    \b
      lr completion bash > ~/.local/share/bash-completion/completions/lr
      lr completion fish > ~/.config/fish/completions/lr.fish
      eval "$(lr completion zsh)"      in ~/.zshrc, behind compinit (bash: in ~/.bashrc)

    Exit codes: 0 done, 2 wrong usage.
    """
    shell = shell or os.path.basename(os.environ.get("SHELL", ""))
    if shell not in SHELLS:
        raise UsageError(f"for which shell? lr completion {'|'.join(SHELLS)}")
    say(script_for(shell).rstrip("\n"))


def script_for(shell: str) -> str:
    """The shell's own part."""
    from llamarouter.cli.commands import lr

    add_completion_class(_Bash)
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(lr, {}, "lr", _VARIABLE).source()


def answer(instruction: str) -> int:
    """Answer the question of a shell: `bash_complete`, or (as click's own scripts do) `bash_source`."""
    from click.shell_completion import shell_complete

    from llamarouter.cli.commands import lr

    add_completion_class(_Bash)
    return int(shell_complete(lr, {}, "lr", _VARIABLE, instruction))


class _TooLate(Exception):
    """Nobody waits any longer."""


def in_time(names: Callable[[], Iterable[str]]) -> list[str]:
    """The names, if they are there in time; else none."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise _TooLate

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _patience())
    try:
        return list(names())
    except (_TooLate, CommandFailed, UsageError, OSError, ValueError):
        return []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _patience() -> float:
    try:
        seconds = float(os.environ.get("LR_COMPLETION_SECONDS", ""))
    except ValueError:
        return _PATIENCE
    return seconds if 0 < seconds < 60 else _PATIENCE


def models_for(url: str | None, port: int | None, incomplete: str) -> list[CompletionItem]:
    """The models that begin so: of the router, or of the folders where none runs."""
    # What is imported is not counted: it takes as long each time, and a first time on a cold disk is no reason to fail.
    from llamarouter.cli.models import names_in, rows_from
    from llamarouter.cli.server_client import find_server

    try:
        server = find_server(url, port)
    except (CommandFailed, UsageError, OSError):
        return []
    if server is not None:
        names = in_time(lambda: names_in(rows_from(server)))
    else:
        from llamarouter.cli.local import local_listing

        names = in_time(lambda: names_in(local_listing(None, None)))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def options_of_serve(incomplete: str) -> list[CompletionItem]:
    """The long spellings of our own options that begin so; those of llama-server are its own affair."""
    from llamarouter.core.own_options import OWN

    spellings = [name for row in OWN for name in (*row.option.names, *row.option.negatives) if name.startswith("--")]
    return [CompletionItem(name) for name in spellings if name.startswith(incomplete)]
