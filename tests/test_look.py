"""A look at the folders: whatever changes in them, the next look says so, though it lists nothing where it need not."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamarouter.core.catalog import Catalog
from llamarouter.host import glance
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.inventory import looked_again, take_inventory
from llamarouter.host.look import look_at
from llamarouter.host.places import Places
from tests.node_kit import ENGINE, plan_of
from tests.test_flat_cache import manifest
from tests.tiny_gguf import write_llama, write_mmproj

USER_REPO, OTHER_REPO = "models--user--repo", "models--user--other"
COMMITS = ("0" * 39 + "1", "0" * 39 + "2")


@functools.cache
def content(kind: str) -> bytes:
    """Files that a router tells from each other: `one` and `two` have one size."""
    with tempfile.TemporaryDirectory(prefix="lr-look-") as folder:
        path = Path(folder) / "x.gguf"
        if kind == "projector":
            return write_mmproj(path).read_bytes()
        return write_llama(path, n_ctx={"one": 512, "two": 256, "small": 128}[kind], n_embd=64).read_bytes()[
            : 5000 if kind == "small" else None
        ]


@contextmanager
def settled(folder: Path, kind: str = "ext4") -> Iterator[None]:
    """Folders are taken for such as have not changed for a while, on a file system of this kind: nobody waits here."""
    device = os.stat(folder).st_dev
    (folder / "mounts").write_text(
        "21 1 0:19 / /sys rw shared:7 - sysfs sysfs rw\n"
        f"36 35 {os.major(device)}:{os.minor(device)} / /a\\040b rw,noatime master:1 - {kind} /dev/root rw\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glance, "_SETTLED", -(10**19))
        patch.setattr(glance, "_MOUNTS", str(folder / "mounts"))
        yield


def tick(folder: Path) -> None:
    """Return when what happens now has other times than what happened before, however coarse the clock of files is."""
    probe, end = folder / "probe", time.monotonic() + 5
    probe.write_bytes(b"x")
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        assert time.monotonic() < end
        probe.write_bytes(b"x")


class Tree:
    """Folders of a user, and what he may do to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models, self.hub = root / "models", root / "cache"
        for folder in (self.models, self.hub, root / "elsewhere"):
            folder.mkdir()

    def write(self, path: Path, kind: str = "one") -> None:
        """Put a file where it was not, or write over one in place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(content(kind))

    def replace(self, path: Path, kind: str) -> None:
        """Another file under the name, with the times that the one before had."""
        path.parent.mkdir(parents=True, exist_ok=True)
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns) if path.is_file() else (1, 1)
        new = self.root / "new"
        new.write_bytes(content(kind))
        os.utime(new, ns=times)
        new.replace(path)

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def rename(self, path: Path, name: str) -> None:
        """Also over what has the name."""
        if path.exists() and path.with_name(name) != path:
            self.remove(path.with_name(name))
            path.rename(path.with_name(name))

    def link(self, path: Path, to: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.remove(path)
        path.symlink_to(to)

    def keeping_times(self, folder: Path, deed: Callable[[], object]) -> None:
        """As `rsync -a` and `tar` leave folders behind."""
        if not folder.exists():
            folder.mkdir(parents=True)
        times = (folder.stat().st_atime_ns, folder.stat().st_mtime_ns)
        deed()
        os.utime(folder, ns=times)

    def fetch(self, repo: str, commit: str, file: str, kind: str, *, ref: bool) -> None:
        """As the hub's library lays it down."""
        folder = self.hub / repo
        for each in ("blobs", "refs", f"snapshots/{commit}"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        blob = folder / "blobs" / f"{kind}-{file.replace('/', '-')}"
        blob.write_bytes(content(kind))
        path = folder / "snapshots" / commit / file
        self.link(path, Path(os.path.relpath(blob, path.parent)))
        if ref:
            (folder / "refs" / "main").write_text(commit)

    def refer(self, repo: str, commit: str) -> None:
        (self.hub / repo / "refs").mkdir(parents=True, exist_ok=True)
        (self.hub / repo / "refs" / "main").write_text(commit)


NAMES = st.sampled_from(
    [
        *(
            "A-Q4_0.gguf",
            "B-F16.gguf",
            "mmproj-A-F16.gguf",
            "mtp-A-Q4_0.gguf",
            "note.txt",
            ".hidden.gguf",
            "a\x01.gguf",
        ),
        *("S-00001-of-00002.gguf", "S-00002-of-00002.gguf"),
    ]
)
FOLDERS = st.sampled_from(["models", "models/D", "models/D/E", "models/D/E/F.gguf", "elsewhere", "elsewhere/sub"])
KINDS = st.sampled_from(["one", "two", "small", "projector"])
REPOS, COMMIT = st.sampled_from([USER_REPO, OTHER_REPO]), st.sampled_from(COMMITS)
HUB_FILES = st.sampled_from(["M-Q4_K_M.gguf", "M-Q8_0.gguf", "deep/er/M-Q8_0.gguf", "mmproj-M.gguf", "plain.gguf"])
TARGETS = st.sampled_from(["elsewhere", "elsewhere/sub", "elsewhere/A-Q4_0.gguf", "models", "models/D", "gone"])

Deed = Callable[[Tree], object]


@st.composite
def in_folders(draw: st.DrawFn) -> Deed:
    folder, name, kind, target = draw(FOLDERS), draw(NAMES), draw(KINDS), draw(TARGETS)
    other = draw(NAMES)
    deeds: list[Deed] = [
        lambda tree: tree.write(tree.root / folder / name, kind),
        lambda tree: tree.write(tree.root / folder / name, kind),
        lambda tree: tree.replace(tree.root / folder / name, kind),
        lambda tree: tree.remove(tree.root / folder / name),
        lambda tree: tree.rename(tree.root / folder / name, other),
        lambda tree: tree.link(tree.models / "link", tree.root / target),
        lambda tree: tree.link(tree.models / "D" / "link.gguf", tree.root / target),
        lambda tree: tree.remove(tree.models / "D"),
        lambda tree: tree.remove(tree.root / "elsewhere" / "sub"),
        lambda tree: tree.keeping_times(tree.root / folder, lambda: tree.write(tree.root / folder / name, kind)),
        lambda tree: tree.keeping_times(tree.root / folder, lambda: tree.remove(tree.root / folder / name)),
        lambda tree: tree.rename(tree.models / "D", "C"),
    ]
    return draw(st.sampled_from(deeds))


@st.composite
def in_caches(draw: st.DrawFn) -> Deed:
    repo, commit, file, kind = draw(REPOS), draw(COMMIT), draw(HUB_FILES), draw(KINDS)
    other, ref = draw(COMMIT), draw(st.booleans())
    deeds: list[Deed] = [
        lambda tree: tree.fetch(repo, commit, file, kind, ref=ref),
        lambda tree: tree.fetch(repo, commit, file, kind, ref=ref),
        lambda tree: tree.refer(repo, other),
        lambda tree: tree.remove(tree.hub / repo / "refs"),
        lambda tree: tree.remove(tree.hub / repo / "snapshots" / commit / file),
        lambda tree: tree.remove(tree.hub / repo / "snapshots" / commit),
        lambda tree: tree.remove(tree.hub / repo / "blobs" / f"{kind}-{file.replace('/', '-')}"),
        lambda tree: tree.write(tree.hub / repo / "snapshots" / commit / file, kind),
        lambda tree: tree.link(tree.hub / repo / "snapshots" / other, tree.root / "elsewhere"),
        lambda tree: tree.rename(tree.hub / repo, OTHER_REPO),
        lambda tree: manifest(tree.hub, file.rpartition("/")[2], mmproj="mmproj-M.gguf" if ref else None),
        lambda tree: tree.write(tree.hub / f"user_repo-GGUF_{file.rpartition('/')[2]}", kind),
        lambda tree: tree.remove(tree.hub / f"user_repo-GGUF_{file.rpartition('/')[2]}"),
    ]
    return draw(st.sampled_from(deeds))


PRESET = """
[apart]
model = {0}/elsewhere/A-Q4_0.gguf
mmproj = {0}/elsewhere/mmproj-A-F16.gguf
[shards]
model = {0}/elsewhere/S-00001-of-00002.gguf
[cached]
hf-repo = user/repo
"""


def shown(catalog: Catalog) -> object:
    return dict(catalog.entries), sorted(map(str, catalog.skipped))


def _in_place(tree: Tree) -> None:
    tree.keeping_times(tree.models / "D" / "A-Q4_0.gguf", lambda: tree.write(tree.models / "D" / "A-Q4_0.gguf", "two"))


TABLE: dict[str, tuple[Deed, Deed]] = {
    "written over in place, with the old times": (lambda tree: None, _in_place),
    "grown": (
        lambda tree: tree.write(tree.models / "D" / "A-Q4_0.gguf", "small"),
        lambda tree: tree.write(tree.models / "D" / "A-Q4_0.gguf"),
    ),
    "a file whose name cannot be an id": (lambda tree: None, lambda tree: tree.write(tree.models / "a\x01.gguf")),
    "a projector": (lambda tree: None, lambda tree: tree.write(tree.models / "D" / "mmproj-A.gguf", "projector")),
    "a folder where a link led nowhere": (
        lambda tree: tree.link(tree.models / "link", tree.root / "elsewhere" / "gone"),
        lambda tree: tree.write(tree.root / "elsewhere" / "gone" / "A.gguf"),
    ),
    "a file where a link led nowhere": (
        lambda tree: tree.link(tree.models / "link.gguf", tree.root / "elsewhere" / "gone.gguf"),
        lambda tree: tree.write(tree.root / "elsewhere" / "gone.gguf"),
    ),
    "no file where a link leads": (
        lambda tree: (
            tree.write(tree.root / "elsewhere" / "A.gguf"),
            tree.link(tree.models / "link.gguf", tree.root / "elsewhere" / "A.gguf"),
        ),
        lambda tree: tree.remove(tree.root / "elsewhere" / "A.gguf"),
    ),
    "a link on the way to a folder that was left out": (
        lambda tree: (
            tree.write(tree.root / "elsewhere" / "sub" / "A.gguf"),
            tree.link(tree.root / "way", tree.models),
            tree.link(tree.models / "link", tree.root / "way"),
        ),
        lambda tree: tree.link(tree.root / "way", tree.root / "elsewhere"),
    ),
    "in a linked folder": (
        lambda tree: tree.link(tree.models / "link", tree.root / "elsewhere"),
        lambda tree: tree.write(tree.root / "elsewhere" / "A.gguf"),
    ),
    "a file of a snapshot, in place": (
        lambda tree: tree.write(tree.hub / USER_REPO / "snapshots" / COMMITS[0] / "deep" / "B-Q8_0.gguf"),
        lambda tree: tree.write(tree.hub / USER_REPO / "snapshots" / COMMITS[0] / "deep" / "B-Q8_0.gguf", "two"),
    ),
    "a blob, in place": (
        lambda tree: None,
        lambda tree: tree.write(tree.hub / USER_REPO / "blobs" / "one-M-Q4_K_M.gguf", "two"),
    ),
    "a blob that is gone": (
        lambda tree: None,
        lambda tree: tree.remove(tree.hub / USER_REPO / "blobs" / "one-M-Q4_K_M.gguf"),
    ),
    "a ref, in place": (
        lambda tree: tree.fetch(USER_REPO, COMMITS[1], "M-Q8_0.gguf", "two", ref=False),
        lambda tree: tree.refer(USER_REPO, COMMITS[1]),
    ),
    "the newer of two snapshots, without a ref": (
        lambda tree: (
            tree.fetch(USER_REPO, COMMITS[1], "M-Q8_0.gguf", "two", ref=False),
            tree.remove(tree.hub / USER_REPO / "refs"),
        ),
        lambda tree: os.utime(tree.hub / USER_REPO / "snapshots" / COMMITS[0], ns=(10**19 // 4, 10**19 // 4)),
    ),
    "a snapshot where a link led nowhere": (
        lambda tree: (
            tree.link(tree.hub / USER_REPO / "snapshots" / COMMITS[1], tree.root / "elsewhere" / "sub"),
            tree.refer(USER_REPO, COMMITS[1]),
        ),
        lambda tree: tree.write(tree.root / "elsewhere" / "sub" / "M-Q8_0.gguf"),
    ),
    "a folder for a repository": (
        lambda tree: None,
        lambda tree: tree.fetch(OTHER_REPO, COMMITS[0], "M-Q8_0.gguf", "two", ref=True),
    ),
    "a manifest": (
        lambda tree: tree.write(tree.hub / "user_repo-GGUF_M-Q8_0.gguf"),
        lambda tree: manifest(tree.hub, "M-Q8_0.gguf"),
    ),
    "a file of the preset": (
        lambda tree: tree.write(tree.root / "elsewhere" / "A-Q4_0.gguf"),
        lambda tree: tree.write(tree.root / "elsewhere" / "A-Q4_0.gguf", "small"),
    ),
    "the projector of the preset": (
        lambda tree: tree.write(tree.root / "elsewhere" / "A-Q4_0.gguf"),
        lambda tree: tree.write(tree.root / "elsewhere" / "mmproj-A-F16.gguf", "projector"),
    ),
}


def check(tree: Tree, deeds: Sequence[Deed], kind: str) -> list[object]:
    """Do one after the other; whatever the next list shows is what a first search finds. Returns what was shown."""
    plan = plan_of(tree.root, preset=PRESET.format(tree.root))
    known, seen = plan.inventory, plan.inventory.look
    lists = []
    for deed in deeds:
        tick(tree.root)
        deed(tree)
        again = looked_again(known, seen)
        if again is None:
            known = take_inventory(plan.settings, plan.environ, ENGINE, plan.headers, known)
        seen = again or known.look
        assert (seen.glance is not None) == (kind == "ext4")
        first = take_inventory(plan.settings, plan.environ, ENGINE, HeaderCache(None))
        assert shown(known.catalog) == shown(first.catalog)
        lists.append(shown(first.catalog))
    return lists


@pytest.mark.parametrize("kind", ["ext4", "fuse.rclone"])
@pytest.mark.parametrize("deeds", TABLE.values(), ids=TABLE)
def test_a_change_is_in_the_next_list(tmp_path: Path, deeds: tuple[Deed, Deed], kind: str) -> None:
    tree = Tree(tmp_path)
    tree.write(tree.models / "D" / "A-Q4_0.gguf")
    tree.fetch(USER_REPO, COMMITS[0], "M-Q4_K_M.gguf", "one", ref=True)
    with settled(tmp_path, kind):
        before, after = check(tree, deeds, kind)
        assert before != after


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(in_folders(), in_caches()), min_size=1, max_size=12), st.sampled_from(["ext4", "fuse.rclone"])
)
def test_whatever_changes_the_next_list_is_what_a_first_search_finds(deeds: list[Deed], kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lr-look-") as folder, settled(Path(folder), kind):
        tree = Tree(Path(folder))
        tree.write(tree.models / "A-Q4_0.gguf")
        tree.fetch(USER_REPO, COMMITS[0], "M-Q4_K_M.gguf", "one", ref=True)
        check(tree, deeds, kind)


def some_places(root: Path) -> Places:
    tree = Tree(root)
    tree.write(tree.models / "D" / "A-Q4_0.gguf")
    tree.fetch(USER_REPO, COMMITS[0], "M-Q4_K_M.gguf", "one", ref=True)
    return Places(str(tree.models), str(tree.hub), (str(tree.hub), str(root / "none")))


def test_where_nothing_has_changed_nothing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = some_places(tmp_path)
    with settled(tmp_path):
        look = look_at(places)
        listed: list[str] = []
        list_folder = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or list_folder(path))
        assert look.again() is look
        assert listed == []
        (tmp_path / "models" / "D" / "note.txt").write_text("nothing to us")
        again = look.again()
        assert listed
        assert again is not None
        assert again is not look
        del listed[:]
        assert again.again() is again
        assert listed == []


def test_a_folder_that_has_just_changed_is_listed_again(tmp_path: Path) -> None:
    places = some_places(tmp_path)
    with settled(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(glance, "_SETTLED", 2_000_000_000)
        now = time.time_ns()
        assert look_at(places).glance is None
        folders = [str(tmp_path / "models"), str(tmp_path / "nowhere")]
        assert glance.glance_at(folders, (), (), now) is None
        assert glance.glance_at(folders, (), (), now + 1_900_000_000) is None
        found = glance.glance_at(folders, (), (), now + 2_100_000_000)
        assert found is not None
        assert found.holds()
        (tmp_path / "nowhere").mkdir()
        assert not found.holds()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p", "vfat", "btrfs"])
def test_where_times_of_folders_cannot_be_relied_on_everything_is_listed(tmp_path: Path, kind: str) -> None:
    places = some_places(tmp_path)
    with settled(tmp_path, kind):
        look = look_at(places)
        assert look.glance is None
        again = look.again()
        assert again is not None
        assert again.glance is None
        (tmp_path / "mounts").unlink()
        assert look_at(places).glance is None
