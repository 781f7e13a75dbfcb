"""--models-dir: ids, sub-folders, shards, projectors, drafts, and what is wrong with files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import DEPTH_MAX, FolderReader
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.models_folder import models_in_folder
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama


def search(folder: Path, reader: FolderReader | None = None) -> dict[str, Model]:
    found = models_in_folder(str(folder), reader or FolderReader(), HeaderCache(None))
    models = {model.id: model for model in found}
    assert len(models) == len(found)
    return models


def test_files_at_the_top(tmp_path: Path) -> None:
    write_llama(tmp_path / "A-Q8_0.gguf", quant="Q8_0")
    write_llama(tmp_path / "B.gguf.gguf")
    write_mmproj(tmp_path / "mmproj-A.gguf")
    for name in ("mtp-A.gguf", "A-imatrix.gguf", "A.GGUF", "notes.txt", ".hidden.gguf"):
        (tmp_path / name).write_bytes(b"x")
    models = search(tmp_path)
    assert list(models) == ["A-Q8_0", "B"]
    model = models["A-Q8_0"]
    assert model.files is not None
    assert model.files.model == str(tmp_path / "A-Q8_0.gguf")
    assert (model.source, model.problem, model.removable, model.repo) == (Source.MODELS_DIR, None, False, None)
    assert model.size == (tmp_path / "A-Q8_0.gguf").stat().st_size
    assert model.header is not None
    assert model.header.quant == "Q8_0"


def test_a_folder_is_listed_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "z").mkdir(parents=True)
    write_llama(folder / "A.gguf")
    write_llama(folder / "z" / "B.gguf")
    for name, target in {"self": folder, "up": tmp_path, "again": folder / "z"}.items():
        (folder / name).symlink_to(target)
    write_llama(tmp_path / "C.gguf")
    (tmp_path / "elsewhere").mkdir()
    write_llama(tmp_path / "elsewhere" / "D.gguf")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    reader = FolderReader()
    assert sorted(search(folder, reader)) == ["A", "linked", "z"]
    assert sorted(each.where for each in reader.skipped) == [str(folder / name) for name in ("again", "self", "up")]


def test_shards_are_one_model(tmp_path: Path) -> None:
    paths = write_sharded_llama(tmp_path / "S.gguf", tensors_a_shard=8)
    assert len(paths) == 3
    models = search(tmp_path)
    assert list(models) == ["S"]
    model = models["S"]
    assert model.problem is None
    assert model.files is not None
    assert model.files.shards == tuple(map(str, paths))
    assert model.files.model == str(paths[0])
    assert model.size == sum(path.stat().st_size for path in paths)
    assert model.header is not None
    assert model.header.n_params == one_file_params(tmp_path)


def one_file_params(tmp_path: Path) -> int:
    """The parameters of the same model in one file."""
    (tmp_path / "whole").mkdir()
    write_llama(tmp_path / "whole" / "W.gguf")
    (model,) = search(tmp_path / "whole").values()
    assert model.header is not None
    return model.header.n_params


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_shard_is_named(tmp_path: Path, missing: int) -> None:
    paths = write_sharded_llama(tmp_path / "S.gguf", tensors_a_shard=8)
    paths[missing - 1].unlink()
    (model,) = search(tmp_path).values()
    assert model.id == "S"
    assert model.problem == f"shard {missing} of 3 is missing: {paths[missing - 1].name}"


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    paths = write_sharded_llama(tmp_path / "S.gguf", tensors_a_shard=8)
    os.truncate(paths[1], paths[1].stat().st_size - 1)
    (model,) = search(tmp_path).values()
    assert model.problem is not None
    assert model.problem.startswith(f"{paths[1].name}: truncated")


def test_a_lie_about_shards_costs_nothing(tmp_path: Path) -> None:
    write_llama(tmp_path / "S-00001-of-99999.gguf")
    (model,) = search(tmp_path).values()
    assert model.problem == "shard 2 of 99999 is missing: S-00002-of-99999.gguf"
    assert model.files is not None
    assert model.files.shards == (str(tmp_path / "S-00001-of-99999.gguf"),)


def test_a_hole_among_shards_ends_the_reading(tmp_path: Path) -> None:
    paths = write_sharded_llama(tmp_path / "S.gguf", tensors_a_shard=8)
    paths[1].unlink()
    (model,) = search(tmp_path).values()
    assert model.files is not None
    assert model.files.shards == (str(paths[0]),)


def test_a_note_is_made_once() -> None:
    reader = FolderReader()
    for reason in ("first", "second"):
        reader.skip("/a", reason)
    assert [str(note) for note in reader.skipped] == ["/a: first"]


def test_a_folder_with_all_that_belongs_to_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "D"
    folder.mkdir()
    write_llama(folder / "M-Q8_0.gguf")
    write_llama(folder / "mtp-M.gguf")
    write_mmproj(folder / "mmproj-a.gguf", vision=False, audio=True)
    write_mmproj(folder / "mmproj-b.gguf", audio=True)
    models = search(tmp_path)
    assert list(models) == ["D"]
    files = models["D"].files
    assert files is not None
    assert files.model == str(folder / "M-Q8_0.gguf")
    assert files.mmproj == str(folder / "mmproj-a.gguf")
    assert files.draft == str(folder / "mtp-M.gguf")
    assert models["D"].projects == ("audio",)
    assert models["D"].size == (folder / "M-Q8_0.gguf").stat().st_size


@pytest.mark.parametrize("companion", ["mmproj-M.gguf", "mtp-M.gguf"])
def test_a_broken_companion_is_noted(tmp_path: Path, companion: str) -> None:
    (tmp_path / "D").mkdir()
    write_llama(tmp_path / "D" / "M.gguf")
    (tmp_path / "D" / companion).write_bytes(b"")
    model = search(tmp_path)["D"]
    assert model.problem is None
    assert [str(each) for each in model.broken] == [f"{tmp_path}/D/{companion}: the file is empty"]


def test_several_models_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    for name in ("M-Q4_0.gguf", "M-Q8_0.gguf"):
        write_llama(tmp_path / "D" / name)
    write_sharded_llama(tmp_path / "D" / "A.gguf")
    write_mmproj(tmp_path / "D" / "mmproj.gguf")
    models = search(tmp_path)
    assert list(models) == ["D/A", "D/M-Q4_0", "D/M-Q8_0"]
    assert {model.files.mmproj for model in models.values() if model.files} == {str(tmp_path / "D" / "mmproj.gguf")}


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a small model at a path below `tmp_path`."""

    def put(inside: str) -> Path:
        path = tmp_path / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_llama(path, n_embd=32, n_layer=1, quant="Q4_0")

    return put


