"""The bytes of one file from the Hub: resumed where they stopped, verified by their hash, then put in their place.

    reopen the partial --> ask (Range, If-Range) --> append --> all there? --> hash right? --> rename to the blob
          ^                       |  cut, stalled, 5xx: wait, ask again (6 in a row without progress: give up)
          '-- set aside as .bad <-'  200, or another range than asked for: from zero        hash wrong: once from zero

An answer is believed only by its status, range, length and encoding, a body only by its hash. The endpoint's own origin
gets the token; a redirect elsewhere is followed without it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import getproxies

import httpx

from llamarouter import __version__
from llamarouter.core.fetch_events import FetchError, FetchEvent, Noted, Progressed
from llamarouter.host.hub import RemoteFile, in_gb, one_line
from llamarouter.host.hub_store import BAD_SUFFIX, PARTIAL_SUFFIX, locked
from llamarouter.host.partial_file import PartialFile

STALL_SECONDS: Final = 30.0
TRIES: Final = 6
_MAX_HOPS = 5
_TELL_EVERY_SECONDS = 0.1
_WORTH_A_RESET = 1 << 20  # bytes after which a broken answer counts as progress
_LONGEST_PAUSE = 60.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GATED = "GatedRepo"


class _Broken(Exception):
    """The answer ended early, or was no answer: worth another try. `after`: seconds that the server asked for."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class _Restart(Exception):
    """What is here cannot be continued: begin at zero, now."""


def growing_pause(failures: int) -> float:
    """1, 2, 4 ... 60 s with jitter, so that a thousand clients do not come back in step."""
    return min(_LONGEST_PAUSE, 2.0 ** (failures - 1)) * random.uniform(0.75, 1.25)


