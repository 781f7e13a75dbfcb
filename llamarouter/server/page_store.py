"""The assets of one engine's own page: asked of a child once, kept in the state folder for the next start.

All or nothing: a child that goes in the middle leaves everything as it was, and the next one is asked.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import zlib
from pathlib import Path

import msgspec

from llamarouter.core.child_protocol import Address
from llamarouter.host.engine import Engine
from llamarouter.host.probe import ProbeError, get
from llamarouter.host.state import write_atomically

# Not named by the page, but asked for by the browser or by the page's script.
_EXTRAS = ("sw.js", "manifest.webmanifest", "build.json", "_app/version.json", "favicon.ico", "favicon.svg")
_NAMED = re.compile(rb"""(?:href|src)="\.?/?([\w./-]+\.(?:js|css|svg|png|ico|webmanifest))\"""")
# The service worker lists what it will want to have: {"url":"./..."} or 'url: "..."'.
_PRECACHED = re.compile(rb"""["']?url["']?\s*:\s*["']\.?/?([\w./-]+)["']""")
_KEPT_HEADERS = ("content-type", "etag", "cache-control")
_MOST_ASSETS = 200


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """One file of the page; `body` is compressed with gzip."""

    headers: dict[str, str]
    body: bytes


class PageStore:
    """The assets of one engine's page, in memory and in a file of the state folder."""

    def __init__(self, engine: Engine, state: str | None) -> None:
        digest = hashlib.sha256(f"{engine.command[-1]} {engine.build} {engine.help_text}".encode()).hexdigest()[:16]
        self._file = Path(state, f"page-{digest}.msgpack") if state is not None else None
        self.assets: dict[str, Asset] = _read(self._file) if self._file is not None else {}
        self.absent = False  # the engine was asked, and carries no page
        self._taking = False

    async def take(self, address: Address, api_key: str | None) -> None:
        """Ask a ready child for the page and all that it names, unless it is here already.

        A child that goes in the middle of it, or says what is no page, leaves everything as it was: the next one is
        asked.
        """
        if self.assets or self.absent or self._taking:
            return
        self._taking = True
        try:
            assets = await self._asked(address, api_key)
        except (ProbeError, OSError, EOFError, zlib.error):
            return
        finally:
            self._taking = False
        if assets and self._file is not None:
            await asyncio.to_thread(self._keep, self._file, assets)
        self.assets = assets or await asyncio.to_thread(self._of_another_engine)
        self.absent = not self.assets

    def _of_another_engine(self) -> dict[str, Asset]:
        """The page that another engine of this user once carried: it speaks to any llama-server."""
        if self._file is None:
            return {}
        kept = sorted(self._file.parent.glob("page-*.msgpack"), key=lambda file: file.stat().st_mtime, reverse=True)
        return next((assets for file in kept if (assets := _read(file))), {})

    @staticmethod
    def _keep(file: Path, assets: dict[str, Asset]) -> None:
        try:
            write_atomically(file, msgspec.msgpack.encode(assets))
        except OSError:
            return  # the page is served from memory; it will be taken again after a restart

    async def _asked(self, address: Address, api_key: str | None) -> dict[str, Asset]:
        """All of the page; nothing where there is none."""
        index = await self._ask(address, api_key, "")
        if index is None:
            return {}
        assets = {"": index}
        wanted = [*_names(_NAMED, gzip.decompress(index.body)), *_EXTRAS]
        for name in wanted:
            if name in assets or len(assets) >= _MOST_ASSETS:
                continue
            asset = await self._ask(address, api_key, name)
            if asset is not None:
                assets[name] = asset
                if name == "sw.js":
                    wanted.extend(_names(_PRECACHED, gzip.decompress(asset.body)))
        return assets

    @staticmethod
    async def _ask(address: Address, api_key: str | None, name: str) -> Asset | None:
        answer = await get(address, f"/{name}", api_key=api_key, seconds=5.0, accept_encoding="gzip")
        if answer.status != 200:
            return None
        body = answer.body
        if answer.headers.get("content-encoding") != "gzip":
            body = await asyncio.to_thread(gzip.compress, body)
        return Asset({name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}, body)


def _read(file: Path) -> dict[str, Asset]:
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=dict[str, Asset])
    except (OSError, msgspec.DecodeError):
        return {}


def _names(pattern: re.Pattern[bytes], text: bytes) -> list[str]:
    return [name.decode() for name in pattern.findall(text)]
