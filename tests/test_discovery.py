"""Everything together: where models are looked for, which one wins, and that a change is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.core.model import Source
from llamarouter.host.discovery import Places, describe_file, discover, places_of, resolve_repo
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.look import look_at
from tests.test_flat_cache import manifest
from tests.test_hub_cache import add, snapshot
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in ("models", "hub", "flat"):
        (tmp_path / name).mkdir()
    return Places(str(tmp_path / "models"), str(tmp_path / "hub"), (str(tmp_path / "flat"), str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("environ", "hub"),
    [
        ({"LLAMA_CACHE": "/l", "HF_HUB_CACHE": "/a"}, "/l"),
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"LLAMA_CACHE": ""}, "/h/.cache/huggingface/hub"),
    ],
)
def test_hub_cache_after_the_environment(environ: dict[str, str], hub: str) -> None:
    assert places_of({"HOME": "/h", **environ}, None).hub_cache == hub


def test_flat_caches_and_relative_paths() -> None:
    found = places_of({"HOME": "/h", "LLAMA_CACHE": "x"}, "models")
    assert found.flat_caches == (os.path.abspath("x"), "/h/.cache/llama.cpp")
    assert found.models_dir == os.path.abspath("models")
    assert places_of({"HOME": "/h", "XDG_CACHE_HOME": "/h/.cache"}, None).flat_caches == ("/h/.cache/llama.cpp",)


def test_all_places_sorted_by_id(places: Places, tmp_path: Path) -> None:
    write_llama(tmp_path / "models" / "zebra.gguf")
    write_llama(tmp_path / "models" / "Ape.gguf")
    add(snapshot(tmp_path / "hub"), "M-Q8_0.gguf")
    manifest(tmp_path / "flat", "M-Q8_0.gguf")
    write_llama(tmp_path / "flat" / "user_repo-GGUF_M-Q8_0.gguf")
    (tmp_path / "models" / "bad.gguf").write_bytes(b"")
    found = discover(places, HeaderCache(None))
    assert [model.id for model in found.models] == ["Ape", "bad", "user/repo-GGUF:Q8_0", "user/repo:Q8_0", "zebra"]
    assert [str(note) for note in found.skipped] == [f"{tmp_path}/models/bad.gguf: the file is empty"]


def test_which_place_wins(places: Places, tmp_path: Path) -> None:
    write_llama(tmp_path / "flat" / "user_repo-GGUF_M-Q8_0.gguf")
    manifest(tmp_path / "flat", "M-Q8_0.gguf")
    path = add(snapshot(tmp_path / "hub", "models--user--repo-GGUF"), "M-Q8_0.gguf")
    (model,) = discover(places, HeaderCache(None)).models
    assert model.files is not None
    assert model.files.model == str(path)


def test_the_first_flat_cache_wins(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        manifest(tmp_path / name, "M-Q8_0.gguf")
        write_llama(tmp_path / name / "user_repo-GGUF_M-Q8_0.gguf")
    both = Places(None, str(tmp_path / "hub"), (str(tmp_path / "a"), str(tmp_path / "b")))
    for model in (discover(both, HeaderCache(None)).models[0], resolve_repo(both, "user/repo-GGUF")):
        assert model is not None
        assert model.files is not None
        assert Path(model.files.model).parent.name == "a"


def test_one_folder_in_two_roles(tmp_path: Path) -> None:
    """LLAMA_CACHE is the hub's root and the flat folder at once."""
    add(snapshot(tmp_path), "M-Q8_0.gguf")
    manifest(tmp_path, "M-Q8_0.gguf")
    write_llama(tmp_path / "user_repo-GGUF_M-Q8_0.gguf")
    found = discover(places_of({"LLAMA_CACHE": str(tmp_path), "HOME": str(tmp_path)}, None), HeaderCache(None))
    assert [model.id for model in found.models] == ["user/repo-GGUF:Q8_0", "user/repo:Q8_0"]
    assert found.skipped == ()


def test_a_missing_models_dir_is_the_operators_mistake(places: Places, tmp_path: Path) -> None:
    (tmp_path / "models").rmdir()
    for look in (lambda: discover(places, HeaderCache(None)), lambda: look_at(places)):
        with pytest.raises(UsageError, match="no such folder"):
            look()


def test_missing_caches_are_nothing(tmp_path: Path) -> None:
    found = discover(Places(None, str(tmp_path / "a"), (str(tmp_path / "b"),)), HeaderCache(None))
    assert (found.models, found.skipped) == ((), ())


CHANGES: list[Callable[[Path], object]] = [
    lambda root: write_llama(root / "models" / "new.gguf"),
    lambda root: write_llama(root / "models" / "D" / "new.gguf"),
    lambda root: (root / "models" / "M.gguf").unlink(),
    lambda root: os.truncate(root / "models" / "M.gguf", 5),
    lambda root: os.truncate(root / "models" / "D" / "M.gguf", 5),
    lambda root: (root / "models" / "E").mkdir() or write_llama(root / "models" / "E" / "M.gguf"),
    lambda root: (
        (root / "models" / "D" / "x" / "y").mkdir(parents=True)
        or write_llama(root / "models" / "D" / "x" / "y" / "M.gguf")
    ),
    lambda root: write_llama(root / "new").replace(
        root / "hub" / "models--user--repo" / "blobs" / "blob-of-M-Q8_0.gguf"
    ),
    lambda root: add(snapshot(root / "hub", "models--user--new"), "M-Q8_0.gguf"),
    lambda root: add(next((root / "hub" / "models--user--repo" / "snapshots").iterdir()), "M-Q4_0.gguf"),
    lambda root: add(next((root / "hub" / "models--user--repo" / "snapshots").iterdir()), "x/M-Q4_0.gguf"),
    lambda root: (root / "hub" / "models--user--repo" / "refs" / "main").write_text("f" * 40),
    lambda root: manifest(root / "flat", "M-Q8_0.gguf"),
]


