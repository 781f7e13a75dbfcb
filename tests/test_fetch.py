"""A fetch against a Hub that does what Hubs and networks do wrong."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.fetch_events import Fetched, FetchError, FetchEvent, Noted, Planned, Progressed
from llamarouter.host.download import is_public
from llamarouter.host.fetch import fetch
from llamarouter.host.hub import endpoint_of
from llamarouter.host.hub_store import locked
from tests.fake_hub import FakeHub, Fault, git_sha1, running, sha256

DATA = hashlib.shake_256(b"model").digest(400_000)
PROJECTOR = hashlib.shake_256(b"projector").digest(5_000)
REPO = "user/tiny-GGUF"
FOLDER = "models--user--tiny-GGUF"


@dataclass
class Pull:
    """A cache, a Hub, and what a fetch says."""

    hub: FakeHub
    cache: Path
    told: list[FetchEvent] = field(default_factory=list)

    def __call__(self, spec: str = REPO, **more: Any) -> Fetched:
        self.told.clear()
        more.setdefault("environ", {"HF_ENDPOINT": self.hub.endpoint})
        return fetch(spec, str(self.cache), self.told.append, pause=lambda _: 0.0, **more)

    @property
    def blobs(self) -> Path:
        return self.cache / FOLDER / "blobs"

    @property
    def partial(self) -> Path:
        return self.blobs / f"{sha256(DATA)}.lr-partial"

    def plan(self) -> Planned:
        return next(event for event in self.told if isinstance(event, Planned))

    def notes(self) -> str:
        return "\n".join(event.message for event in self.told if isinstance(event, Noted))

    def ranges(self) -> list[str | None]:
        return [seen.headers.get("range") for seen in self.hub.fetched()]

    def is_whole(self) -> bool:
        commit = (self.cache / FOLDER / "refs" / "main").read_text()
        link = self.cache / FOLDER / "snapshots" / commit / "tiny-Q4_K_M.gguf"
        leftovers = [path.name for path in self.blobs.iterdir() if "." in path.name]
        return os.readlink(link) == f"../../blobs/{sha256(DATA)}" and link.read_bytes() == DATA and not leftovers


@pytest.fixture
def pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pull]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running() as hub:
        hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "README.md": b"hello"}, plain=frozenset({"README.md"}))
        yield Pull(hub, tmp_path / "hub")


def failure(pull: Pull, spec: str = REPO, **more: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        pull(spec, **more)
    assert "\n" not in caught.value.message
    return caught.value


def test_a_model_lands_where_huggingface_hub_would_put_it(pull: Pull) -> None:
    from huggingface_hub import try_to_load_from_cache

    end = pull()
    assert end.id == f"{REPO}:Q4_K_M"
    assert pull.is_whole()
    found = try_to_load_from_cache(REPO, "tiny-Q4_K_M.gguf", cache_dir=pull.cache)
    assert [found] == end.files
    assert pull.plan().missing == len(DATA)
    assert [event.done for event in pull.told if isinstance(event, Progressed)][-1] == len(DATA)


def test_what_is_here_is_not_fetched_again(pull: Pull) -> None:
    pull()
    before = len(pull.hub.fetched())
    pull()
    assert len(pull.hub.fetched()) == before
    assert pull.plan().missing == 0


def test_the_projector_comes_along(pull: Pull) -> None:
    pull.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "mmproj-tiny-F16.gguf": PROJECTOR})
    assert [Path(path).name for path in pull().files] == ["tiny-Q4_K_M.gguf", "mmproj-tiny-F16.gguf"]


def test_the_projector_stays_there_where_nobody_wants_it(pull: Pull) -> None:
    pull.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "mmproj-tiny-F16.gguf": PROJECTOR})
    assert [Path(path).name for path in pull(projector=False).files] == ["tiny-Q4_K_M.gguf"]
    assert len(pull.hub.fetched()) == 1
    assert pull(projector=True).files[1].endswith("mmproj-tiny-F16.gguf")


def test_small_files_without_lfs_are_verified_by_git_s_hash(pull: Pull) -> None:
    pull.hub.add(REPO, {"tiny-Q4_K_M.gguf": PROJECTOR}, plain=frozenset({"tiny-Q4_K_M.gguf"}))
    pull()
    assert (pull.blobs / git_sha1(PROJECTOR)).read_bytes() == PROJECTOR


def test_a_mirror_without_sizes_and_hashes_is_asked_for_each_file(pull: Pull) -> None:
    pull.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA, "mmproj-tiny-F16.gguf": PROJECTOR}, bare=True)
    pull()
    assert pull.is_whole()


def test_a_cut_connection_is_resumed_where_it_broke(pull: Pull) -> None:
    pull.hub.faults += [Fault(cut=100_000), Fault(cut=50_000)]
    pull()
    assert pull.is_whole()
    assert pull.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert pull.hub.fetched()[1].headers["if-range"] == f'"cdn-{sha256(DATA)[:16]}"'
    assert "trying again" in pull.notes()


def test_a_later_pull_goes_on_from_the_partial_file(pull: Pull) -> None:
    pull.hub.faults += [Fault(cut=60_000), *[Fault(status=503)] * 5]
    assert failure(pull).reason == "network"
    assert pull.partial.stat().st_size == 60_000
    assert not (pull.cache / FOLDER / "refs").exists()  # nothing is listed
    pull()
    assert pull.is_whole()
    assert pull.plan().files[0].have == 60_000
    assert pull.ranges()[-1] == "bytes=60000-"


def test_the_end_of_a_connection_is_no_end_of_a_file(pull: Pull) -> None:
    pull.hub.faults += [Fault(cut=70_000, no_length=True)]
    pull()
    assert pull.is_whole()
    assert pull.ranges()[-1] == "bytes=70000-"


def test_six_failures_in_a_row_give_up_and_keep_what_is_here(pull: Pull) -> None:
    pull.hub.faults += [Fault(status=502)] * 7
    error = failure(pull)
    assert (error.reason, len(pull.hub.faults)) == ("network", 1)
    assert "502" in error.message


def test_a_stalled_connection_is_given_up_and_resumed(pull: Pull) -> None:
    hold = threading.Event()
    pull.hub.faults += [Fault(cut=30_000, hold=hold)]
    try:
        pull(stall=0.2)
    finally:
        hold.set()
    assert pull.is_whole()
    assert "no byte for" in pull.notes()
    assert pull.ranges()[-1] == "bytes=30000-"


def test_a_server_that_ignores_ranges_starts_over(pull: Pull) -> None:
    pull.hub.faults += [Fault(cut=100_000), Fault(ignore_range=True)]
    pull()
    assert pull.is_whole()
    assert "does not resume" in pull.notes()


def test_a_range_that_was_not_asked_for_is_not_appended(pull: Pull) -> None:
    pull.hub.faults += [Fault(cut=100_000), Fault(wrong_range=True)]
    pull()
    assert pull.is_whole()
    assert pull.ranges() == [None, "bytes=100000-", None]


def test_wrong_bytes_are_set_aside_and_fetched_once_more(pull: Pull) -> None:
    pull.hub.faults += [Fault(wrong_bytes=True)]
    pull()
    assert pull.is_whole()
    assert "hash" in pull.notes()


def test_wrong_bytes_twice_are_an_error_and_never_a_model(pull: Pull) -> None:
    pull.hub.faults += [Fault(wrong_bytes=True)] * 2
    error = failure(pull)
    assert error.reason == "wrong_content"
    assert [path.name for path in pull.blobs.iterdir()] == [f"{sha256(DATA)}.bad"]
    assert not (pull.cache / FOLDER / "snapshots").exists()
    pull()
    assert pull.is_whole()


def test_a_partial_file_with_wrong_bytes_is_found_out(pull: Pull) -> None:
    pull.blobs.mkdir(parents=True)
    pull.partial.write_bytes(b"x" * 1000)
    pull()
    assert pull.is_whole()
    assert pull.ranges() == ["bytes=1000-", None]


def test_a_login_page_or_a_compressed_answer_is_not_the_file(pull: Pull) -> None:
    pull.hub.faults += [Fault(html=True)]
    assert "web page" in failure(pull).message
    pull.hub.faults += [Fault(gzip=True)]
    assert failure(pull).reason == "wrong_content"


def test_the_token_goes_to_the_endpoint_alone(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", pull.hub.token)
    pull.hub.repos[REPO].gated = True
    pull.hub.redirects_before = 2
    pull.hub.faults += [Fault(cut=10)]
    pull()
    with_token = {seen.port for seen in pull.hub.seen if "authorization" in seen.headers}
    assert with_token == {int(pull.hub.endpoint.rpartition(":")[2])}
    assert pull.is_whole()
    assert pull.hub.token not in repr(pull.told)
    everything = b"".join(path.read_bytes() for path in pull.cache.rglob("*") if path.is_file())
    assert pull.hub.token.encode() not in everything


def test_redirects_have_an_end_and_never_leave_http(pull: Pull) -> None:
    pull.hub.redirects_before = 9
    assert "redirects" in failure(pull).message
    pull.hub.redirects_before = 0
    pull.hub.faults += [Fault(location="file:///etc/passwd")]
    assert "refused" in failure(pull).message


def test_private_addresses_are_told_from_public_ones() -> None:
    assert is_public("1.1.1.1")
    assert not any(
        is_public(address) for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0")
    )


def test_a_gated_repository_says_what_to_do_before_anything_is_fetched(pull: Pull) -> None:
    pull.hub.repos[REPO].gated = True
    error = failure(pull)
    assert error.reason == "gated"
    assert "accept its terms" in error.message
    assert pull.told == []


def test_a_wrong_name_lists_what_is_near(pull: Pull) -> None:
    assert failure(pull, "user/tinny-GGUF").message.endswith("with GGUF files there are user/tiny-GGUF")
    assert failure(pull, f"{REPO}:Q6_K").message == f"{REPO} has no Q6_K; it has Q4_K_M"
    pull.hub.add("user/tiny", {"model.safetensors": b"x"})
    assert failure(pull, "user/tiny").message.startswith(
        "user/tiny has no GGUF model; with GGUF files there are user/t"
    )


def test_no_network_is_one_clear_line(pull: Pull) -> None:
    error = failure(pull, endpoint="http://127.0.0.1:9")
    assert error.reason == "network"
    assert error.message.startswith("cannot reach http://127.0.0.1:9")
    assert failure(pull, offline=True).reason == "offline"
    assert failure(pull, endpoint="ftp://x").reason == "bad_request"


def test_a_model_that_does_not_fit_on_the_disk_is_not_begun(pull: Pull) -> None:
    pull.hub.repos[REPO].size = 10**18
    error = failure(pull)
    assert error.reason == "insufficient_storage"
    assert "1000000.0 TB to fetch" in error.message
    assert pull.hub.fetched() == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The system lets no file grow beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_keeps_what_came(pull: Pull) -> None:
    with largest_file(200_000):
        assert failure(pull).reason == "insufficient_storage"
    assert pull.partial.stat().st_size == 200_000
    pull()
    assert pull.is_whole()
    assert pull.ranges()[-1] == "bytes=200000-"


def test_an_unwritable_cache_is_one_clear_line(pull: Pull, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    pull.cache = tmp_path / "file"
    assert failure(pull).reason == "not_writable"


def test_a_new_revision_keeps_the_other_quants_listed(pull: Pull) -> None:
    old = {"tiny-Q4_K_M.gguf": DATA, "tiny-Q8_0.gguf": PROJECTOR, "tiny-Q2_K.gguf": b"GGUF old"}
    pull.hub.add(REPO, old)
    for quant in ("Q4_K_M", "Q8_0", "Q2_K"):
        pull(f"{REPO}:{quant}")
    newer = pull.hub.add(REPO, {**old, "tiny-Q2_K.gguf": b"GGUF new", "tiny-Q6_K.gguf": b"GGUF six"})
    pull(f"{REPO}:Q6_K")
    listed = {path.name for path in (pull.cache / FOLDER / "snapshots" / newer.commit).iterdir()}
    assert listed == {"tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "tiny-Q6_K.gguf"}
    assert "newer tiny-Q2_K.gguf" in pull.notes()
    assert pull.is_whole()


def test_a_hostile_repository_writes_nowhere_else(pull: Pull, tmp_path: Path) -> None:
    pull.hub.add(REPO, {"../../../../escaped-Q4_K_M.gguf": DATA, "/abs-Q4_K_M.gguf": DATA})
    assert failure(pull).reason == "not_found"
    pull.hub.add(REPO, {"tiny-Q4_K_M.gguf": DATA})
    pull.hub.repos[REPO].commit = "../../../../x"
    assert failure(pull).reason == "wrong_content"
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}


def test_huggingface_hub_s_own_lock_is_respected(pull: Pull) -> None:
    from filelock import FileLock

    folder = pull.cache / FOLDER
    with locked(folder, "x", lambda: None), pytest.raises(TimeoutError):
        FileLock(pull.cache / ".locks" / FOLDER / "x.lock").acquire(timeout=0)


def test_the_endpoint_is_llama_server_s() -> None:
    assert endpoint_of({}) == "https://huggingface.co"
    assert endpoint_of({"HF_ENDPOINT": "https://a/", "MODEL_ENDPOINT": ""}) == "https://a"
    assert endpoint_of({"HF_ENDPOINT": "https://a/", "MODEL_ENDPOINT": "https://b/"}) == "https://b"


@pytest.mark.parametrize("endpoint", ["https://me:CANARY@mirror", "https://CANARY@mirror/x", "ftp://me:CANARY@mirror"])
def test_a_password_in_the_endpoint_is_refused_without_a_word_of_it(pull: Pull, endpoint: str) -> None:
    with pytest.raises(FetchError, match="does not belong into the address: set HF_TOKEN") as caught:
        pull(environ={"HF_ENDPOINT": endpoint})
    assert "CANARY" not in str(caught.value)
