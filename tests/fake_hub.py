"""A Hub to fetch from: a real HTTP server speaking what huggingface_hub asks for, with faults on demand.

    hub = FakeHub(); hub.add("user/repo", {"m-Q4_K_M.gguf": b"..."}); hub.endpoint

LFS files are served by a second port (the "CDN"), to which `resolve/` redirects, as on the real one. `hub.faults` is a
list of faults, each taken by one answer with a body, in order; `hub.seen` holds what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Fault:
    """What one answer with a body does wrong."""

    cut: int | None = None  # close after so many bytes
    ignore_range: bool = False  # 200 and everything
    wrong_bytes: bool = False  # the right length, other content
    html: bool = False  # a login page
    status: int | None = None
    hold: threading.Event | None = None  # after `cut` bytes (or none), send nothing more until it is set
    wrong_range: bool = False  # 206 from another place than asked for
    gzip: bool = False  # says that it is compressed
    location: str | None = None  # redirect there instead
    no_length: bool = False  # ends with the connection


@dataclass
class Seen:
    """One request as it came."""

    method: str
    path: str
    port: int
    headers: dict[str, str]


@dataclass
class FakeRepo:
    files: dict[str, bytes]
    commit: str
    gated: bool = False
    private: bool = False
    plain: frozenset[str] = frozenset()  # not LFS: served by the Hub itself, named by git's SHA-1
    bare: bool = False  # the metadata says neither sizes nor hashes (a simple mirror)
    size: int | None = None  # what the metadata says of every file


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class FakeHub:
    """Two servers in threads; close with `close()` or use `running()`."""

    repos: dict[str, FakeRepo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    token: str = "hf_" + "canary" * 6
    redirects_before: int = 0  # to itself, before the one to the CDN

    def __post_init__(self) -> None:
        self._hub = _serve(self, _HubHandler)
        self._cdn = _serve(self, _CdnHandler)
        self.endpoint = f"http://127.0.0.1:{self._hub.server_port}"
        self.cdn = f"http://127.0.0.1:{self._cdn.server_port}"

    def add(self, name: str, files: Mapping[str, bytes], **more: Any) -> FakeRepo:
        """A repository, or a new revision of one."""
        listing = json.dumps({path: sha256(data) for path, data in sorted(files.items())})
        repo = FakeRepo(dict(files), hashlib.sha1(listing.encode()).hexdigest(), **more)
        self.repos[name] = repo
        return repo

    def fetched(self, port: int | None = None) -> list[Seen]:
        """The requests for bytes that the CDN saw."""
        return [one for one in self.seen if one.method == "GET" and one.port == (port or self._cdn.server_port)]

    def close(self) -> None:
        for fault in self.faults:
            if fault.hold is not None:
                fault.hold.set()
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()


@contextmanager
def running() -> Iterator[FakeHub]:
    hub = FakeHub()
    try:
        yield hub
    finally:
        hub.close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what these tests are about."""


