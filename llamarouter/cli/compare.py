"""`lr compare`: two models answer the same question, side by side.

Each answer is read in a thread of its own into a `Voice`; the main thread only draws: two live columns on a terminal,
two blocks, one after the other, where nobody watches.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from threading import Event, Thread
from typing import TYPE_CHECKING

import click

from llamarouter.cli.chat import Message, Notice, Piece, Sampling, Summary, Text, Thought, chat
from llamarouter.cli.failures import CommandFailed, RouterFailure, one_line
from llamarouter.cli.models import explained
from llamarouter.cli.output import is_colourful, printable, say, say_json, styled
from llamarouter.cli.parameters import MODEL, answer_options, json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server
from llamarouter.cli.waiting import Watch

if TYPE_CHECKING:
    from rich.console import RenderableType

FRAME_SECONDS = 0.08


class Voice:
    """One model's answer so far. Written by its thread, read by the one that draws."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.parts: list[str] = []
        self.thoughts: list[str] = []
        self.notice = "waiting"
        self.summary: Summary | None = None
        self.failure: str | None = None
        self.ended = Event()

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def last_line(self) -> str:
        return one_line(self.failure or self.summary or self.notice)

    def listen(self, server: ServerClient, messages: list[Message], sampling: Sampling) -> None:
        """Read the whole answer."""
        try:
            with Watch(server, self.model, self._take_notice) as watch:
                for piece in chat(server, self.model, messages, sampling):
                    if not isinstance(piece, Notice):
                        watch.end()
                    self._take(piece)
        except CommandFailed as error:
            self.failure = self._why(error, server)
        finally:
            self.ended.set()

    def _take(self, piece: Piece) -> None:
        if isinstance(piece, Summary):
            self.summary = piece
        elif isinstance(piece, Notice):
            self._take_notice(piece.text)
        else:
            (self.parts if isinstance(piece, Text) else self.thoughts).append(piece.text)
            self.notice = "thinking" if isinstance(piece, Thought) else "answering"

    def _take_notice(self, text: str) -> None:
        self.notice = text or self.notice

    def _why(self, error: CommandFailed, server: ServerClient) -> str:
        try:
            return str(explained(error, server, [self.model]) if isinstance(error, RouterFailure) else error)
        except CommandFailed:  # the router went away between the two questions
            return str(error)


@click.command()
@click.argument("first", metavar="MODEL_A", type=MODEL)
@click.argument("second", metavar="MODEL_B", type=MODEL)
@click.argument("prompt")
@answer_options
@server_options
@json_option
def compare(
    first: str,
    second: str,
    prompt: str,
    system: str | None,
    temp: float | None,
    max_tokens: int | None,
    url: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Ask two models the same, side by side.

    Both are asked at the same time; each one's tokens per second and the time to its first token stand below its
    answer. They share the machine: with --models-max 1 the second waits until the first has answered.

    \b
      lr compare small:Q4_K_M small:Q8_0 "Explain a monad."
      lr compare a b "Write a haiku." --temp 0 -n 80 --json

    Exit codes: 0 both answered, 1 one failed (the other's answer is shown), 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    voices = [Voice(first), Voice(second)]
    for voice in voices:
        # Daemons: an interrupt ends the process, which hangs up on both.
        arguments = (server, messages, Sampling(temperature=temp, max_tokens=max_tokens))
        Thread(target=voice.listen, args=arguments, daemon=True).start()
    if as_json:
        _print_json(voices)
    elif sys.stdout.isatty() and is_colourful():
        _draw(voices)
    else:
        _print_blocks(voices)
    failed = [voice for voice in voices if voice.summary is None]
    if failed:
        raise CommandFailed("; ".join(f"{voice.model}: {voice.failure}" for voice in failed))


def _print_json(voices: list[Voice]) -> None:
    for voice in voices:
        voice.ended.wait()
    answers = [
        {
            "model": voice.model,
            "content": voice.text,
            "reasoning": "".join(voice.thoughts) or None,
            "error": voice.failure,
            **(asdict(voice.summary) if voice.summary else {}),
        }
        for voice in voices
    ]
    say_json({"answers": answers})


def _print_blocks(voices: list[Voice]) -> None:
    for voice in voices:
        voice.ended.wait()
        say(f"== {one_line(voice.model)}")
        say(printable(voice.text))
        say(styled(f"[{voice.last_line}]", dim=True))
        say()


def _draw(voices: list[Voice]) -> None:
    """Two live columns: while they grow, as much of their ends as the screen holds; at the end, all of both."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while not all(voice.ended.is_set() for voice in voices):
            live.update(_columns(voices, console.width, console.height - 1), refresh=True)
            next(voice for voice in voices if not voice.ended.is_set()).ended.wait(FRAME_SECONDS)
    console.print(_columns(voices, console.width, None))


def _columns(voices: list[Voice], width: int, height: int | None) -> RenderableType:
    from rich.table import Table
    from rich.text import Text as Styled

    grid = Table(box=None, expand=True, show_header=False, padding=(0, 1), pad_edge=False)
    for _ in voices:
        grid.add_column(ratio=1, overflow="fold")
    room = None if height is None else height - 3  # the head, the empty line and the foot
    grid.add_row(*(Styled(one_line(voice.model), style="bold") for voice in voices))
    grid.add_row(*(Styled(_end_of(voice, width // 2 - 2, room)) for voice in voices))
    grid.add_row(*(Styled(f"\n{voice.last_line}", style="red" if voice.failure else "dim") for voice in voices))
    return grid


def _end_of(voice: Voice, width: int, room: int | None) -> str:
    """The answer, or the last of it that fits into `room` lines of `width` columns."""
    text = printable(voice.text or "".join(voice.thoughts))
    if room is None:
        return text
    from textwrap import wrap

    lines = [part for line in text.splitlines() for part in (wrap(line, width) or [""])]
    return "\n".join(lines[-max(1, room) :])
