"""The Hugging Face hub cache: which snapshot, which files, and their ids."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamarouter.core.hub_names import Wanted
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import DEPTH_MAX, FolderReader
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.hub_cache import model_in_hub_cache, models_in_hub_cache
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama

COMMITS = ("0" * 39 + "1", "0" * 39 + "2")


def snapshot(root: Path, folder: str = "models--user--repo", *, commit: str = COMMITS[0], ref: str = "main") -> Path:
    """An empty snapshot as the hub's library lays it out."""
    repo = root / folder
    path = repo / "snapshots" / commit
    path.mkdir(parents=True)
    (repo / "blobs").mkdir(exist_ok=True)
    if ref:
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / ref).write_text(commit)
    return path


def add(folder: Path, name: str, quant: str = "F32") -> Path:
    """A blob with a link to it, as the library makes them."""
    blob = folder.parents[1] / "blobs" / f"blob-of-{name.replace('/', '-')}"
    write_llama(blob, quant=quant)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(blob, path.parent))
    return path


def search(root: Path, reader: FolderReader | None = None) -> dict[str, Model]:
    found = models_in_hub_cache(str(root), reader or FolderReader(), HeaderCache(None))
    return {model.id: model for model in found}


def resolve(root: Path, repo: str, tag: str | None = None, file: str | None = None) -> Model | None:
    return model_in_hub_cache(str(root), Wanted(repo, tag, file), FolderReader(), HeaderCache(None))


def test_a_repository(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "models--ggml-org--M-GGUF")
    path = add(folder, "M.q8_0.gguf", "Q8_0")
    (folder / "README.md").write_text("x")
    models = search(tmp_path)
    assert list(models) == ["ggml-org/M-GGUF:Q8_0"]
    model = models["ggml-org/M-GGUF:Q8_0"]
    assert (model.source, model.repo, model.removable) == (Source.CACHE, model.id, True)
    assert model.files is not None
    assert model.files.model == str(path)
    assert model.problem is None
    assert model.size == path.stat().st_size


