"""Deleting cached models: exactly what was planned, and nothing that somebody else needs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from llamarouter.core.errors import Conflict
from llamarouter.core.model import Files, Model, Source
from llamarouter.host.hub_store import link_into_snapshot, locked, publish
from llamarouter.host.removal import check_shared, files_of, plan_removal, remove

OLD, NEW = "1" * 40, "2" * 40


class Cache:
    """A hub cache with one repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "models--user--repo"
        (self.folder / "blobs").mkdir(parents=True)

    def add(self, path: str, digit: str, size: int, commit: str = NEW) -> str:
        blob = self.folder / "blobs" / (digit * 64)
        blob.write_bytes(b"x" * size)
        link_into_snapshot(self.folder, commit, path, digit * 64)
        publish(self.folder, commit, {})
        return str(self.folder / "snapshots" / commit / path)

    def names(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir()}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def model(*paths: str, mmproj: str | None = None) -> Model:
    files = Files(model=paths[0], shards=paths if len(paths) > 1 else (), mmproj=mmproj)
    return Model(id="user/repo:Q4", source=Source.CACHE, files=files, repo="user/repo:Q4", removable=True)


def test_a_model_goes_with_its_blob_and_the_others_stay(cache: Cache) -> None:
    going = cache.add("m-Q4.gguf", "a", 100)
    cache.add("m-Q8.gguf", "b", 10)
    cache.add("mmproj.gguf", "c", 10)
    before = cache.names()
    plan = plan_removal(model(going))
    assert plan.bytes == 100
    assert cache.names() == before  # a plan changes nothing
    remove(plan)
    assert before - cache.names() == {f"snapshots/{NEW}/m-Q4.gguf", f"blobs/{'a' * 64}"}
    remove(plan)  # what is gone is gone


def test_all_shards_go(cache: Cache) -> None:
    shards = [cache.add(f"Q4/m-Q4-0000{index}-of-00002.gguf", str(index), 50) for index in (1, 2)]
    cache.add("m-Q8.gguf", "b", 10)
    plan = plan_removal(model(*shards))
    assert plan.bytes == 100
    remove(plan)
    assert not os.path.exists(os.path.dirname(shards[0]))


def test_a_blob_that_another_name_means_too_stays(cache: Cache) -> None:
    going = cache.add("m-Q4.gguf", "a", 100)
    cache.add("same-Q8.gguf", "a", 100)
    plan = plan_removal(model(going))
    assert (len(plan.paths), plan.bytes) == (1, 0)
    remove(plan)
    assert f"blobs/{'a' * 64}" in cache.names()


def test_older_revisions_of_the_model_go_too(cache: Cache) -> None:
    cache.add("m-Q4.gguf", "d", 7, OLD)
    cache.add("m-Q8.gguf", "b", 10, OLD)
    going = cache.add("m-Q4.gguf", "a", 100)
    plan = plan_removal(model(going))
    assert plan.bytes == 107
    remove(plan)
    assert cache.names() == {f"snapshots/{OLD}/m-Q8.gguf", f"blobs/{'b' * 64}", "refs/main"}
    assert not (cache.folder / "snapshots" / NEW).exists()


def test_the_last_model_takes_the_repository_with_it(cache: Cache) -> None:
    going = cache.add("m-Q4.gguf", "a", 100)
    projector = cache.add("mmproj.gguf", "c", 10)
    (cache.folder / "blobs" / f"{'e' * 64}.lr-partial").write_bytes(b"x" * 5)
    plan = plan_removal(model(going, mmproj=projector))
    assert plan.bytes == 115
    remove(plan)
    assert list(cache.root.iterdir()) == [] or [path.name for path in cache.root.iterdir()] == [".locks"]


def test_files_that_are_no_gguf_keep_the_repository(cache: Cache) -> None:
    going = cache.add("m-Q4.gguf", "a", 100)
    cache.add("model.safetensors", "b", 10)
    remove(plan_removal(model(going)))
    assert f"snapshots/{NEW}/model.safetensors" in cache.names()


def test_what_lies_in_no_cache_is_not_deleted(tmp_path: Path) -> None:
    own = tmp_path / "m-Q4.gguf"
    own.write_bytes(b"x")
    mine = Model(id="m", source=Source.MODELS_DIR, files=Files(model=str(own)))
    with pytest.raises(Conflict, match="not removable"):
        plan_removal(mine)


def test_a_model_that_is_being_fetched_is_not_deleted(cache: Cache) -> None:
    going = cache.add("m-Q4.gguf", "a", 100)
    with locked(cache.folder, "a" * 64, lambda: None), pytest.raises(Conflict):
        plan_removal(model(going))
    plan_removal(model(going))


def test_a_link_out_of_the_cache_costs_nobody_his_file(cache: Cache, tmp_path: Path) -> None:
    precious = tmp_path / "precious.gguf"
    precious.write_bytes(b"x" * 9)
    going = cache.add("m-Q4.gguf", "a", 100)
    os.unlink(going)
    os.symlink(precious, going)
    remove(plan_removal(model(going)))
    assert precious.exists()


def test_the_old_flat_folder_loses_the_model_and_its_notes(tmp_path: Path) -> None:
    going = tmp_path / "user_repo_m-Q4.gguf"
    for name in (
        going.name,
        f"{going.name}.json",
        "manifest=broken=file=q4.json",
        "b.gguf",
    ):
        (tmp_path / name).write_bytes(b"x")
    # `latest` names the same file as its own tag does, and nothing of the model may be left to be listed.
    for tag, file in (("Q4", "m-Q4.gguf"), ("latest", "m-Q4.gguf"), ("Q8", "m-Q8.gguf")):
        (tmp_path / f"manifest=user=repo={tag}.json").write_text(json.dumps({"ggufFile": {"rfilename": file}}))
    remove(plan_removal(model(str(going))))
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest=user=repo=Q8.json",
        "manifest=broken=file=q4.json",
        "b.gguf",
    }


def test_what_another_model_uses_too_is_named_whatever_leads_to_it(cache: Cache, tmp_path: Path) -> None:
    going, staying = cache.add("m-Q4.gguf", "a", 100), cache.add("m-Q8.gguf", "b", 10)
    plan = plan_removal(model(going))
    (tmp_path / "link.gguf").symlink_to(going)
    (tmp_path / "around").symlink_to(cache.folder)
    around = going.replace(str(cache.folder), str(tmp_path / "around"))
    check_shared(plan, {plan.model: [going], "another quant": [staying], "not here": []})
    for path in (going, around, os.path.realpath(going), str(tmp_path / "link.gguf")):
        with pytest.raises(Conflict, match=f"'{plan.model}' are those of 'fast', too"):
            check_shared(plan, {"another": [staying], "fast": [staying, path]})


def test_all_files_of_a_model_count(cache: Cache) -> None:
    paths = [cache.add(f"m-0000{number}-of-00002.gguf", "a", 1) for number in (1, 2)]
    assert set(files_of(model(*paths, mmproj="/p"))) == {*paths, "/p"}
