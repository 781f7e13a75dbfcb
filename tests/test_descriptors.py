"""The limit of open files is raised to what the clients need, and where that is forbidden there are fewer clients."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: who has lowered his hard limit cannot raise it again.
CODE = """
import logging, resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from llamarouter.cli.serve import _within_limits
from llamarouter.core.door_limits import DoorLimits
from llamarouter.core.settings import Settings
logging.basicConfig(format="%(message)s")
settings = _within_limits(Settings(limits=DoorLimits(max_connections=wanted)))
print(settings.limits.max_connections, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "clients", "files"),
    [
        (512, 2000, 100, 100, 512),  # enough
        (300, 2000, 800, 800, 1856),  # raised, as far as it needs
        (300, 2000, 872, 872, 2000),
        (300, 1000, 4096, 372, 1000),
        (200, 200, 10, 1, 200),  # hardly anything, but it runs
    ],
)
def test_clients_have_files(soft: int, hard: int, wanted: int, clients: int, files: int) -> None:
    argv = [sys.executable, "-c", CODE, str(soft), str(hard), str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == [str(clients), str(files), str(hard)]
    told = f"--max-connections is {clients}, not {wanted}: no more files may be open (LimitNOFILE= of the unit, or "
    assert done.stderr == (f"{told}`ulimit -Hn`)\n" if clients < wanted else "")
