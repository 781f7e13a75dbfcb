"""The folders that a router needs: whose they are, who else may look in, and how much room is left.

runtime   sockets of the models: whoever reaches one needs no key
state     keys, what was learnt
cache     what `lr pull` fills; only its owner has to write there
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity
from llamarouter.host.discovery import places_of
from llamarouter.host.runtime_folder import base_of
from llamarouter.host.state import state_dir

AREA = "folders"
LITTLE_ROOM = 2 << 30  # bytes: less than the smallest useful model takes
NO_ROOM = 64 << 20
_RUNTIME = "runtime folder"


class Folder(Struct, frozen=True):
    """One that is looked at. `private`: nobody else may look in."""

    name: str
    path: str
    private: bool
    setting: str  # which variable moves it


def folders_of(environ: Mapping[str, str], hub_cache: str | None = None) -> list[Folder]:
    """Those of this user; `hub_cache`: the one that the running router reads."""
    return [
        Folder(_RUNTIME, base_of(environ), True, "LR_RUNTIME_DIR"),
        Folder("state folder", str(state_dir(environ)), True, "LR_STATE_DIR"),
        Folder("models' cache", hub_cache or places_of(environ, None).hub_cache, False, "HF_HOME"),
    ]


def check_folders(environ: Mapping[str, str], hub_cache: str | None = None) -> list[Finding]:
    """All of them, and which cache is whose."""
    findings: list[Finding] = []
    for folder in folders_of(environ, hub_cache):
        findings += _check(folder)
    own = places_of(environ, None).hub_cache
    if hub_cache is not None and os.path.realpath(own) != os.path.realpath(hub_cache):
        what = f"`lr pull` of this shell would fill {own}, and the running router reads {hub_cache}"
        fix = f"while it runs `lr pull` has it fetch; otherwise HF_HUB_CACHE={hub_cache}"
        findings.append(Finding(AREA, Severity.WARNING, what, own, fix))
    return findings


def _check(folder: Folder) -> Iterator[Finding]:
    try:
        found = os.stat(folder.path, follow_symlinks=not folder.private)
    except FileNotFoundError:
        yield _missing(folder)
        return
    except OSError as error:
        yield _wrong(folder, f"cannot be looked at ({error.strerror})", f"set {folder.setting} to another folder")
        return
    wrongs = list(_wrongs(folder, found))
    yield from wrongs
    if not wrongs:
        mode = stat.S_IMODE(found.st_mode)
        yield Finding(AREA, Severity.FINE, f"the {folder.name} is ours, mode {mode:04o}", folder.path)
    yield from _room(folder, folder.path)


def _wrongs(folder: Folder, found: os.stat_result) -> Iterator[Finding]:
    if not stat.S_ISDIR(found.st_mode):
        link = "a link" if stat.S_ISLNK(found.st_mode) else "no folder"
        yield _wrong(folder, f"is {link}", f"remove it, or set {folder.setting} to another folder")
        return
    mode = stat.S_IMODE(found.st_mode)
    if folder.private and found.st_uid not in (os.geteuid(), 0):
        yield _wrong(folder, f"belongs to another user (uid {found.st_uid})", f"set {folder.setting} to one of yours")
    elif folder.private and mode & 0o077:
        # The files of the state folder are 0600: who looks in learns names, but who may write replaces them.
        severity = Severity.ERROR if mode & 0o022 or folder.name == _RUNTIME else Severity.WARNING
        what = f"the {folder.name} is open to other users (mode {mode:04o})"
        yield Finding(AREA, severity, what, folder.path, f"chmod 700 {folder.path}")
    if not os.access(folder.path, os.R_OK | os.X_OK):
        yield _wrong(folder, "cannot be read by this user", f"set {folder.setting}, or run as uid {found.st_uid}")
    elif not os.access(folder.path, os.W_OK):
        what = f"the {folder.name} cannot be written to by this user: he can neither fetch nor delete"
        fix = f"run `lr pull` as uid {found.st_uid}, or have a running router fetch"
        yield Finding(AREA, Severity.ERROR if folder.private else Severity.WARNING, what, folder.path, fix)


def _missing(folder: Folder) -> Finding:
    """It is made when it is needed: can it be?"""
    above = os.path.dirname(folder.path)
    while above != "/" and not os.path.lexists(above):
        above = os.path.dirname(above)
    if os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK):
        return Finding(AREA, Severity.FINE, f"the {folder.name} is not there yet and can be made", folder.path)
    return _wrong(folder, f"is not there, and {above} lets nobody make it", f"set {folder.setting} to another folder")


def _room(folder: Folder, path: str) -> Iterator[Finding]:
    try:
        room = os.statvfs(path)
    except OSError:
        return
    free = room.f_bavail * room.f_frsize
    least = NO_ROOM if folder.private else LITTLE_ROOM
    if free < least:
        severity = Severity.ERROR if free < NO_ROOM else Severity.WARNING
        what = f"only {free / 1e6:.0f} MB are free where the {folder.name} is"
        yield Finding(AREA, severity, what, path, f"`lr rm` a model, or set {folder.setting} to a larger disk")


def _wrong(folder: Folder, what: str, fix: str) -> Finding:
    return Finding(AREA, Severity.ERROR, f"the {folder.name} {what}", folder.path, fix)