def test_a_look_at_what_cannot_be_looked_at(places: Places, tmp_path: Path) -> None:
    (tmp_path / "models" / "loop.gguf").symlink_to("loop.gguf")
    (tmp_path / "models" / "note.txt").write_text("")
    add(snapshot(tmp_path / "hub"), "M-Q8_0.gguf")
    (tmp_path / "hub" / "datasets--user--data").mkdir()
    assert look_at(places).marks == discover(places, HeaderCache(None)).look.marks


@pytest.mark.parametrize("change", CHANGES)
def test_a_look_shows_a_change(places: Places, tmp_path: Path, change: Callable[[Path], object]) -> None:
    write_llama(tmp_path / "models" / "M.gguf")
    (tmp_path / "models" / "D").mkdir()
    write_llama(tmp_path / "models" / "D" / "M.gguf")
    add(snapshot(tmp_path / "hub"), "M-Q8_0.gguf")
    found = discover(places, HeaderCache(None))
    assert look_at(places).marks == found.look.marks
    change(tmp_path)
    assert look_at(places).marks != found.look.marks


def test_a_file_that_is_still_being_copied_gets_well(places: Places, tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "whole").read_bytes()
    path = tmp_path / "models" / "M.gguf"
    path.write_bytes(whole[:5000])
    headers = HeaderCache(None)
    before = discover(places, headers)
    assert before.models[0].problem is not None
    with path.open("ab") as file:
        file.write(whole[5000:])
    assert look_at(places).marks != before.look.marks
    assert discover(places, headers).models[0].problem is None


def test_resolve_repo(places: Places, tmp_path: Path) -> None:
    add(snapshot(tmp_path / "hub"), "M-Q8_0.gguf")
    manifest(tmp_path / "flat", "M-Q4_0.gguf")
    write_llama(tmp_path / "flat" / "user_repo-GGUF_M-Q4_0.gguf")
    ids = {
        spec: model.id if (model := resolve_repo(places, spec)) else None
        for spec in (
            "user/repo",
            "user/repo:q8_0",
            "user/repo:Q4_0",
            "user/repo-GGUF",
            "user/repo-GGUF:q4_0",
            "user/repo-GGUF/M-Q4_0.gguf",
            "user/repo-GGUF:Q8_0",
            "x",
            "",
        )
    }
    assert ids == {
        "user/repo": "user/repo:Q8_0",
        "user/repo:q8_0": "user/repo:Q8_0",
        "user/repo:Q4_0": None,
        "user/repo-GGUF": "user/repo-GGUF:Q4_0",
        "user/repo-GGUF:q4_0": "user/repo-GGUF:Q4_0",
        "user/repo-GGUF/M-Q4_0.gguf": "user/repo-GGUF:Q4_0",
        "user/repo-GGUF:Q8_0": None,
        "x": None,
        "": None,
    }


def test_describe_file(tmp_path: Path) -> None:
    shards = write_sharded_llama(tmp_path / "S.gguf")
    model = describe_file(str(shards[0]))
    assert (model.id, model.source, model.problem, model.removable) == ("S", Source.PRESET, None, False)
    assert model.files is not None
    assert len(model.files.shards) == 2
    assert describe_file(str(tmp_path / "blob")).problem == "there is no such file"
    assert describe_file(str(tmp_path)).problem == "a folder, not a file"


def test_headers_are_kept_between_starts(places: Places, tmp_path: Path) -> None:
    write_llama(tmp_path / "models" / "M.gguf")
    kept = tmp_path / "state" / "headers.json"
    first = discover(places, HeaderCache(kept))
    assert kept.exists()
    assert discover(places, HeaderCache(kept)) == first


def test_other_files_have_another_stamp(places: Places, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "D"
    folder.mkdir()
    shards = write_sharded_llama(folder / "M.gguf")
    projector = write_mmproj(folder / "mmproj.gguf")
    add(snapshot(tmp_path / "hub"), "M-Q8_0.gguf")

    def stamps() -> dict[str, tuple[int, ...]]:
        return {model.id: model.stamp for model in discover(places, HeaderCache(None)).models}

    before = stamps()
    assert stamps() == before
    assert len(set(before.values())) == 2
    for file in (*shards, projector):
        os.utime(file, ns=(1, 1))
        after = stamps()
        assert after["D"] != before["D"]
        assert after["user/repo:Q8_0"] == before["user/repo:Q8_0"]
        before = after
    os.utime(tmp_path / "hub" / "models--user--repo" / "blobs" / "blob-of-M-Q8_0.gguf", ns=(1, 1))
    assert stamps()["user/repo:Q8_0"] != before["user/repo:Q8_0"]
