"""`--path DIR`: a folder of the operator's served as the page, and nothing outside of it.

Files carry an ETag, and browsers are told to ask for it each time, but for what is named after its content. A build of
llama-server's own page is known by its `_app/version.json` and gets what it needs to be isolated.
"""

from __future__ import annotations

import asyncio
import os
import stat
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from llamarouter.core.errors import NotFound, UsageError
from llamarouter.core.page_rules import INDEX, ISOLATION, cache_control_of, content_type_of

_BUILD = "_app/version.json"
_Found = tuple[str, os.stat_result]


class PageFolder:
    """Raises `UsageError` without that folder."""

    def __init__(self, folder: str) -> None:
        if not os.path.isdir(folder):
            raise UsageError(f"--path {folder}: there is no such folder")
        self._static = StaticFiles(directory=folder)
        self._isolated = self.has(_BUILD)

    def has(self, name: str) -> bool:
        """Whether there is something to be answered: a file, or a folder that has an index."""
        return self._find(name) is not None

    def is_public(self, name: str) -> bool:
        """Whether it needs no key: what is there, but for files that are hidden, as `.git` is."""
        return not any(part.startswith(".") for part in name.split("/")) and self.has(name)

    async def answer(self, name: str, request: Request) -> Response:
        """The file `name`; of a folder, its index. Raises `NotFound`."""
        found = await asyncio.to_thread(self._find, name)
        if found is None:
            raise NotFound("File Not Found")
        path, status = found
        if stat.S_ISDIR(status.st_mode):
            # Relative, so that it holds below any prefix: the index's own links need the slash.
            return Response(status_code=301, headers={"location": f"./{quote(os.path.basename(name))}/"})
        if name == "" or name.endswith("/"):
            name += INDEX
        response = self._static.file_response(path, status, request.scope)
        response.headers["cache-control"] = cache_control_of(name)
        if response.status_code != 304 and (kind := content_type_of(name)) is not None:
            response.headers["content-type"] = kind
        if self._isolated and name == INDEX:
            response.headers.update(ISOLATION)
        return response

    def _find(self, name: str) -> _Found | None:
        wanted = name + INDEX if name == "" or name.endswith("/") else name
        found = self._look(wanted)
        if found is not None and stat.S_ISDIR(found[1].st_mode):
            index = self._look(f"{wanted}/{INDEX}")
            return found if index is not None and stat.S_ISREG(index[1].st_mode) else None
        return found if found is not None and stat.S_ISREG(found[1].st_mode) else None

    def _look(self, name: str) -> _Found | None:
        try:
            path, status = self._static.lookup_path(name)
        except (OSError, ValueError):  # a path that no file can have, or that may not be looked at
            return None
        return (path, status) if status is not None else None