def _serve(hub: FakeHub, handler: type[_Handler]) -> ThreadingHTTPServer:
    server = _Server(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None:
        return

    def note(self) -> None:
        assert isinstance(self.server, ThreadingHTTPServer)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.seen.append(Seen(self.command, self.path, self.server.server_port, headers))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_file(self, data: bytes, etag: str, **headers: str) -> None:
        """The bytes, by range if asked so, wrong if told so."""
        fault = self.hub.faults.pop(0) if self.hub.faults and self.command == "GET" else Fault()
        if fault.location is not None:
            return self.answer(302, Location=fault.location)
        if fault.status is not None:
            return self.answer(fault.status, b"no", Retry_After="0")
        if fault.html:
            return self.answer(200, b"<html>Please log in</html>", Content_Type="text/html; charset=utf-8")
        start = self._start(etag) if not fault.ignore_range else 0
        if fault.wrong_bytes:
            data = bytes(255 - byte for byte in data)
        body = data[start:]
        shown = start + 1 if fault.wrong_range else start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        if fault.gzip:
            self.send_header("Content-Encoding", "gzip")
        if fault.no_length:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        for name, value in {"ETag": f'"{etag}"', "Accept_Ranges": "bytes", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, fault)
        return None

    def _send_body(self, body: bytes, fault: Fault) -> None:
        stop = len(body) if fault.cut is None and fault.hold is None else (fault.cut or 0)
        try:
            self.wfile.write(body[:stop])
            self.wfile.flush()
            if fault.hold is not None:
                fault.hold.wait(20)
                if fault.cut is None:
                    self.wfile.write(body[stop:])
        except OSError:
            self.close_connection = True
        if stop < len(body):
            self.close_connection = True

    def _start(self, etag: str) -> int:
        wanted = self.headers.get("Range", "")
        condition = self.headers.get("If-Range")
        if not wanted.startswith("bytes=") or (condition is not None and condition != f'"{etag}"'):
            return 0
        return int(wanted.removeprefix("bytes=").partition("-")[0])


class _HubHandler(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note()
        path = unquote(urlsplit(self.path).path)
        if path == "/api/models":
            return self._search()
        if path.startswith("/api/models/"):
            return self._metadata(path.removeprefix("/api/models/"))
        return self._resolve(path.removeprefix("/"))

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _search(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        author, text = query.get("author", [""])[0], query.get("search", [""])[0]
        names = [name for name in self.hub.repos if name.startswith(author + "/") or (text and text in name)]
        self.answer(200, json.dumps([{"id": name} for name in names]).encode(), Content_Type="application/json")

    def _metadata(self, path: str) -> None:
        # llama-server asks for `/refs` and `/tree/COMMIT`, huggingface_hub for the repository itself.
        name, part = "/".join(path.split("/")[:2]), "/".join(path.split("/")[2:3])
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._authorized()):
            # As the real one: whoever has no token cannot tell a private repository from none.
            return self.answer(401, b'{"error":"Repository not found"}', X_Error_Code="RepoNotFound")
        if part == "refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commit}]
            return self._json({"branches": branches, "tags": [], "converts": []})
        if part == "tree":
            return self._json([self._leaf(repo, path, data) for path, data in repo.files.items()])
        siblings = [self._sibling(repo, path, data) for path, data in repo.files.items()]
        body = {"id": name, "sha": repo.commit, "siblings": siblings, "gated": "auto" if repo.gated else False}
        return self._json(body)

    def _json(self, body: object) -> None:
        self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

    @staticmethod
    def _leaf(repo: FakeRepo, path: str, data: bytes) -> dict[str, object]:
        leaf: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(b"pointer")}
        return leaf if path in repo.plain else {**leaf, "lfs": {"oid": sha256(data), "size": len(data)}}

    @staticmethod
    def _sibling(repo: FakeRepo, path: str, data: bytes) -> dict[str, object]:
        if repo.bare:
            return {"rfilename": path}
        if path in repo.plain:
            return {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
        size = len(data) if repo.size is None else repo.size
        lfs = {"sha256": sha256(data), "size": size, "pointerSize": 134}
        return {"rfilename": path, "size": size, "blobId": git_sha1(b"pointer"), "lfs": lfs}

    def _resolve(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        repo = self.hub.repos.get(name)
        commit, _, file = rest.partition("/")
        if repo is None or file not in repo.files:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        if repo.gated and not self._authorized():
            return self.answer(401, b"", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        data = repo.files[file]
        if file in repo.plain:
            return self.send_file(data, git_sha1(data), X_Repo_Commit=commit)
        linked = {
            "X_Linked_Etag": f'"{sha256(data)}"',
            "X_Linked_Size": str(repo.size or len(data)),
            "X_Repo_Commit": commit,
        }
        hops = parse_qs(urlsplit(self.path).query).get("hop", ["0"])[0]
        if self.command == "GET" and int(hops) < self.hub.redirects_before:
            return self.answer(302, Location=f"{urlsplit(self.path).path}?hop={int(hops) + 1}", **linked)
        return self.answer(302, Location=f"{self.hub.cdn}/{sha256(data)}?signature=1", **linked)


class _CdnHandler(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note()
        wanted = urlsplit(self.path).path.removeprefix("/")
        for repo in self.hub.repos.values():
            for data in repo.files.values():
                if sha256(data) == wanted:
                    return self.send_file(data, "cdn-" + wanted[:16])
        return self.answer(404)
