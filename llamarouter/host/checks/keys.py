"""The file of keys: who may read it, whether it is understood, and which keys open nothing any more.

Those of `--api-key-file` and `--ssl-key-file` are the operator's own, and are only looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llamarouter.core.errors import UsageError
from llamarouter.core.findings import Finding, Severity
from llamarouter.host.key_file import KeyFile

AREA = "keys"
_SOON = timedelta(days=7)


def check_keys(path: Path, now: datetime | None = None) -> list[Finding]:
    """`now`: of the wall clock, with its zone."""
    now = now or datetime.now(UTC)
    try:
        keys = KeyFile(path).read()
    except UsageError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [Finding(AREA, Severity.ERROR, reason, str(path), _mending(reason, path))]
    if not keys:
        what = "there is no key of `lr key`: who reaches the router may use it"
        return [Finding(AREA, Severity.NOTE, what, str(path), "`lr key add NAME` makes one")]
    findings = []
    over = [key.name for key in keys if key.is_over(now.timestamp())]
    soon = [key.name for key in keys if key.expires is not None and now < key.expires <= now + _SOON]
    if over:
        severity = Severity.ERROR if len(over) == len(keys) else Severity.WARNING
        all_of_them = "; no other is left" if len(over) == len(keys) else ""
        what = f"expired, and opening nothing: {', '.join(over)}{all_of_them}"
        findings.append(Finding(AREA, severity, what, str(path), f"`lr key rm {' '.join(over)}`, or add new ones"))
    if soon:
        what = f"will expire within 7 days: {', '.join(soon)}"
        findings.append(Finding(AREA, Severity.NOTE, what, str(path), "`lr key ls` shows when"))
    return findings or [Finding(AREA, Severity.FINE, f"{len(keys)} of `lr key`, none expired", str(path))]


def check_secret_files(paths: Iterable[str]) -> list[Finding]:
    """Whether everybody on this machine may read or change a file of keys. Its group may: certificates are kept so."""
    findings = []
    for path in paths:
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except OSError:  # a service's own, as systemd gives it: nobody else gets there
            continue
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            what = f"everybody on this machine may read or change the keys in it (mode {mode:o})"
            findings.append(Finding(AREA, Severity.ERROR, what, path, f"chmod o-rwx {path}, and make new keys"))
    return findings


def _mending(reason: str, path: Path) -> str:
    if "others may" in reason:
        return f"chmod 600 {path}"
    if "another user" in reason:
        return "run lr as the user whose router it is"
    return "mend it, or move it away and make the keys again (`lr key add`)"
