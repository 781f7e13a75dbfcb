"""The commands of `lr`, listed without importing them.

`lr --help` is printed from the table below; a command's module is imported when that command runs. A test holds each
line of the table against the command's own help.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from llamarouter import __version__
from llamarouter.cli.failures import CommandFailed

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Listed(NamedTuple):
    """One command: its group in the help, where it is defined, and its line there."""

    group: str
    module: str
    attribute: str
    summary: str


COMMANDS = {
    "serve": Listed("Serve", "llamarouter.cli.commands", "serve", "Find the models and serve them on one address."),
    "stop": Listed("Serve", "llamarouter.cli.stop", "stop", "Let running requests end, then stop the router."),
    "reload": Listed(
        "Serve",
        "llamarouter.cli.reload",
        "reload",
        "Have the router read presets, folders, keys and its certificate again.",
    ),
    "key": Listed("Serve", "llamarouter.cli.key", "key", "Make, list and take away keys for the router."),
    "service": Listed("Serve", "llamarouter.cli.service", "service", "Run the router as a service of systemd."),
    "ls": Listed("Models", "llamarouter.cli.ls", "ls", "List the models that can be asked for."),
    "pull": Listed("Models", "llamarouter.cli.pull", "pull", "Fetch a model from Hugging Face."),
    "rm": Listed("Models", "llamarouter.cli.rm", "rm", "Delete a fetched model's files."),
    "explain": Listed("Models", "llamarouter.cli.explain", "explain", "Show how a model is started, and why so."),
    "plan": Listed("Models", "llamarouter.cli.plan", "plan", "Show what a request for a model would meet with now."),
    "ps": Listed("Running", "llamarouter.cli.ps", "ps", "Show the models that are in memory and what they do."),
    "top": Listed("Running", "llamarouter.cli.top", "top", "Watch models, queues and devices live."),
    "events": Listed("Running", "llamarouter.cli.events", "events", "Print what happens, as it happens."),
    "load": Listed("Running", "llamarouter.cli.load", "load", "Load models now instead of at their first request."),
    "unload": Listed("Running", "llamarouter.cli.unload", "unload", "End models' processes and free their memory."),
    "pin": Listed("Running", "llamarouter.cli.pin", "pin", "Keep models in memory: they make room for no other."),
    "unpin": Listed("Running", "llamarouter.cli.pin", "unpin", "Let pinned models make room for others again."),
    "why": Listed("Running", "llamarouter.cli.why", "why", "Show why a model failed, and what to do."),
    "logs": Listed(
        "Running", "llamarouter.cli.logs", "logs", "Print what the router, or the process of a model, wrote."
    ),
    "run": Listed("Talking", "llamarouter.cli.run", "run", "Ask a model once, or chat with it."),
    "compare": Listed("Talking", "llamarouter.cli.compare", "compare", "Ask two models the same, side by side."),
    "doctor": Listed(
        "About", "llamarouter.cli.doctor", "doctor", "Look for what is wrong here, and say what mends it."
    ),
    "engine": Listed("About", "llamarouter.cli.engine", "engine", "Show or build the llama-server that is used."),
    "completion": Listed(
        "About",
        "llamarouter.cli.completion",
        "completion",
        "Print what a shell needs to complete commands, options and models.",
    ),
    "version": Listed("About", "llamarouter.cli.version", "version", "Print the versions of lr and of the router."),
}

WIDTH = max(len(name) for name in COMMANDS)


class LazyGroup(click.Group):
    """A group that knows its commands' names and lines, and imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return None
        command = getattr(importlib.import_module(listed.module), listed.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from llamarouter.core.naming import nearest

            raise click.UsageError(f"there is no command {args[0]!r}{nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group in dict.fromkeys(listed.group for listed in COMMANDS.values()):
            with formatter.section(group):
                rows = [
                    (f"{name:<{WIDTH}}", listed.summary) for name, listed in COMMANDS.items() if listed.group == group
                ]
                formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="lr", message="%(prog)s %(version)s")
def lr() -> None:
    """One door to every GGUF model on this machine.

    \b
      lr serve                       serve what is in the caches, on 127.0.0.1:8080
      lr serve --models-dir ./models -c 8192 -ngl 99
      lr pull user/model:Q4_K_M      fetch a model; a running router has it at once
      lr run MODEL "Why is the sky blue?"

    The other commands find the running router by themselves; --port chooses among several, and LR_URL with
    LR_API_KEY names one on another machine. --json prints for programs.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. LR_DEBUG=1 shows tracebacks, NO_COLOR=1 no colours.
    Names complete after: eval "$(lr completion bash)" (also zsh, fish).
    """


class ServeCommand(click.Command):
    """`lr serve` as click sees it: no option of it is click's."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from llamarouter.cli.completion import options_of_serve

        return options_of_serve(incomplete) if incomplete.startswith("-") else super().shell_complete(ctx, incomplete)


@click.command(cls=ServeCommand, add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.Path())
def serve(arguments: tuple[str, ...]) -> int:
    """Find the models and serve them on one address."""
    from llamarouter.cli import serve as command

    return command.serve(list(arguments))


def run(arguments: list[str]) -> int:
    """Run one command; raises what `main` knows how to say, `UsageError` for what click refuses."""
    instruction = os.environ.get("_LR_COMPLETE")
    if instruction:
        from llamarouter.cli.completion import answer

        return answer(instruction)
    try:
        with lr.make_context("lr", arguments) as context:
            return _status_of(lr.invoke(context))
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        from llamarouter.core.errors import UsageError

        raise UsageError(_with_hint(error)) from error
    except click.ClickException as error:
        raise CommandFailed(error.format_message()) from error


def _with_hint(error: click.UsageError) -> str:
    message = error.format_message()
    message = message[:1].lower() + message[1:].removesuffix(".")
    return f"{message} (see `{error.ctx.command_path} --help`)" if error.ctx else message


def _status_of(result: Any) -> int:
    """A command may return its exit code; most return nothing."""
    return result if isinstance(result, int) else 0
