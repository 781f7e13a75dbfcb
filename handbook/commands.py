"""docs/cli.md: every command of `lr` with its arguments and options, as click knows them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from handbook.markdown import cell, code, table
from llamarouter.cli.commands import COMMANDS, lr

_HEAD = """\
# The commands of `lr`

Written by `scripts/write-reference` from the commands themselves; a test holds it. `lr COMMAND --help` says the same.
Exit codes of all: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Names complete: `lr completion --help`.
"""

_SERVE = """\
Its options, with their variables and defaults, and everything else that can be set: [settings.md](settings.md). Every
option of llama-server may stand beside them and holds for all models: `lr serve -c 8192 -ngl 99`.
"""


def page_of_commands() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group in dict.fromkeys(listed.group for listed in COMMANDS.values()):
        parts.append(f"## {group}\n")
        for name, listed in COMMANDS.items():
            if listed.group == group:
                context = click.Context(lr, info_name="lr")
                command = lr.get_command(context, name)
                assert command is not None
                parts += _parts_of(command, click.Context(command, info_name=name, parent=context))
    return "\n".join(parts)


def _parts_of(command: click.Command, context: click.Context) -> Iterator[str]:
    depth = context.command_path.count(" ")
    yield f"{'#' * (2 + depth)} `{context.command_path}`\n"
    usage = " ".join(command.collect_usage_pieces(context))
    serves = context.command_path == "lr serve"
    yield f"    {context.command_path} {'[OPTIONS] [ANY OPTION OF llama-server]' if serves else usage}\n"
    yield _described(command.help or "")
    if serves:
        yield _SERVE
        return
    rows = [_row(parameter) for parameter in command.params if isinstance(parameter, click.Option)]
    if rows:
        yield table(("option", "what it does"), rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _parts_of(inner, click.Context(inner, info_name=name, parent=context))


def _described(help: str) -> str:
    """The help of a command; what click must not wrap (behind a line with a backspace) is shown as code."""
    paragraphs = []
    for paragraph in inspect.cleandoc(help).split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("\n".join(f"    {line.removeprefix('  ')}" for line in paragraph.splitlines()[1:]))
        else:
            paragraphs.append(_plain(paragraph))
    return "\n\n".join(paragraphs) + "\n"


def _plain(text: str) -> str:
    """What Markdown would take for HTML or for emphasis, as it stands."""
    return text.replace("<", "\\<").replace("*", "\\*")


def _row(option: click.Option) -> tuple[str, str]:
    """Made here, and not by click, whose way of writing ranges and defaults differs from version to version."""
    spellings = " / ".join(", ".join(names) for names in (option.opts, option.secondary_opts) if names)
    value = "" if option.is_flag or option.count else f" {option.metavar or _kind_of(option.type)}"
    default = f" (default: {option.default})" if option.show_default and not option.is_flag else ""
    return code(spellings + value), cell(_plain(f"{option.help or ''}{default}"))


def _kind_of(kind: click.ParamType) -> str:
    return "|".join(map(str, kind.choices)) if isinstance(kind, click.Choice) else kind.name.upper()