def test_shards_and_projector_in_sub_folders(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    (folder / "BF16").mkdir()
    shards = write_sharded_llama(folder / "BF16" / "M-BF16.gguf")
    write_mmproj(folder / "mmproj-F16.gguf")
    model = search(tmp_path)["user/repo:BF16"]
    assert model.files is not None
    assert model.files.shards == tuple(map(str, shards))
    assert model.files.mmproj == str(folder / "mmproj-F16.gguf")
    assert model.projects == ("image",)


def test_the_snapshot_that_main_names(tmp_path: Path) -> None:
    add(snapshot(tmp_path, commit=COMMITS[1], ref="other"), "new-Q8_0.gguf")
    add(snapshot(tmp_path, commit=COMMITS[0]), "old-Q4_0.gguf")
    assert list(search(tmp_path)) == ["user/repo:Q4_0"]


@pytest.mark.parametrize("main", ["nonsense", "f" * 40, "", "x" * 5000])
def test_another_ref_where_main_leads_nowhere(tmp_path: Path, main: str) -> None:
    add(snapshot(tmp_path, commit=COMMITS[0], ref="v1"), "a-Q4_0.gguf")
    add(snapshot(tmp_path, commit=COMMITS[1], ref=""), "b-Q8_0.gguf")
    (tmp_path / "models--user--repo" / "refs" / "main").write_text(main)
    models = search(tmp_path)
    assert list(models) == ["user/repo:Q4_0"]
    # llama-server passes over what is no commit, and finds nothing where the commit is not here.
    assert models["user/repo:Q4_0"].unreferenced is (main == "f" * 40)


def test_the_newest_snapshot_without_refs(tmp_path: Path) -> None:
    newest = snapshot(tmp_path, commit=COMMITS[0], ref="")
    add(newest, "a-Q4_0.gguf")
    oldest = snapshot(tmp_path, commit=COMMITS[1], ref="")
    add(oldest, "b-Q8_0.gguf")
    os.utime(oldest, (1, 1))
    models = search(tmp_path)
    assert list(models) == ["user/repo:Q4_0"]
    assert models["user/repo:Q4_0"].unreferenced


def test_refs_that_cannot_be_read_are_not_waited_for(tmp_path: Path) -> None:
    add(snapshot(tmp_path, ref=""), "a-Q4_0.gguf")
    refs = tmp_path / "models--user--repo" / "refs"
    (refs / "folder").mkdir(parents=True)
    os.mkfifo(refs / "main")
    (refs / "loop").symlink_to("loop")
    assert list(search(tmp_path)) == ["user/repo:Q4_0"]


def test_repositories_that_are_none(tmp_path: Path) -> None:
    add(snapshot(tmp_path, "models--user--a--b"), "M-Q8_0.gguf")
    for folder in ("models--alone", "datasets--user--repo", "models--user--x y", "models--"):
        add(snapshot(tmp_path, folder), "M-Q8_0.gguf")
    (tmp_path / "models--user--empty").mkdir()
    (tmp_path / "models--user--file").write_text("")
    (tmp_path / "version.txt").write_text("1")
    assert list(search(tmp_path)) == ["alone:Q8_0", "user/a--b:Q8_0"]
    assert resolve(tmp_path, "user/a--b") is not None
    assert search(tmp_path / "missing") == {}


def test_files_without_a_tag_of_their_own_are_called_by_their_path(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    for name in ("A-Q8_0.gguf", "B-Q8_0.gguf", "x/plain.gguf"):
        add(folder, name)
    for name in ("imatrix.gguf", "mtp-M-Q8_0.gguf", "M-imatrix.gguf"):
        (folder / name).write_bytes(b"")
    assert list(search(tmp_path)) == ["user/repo:Q8_0", "user/repo/B-Q8_0.gguf", "user/repo/x/plain.gguf"]


def test_a_blob_that_is_gone(tmp_path: Path) -> None:
    add(snapshot(tmp_path), "M-Q8_0.gguf").resolve().unlink()
    assert search(tmp_path)["user/repo:Q8_0"].problem == "a symbolic link that leads nowhere"


def test_folders_are_not_followed_by_links_and_not_for_ever(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    add(folder, "M-Q8_0.gguf")
    (folder / "again").symlink_to(folder)
    deep = folder
    for _ in range(DEPTH_MAX + 2):
        deep = deep / "x"
    deep.mkdir(parents=True)
    reader = FolderReader()
    assert list(search(tmp_path, reader)) == ["user/repo:Q8_0"]
    assert [note.reason for note in reader.skipped] == ["too deep; left out"]


def test_resolve(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    for name in ("M-F16.gguf", "M-UD-Q4_K_M.gguf", "M-Q8_0.gguf"):
        add(folder, name)
    for tag, id in ((None, "Q4_K_M"), ("q8_0", "Q8_0"), ("UD-Q4_K_M", "Q4_K_M")):
        model = resolve(tmp_path, "user/repo", tag)
        assert model is not None
        assert model.id == f"user/repo:{id}"
    assert resolve(tmp_path, "user/repo", "Q5_K_M") is None
    assert resolve(tmp_path, "user/other") is None


def test_resolve_what_is_incomplete(tmp_path: Path) -> None:
    shards = write_sharded_llama(snapshot(tmp_path) / "M-F32.gguf")
    assert resolve(tmp_path, "user/repo") is not None
    shards[1].unlink()
    assert resolve(tmp_path, "user/repo") is None


def test_resolve_takes_a_file_without_a_tag(tmp_path: Path) -> None:
    add(snapshot(tmp_path), "plain.gguf")
    for model in (resolve(tmp_path, "user/repo"), resolve(tmp_path, "user/repo", file="plain.gguf")):
        assert model is not None
        assert model.id == "user/repo/plain.gguf"
    assert resolve(tmp_path, "user/repo", file="other.gguf") is None