class Downloader:
    """Fetches blobs from one endpoint; `tell` hears of progress."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        tell: Callable[[FetchEvent], None],
        *,
        stall: float = STALL_SECONDS,
        pause: Callable[[int], float] = growing_pause,
    ) -> None:
        self._endpoint = httpx.URL(endpoint)
        self._token = token
        self._tell = tell
        self._pause = pause
        self._stall = stall
        # Redirects are ours to judge, hop by hop.
        self._http = httpx.Client(follow_redirects=False, timeout=httpx.Timeout(stall))
        self._judge_peers = not getproxies()
        self._endpoint_is_public = False

    def close(self) -> None:
        self._http.close()

    def fetch(self, file: RemoteFile, folder: Path) -> None:
        """Have the file's blob in the repository's folder. Raises `FetchError`; what came so far is kept."""
        blobs = folder / "blobs"
        try:
            blobs.mkdir(parents=True, exist_ok=True)
            with locked(folder, file.etag, self._watcher(file, blobs)):
                if not _is_whole(blobs / file.etag, file.size):
                    self._fetch_verified(file, blobs)
        except OSError as error:
            raise _storage_error(error, blobs) from error
        self._tell(Progressed(file.path, file.url, file.size, file.size))

    def _watcher(self, file: RemoteFile, blobs: Path) -> Callable[[], None]:
        """What is told while another process fetches the same blob: so much is here, thanks to it."""
        said = False

        def watch() -> None:
            nonlocal said
            if not said:
                said = True
                self._tell(Noted("another pull is fetching this file: waiting for it", file.path))
            partial = blobs / (file.etag + PARTIAL_SUFFIX)
            if partial.exists():
                self._tell(Progressed(file.path, file.url, min(partial.stat().st_size, file.size), file.size))

        return watch

    def _fetch_verified(self, file: RemoteFile, blobs: Path) -> None:
        bad = blobs / (file.etag + BAD_SUFFIX)
        for last in (False, True):
            with PartialFile.open(file, blobs, self._tell) as partial:
                self._fill(file, partial)
                if partial.is_right():
                    partial.finish()
                    bad.unlink(missing_ok=True)
                    return
                partial.set_aside(bad)
            if not last:
                self._tell(Noted("the bytes are not what their hash says: fetching it again from the start", file.path))
                if os.statvfs(blobs).f_bavail * os.statvfs(blobs).f_frsize < file.size:
                    bad.unlink(missing_ok=True)
        raise FetchError(
            "wrong_content",
            f"{file.path} came twice with other bytes than its hash {file.etag[:12]}… says; "
            f"the last try is kept as {bad} and is not used",
        )

    def _fill(self, file: RemoteFile, partial: PartialFile) -> None:
        """Append until the partial is complete."""
        failures = 0
        while partial.have < file.size:
            before = partial.have
            try:
                self._stream(file, partial)
            except _Restart:
                partial.restart()
                failures += 1
                self._give_up_after(failures, file, "the server does not keep to the ranges that it is asked for")
            except _Broken as broken:
                failures = 1 if partial.have - before >= _WORTH_A_RESET else failures + 1
                self._give_up_after(failures, file, str(broken))
                seconds = max(self._pause(failures), min(broken.after, _LONGEST_PAUSE))
                self._tell(Noted(f"{broken}; trying again in {seconds:.0f} s ({failures} of {TRIES})", file.path))
                select.select([], [], [], seconds)

    @staticmethod
    def _give_up_after(failures: int, file: RemoteFile, why: str) -> None:
        if failures >= TRIES:
            raise FetchError("network", f"{file.path}: {why}; what is here is kept, the same command goes on there")

    def _stream(self, file: RemoteFile, partial: PartialFile) -> None:
        """One request, and as much of its answer as comes."""
        with self._answer(file, partial) as answer:
            self._check(answer, file, partial)
            partial.keep_validator(_validator_of(answer))
            told = 0.0
            try:
                for (
                    chunk
                ) in answer.iter_raw():  # as it comes: a chunk that is being collected is lost when the rest breaks
                    partial.append(chunk)
                    if (now := time.monotonic()) - told >= _TELL_EVERY_SECONDS:
                        told = now
                        self._tell(Progressed(file.path, file.url, partial.have, file.size))
            except httpx.ReadTimeout as error:
                raise _Broken(f"no byte for {self._stall:.0f} s") from error
            except httpx.HTTPError as error:
                raise _Broken(f"the connection broke ({one_line(error)})") from error
        if partial.have < file.size:
            raise _Broken("the answer ended early")

    @contextmanager
    def _answer(self, file: RemoteFile, partial: PartialFile) -> Iterator[httpx.Response]:
        """The first answer that is not a redirect."""
        url = httpx.URL(file.url)
        for _ in range(_MAX_HOPS + 1):
            request = self._http.build_request("GET", url, headers=self._headers(url, partial))
            try:
                answer = self._http.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise _Broken(f"cannot reach {url.host} ({one_line(error)})") from error
            try:
                self._judge_peer(url, answer)
                if not answer.has_redirect_location:
                    yield answer
                    return
                url = self._next_hop(url, answer)
            finally:
                answer.close()
        raise FetchError("network", f"{file.path}: more than {_MAX_HOPS} redirects")

    def _headers(self, url: httpx.URL, partial: PartialFile) -> dict[str, str]:
        headers = {"accept-encoding": "identity", "user-agent": f"llamarouter/{__version__}"}
        if partial.have:
            headers["range"] = f"bytes={partial.have}-"
            if partial.validator:
                headers["if-range"] = partial.validator
        if self._token and _origin(url) == _origin(self._endpoint):
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    @staticmethod
    def _next_hop(url: httpx.URL, answer: httpx.Response) -> httpx.URL:
        try:
            following = url.join(answer.headers["location"])
        except httpx.InvalidURL as error:
            raise FetchError("network", f"{url.host} redirects to an address that is none") from error
        if following.scheme != "https" and following.scheme != url.scheme:
            raise FetchError("network", f"{url.host} redirects from {url.scheme} to {following.scheme}: refused")
        return following

    def _judge_peer(self, url: httpx.URL, answer: httpx.Response) -> None:
        """A Hub on the public internet has no business sending us into a private network."""
        stream = answer.extensions.get("network_stream")
        peer = stream.get_extra_info("server_addr") if stream is not None else None
        if not self._judge_peers or not peer:
            return
        public = is_public(str(peer[0]))
        if _origin(url) == _origin(self._endpoint):
            self._endpoint_is_public = public
        elif self._endpoint_is_public and not public:
            raise FetchError("network", f"{self._endpoint.host} redirects into a private network ({url.host}): refused")

    def _check(self, answer: httpx.Response, file: RemoteFile, partial: PartialFile) -> None:
        """Whether the answer's body is the rest of the file, or all of it; the partial is made to fit."""
        status = answer.status_code
        if status not in (200, 206):
            self._refused(answer, file, partial)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise FetchError("wrong_content", f"{file.path}: the answer is compressed, though that was ruled out")
        if status == 206:
            if not _continues(answer.headers.get("content-range", ""), partial.have, file.size) or (
                partial.validator and _validator_of(answer) not in (None, partial.validator)
            ):
                raise _Restart
            return
        length = answer.headers.get("content-length", "")
        if length.isdigit() and int(length) != file.size:
            kind = answer.headers.get("content-type", "").partition(";")[0]
            page = kind == "text/html"
            what = (
                "a web page (a proxy's or a login page?)" if page else f"{in_gb(int(length))} of {kind or 'something'}"
            )
            raise FetchError("wrong_content", f"{file.path}: {answer.url.host} sent {what} instead of the file")
        if partial.have:
            self._tell(Noted("the server does not resume: fetching it again from the start", file.path))
            partial.restart()

    def _refused(self, answer: httpx.Response, file: RemoteFile, partial: PartialFile) -> None:
        status, own = answer.status_code, _origin(answer.url) == _origin(self._endpoint)
        host = answer.url.host
        if status == 416 and partial.have:
            raise _Restart
        if status in (401, 403) and own:
            if answer.headers.get("x-error-code") == _GATED:
                raise FetchError("gated", f"{file.path}: the repository is gated; accept its terms on its page")
            raise FetchError("unauthorized", f"{host} refuses {file.path} ({status}): has HF_TOKEN access to it?")
        if status in (404, 410) and own:
            raise FetchError("not_found", f"{file.path} is no longer there ({status})")
        # Elsewhere a 4xx mostly means that a signed address has expired: the next try gets a new one.
        after = answer.headers.get("retry-after", "")
        raise _Broken(f"{host} answered {status}", float(after) if after.isdigit() else 0.0)


def _is_whole(blob: Path, size: int) -> bool:
    return blob.exists() and blob.stat().st_size == size


def _continues(content_range: str, have: int, size: int) -> bool:
    """Whether `bytes 100-199/200` goes on where we are, in a file of our size."""
    unit, _, rest = content_range.partition(" ")
    span, _, total = rest.partition("/")
    return unit == "bytes" and span.partition("-")[0] == str(have) and total in (str(size), "*")


def _validator_of(answer: httpx.Response) -> str | None:
    """The answer's strong ETag; a weak one may not be used with If-Range (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("etag", "")
    return etag if etag.startswith('"') and etag.isascii() and len(etag) <= 256 else None


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet (a name that is no address is not judged: true)."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_global
    except ValueError:
        return True


def _storage_error(error: OSError, blobs: Path) -> FetchError:
    if error.errno in _FULL:
        return FetchError(
            "insufficient_storage", f"no space left for {blobs}; what is here is kept, make room and run it again"
        )
    return FetchError("not_writable", f"cannot write in {blobs}: {error.strerror or one_line(error)}")
