"""The two ways to end a client's connection for which a plain close will not do."""

from __future__ import annotations

import asyncio
import socket
import struct

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds
_LINGER = 2.0  # seconds


def reset_on_close(transport: asyncio.Transport) -> None:
    """Have the coming close reset the connection: a body that its end delimits would look complete otherwise."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def close_softly(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close so that a client which is still sending can read the answer: a plain close would reset it.

    What it goes on sending must be read, and ignored, until it has closed, for 2 seconds at most.
    """
    if transport.can_write_eof():
        transport.write_eof()
        loop.call_later(_LINGER, transport.abort)
    else:
        transport.close()
