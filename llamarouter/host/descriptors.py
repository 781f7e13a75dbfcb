"""How many files this process may have open, raised to what its clients need.

A client takes two: its own connection, and that to a model. The hard limit is the operator's word, and stays.
"""

from __future__ import annotations

import contextlib
import resource

# For what is no client: listening sockets, the logs, pipes and sockets of models, files that are read.
_OWN = 256


def clients_within(wanted: int) -> int:
    """Make room for so many clients, as far as may be; for how many there is."""
    need = 2 * wanted + _OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not _reaches(soft, need):
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than its hard limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (need if _reaches(hard, need) else hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if _reaches(soft, need) else max(1, (soft - _OWN) // 2)


def _reaches(limit: int, need: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= need
