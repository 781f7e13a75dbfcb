"""Names of files and folders, and the ids that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.ids import (
    FlatName,
    best_model,
    best_projector,
    flat_manifest,
    id_in_models_folder,
    is_draft,
    is_model,
    is_repo,
    name_of,
    repo_in_id,
    repo_of_folder,
    spellings_of,
)


@pytest.mark.parametrize(
    ("path", "tag"),
    [
        ("M-Q4_K_M.gguf", "Q4_K_M"),
        ("M.q8_0.gguf", "Q8_0"),
        ("M-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("BF16/M-BF16-00001-of-00002.gguf", "BF16"),
        ("stories260K.gguf", None),
        ("plain.gguf", None),
        ("M-\u00e4.gguf", None),
    ],
)
def test_tag(path: str, tag: str | None) -> None:
    name = name_of(path)
    assert name is not None
    assert name.tag == tag


def test_shards() -> None:
    name = name_of("sub/M-Q8_0-00002-of-00003.gguf")
    assert name is not None
    assert (name.stem, name.index, name.count) == ("sub/M-Q8_0", 2, 3)
    assert name.shard(1) == "sub/M-Q8_0-00001-of-00003.gguf"


@pytest.mark.parametrize("path", ["README.md", "M.GGUF", "M.gguf.part", "gguf", ""])
def test_what_is_no_gguf_by_its_name(path: str) -> None:
    assert name_of(path) is None


@pytest.mark.parametrize(
    "path", ["mmproj-M.gguf", "M-mmproj-f16.gguf", "M-imatrix.gguf", "mtp-M.gguf", "x/eagle3-M.gguf", "M.bin"]
)
def test_what_is_no_model_by_its_name(path: str) -> None:
    assert not is_model(path)


def test_marks_count_in_the_file_name_alone() -> None:
    assert is_model("mmproj/M-Q8_0.gguf")
    assert is_draft("x/dflash-M.gguf")
    assert not is_draft("x/M-mtp-1.gguf")


@pytest.mark.parametrize(
    ("path", "id"),
    [("M-Q8_0.gguf", "M-Q8_0"), ("M.gguf.gguf", "M"), ("Folder", "Folder"), ("M-00001-of-00002.gguf", "M")],
)
def test_id_in_models_folder(path: str, id: str) -> None:
    assert id_in_models_folder(path) == id


@pytest.mark.parametrize(
    ("folder", "repo"),
    [
        ("models--user--repo", "user/repo"),
        ("models--user--repo-GGUF.v1_2", "user/repo-GGUF.v1_2"),
        ("models--user--a--b", "user/a--b"),
        ("models--repo", "repo"),
        ("models--re po", None),
        ("models--", None),
        ("models----repo", None),
        ("models--user--a b", None),
        ("models--user--..", None),
        ("datasets--user--repo", None),
    ],
)
def test_repo_of_folder(folder: str, repo: str | None) -> None:
    assert repo_of_folder(folder) == repo


@pytest.mark.parametrize("repo", ["", "a", "a/b/c", "/b", "a/", "../b", "a/..", "a/-b", "a/b\n", "a/b:c", "a//b"])
def test_what_is_no_repo(repo: str) -> None:
    assert not is_repo(repo)


def test_repo_in_id() -> None:
    assert [repo_in_id(id) for id in ("u/r:Q8_0", "u/r/x/y.gguf", "u/r", "x", "")] == ["u/r", "u/r", "u/r", "x", ""]


FILES = [
    "M-F16.gguf",
    "M-IQ4_XS.gguf",
    "M-Q8_0-00001-of-00002.gguf",
    "M-Q8_0-00002-of-00002.gguf",
    "M-UD-Q4_K_M.gguf",
    "mmproj-M-Q4_0.gguf",
    "README.md",
]


@pytest.mark.parametrize(
    ("tag", "path"),
    [
        (None, "M-UD-Q4_K_M.gguf"),
        ("q8_0", "M-Q8_0-00001-of-00002.gguf"),
        ("UD-Q4_K_M", "M-UD-Q4_K_M.gguf"),
        ("Q4_0", None),
        ("4_XS", "M-IQ4_XS.gguf"),
        ("Q5_K_M", None),
        (".*", None),
    ],
)
def test_best_model(tag: str | None, path: str | None) -> None:
    assert best_model(FILES, tag) == path


def test_best_model_without_a_favourite() -> None:
    assert best_model(["b.gguf", "a.gguf", "mmproj-a.gguf"], None) == "a.gguf"
    assert best_model(["x-Q8_0.gguf", "a.gguf"], None) == "x-Q8_0.gguf"
    assert best_model(["mmproj-a.gguf"], None) is None
    assert best_model(["M-Q8_0-00002-of-00002.gguf"], None) is None


def test_a_whole_tag_goes_before_a_part_of_one() -> None:
    assert best_model(["A-IQ4_K_M.gguf", "B-Q4_K_M.gguf"], "Q4_K_M") == "B-Q4_K_M.gguf"


def test_best_projector() -> None:
    paths = ["mmproj-F16.gguf", "mmproj-Q8_0.gguf", "x/mmproj-F32.gguf", "y/mmproj-Q4_0.gguf", "M-Q4_0.gguf"]
    assert best_projector("M-Q4_0.gguf", paths) == "mmproj-Q8_0.gguf"
    assert best_projector("M-BF16.gguf", paths) == "mmproj-F16.gguf"
    assert best_projector("x/M-Q4_0.gguf", paths) == "x/mmproj-F32.gguf"
    assert best_projector("z/M-Q4_0.gguf", paths) == "mmproj-Q8_0.gguf"
    assert best_projector("M-Q4_0.gguf", ["M-Q4_0.gguf", "y/mmproj-Q4_0.gguf"]) is None


@pytest.mark.parametrize(
    ("asked", "spellings"),
    [
        ("M", ("M",)),
        ("M.gguf", ("M.gguf", "M")),
        ("M-00001-of-00002.gguf", ("M-00001-of-00002.gguf", "M")),
        ("u/r:q8_0", ("u/r:q8_0", "u/r:Q8_0")),
        ("u/r:Q8_0.gguf", ("u/r:Q8_0.gguf", "u/r:Q8_0")),
        ("u/r:UD-Q4_K_XL", ("u/r:UD-Q4_K_XL", "u/r:Q4_K_XL")),
        ("u/r:", ("u/r:",)),
        ("S-00001-of-00002", ("S-00001-of-00002", "S")),
        ("a%2Cb", ("a%2Cb", "a,b")),
        (" M ", (" M ", "M")),
        (":x", (":x",)),
        ("", ("",)),
    ],
)
def test_spellings(asked: str, spellings: tuple[str, ...]) -> None:
    assert spellings_of(asked) == spellings


def test_flat_manifest() -> None:
    assert flat_manifest("manifest=user=repo-GGUF=latest.json") == FlatName("user/repo-GGUF", "latest")
    assert FlatName("u/r", "x").file("sub/M.gguf") == "u_r_sub_M.gguf"


@pytest.mark.parametrize(
    "name",
    [
        "manifest=u=r=t",
        "manifest=u=r.json",
        "manifest=u=r=t=x.json",
        "x=u=r=t.json",
        "manifest=..=r=t.json",
        "manifest=u=r=.json",
    ],
)
def test_what_is_no_flat_manifest(name: str) -> None:
    assert flat_manifest(name) is None


@given(st.text(max_size=80))
def test_any_text_is_taken(text: str) -> None:
    for name in (text, text + ".gguf", f"models--{text}", f"a:{text}"):
        name_of(name)
        id_in_models_folder(name)
        repo_of_folder(name)
        flat_manifest(name)
        best_model([name], text or None)
        best_projector(name, [f"mmproj{name}.gguf"])
        assert spellings_of(name)[0] == name