Put = Callable[[str], Path]


def test_folders_at_any_depth(tmp_path: Path, small: Put) -> None:
    """The ids of depth 0 and 1 are llama-server's; deeper ones are the path without the suffix."""
    for inside in (
        "A.gguf",
        "D/M.gguf",
        "D/deep/N.gguf",
        "pub/repo/M-Q4_0.gguf",
        "pub/repo/M-Q8_0.gguf",
        "x/y/z/w.gguf",
    ):
        small(inside)
    (tmp_path / "E.gguf").mkdir()
    small("E.gguf/M.gguf")
    shards = write_sharded_llama(tmp_path / "pub" / "S.gguf")
    models = search(tmp_path)
    assert {id: model.folder for id, model in models.items()} == {
        "A": None,
        "D": None,
        "E.gguf": None,
        "pub": None,
        "D/deep/N": "D/deep",
        "pub/repo/M-Q4_0": "pub/repo",
        "pub/repo/M-Q8_0": "pub/repo",
        "x/y/z/w": "x/y/z",
    }
    assert models["pub"].files is not None
    assert models["pub"].files.shards == tuple(map(str, shards))
    assert {model.problem for model in models.values()} == {None}


def test_what_lies_too_deep_is_a_note(tmp_path: Path, small: Put) -> None:
    deep = "/".join(f"{number}" for number in range(DEPTH_MAX))
    small(f"{deep}/in.gguf")
    small(f"{deep}/more/out.gguf")
    reader = FolderReader()
    assert list(search(tmp_path, reader)) == [f"{deep}/in"]
    assert [str(note) for note in reader.skipped] == [f"{tmp_path}/{deep}/more: too deep; left out"]


def test_a_bound_cuts_off_the_farthest(tmp_path: Path, small: Put) -> None:
    for inside in ("a/b/c/far.gguf", "m/1.gguf", "z.gguf"):
        small(inside)
    reader = FolderReader(entries_max=5)  # a, m, z.gguf; b; 1.gguf
    assert sorted(search(tmp_path, reader)) == ["m", "z"]
    assert [str(note) for note in reader.skipped] == [f"{tmp_path}: too many files; the rest is left out"]


def test_loops_of_links_end(tmp_path: Path, small: Put) -> None:
    small("a/b/M.gguf")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "0").symlink_to("a/b")  # sorted before `a`, and still the real folder gives the name
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    reader = FolderReader()
    assert list(search(tmp_path, reader)) == ["a/b/M"]
    assert sorted(note.where.removeprefix(f"{tmp_path}/") for note in reader.skipped) == ["0", "a/b/up", "a/self"]


