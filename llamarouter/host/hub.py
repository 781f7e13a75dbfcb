"""What a repository on the Hub holds, asked through huggingface_hub, and the plan of a fetch made from it.

    plan_fetch(wanted, cache, endpoint, token) -> FetchPlan      one request for the metadata, one for the right to read
    FetchPlan.announced() -> Planned                             to be shown before anything is done

Whatever goes wrong becomes one `FetchError` with a reason and a line that says what would be right. Only this module
imports huggingface_hub, inside its functions: that import costs half a second and 20 MB.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import Struct

from llamarouter.core.fetch_events import FetchError, Planned, PlannedFile
from llamarouter.core.hub_names import Choice, NotInRepo, Wanted, choose, folder_of, is_commit, is_oid
from llamarouter.host.hub_store import look

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_ENDPOINT = "https://huggingface.co"
# A disk filled to the last byte breaks more than the fetch: as much again as is fetched stays free, at most 2 GiB.
_MOST_SPARE = 2 << 30
_SUGGESTIONS = 5
_METADATA_SECONDS = 30.0


class RemoteFile(Struct, frozen=True, kw_only=True):
    """One file to be had: its content is named by `etag` (git's SHA-1, or LFS's SHA-256)."""

    path: str
    url: str
    size: int
    etag: str
    have: int  # bytes in the partial file
    cached: bool  # the blob is there, whole


class FetchPlan(Struct, frozen=True, kw_only=True):
    """What a fetch will do, decided before it does anything."""

    id: str
    repo: str
    commit: str
    cache: str
    files: tuple[RemoteFile, ...]
    # Every file of the revision by its content, so that what an older revision left here can be listed under this one.
    contents: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return Path(self.cache) / folder_of(self.repo)

    @property
    def missing(self) -> int:
        return sum(file.size - file.have for file in self.files if not file.cached)

    def announced(self) -> Planned:
        files = [PlannedFile(file.path, file.url, file.size, file.have, file.cached) for file in self.files]
        return Planned(self.id, self.repo, self.commit, self.cache, files, free_bytes(self.cache))


def endpoint_of(environ: Mapping[str, str]) -> str:
    """Where the Hub is: `MODEL_ENDPOINT`, `HF_ENDPOINT`, else huggingface.co; without a slash at the end."""
    for name in ("MODEL_ENDPOINT", "HF_ENDPOINT"):
        if value := environ.get(name, "").strip().rstrip("/"):
            return value
    return DEFAULT_ENDPOINT


def stored_token() -> str | None:
    """The token of `HF_TOKEN`, or of huggingface's own file."""
    from huggingface_hub import get_token

    return get_token()


def free_bytes(folder: str) -> int:
    """Bytes free for us on the disk of a folder, which need not exist yet."""
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def check_space(plan: FetchPlan) -> None:
    """Raise `FetchError` unless what is missing fits on the disk, with something left."""
    missing, free = plan.missing, free_bytes(plan.cache)
    needed = missing + min(missing, _MOST_SPARE)
    if missing and free < needed:
        raise FetchError(
            "insufficient_storage",
            f"{plan.id} needs {in_gb(needed)} free in {plan.cache} ({in_gb(missing)} to fetch and some to spare), "
            f"there are {in_gb(free)}; `lr rm` a model or set LLAMA_CACHE to another disk",
        )


def in_gb(size: int) -> str:
    """Bytes for people, in decimal units as the Hub shows them."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def plan_fetch(wanted: Wanted, cache: str, endpoint: str, token: str | None) -> FetchPlan:
    """Ask the Hub what the wanted model consists of, and look at what is here of it. Raises `FetchError`."""
    from huggingface_hub import HfApi

    # False, not None: None would make the library look for a token by itself.
    api = HfApi(endpoint=endpoint, token=token or False, library_name="llamarouter")
    info = _metadata(api, wanted, endpoint, token)
    commit = info.sha or ""
    if not is_commit(commit):
        raise FetchError("wrong_content", f"{endpoint} names no revision of {wanted.repo}: is it a Hub?")
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    choice = _chosen(api, list(siblings), wanted)
    folder = Path(cache) / folder_of(wanted.repo)
    files: list[RemoteFile] = []
    for path in choice.paths:
        url = f"{endpoint}/{wanted.repo}/resolve/{commit}/{quote(path)}"
        sibling = siblings[path]
        etag, size = _identity(sibling)
        here = look(folder, commit, path, etag, size)
        # A gated repository's metadata is public and its files are not: the first one tells, before anything is begun.
        if etag is None or size is None or not (here.cached or files):
            etag, size = _asked(url, endpoint, token, wanted)
            here = look(folder, commit, path, etag, size)
        files.append(RemoteFile(path=path, url=url, size=size, etag=etag, have=here.have, cached=here.cached))
    contents = {path: etag for path, sibling in siblings.items() if (etag := _identity(sibling)[0]) is not None}
    return FetchPlan(id=choice.id, repo=wanted.repo, commit=commit, cache=cache, files=tuple(files), contents=contents)


def _identity(sibling: Any) -> tuple[str | None, int | None]:
    """A file's content hash and size as the metadata has them; a mirror may leave them out."""
    etag = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
    size = sibling.size if sibling.size is not None else sibling.lfs and sibling.lfs.size
    return (etag if etag and is_oid(etag) else None), size


