"""The environment in which a child is started: the pure rule, with the one folder of this machine that it needs.

`XDG_CONFIG_HOME` names a folder of ours that holds nothing: a `config.ini` of llama.cpp is read once, by the router,
and not again by every child.
"""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.child_env import CONFIG_HOME, child_env
from llamarouter.host.state import state_dir


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every child gets of the router's environment, and what is set for it."""
    return child_env(environ, set_for_children(environ))


def set_for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """What every child gets that it does not inherit: all of its environment that may be shown to anybody."""
    return {CONFIG_HOME: str(state_dir(environ) / "child-config")}
