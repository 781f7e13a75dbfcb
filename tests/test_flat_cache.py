"""llama.cpp's flat cache: manifests, and the files that they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamarouter.core.model import Model, Source
from llamarouter.host.flat_cache import models_in_flat_cache
from llamarouter.host.folder_reader import FolderReader
from llamarouter.host.header_cache import HeaderCache
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama


def manifest(folder: Path, file: str, *, tag: str = "latest", mmproj: str | None = None) -> Path:
    """A manifest as llama.cpp kept it, from the Hub's answer."""
    content: dict[str, object] = {"ggufFile": {"rfilename": file, "size": 7, "blobId": "x"}, "requiresAuth": False}
    if mmproj is not None:
        content["mmprojFile"] = {"rfilename": mmproj}
    path = folder / f"manifest=user=repo-GGUF={tag}.json"
    path.write_text(json.dumps(content))
    return path


def search(folder: Path, reader: FolderReader | None = None) -> dict[str, Model]:
    found = models_in_flat_cache(str(folder), reader or FolderReader(), HeaderCache(None))
    return {model.id: model for model in found}


def test_a_model_with_its_projector(tmp_path: Path) -> None:
    manifest(tmp_path, "sub/M-Q8_0.gguf", mmproj="mmproj-M.gguf")
    path = write_llama(tmp_path / "user_repo-GGUF_sub_M-Q8_0.gguf", quant="Q8_0")
    projector = write_mmproj(tmp_path / "user_repo-GGUF_mmproj-M.gguf")
    reader = FolderReader()
    models = search(tmp_path, reader)
    assert list(models) == ["user/repo-GGUF:Q8_0"]
    model = models["user/repo-GGUF:Q8_0"]
    assert (model.source, model.repo, model.removable, model.problem) == (Source.CACHE, model.id, True, None)
    assert model.files is not None
    assert (model.files.model, model.files.mmproj) == (str(path), str(projector))
    assert reader.skipped == []


def test_shards(tmp_path: Path) -> None:
    manifest(tmp_path, "M-F32-00001-of-00002.gguf", tag="F32")
    paths = write_sharded_llama(tmp_path / "user_repo-GGUF_M-F32.gguf")
    reader = FolderReader()
    model = search(tmp_path, reader)["user/repo-GGUF:F32"]
    assert model.files is not None
    assert model.files.shards == tuple(map(str, paths))
    assert (model.problem, reader.skipped) == (None, [])


@pytest.mark.parametrize(
    ("file", "tag", "id"),
    [
        ("M-Q4_K_M.gguf", "latest", "user/repo-GGUF:Q4_K_M"),
        ("M-UD-Q4_K_M.gguf", "UD-Q4_K_M", "user/repo-GGUF:Q4_K_M"),
        ("plain.gguf", "q8_0", "user/repo-GGUF:Q8_0"),
        ("plain.gguf", "latest", "user/repo-GGUF/plain.gguf"),
    ],
)
def test_id(tmp_path: Path, file: str, tag: str, id: str) -> None:
    manifest(tmp_path, file, tag=tag)
    write_llama(tmp_path / f"user_repo-GGUF_{file}")
    assert list(search(tmp_path)) == [id]


def test_two_manifests_of_one_file_are_one_model(tmp_path: Path) -> None:
    manifest(tmp_path, "M-Q8_0.gguf")
    manifest(tmp_path, "M-Q8_0.gguf", tag="Q8_0")
    write_llama(tmp_path / "user_repo-GGUF_M-Q8_0.gguf")
    assert list(search(tmp_path)) == ["user/repo-GGUF:Q8_0"]


def test_a_file_that_was_not_fetched(tmp_path: Path) -> None:
    manifest(tmp_path, "M-Q8_0.gguf", mmproj="mmproj-M.gguf")
    model = search(tmp_path)["user/repo-GGUF:Q8_0"]
    assert model.problem == "there is no such file"
    assert model.files is not None
    assert model.files.mmproj is None


def test_what_cannot_be_named_is_a_note(tmp_path: Path) -> None:
    write_llama(tmp_path / "user_other_M-Q8_0.gguf")
    (tmp_path / "manifest=user=bad=latest.json").write_text("{")
    (tmp_path / "manifest=user=none=latest.json").write_text("{}")
    (tmp_path / "manifest=user=nul=latest.json").write_text('{"ggufFile":{"rfilename":"a\\u0000.gguf"}}')
    (tmp_path / "manifest=user=type=latest.json").write_text('{"ggufFile":7}')
    (tmp_path / "manifest=user=deep=latest.json").write_text("[" * 100_000)
    (tmp_path / "other.json").write_text("{}")
    reader = FolderReader()
    assert search(tmp_path, reader) == {}
    assert {note.where.rpartition("/")[2]: note.reason.split(";")[0] for note in reader.skipped} == {
        "manifest=user=bad=latest.json": "cannot be read as a manifest",
        "manifest=user=deep=latest.json": "cannot be read as a manifest",
        "manifest=user=none=latest.json": "the manifest names no GGUF",
        "manifest=user=nul=latest.json": "the manifest names no GGUF",
        "manifest=user=type=latest.json": "cannot be read as a manifest",
        "user_other_M-Q8_0.gguf": "no manifest names its repository",
    }


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    manifest(tmp_path, "../../etc/M-Q8_0.gguf")
    model = search(tmp_path)["user/repo-GGUF:Q8_0"]
    assert model.files is not None
    assert Path(model.files.model).parent == tmp_path


def test_no_folder(tmp_path: Path) -> None:
    assert search(tmp_path / "missing") == {}
