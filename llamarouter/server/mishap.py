"""A mistake of ours in what must end nothing else: the log has it, and whoever began it goes on without.

The one place that catches everything: a child's life, an errand and a look that is done at once are each beside others
that must not fail with them.
"""

from __future__ import annotations

import logging
from types import TracebackType

log = logging.getLogger("llamarouter")


class Mishap:
    """In the block anything may go wrong: it ends there, and the log has `what` and where. Also round an `await`.

    `error`: what went wrong; None as long as nothing has.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.error: Exception | None = None

    def __enter__(self) -> Mishap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):  # nothing, or the end of the task
            return False
        log.error("%s", self._what, exc_info=error)
        self.error = error
        return True