def _metadata(api: HfApi, wanted: Wanted, endpoint: str, token: str | None) -> ModelInfo:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        with _translated(wanted, endpoint, token):
            return api.model_info(wanted.repo, files_metadata=True, timeout=_METADATA_SECONDS)
    except RepositoryNotFoundError:
        hint = "" if token else ", or it is private: set HF_TOKEN"
        raise FetchError(
            "not_found", f"there is no {wanted.repo} on {endpoint}{hint}{_similar(api, wanted.repo)}"
        ) from None


def _chosen(api: HfApi, paths: list[str], wanted: Wanted) -> Choice:
    try:
        return choose(paths, wanted)
    except NotInRepo as reason:
        similar = "" if any(path.endswith(".gguf") for path in paths) else _similar(api, wanted.repo)
        raise FetchError("not_found", f"{reason}{similar}") from None


def _asked(url: str, endpoint: str, token: str | None, wanted: Wanted) -> tuple[str, int]:
    """A file's content hash and size by asking for its head, which also shows whether we may read it."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    try:
        with _translated(wanted, endpoint, token):
            head = get_hf_file_metadata(url, token=token or False, endpoint=endpoint, timeout=_METADATA_SECONDS)
    except (EntryNotFoundError, RepositoryNotFoundError):
        raise FetchError("not_found", f"{url} is listed by the repository and yet not there") from None
    if head.etag is None or not is_oid(head.etag) or head.size is None:
        raise FetchError("wrong_content", f"{url}: the server names no content hash, so nothing could be verified")
    return head.etag, head.size


class _translated:
    """Exceptions from huggingface_hub and below become `FetchError`; "not there" passes, the caller knows more."""

    def __init__(self, wanted: Wanted, endpoint: str, token: str | None) -> None:
        self._wanted, self._endpoint, self._token = wanted, endpoint, token

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and (translated := self._translate(error)) is not None:
            raise translated from error

    def _translate(self, error: BaseException) -> FetchError | None:
        from huggingface_hub import errors

        repo, endpoint = self._wanted.repo, self._endpoint
        if isinstance(error, errors.GatedRepoError):
            return gated(repo, endpoint, self._token)
        if isinstance(error, errors.RepositoryNotFoundError | errors.EntryNotFoundError):
            return None
        if isinstance(error, errors.OfflineModeIsEnabled):
            return FetchError("offline", f"HF_HUB_OFFLINE is set: {repo} cannot be fetched")
        if isinstance(error, errors.HfHubHTTPError):
            return _refused(error.response.status_code, repo, endpoint, self._token)
        if isinstance(error, errors.HTTPError | OSError | ValueError):  # type: ignore[attr-defined]
            return FetchError("network", f"cannot reach {endpoint}: {one_line(error)}")
        return None


def gated(repo: str, endpoint: str, token: str | None) -> FetchError:
    """The repository's files are only for those who accepted its terms."""
    how = "your token has no access yet" if token else "set HF_TOKEN to a token of yours"
    return FetchError("gated", f"{repo} is gated: accept its terms at {endpoint}/{repo}; {how}")


def _refused(status: int, repo: str, endpoint: str, token: str | None) -> FetchError:
    if status in (401, 403):
        what = "the token is not accepted" if token else "it wants a token: set HF_TOKEN"
        return FetchError("unauthorized", f"{endpoint} refuses {repo} ({status}): {what}")
    if status == 429:
        return FetchError("network", f"{endpoint} says that we ask too often (429): try again later, or set HF_TOKEN")
    return FetchError("network", f"{endpoint} answers {status} when asked for {repo}")


def one_line(error: BaseException) -> str:
    """An exception's text for people: its first line, bounded."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _similar(api: HfApi, repo: str) -> str:
    """The names closest to one that is not there (or has no GGUF), or nothing where the Hub does not say."""
    from huggingface_hub import errors

    owner, name = repo.split("/")
    found: list[str] = []
    try:
        for query in ({"author": owner, "filter": "gguf"}, {"search": name, "filter": "gguf", "sort": "downloads"}):
            found += [model.id for model in api.list_models(limit=100, **query)]  # type: ignore[arg-type]
    except (errors.HTTPError, OSError, ValueError):  # type: ignore[attr-defined]
        return ""
    unique = list(dict.fromkeys(found))
    close = difflib.get_close_matches(repo.lower(), [one.lower() for one in unique], n=_SUGGESTIONS, cutoff=0.5)
    by_lower = {one.lower(): one for one in unique}
    names = [by_lower[one] for one in close] or unique[:_SUGGESTIONS]
    return f"; with GGUF files there are {', '.join(names)}" if names else ""


def cache_is_writable(cache: str) -> None:
    """Raise `FetchError` in one line unless files can be made in the cache folder (which is made if need be)."""
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as error:
        raise FetchError("not_writable", f"cannot make the cache folder {cache}: {error.strerror}") from error
    if not os.access(cache, os.W_OK | os.X_OK):
        raise FetchError("not_writable", f"the cache folder {cache} cannot be written to by this user")