def test_links_out_of_the_folder_are_followed_below_them_too(tmp_path: Path, small: Put) -> None:
    small("elsewhere/sub/M.gguf")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "L").symlink_to(tmp_path / "elsewhere")
    models = search(tmp_path / "models")
    assert list(models) == ["L/sub/M"]
    assert models["L/sub/M"].files is not None
    assert models["L/sub/M"].files.model == str(tmp_path / "models" / "L" / "sub" / "M.gguf")


def test_no_model_is_lost_to_another_of_the_same_name(tmp_path: Path, small: Put) -> None:
    for inside in ("X.gguf", "X/M.gguf", "Y/a.gguf", "Y/a.gguf.gguf", "Z/b-00001-of-00001.gguf", "Z/b.gguf"):
        small(inside)
    write_sharded_llama(tmp_path / "X.gguf")
    reader = FolderReader()
    assert sorted(search(tmp_path, reader)) == ["X", "X.gguf", "X/M", "Y/a", "Y/a.gguf.gguf", "Z/b", "Z/b.gguf"]
    reasons = sorted(note.reason for note in reader.skipped)
    assert reasons == [
        "has the id 'X', which is taken already in this folder: listed as 'X.gguf'",
        "has the id 'X', which is taken already in this folder: listed as 'X/M'",
        "has the id 'Y/a', which is taken already in this folder: listed as 'Y/a.gguf.gguf'",
        "has the id 'Z/b', which is taken already in this folder: listed as 'Z/b.gguf'",
    ]


def files_in(folder: Path, id: str) -> tuple[str | None, str | None]:
    """The projector and the draft of a model, inside the folder."""
    files = search(folder)[id].files
    assert files is not None
    projector, draft = (path and path.removeprefix(f"{folder}/") for path in (files.mmproj, files.draft))
    return projector, draft


def test_what_goes_with_a_model_is_of_its_folder_or_the_nearest_above(tmp_path: Path, small: Put) -> None:
    for inside in (
        "R/M-Q4_0.gguf",
        "R/BF16/M-BF16.gguf",
        "R/Q8/M-Q8_0.gguf",
        "R/mtp-M-Q8_0.gguf",
        "T.gguf",
        "mtp-T.gguf",
    ):
        small(inside)
    for inside in ("mmproj-T.gguf", "R/mmproj-F16.gguf", "R/mmproj-Q8_0.gguf", "R/Q8/mmproj-F32.gguf"):
        write_mmproj(tmp_path / inside)
    assert files_in(tmp_path, "T") == (None, None)  # at the top too much lies side by side
    assert files_in(tmp_path, "R") == ("R/mmproj-Q8_0.gguf", "R/mtp-M-Q8_0.gguf")
    assert files_in(tmp_path, "R/BF16/M-BF16") == ("R/mmproj-F16.gguf", "R/mtp-M-Q8_0.gguf")
    assert files_in(tmp_path, "R/Q8/M-Q8_0") == ("R/Q8/mmproj-F32.gguf", "R/mtp-M-Q8_0.gguf")


@pytest.mark.parametrize(
    ("drafts", "taken"),
    [
        (("dflash-M.gguf", "dspark-M.gguf", "eagle3-M.gguf", "mtp-M.gguf"), "mtp-M.gguf"),
        (("dflash-M.gguf", "dspark-M.gguf", "eagle3-M.gguf"), "dspark-M.gguf"),
        (("eagle3-M.gguf",), "eagle3-M.gguf"),
        (("mtp-M-Q8_0.gguf", "mtp-M-Q4_0.gguf"), "mtp-M-Q4_0.gguf"),
        (("mtp-M-IQ4_XS.gguf", "mtp-M-Q4_0.gguf"), "mtp-M-Q4_0.gguf"),
        (("mtp-other.gguf", "eagle3-M.gguf"), "eagle3-M.gguf"),
        (("mtp-other.gguf",), "mtp-other.gguf"),
    ],
)
def test_which_of_several_drafts(tmp_path: Path, small: Put, drafts: tuple[str, ...], taken: str) -> None:
    for name in ("M-Q4_0.gguf", *drafts):
        small(f"D/{name}")
    assert files_in(tmp_path, "D")[1] == f"D/{taken}"


