"""What many commands take: which router, which output, which model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    StringType = click.ParamType[str]
else:
    StringType = click.ParamType  # generic for the type checker alone, before click 8.3

F = TypeVar("F", bound=Callable[..., Any])


def server_options(command: F) -> F:
    """`--url` and `--port`: which router is meant."""
    port = click.option(
        "--port", metavar="N", type=click.IntRange(0, 65535), help="The router of this machine on that port."
    )
    url = click.option("--url", metavar="URL", help="A router elsewhere (also LR_URL, with its key in LR_API_KEY).")
    return url(port(command))


def json_option(command: F) -> F:
    """`--json`: for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def answer_options(command: F) -> F:
    """`--system`, `--temp`, `-n`: what an answer is asked for with."""
    system = click.option("--system", metavar="TEXT", help="A system message, in front of all.")
    temp = click.option(
        "--temp", metavar="T", type=click.FloatRange(min=0), help="Sampling temperature; else as the model is set."
    )
    length = click.option(
        "-n", "--max-tokens", metavar="N", type=click.IntRange(min=1), help="End an answer after so many tokens."
    )
    return system(temp(length(command)))


class ModelName(StringType):
    """A model's id or alias. The shell completes it from the running router."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from llamarouter.cli.completion import models_for

        return models_for(ctx.params.get("url"), ctx.params.get("port"), incomplete)


MODEL = ModelName()
