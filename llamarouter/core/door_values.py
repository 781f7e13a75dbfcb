"""What the operator says about the door itself: its prefix, its certificate, its CORS, what its page is told.

Each reader takes the options and the environment as `OwnValues` has them and raises `UsageError` in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llamarouter.core.cors import Cors
from llamarouter.core.errors import UsageError
from llamarouter.core.own_values import OwnValues

# Segments of what stands in a path as it is; a dot alone would be taken away by clients.
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
_CONTROL = re.compile(r"[^\x20-\x7e]")

ReadFile = Callable[[str], str]


def api_prefix_of(values: OwnValues) -> str:
    """`--api-prefix`: "" or "/some/path", without a slash at its end."""
    text = values.text("--api-prefix")
    if text is None:
        return ""
    prefix = text.rstrip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{values.written('--api-prefix')} {text}: a path of letters, digits, '.', '_', '~' and '-', as in /llm"
        )
    return prefix


def certificate_of(values: OwnValues) -> tuple[str, str] | None:
    """The files of `--ssl-key-file` and `--ssl-cert-file`, in this order; None: no TLS."""
    key, certificate = values.text("--ssl-key-file"), values.text("--ssl-cert-file")
    if key is None and certificate is None:
        return None
    if certificate is None:
        raise UsageError(f"{values.written('--ssl-key-file')} {key} needs its certificate, too: --ssl-cert-file FILE")
    if key is None:
        raise UsageError(f"{values.written('--ssl-cert-file')} {certificate} needs its key, too: --ssl-key-file FILE")
    return key, certificate


def cors_of(values: OwnValues) -> Cors:
    """The `--cors-*` options."""
    standard = Cors()
    return Cors(
        origins=_header_text(values, "--cors-origins", standard.origins),
        methods=_header_text(values, "--cors-methods", standard.methods),
        headers=_header_text(values, "--cors-headers", standard.headers),
        credentials=values.truth("--cors-credentials", standard.credentials),
    )


def _header_text(values: OwnValues, name: str, standard: str) -> str:
    text = values.text(name)
    if text is None:
        return standard
    if _CONTROL.search(text):
        raise UsageError(f"{values.written(name)} {text!r}: only printable ASCII can stand in a header")
    return text.strip()


def ui_config_of(values: OwnValues, read_file: ReadFile) -> dict[str, Any]:
    """The object of `--ui-config`, or of the file of `--ui-config-file`; the command line wins over the environment."""
    inline, file = values.last_of("--ui-config"), values.last_of("--ui-config-file")
    if inline is not None and file is not None:
        if inline.from_environment is file.from_environment:
            raise UsageError(f"{inline.where} and {file.where}: give one of them")
        inline, file = (inline, None) if file.from_environment else (None, file)
    if file is not None:
        return _object(f"{file.where} {file.text}", _read(file.where, file.text, read_file))
    return _object(inline.where, inline.text) if inline is not None else {}


def _read(where: str, path: str, read_file: ReadFile) -> str:
    try:
        return read_file(path)
    except OSError as error:
        raise UsageError(f"{where} {path}: {error.strerror or 'cannot be read'}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} {path}: not a text file") from error


def _object(where: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{where}: nested too deep") from error
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f'{where}: must be a JSON object, as in {{"showMessageStats": true}}')
    return value
