"""What is counted for `/metrics`: requests as the journal tells of them, and what happens to models.

Nothing is done while a request is on its way: the journal tells of those that are over, in batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from operator import attrgetter

from llamarouter.core.access import Access
from llamarouter.core.events import Stop
from llamarouter.core.exits import Exit
from llamarouter.core.metric_table import UNKNOWN
from llamarouter.core.route_kinds import kind_of
from llamarouter.core.tally import Tally, add_tokens
from llamarouter.core.tokens import NONE
from llamarouter.relay.call import Call, Ending, tokens_of
from llamarouter.relay.journal import Journal
from llamarouter.relay.switchboard import Ask
from llamarouter.server.child import Child
from llamarouter.server.lives import Lives

_STATUS, _BYTES_IN, _BYTES_OUT = map(attrgetter, ("status", "bytes_in", "bytes_out"))
_OK = Ending.OK  # taken from its class it would cost 0.2 us each time


class Counting:
    """Fills in a `Tally`. `model_of`: the id of the model that a request asks for; None: there is no such model."""

    def __init__(self, model_of: Callable[[Ask], str | None], journal: Journal, lives: Lives) -> None:
        self.tally = Tally()
        journal.readers.append(self.take)
        lives.on_stop = self._stopped
        self._model_of = model_of

    def take(self, calls: Sequence[Call]) -> None:
        """A reader of the journal."""
        relayed: defaultdict[tuple[str, str, Access | None], list[Call]] = defaultdict(list)
        for call in calls:
            if call.outcome is None:
                self._answered(call)
            else:  # it was in a model: nearly all are, and thousands come in a second
                relayed[call.model, call.path, call.access].append(call)
        for (model, path, access), alike in relayed.items():
            self._relayed(model, path, access, alike)

    def _relayed(self, model: str, path: str, access: Access | None, calls: Sequence[Call]) -> None:
        tally = self.tally.model(model)
        key = None if access is None or not access.id else self.tally.key(access.id)
        if key is not None:
            key.add(map(_STATUS, calls))
        seconds = [call.ended - call.since for call in calls]
        firsts = [call.first - call.since for call in calls if call.first]
        route = tally.route(kind_of(path))
        route.add(map(_STATUS, calls), seconds, firsts, map(_BYTES_IN, calls), map(_BYTES_OUT, calls))
        for call in calls:
            if call.queue or call.load:
                tally.waited(call.queue, call.load)
            if call.ending is not _OK:
                self._unhappy(call)
                if key is not None and call.reason:
                    key.refusals[call.reason] += 1
            tokens = call.tokens or tokens_of(call)
            if tokens is not NONE:
                add_tokens(tally.tokens, tokens)
                if key is not None:
                    add_tokens(key.tokens, tokens)

    def _unhappy(self, call: Call) -> None:
        """It was in a model, and its client has not got all of the answer."""
        tally = self.tally.model(call.model)
        if call.ending is Ending.CLIENT_GONE:
            if call.status:
                tally.broken["client"] += 1
        elif call.ending is Ending.TRUNCATED:
            tally.broken["model"] += 1
        elif call.reason:
            tally.refusals[call.reason] += 1

    def _answered(self, call: Call) -> None:
        """The router has answered it, or its client has left before anybody could."""
        tally = self.tally.model("" if call.ask is None else self._model_of(call.ask) or UNKNOWN)
        tally.route(kind_of(call.path)).statuses[call.status // 100] += 1
        if call.reason:
            tally.refusals[call.reason] += 1
        if call.access is not None and call.access.id:
            key = self.tally.key(call.access.id)
            key.add((call.status,))
            if call.reason:
                key.refusals[call.reason] += 1

    def keep(self, models: Container[str], keys: Container[str]) -> None:
        """Forget what is neither one of these models nor one of these keys."""
        self.tally.keep(models, keys)

    def ready(self, child: Child) -> None:
        """A model has been loaded."""
        if child.ready is not None:
            self.tally.model(child.model).loaded(child.ready.load_seconds)

    def failed(self, child: Child, end: Exit) -> None:
        """The process of a model has ended, and nobody had asked it to."""
        self.tally.model(child.model).failed(end.cause.value, loading=child.ready is None)

    def _stopped(self, child: Child, command: Stop) -> None:
        """The process of a model is asked to end."""
        reason = command.reason.value if command.sake is None else command.sake.lacks.value
        self.tally.model(child.model).stopped(reason, loading=child.ready is None)
