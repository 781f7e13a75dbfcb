"""How a command ends when it cannot do what was asked: one line for people, exit code 1."""

from __future__ import annotations


class CommandFailed(Exception):
    """What was asked was understood and did not work; the message is one line, said as `lr: MESSAGE`."""


class RouterFailure(CommandFailed):
    """The router refused, or could not be reached (`status` 0); `reason` is the word that programs compare."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


def one_line(text: object) -> str:
    """`text` as one printable line: what comes from a file name or from the network cannot steer the terminal."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "?" for character in words)
