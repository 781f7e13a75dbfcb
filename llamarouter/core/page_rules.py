"""How the files of the page are to be kept and understood by browsers: llama-server's rules, and when they apply.

Names are paths below the page, without a slash in front; the page itself is "" or `index.html`.
"""

from __future__ import annotations

INDEX = "index.html"
REVALIDATE = "no-cache"
IMMUTABLE = "public, max-age=31536000, immutable"
# What a page needs so that browsers let it have shared memory and exact clocks.
ISOLATION = {"cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin"}

# Files below this folder are named after their content, by the tool that llama-server's page is built with.
_HASHED = "_app/immutable/"
_MIME = {
    ".js": "application/javascript",
    ".mjs": "application/javascript",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
}

# A browser that has used a page with a service worker goes on showing that page; the worker looks for a newer `sw.js`
# and finds this one, which takes itself away. The text is llama-server's.
WORKER_THAT_LEAVES = b"""
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (e) => e.waitUntil((async () => {
    await self.registration.unregister();
    for (const key of await caches.keys()) await caches.delete(key);
    for (const c of await self.clients.matchAll({ type: 'window' })) c.navigate(c.url);
})()));
"""


def cache_control_of(name: str) -> str:
    """For a file of a folder of the operator's: only what is named after its content never changes."""
    return IMMUTABLE if name.startswith(_HASHED) else REVALIDATE


def content_type_of(name: str) -> str | None:
    """Where the system's own table is missing it, or says what browsers do not take."""
    _, dot, suffix = name.rpartition(".")
    return _MIME.get(dot + suffix.lower())


def is_known(if_none_match: str | None, etag: str | None) -> bool:
    """Whether the client has this version already; a weak comparison, as RFC 9110 has it for this header."""
    if if_none_match is None or etag is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in known or etag.removeprefix("W/") in known


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether a client's `Accept-Encoding` allows gzip."""
    for part in (accept_encoding or "").lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
