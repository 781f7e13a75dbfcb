"""What the router asks of the kernel for itself and its children, before it reads a secret or writes a file.

umask 077        what they write is for their user alone, whatever the shell's was
RLIMIT_CORE      no core dump: it would hold prompts, answers and keys
SIGCHLD          not ignored, as after `trap '' CHLD` in the shell: nobody would hear how a child has ended
not dumpable     other processes of the same user, such as a model's that is no longer its own master, do not get
                 to read the router's memory and environment, or to steer it (`ptrace`); not inherited
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys

_PRIVATE = 0o077
# Not 0: that forbids a file of it, and lets the kernel hand all of it to a program (`core_pattern` with a pipe, as of
# systemd-coredump or apport). With 1 it does neither (fs/coredump.c).
_NO_CORE = 1  # byte
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def harden() -> int:
    """Make this process private, and all that it starts; returns the umask that the operator had."""
    for limit in (_NO_CORE, 0):  # where somebody has set the hard limit to 0 already, that is all there is
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
            break
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return os.umask(_PRIVATE)


def close_to_others() -> None:
    """Let no other process of this user look into this one; root may. Takes 5 ms, for which it needs no hurry."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
