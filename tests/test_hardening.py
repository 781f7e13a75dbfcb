"""What a process asks of the kernel for itself and for all that it starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_process(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_process_is_made_private_at_once() -> None:
    shown = in_process(
        "import os, resource; os.umask(0o002)\n"
        "from llamarouter.host.hardening import harden\n"
        "before = harden()\n"
        "print(before, os.umask(0), resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert shown.split() == ["2", "63", "(1,", "1)"]


def test_where_the_hard_limit_is_0_it_stays() -> None:
    shown = in_process(
        "import os, resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "os.geteuid() == 0 and os.setresuid(65534, 65534, 65534)\n"
        "from llamarouter.host.hardening import harden\n"
        "harden(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    assert shown == "(0, 0)\n"


def test_no_other_process_looks_into_it() -> None:
    shown = in_process(
        "import ctypes\n"
        "from llamarouter.host.hardening import close_to_others\n"
        "print(ctypes.CDLL(None).prctl(3)); close_to_others(); print(ctypes.CDLL(None).prctl(3))"
    )
    assert shown == "1\n0\n"


def test_the_ends_of_its_children_are_told_to_it_whoever_has_started_it() -> None:
    shown = in_process(
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from llamarouter.host.hardening import harden\n"
        "harden(); print(subprocess.run([sys.executable, '-c', 'exit(3)']).returncode)"
    )
    assert shown == "3\n"
