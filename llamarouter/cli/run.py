"""`lr run`: one answer, or a conversation."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict

import click

from llamarouter.cli.chat import Message, Notice, Piece, Sampling, Summary, Text, Thought, chat
from llamarouter.cli.failures import CommandFailed, RouterFailure, one_line
from llamarouter.cli.models import explained
from llamarouter.cli.output import StatusLine, printable, say, say_json, styled
from llamarouter.cli.parameters import MODEL, answer_options, json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server
from llamarouter.cli.waiting import Watch

HELP = "/clear forgets the conversation, /help prints this; Ctrl-C ends an answer, Ctrl-D ends the chat"


@click.command()
@click.argument("model", type=MODEL)
@click.argument("prompt", required=False)
@answer_options
@server_options
@json_option
def run(
    model: str,
    prompt: str | None,
    system: str | None,
    temp: float | None,
    max_tokens: int | None,
    url: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Ask a model once, or chat with it.

    With a PROMPT (or text on standard input) prints one answer as it comes. Without one, a conversation that
    remembers what was said: Ctrl-C ends an answer, Ctrl-D the conversation. The tokens per second go to standard
    error. A model that is not loaded is loaded; a router must be running (`lr serve`).

    \b
      lr run user/model:Q4_K_M "Why is the sky blue?"
      lr run user/model:Q4_K_M --temp 0 -n 200 < question.txt
      lr run user/model:Q4_K_M

    Exit codes: 0 answered, 1 failed, 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    sampling = Sampling(temperature=temp, max_tokens=max_tokens)
    history: list[Message] = [{"role": "system", "content": system}] if system else []
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise click.UsageError("no prompt: give one as an argument or on standard input")
    if prompt is not None:
        asked = [*history, {"role": "user", "content": prompt}]
        _answer_as_json(server, model, asked, sampling) if as_json else _answer(server, model, asked, sampling)
    elif as_json:
        raise click.UsageError("--json needs a prompt")
    elif not sys.stdout.isatty():
        raise click.UsageError("a conversation needs a terminal: give a prompt")
    else:
        _converse(server, model, history, sampling)


def _pieces(
    server: ServerClient, model: str, messages: list[Message], sampling: Sampling
) -> Generator[Piece, None, None]:
    try:
        yield from chat(server, model, messages, sampling)
    except RouterFailure as error:
        raise explained(error, server, [model]) from error


def _answer_as_json(server: ServerClient, model: str, messages: list[Message], sampling: Sampling) -> None:
    pieces = list(_pieces(server, model, messages, sampling))
    summary = next(piece for piece in pieces if isinstance(piece, Summary))
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    content = "".join(piece.text for piece in pieces if isinstance(piece, Text))
    say_json({"model": model, "content": content, "reasoning": thoughts or None, **asdict(summary)})


def _answer(server: ServerClient, model: str, messages: list[Message], sampling: Sampling) -> str:
    """Show one answer as it comes; its text. An interrupt hangs up and shows what there is."""
    status = StatusLine()
    with (
        Watch(server, model, lambda doing: status.show(f"{model}: {doing}")) as watch,
        closing(_pieces(server, model, messages, sampling)) as pieces,
    ):
        screen = _Screen(status)
        try:
            for piece in pieces:
                if not isinstance(piece, Notice):
                    watch.end()
                screen.show(piece)
        finally:
            watch.end()
            screen.end()
    return screen.text


class _Screen:
    """The answer on the terminal: text to stdout; thoughts only for people, dim; notices in a line that vanishes."""

    def __init__(self, status: StatusLine) -> None:
        self._status = status
        self._parts: list[str] = []
        self._thinking = False
        self._last = "\n"

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def show(self, piece: Piece) -> None:
        if isinstance(piece, Notice):
            if not self._parts:
                self._status.show(piece.text)
            return
        self._status.clear()
        if isinstance(piece, Text):
            self._show_text(piece.text)
        elif isinstance(piece, Thought):
            self._show_thought(piece.text)
        else:
            self.end()
            say(styled(f"[{piece}]", err=True, dim=True), err=True)

    def end(self) -> None:
        """Leave the cursor at the start of a line."""
        self._status.clear()
        if self._last != "\n":
            self._last = "\n"
            say()

    def _show_text(self, text: str) -> None:
        if self._thinking:
            self._thinking = False
            self.end()
        self._parts.append(text)
        self._write(printable(text) if sys.stdout.isatty() else text)

    def _show_thought(self, text: str) -> None:
        if sys.stdout.isatty():
            self._thinking = True
            self._write(printable(text), dim=True)

    def _write(self, text: str, *, dim: bool = False) -> None:
        if text:
            self._last = text[-1]  # noted first: an interrupt may come between the two
            say(styled(text, dim=True) if dim else text, newline=False)


def _converse(server: ServerClient, model: str, history: list[Message], sampling: Sampling) -> None:
    """Ask, answer, remember, until Ctrl-D."""
    import readline  # noqa: F401  (imported for what it does to `input`: editing and recalling lines)

    said: list[Message] = []
    say(styled(HELP, err=True, dim=True), err=True)
    while (line := _read_line()) is not None:
        if line in ("/clear", "/help"):
            said = [] if line == "/clear" else said
            say(styled("forgotten" if line == "/clear" else HELP, err=True, dim=True), err=True)
        elif line:
            said += _turn(server, model, [*history, *said], line, sampling)
    say()


def _turn(server: ServerClient, model: str, before: list[Message], line: str, sampling: Sampling) -> list[Message]:
    """What is to be remembered of one question: nothing, where it was not answered."""
    asked: Message = {"role": "user", "content": line}
    try:
        text = _answer(server, model, [*before, asked], sampling)
    except KeyboardInterrupt:
        return []
    except CommandFailed as error:
        say(styled(f"lr: {one_line(error)}", err=True, fg="red"), err=True)
        return []
    return [asked, {"role": "assistant", "content": text}]


def _read_line() -> str | None:
    """The next question; empty for Ctrl-C at the prompt, None at the end."""
    try:
        return input(">>> ").strip()
    except KeyboardInterrupt:
        say()
        return ""
    except EOFError:
        return None
