"""The environment of a child: the router's own, without what is none of its business.

A child parses files and requests that others wrote, so no credential goes there; everything that llama.cpp would
read as a setting is read by the router, folded, and passed on the command line where it can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# llama.cpp's settings, Vertex AI's, the Hub's, ours, and what systemd tells the one process that it started.
_PREFIXES = ("LLAMA_", "AIP_", "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "LR_", "LISTEN_", "WATCHDOG_")
_NAMES = frozenset(
    {
        "MODEL_ENDPOINT",
        "NOTIFY_SOCKET",
        "CREDENTIALS_DIRECTORY",
        "SSH_AUTH_SOCK",
        "SSH_AGENT_PID",
        "GPG_AGENT_INFO",
        "DBUS_SESSION_BUS_ADDRESS",
        "KUBECONFIG",
        "NETRC",
    }
)
# Where a config.ini of llama.cpp may lie: a child is told of a folder of ours.
CONFIG_HOME = "XDG_CONFIG_HOME"
_SECRET = re.compile(
    r"PASSWORD|PASSWD|SECRET|(?:^|_)(?:TOKENS?|PASSPHRASE|PASS|CREDENTIALS?|COOKIE|APIKEY|KEYS?|PAT|AUTH)(?:_|$)",
    re.IGNORECASE,
)
_PROXY = re.compile(r"(?:[a-z]+_)?proxy", re.IGNORECASE)
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def holds_password(text: str) -> bool:
    """Whether there is an address with a password in it."""
    return _URL_WITH_PASSWORD.search(text) is not None


def child_env(environ: Mapping[str, str], extra: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """What a child gets: `environ` without credentials, settings and proxies, and `extra` over it.

    `HOME`, `PATH`, locale, driver and library variables (`CUDA_*`, `GGML_*`, `LD_LIBRARY_PATH` ...) stay.
    """
    kept = {name: value for name, value in environ.items() if not is_withheld(name, value)}
    kept.pop(CONFIG_HOME, None)
    kept.update(extra)
    return kept


def is_withheld(name: str, value: str) -> bool:
    """Whether a variable is none of a child's business."""
    return (
        name.startswith(_PREFIXES)
        or name in _NAMES
        or _SECRET.search(name) is not None
        or _PROXY.fullmatch(name) is not None
        or holds_password(value)
    )
