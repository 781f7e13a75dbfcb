"""The ways to end a client's connection for which a plain close will not do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds
_LINGER = 2.0  # seconds
_FAREWELL = 1.0  # seconds


def close_idle(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close a connection on which nothing goes on: within 1 second, unless something is still to be sent.

    In TLS the other side is to confirm a close, which a client that does not read just now never does.
    """
    unsent = transport.get_write_buffer_size()
    transport.close()
    if _is_tls(transport) and not unsent:
        loop.call_later(_FAREWELL, transport.abort)


def close_by_reset(transport: asyncio.Transport) -> None:
    """Close so that the other side sees a failure: a body that its end delimits would look complete otherwise."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    if _is_tls(transport):
        transport.abort()  # a close would say, in TLS, that all is well
    else:
        transport.close()


def close_softly(transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
    """Close so that a client which is still sending can read the answer: a plain close would reset it.

    What it goes on sending must be read, and ignored, until it has closed, for 2 seconds at most. TLS knows no end of
    one direction: there the client, which was told that the connection ends, has to close first.
    """
    if not _is_tls(transport):
        transport.write_eof()
    loop.call_later(_LINGER, transport.abort)


class SoftClosing:
    """A client's transport as uvicorn's cycle has it while the request still comes: its close must be a soft one."""

    __slots__ = ("_close", "_transport")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._close()


def _is_tls(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sslcontext") is not None
