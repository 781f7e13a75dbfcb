"""What a client may take of the door: how long, and how many connections. The words are nginx's where it has one.

    header-timeout     a whole head, counted from its first byte; of a fresh connection from its first moment
    body-timeout       from one piece of a body to the next; and all of it, for each MiB that it has
    send-timeout       a client that does not read what is there for it
    keepalive-timeout  between two requests of a connection

Heads have llama-server's own limits (100 headers, 8 KiB a line, a target of 32 KiB), bodies a size (100 MiB): they are
no settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from llamarouter.core.own_option import LISTEN, OwnOption, row

if TYPE_CHECKING:
    from llamarouter.core.own_values import OwnValues


class DoorLimits(Struct, frozen=True, kw_only=True):
    """Times are seconds."""

    header_timeout: float = 10.0
    body_timeout: float = 60.0
    send_timeout: float = 60.0
    # Longer than nginx's 60 s, so that nginx closes idle connections first and never races with us.
    keepalive_timeout: float = 75.0
    max_connections: int = 4096


LIMITS: tuple[OwnOption, ...] = (
    row(
        *(LISTEN, "--allowed-hosts", "NAMES", "LR_ALLOWED_HOSTS", ""),
        "names that requests may be sent to besides this machine's own, by commas: llm.example.org, .example.org, or * "
        "for any; on loopback others are refused, so that no web page can reach the router by a name of its own",
    ),
    row(
        *(LISTEN, "--header-timeout", "SECONDS", "LR_HEADER_TIMEOUT", "10"),
        "a client whose request's head is not here after so long is let go",
    ),
    row(
        *(LISTEN, "--body-timeout", "SECONDS", "LR_BODY_TIMEOUT", "60"),
        "so long from one piece of a request's body to the next, and so long for each MiB of it",
    ),
    row(
        *(LISTEN, "--send-timeout", "SECONDS", "LR_SEND_TIMEOUT", "60"),
        "a client that reads nothing of its answer for so long is let go, and its slot is free",
    ),
    row(
        *(LISTEN, "--keepalive-timeout", "SECONDS", "LR_KEEPALIVE_TIMEOUT", "75"),
        "so long may a connection stay between two requests (nginx in front: longer than its own)",
    ),
    row(
        *(LISTEN, "--max-connections", "N", "LR_MAX_CONNECTIONS", "4096"),
        "so many connections of clients at once; whoever comes then gets a 503",
    ),
)


def limits_of(values: OwnValues) -> DoorLimits:
    standard = DoorLimits()
    return DoorLimits(
        header_timeout=values.seconds("--header-timeout", standard.header_timeout),
        body_timeout=values.seconds("--body-timeout", standard.body_timeout),
        send_timeout=values.seconds("--send-timeout", standard.send_timeout),
        keepalive_timeout=values.seconds("--keepalive-timeout", standard.keepalive_timeout),
        max_connections=values.integer("--max-connections", standard.max_connections, 1),
    )
