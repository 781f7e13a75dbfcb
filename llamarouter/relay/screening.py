"""Keeping out what is not let in by what its body says: media on the network, and what crashed its model. The latter is
looked at before a request waits, and once more when it has waited.

The fast lane, where nothing waits, does the first look by itself.
"""

from __future__ import annotations

import asyncio

from llamarouter.core.access import Access
from llamarouter.core.errors import RequestQuarantined
from llamarouter.core.media import ESCAPE, PLAIN, RemoteMedia, check_media
from llamarouter.core.quarantine import mark_of
from llamarouter.relay.exchange import Request
from llamarouter.relay.incoming import MAX_FAST_BODY
from llamarouter.relay.switchboard import Ask, Lease, Outcome, Switchboard, Wait

_EVERYBODYS, _KEYLESS = RemoteMedia.EVERYBODYS, RemoteMedia.KEYLESS  # an enum's members cost a look-up each time
_NOTHING = Outcome(0, complete=False, client_left=False, tail=b"")


def screen_media(switchboard: Switchboard, access: Access, body: bytes) -> None:
    """Raise `RemoteMediaForbidden` where the body makes a model fetch what its sender may not have fetched."""
    if body.find(PLAIN) < 0 and body.find(ESCAPE) < 0:  # as nearly all are
        return
    whose = switchboard.remote_media
    if whose is _EVERYBODYS or (access.key is None and whose is _KEYLESS):
        return
    check_media(body)


async def screen(switchboard: Switchboard, ask: Ask, request: Request) -> None:
    """Raise `RequestQuarantined` where this request, byte for byte, has crashed the model that it asks for."""
    if switchboard.quarantine.models and request.body:
        large = len(request.body) > MAX_FAST_BODY
        mark = await asyncio.to_thread(_mark, request) if large else _mark(request)
        switchboard.screen(ask, mark)


async def lease_for(switchboard: Switchboard, ask: Ask, request: Request, wait: Wait) -> Lease:
    """A place for a request, which is given back where its like has crashed the model meanwhile.

    Raises `RouterError` when it is refused.
    """
    lease = await switchboard.lease(ask, wait)
    if switchboard.quarantine.models and request.body:
        try:
            switchboard.screen(ask, _mark(request))  # in this thread, however large: nothing may come between
        except RequestQuarantined:
            lease.end(_NOTHING)
            raise
    return lease


def _mark(request: Request) -> bytes:
    return mark_of(request.target, request.body)