def test_in_a_folder_of_several_models_each_has_its_own(tmp_path: Path, small: Put) -> None:
    for name in ("A-7b-Q4_0", "A-7b-Q8_0", "llama-B-Q4_0", "mtp-llama-B"):
        small(f"D/{name}.gguf")
    for name in ("mmproj-A-7b-F16", "mmproj-llama-B-F16"):
        write_mmproj(tmp_path / "D" / f"{name}.gguf")
    small("E/A.gguf")
    small("E/llama-B.gguf")
    write_mmproj(tmp_path / "E" / "A-mmproj.gguf")
    for id in ("D/A-7b-Q4_0", "D/A-7b-Q8_0"):
        assert files_in(tmp_path, id) == ("D/mmproj-A-7b-F16.gguf", None)
    assert files_in(tmp_path, "D/llama-B-Q4_0") == ("D/mmproj-llama-B-F16.gguf", "D/mtp-llama-B.gguf")
    assert files_in(tmp_path, "E/A") == ("E/A-mmproj.gguf", None)
    assert files_in(tmp_path, "E/llama-B") == (None, None)


def test_a_mark_inside_a_name_makes_no_draft_of_a_model(tmp_path: Path, small: Put) -> None:
    for name in ("GLM-mtp-Q4_0.gguf", "mtp-GLM.gguf", "GLM.imatrix.gguf"):
        small(name)
    assert list(search(tmp_path)) == ["GLM-mtp-Q4_0"]


def test_links_are_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_llama(elsewhere / "M.gguf")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "L.gguf").symlink_to(elsewhere / "M.gguf")
    (folder / "D").symlink_to(elsewhere)
    (folder / "again").symlink_to(folder)
    models = search(folder)
    assert [models[id].problem for id in ("D", "L")] == [None, None]
    assert models["D"].files is not None
    assert models["D"].files.model == str(folder / "D" / "M.gguf")


def test_every_kind_of_bad_file_is_listed_with_its_reason(tmp_path: Path) -> None:
    good = write_llama(tmp_path / "good.gguf").read_bytes()
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "cut.gguf").write_bytes(good[:-1])
    (tmp_path / "text.gguf").write_bytes(b"hello")
    write_mmproj(tmp_path / "projector.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    (tmp_path / "gone.gguf").symlink_to("nowhere")
    models = search(tmp_path)
    assert models.pop("good").problem is None
    assert {id: model.problem for id, model in models.items()} == {
        "cut": "truncated: 1 bytes are missing at its end (tensor 'blk.1.ffn_down.weight')",
        "empty": "the file is empty",
        "gone": "a symbolic link that leads nowhere",
        "loop": "a loop of symbolic links",
        "pipe": "a named pipe, not a file",
        "projector": "a projector (mmproj), not a model",
        "text": "not a GGUF (its magic is wrong)",
    }


def test_what_has_no_id_is_a_note(tmp_path: Path) -> None:
    write_llama(tmp_path / "new\nline.gguf")
    write_llama(tmp_path / "X.gguf")
    (tmp_path / "X").mkdir()
    write_llama(tmp_path / "X" / "M.gguf")
    (tmp_path / "F.gguf").mkdir()
    with open(os.fsencode(tmp_path) + b"/\xff.gguf", "wb"):
        pass
    reader = FolderReader()
    assert list(search(tmp_path, reader)) == ["X", "X/M"]
    notes = {note.where.removeprefix(f"{tmp_path}/"): note.reason for note in reader.skipped}
    assert notes == {
        "new\\nline.gguf": "its name cannot be an id (not UTF-8, or with control characters)",
        "\\udcff.gguf": "its name cannot be an id (not UTF-8, or with control characters)",
        "F.gguf": "a folder, not a file, and no model in it",
        "X/M.gguf": "has the id 'X', which is taken already in this folder: listed as 'X/M'",
    }


def test_a_search_is_bounded(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.gguf").write_bytes(b"")
    reader = FolderReader(entries_max=3)
    assert len(search(tmp_path, reader)) == 3
    assert [str(note) for note in reader.skipped] == [f"{tmp_path}: too many files; the rest is left out"]


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "no such folder"), ("file", "a file, where a folder"), ("nul\0", "cannot be read")]
)
def test_a_folder_that_is_not_there(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=words) as caught:
        search(tmp_path / name)
    assert "--models-dir" in str(caught.value)


def test_later_shards_under_other_names(tmp_path: Path) -> None:
    first, second = write_sharded_llama(tmp_path / "S.gguf")
    first.unlink()
    second.rename(tmp_path / "part.gguf")
    (model,) = search(tmp_path).values()
    assert model.problem == "a later shard of a model, without its first"


def test_a_sub_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    """A loop of links stands for it: these tests may run as root, who can list everything."""
    (tmp_path / "loop").symlink_to("loop")
    reader = FolderReader()
    assert reader.entries(str(tmp_path / "loop")) == []
    assert "cannot be read" in str(reader.skipped[0])
