"""Who an option of llama-server belongs to: the child, or the router that stands in front of it.

One table, by spelling. Everything that is not in it goes to the child as the operator wrote it. What the router owns
never reaches a child: it listens on a socket of ours, without keys or TLS, and is known by the id that we give it.
"""

from __future__ import annotations

import enum

from llamarouter.core.flags import Option


class Role(enum.Enum):
    """What becomes of an option."""

    CHILD = "goes to the child"
    ROUTER = "the router owns it"
    ALIAS = "a name that the router answers to"
    TAGS = "shown in the list of models"
    PAGE = "whether the web page shows the model: a section's word, never everybody's"
    SOURCE = "says which files the model is"
    REMOTE = "a source that would make the child download"
    ACTION = "prints something and exits"


_ROLES: dict[str, Role] = {
    **dict.fromkeys(
        (
            "--host",
            "--port",
            "--reuse-port",
            "--path",
            "--api-prefix",
            "--api-key",
            "--api-key-file",
            "--ssl-key-file",
            "--ssl-cert-file",
            "--models-dir",
            "--models-preset",
            "--models-max",
            "--models-autoload",
            "--hf-token",
            "--ui-config",
            "--ui-config-file",
            "--ui-mcp-proxy",
            "--tools",
            "--tools-runtime",
            "--mcp-servers-config",
            "--mcp-servers-json",
            "--agent",
            "--cors-origins",
            "--cors-methods",
            "--cors-headers",
            "--cors-credentials",
            # A child's standard output carries its states, its standard error goes into a file of lines.
            "--log-jsonl",
            "--log-colors",
        ),
        Role.ROUTER,
    ),
    "--alias": Role.ALIAS,
    "--tags": Role.TAGS,
    # The router's own page is another thing, with the same name on its command line and in its environment.
    "--ui": Role.PAGE,
    **dict.fromkeys(("--model", "--mmproj", "--model-draft", "--hf-repo", "--hf-file", "--hf-repo-draft"), Role.SOURCE),
    **dict.fromkeys(("--model-url", "--docker-repo"), Role.REMOTE),
    **dict.fromkeys(
        ("--help", "--usage", "--version", "--cache-list", "--completion-bash", "--list-devices"), Role.ACTION
    ),
}

_DOWNLOADS = "can download weights"

# Said when such an option stands on the command line of `lr serve`, instead of doing nothing in silence.
_NO_DOWNLOAD = "would let the child download: name the model by -hf USER/MODEL, or its file by -m FILE"
_NOT_BUILT = "is not a feature of lr serve"
REFUSED: dict[str, str] = {
    "--model-url": _NO_DOWNLOAD,
    "--docker-repo": _NO_DOWNLOAD,
    "--mmproj-url": "would let the child download: fetch it and give --mmproj FILE",
    "--reuse-port": f"{_NOT_BUILT}: one router owns its port",
    "--ui-mcp-proxy": _NOT_BUILT,
    "--tools": _NOT_BUILT,
    "--tools-runtime": _NOT_BUILT,
    "--mcp-servers-config": _NOT_BUILT,
    "--mcp-servers-json": _NOT_BUILT,
    "--agent": _NOT_BUILT,
    "--help": "prints and exits; for lr: lr serve --help",
    "--version": "prints and exits; for lr: lr version",
    "--list-devices": "prints and exits; lr engine shows the devices",
    "--cache-list": "prints and exits; lr ls shows the models",
    "--completion-bash": "prints and exits; ask llama-server itself for it",
}


def role_of(option: Option) -> Role:
    """Whose an option is, by any of its spellings (builds differ in which of them they print last)."""
    for name in option.names:
        if name in _ROLES:
            return _ROLES[name]
    return Role.REMOTE if _DOWNLOADS in option.help else Role.CHILD


def refusal_of(option: Option) -> str | None:
    """Why an option cannot stand on the command line of `lr serve`; None when it can."""
    for name in option.names:
        if name in REFUSED:
            return REFUSED[name]
    if _DOWNLOADS in option.help:
        return _NO_DOWNLOAD
    return _removal_of(option) if option.removed else None


def _removal_of(option: Option) -> str:
    return option.help.partition(".")[2].strip() or "was removed from llama-server"
