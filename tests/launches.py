"""Launches for tests, written as a command line of llama-server (build b11434)."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from llamarouter.core.asked import Asked, asked_of
from llamarouter.core.flags import OptionTable, split_argv
from llamarouter.core.fold import flags_of, fold, in_order
from llamarouter.core.launch import Launch
from llamarouter.core.memory_flags import Said
from llamarouter.core.shape import Shape, read_shape
from tests.engine_table import TABLE


def launch_of(command_line: str, table: OptionTable = TABLE) -> Launch:
    """The launch of these arguments."""
    given = split_argv(shlex.split(command_line), OptionTable(()), table)
    return Launch(None, flags_of(in_order(fold((given,)))))


def said_in(command_line: str, table: OptionTable = TABLE) -> Said:
    return Said(launch_of(command_line, table).flags, table)


def asked_in(command_line: str, table: OptionTable = TABLE) -> Asked:
    return asked_of(said_in(command_line, table))


def shape_in(*paths: Path) -> Shape:
    """The shape of the model in these files."""
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        return read_shape(
            [
                (lambda offset, count, descriptor=each: os.pread(descriptor, count, offset), os.fstat(each).st_size)
                for each in descriptors
            ]
        )
    finally:
        for each in descriptors:
            os.close(each)
