"""A table of what is found in folders: which files become which models, here and in llama-server's router.

The right column is checked always, the left one where there is a compiled llama-server: it is what that really does.
A row in which they differ says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.their_router import Looks, ours, theirs
from tests.tiny_gguf import write_llama, write_mmproj, write_sharded_llama

Found = dict[str, str]  # by id: the file, with `+ projector` and `+ draft`; in a hub's cache what it takes


@dataclass(frozen=True)
class Row:
    """Files (`mmproj` in a name: a projector; `#` behind one: in two shards, `!`: the second is missing)."""

    files: tuple[str, ...]
    there: Found
    here: Found
    why: str = ""
    names: dict[str, str] = field(default_factory=dict)  # other names that clients may say here, and what they mean


FOLDER = (
    Row(("a-Q4_0.gguf",), {"a-Q4_0": "a-Q4_0.gguf"}, {"a-Q4_0": "a-Q4_0.gguf"}, names={"a-Q4_0.gguf": "a-Q4_0"}),
    Row(("b.gguf.gguf",), {"b": "b.gguf.gguf"}, {"b": "b.gguf.gguf"}),
    Row(("upper.GGUF", "notes.txt", "mmproj-a.gguf", "mtp-a.gguf", "dspark-a.gguf", "dflash-a.gguf"), {}, {}),
    Row(("eagle3-a.gguf",), {"eagle3-a": "eagle3-a.gguf"}, {}, "a draft is no model"),
    Row(("c-imatrix.gguf",), {"c-imatrix": "c-imatrix.gguf"}, {}, "an importance matrix is no model"),
    Row(("x-mtp-Q4_0.gguf",), {"x-mtp-Q4_0": "x-mtp-Q4_0.gguf"}, {"x-mtp-Q4_0": "x-mtp-Q4_0.gguf"}),
    Row(("模型 ü.gguf",), {"模型 ü": "模型 ü.gguf"}, {"模型 ü": "模型 ü.gguf"}),
    Row(("p,q.gguf",), {"p,q": "p,q.gguf"}, {"p,q": "p,q.gguf"}, names={"p%2Cq": "p,q"}),
    Row(("we[ird]:\"'.gguf",), {"we[ird]:\"'": "we[ird]:\"'.gguf"}, {"we[ird]:\"'": "we[ird]:\"'.gguf"}),
    Row(
        ("top.gguf#",),
        {"top-00001-of-00002": "top-00001-of-00002.gguf", "top-00002-of-00002": "top-00002-of-00002.gguf"},
        {"top": "top-00001-of-00002.gguf"},
        "shards are one model",
        names={"top-00001-of-00002": "top"},
    ),
    Row(
        ("hole.gguf!",),
        {"hole-00001-of-00002": "hole-00001-of-00002.gguf"},
        {"hole": ""},
        "it cannot be started, and says which shard is missing",
    ),
    Row(("D1/m-Q4_0.gguf",), {"D1": "m-Q4_0.gguf"}, {"D1": "m-Q4_0.gguf"}),
    Row(
        ("D2/m-Q4_0.gguf", "D2/mmproj-F16.gguf", "D2/mtp-m.gguf"),
        {"D2": "m-Q4_0.gguf + mmproj-F16.gguf + mtp-m.gguf"},
        {"D2": "m-Q4_0.gguf + mmproj-F16.gguf + mtp-m.gguf"},
    ),
    Row(("D3/dspark-m.gguf", "D3/m.gguf"), {"D3": "m.gguf + dspark-m.gguf"}, {"D3": "m.gguf + dspark-m.gguf"}),
    Row(("D4/dflash-m.gguf", "D4/m.gguf"), {"D4": "m.gguf + dflash-m.gguf"}, {"D4": "m.gguf + dflash-m.gguf"}),
    Row(
        ("D5/m.gguf", "D5/eagle3-m.gguf"),
        {"D5": "(m or eagle3-m).gguf"},
        {"D5": "m.gguf + eagle3-m.gguf"},
        "such a draft is no model; its kind, which the engine cannot see, is said",
    ),
    Row(("D6/only-mmproj.gguf", "D6/readme.txt"), {}, {}),
    Row(("D7.gguf/m.gguf",), {"D7.gguf": "m.gguf"}, {"D7.gguf": "m.gguf"}),
    Row(("D8/s.gguf#",), {"D8": "s-00001-of-00002.gguf"}, {"D8": "s-00001-of-00002.gguf"}),
    Row(
        ("E1/m-Q4_0.gguf", "E1/m-Q8_0.gguf"),
        {"E1": "(m-Q4_0 or m-Q8_0).gguf"},
        {"E1/m-Q4_0": "m-Q4_0.gguf", "E1/m-Q8_0": "m-Q8_0.gguf"},
        "several quants are all listed; the folder stays a name",
        names={"E1": "E1/m-Q8_0"},
    ),
    Row(
        ("E2/s.gguf#", "E2/z.gguf"),
        {"E2": "s-00001-of-00002.gguf"},
        {"E2/s": "s-00001-of-00002.gguf", "E2/z": "z.gguf"},
        "all are listed; the folder means the one with shards, as there",
        names={"E2": "E2/s"},
    ),
    Row(
        ("F1/repo/m-Q4_0.gguf", "F1/repo/mmproj-m.gguf", "F1/repo/sub/deeper/n.gguf"),
        {},
        {"F1/repo/m-Q4_0": "m-Q4_0.gguf + mmproj-m.gguf", "F1/repo/sub/deeper/n": "n.gguf"},
        "folders at any depth",
        names={"F1/repo": "F1/repo/m-Q4_0", "F1/repo/sub/deeper": "F1/repo/sub/deeper/n"},
    ),
    Row(
        ("G.gguf", "G/m.gguf"),
        {"G": "(G or m).gguf"},
        {"G": "G.gguf", "G/m": "m.gguf"},
        "of two with one id none is lost",
    ),
)

CACHE = (
    Row(
        ("models--u--r/M-Q4_K_M.gguf", "models--u--r/M.q8_0.gguf", "models--u--r/M-UD-Q4_K_XL.gguf"),
        {"u/r:Q4_K_M": "text", "u/r:Q8_0": "text", "u/r:Q4_K_XL": "text"},
        {"u/r:Q4_K_M": "text", "u/r:Q8_0": "text", "u/r:Q4_K_XL": "text"},
        names={"u/r": "u/r:Q4_K_M", "u/r:q8_0": "u/r:Q8_0", "u/r:ud-q4_k_xl": "u/r:Q4_K_XL"},
    ),
    Row(
        (
            *("models--u--see/M-Q4_0.gguf", "models--u--see/mmproj-F16.gguf", "models--u--see/mmproj-hears-Q8_0.gguf"),
            *("models--u--see/B/M-BF16.gguf#", "models--u--see/B/mmproj-hears-F32.gguf"),
        ),
        {"u/see:Q4_0": "text+audio", "u/see:BF16": "text+audio"},
        {"u/see:Q4_0": "text+audio", "u/see:BF16": "text+audio"},
    ),
    Row(
        ("models--u--no/mtp-M-Q4_0.gguf", "models--u--no/eagle3-M-Q4_0.gguf", "models--u--no/x-mmproj-Q8_0.gguf"),
        {},
        {},
    ),
    Row(("models--u--i/M-imatrix.gguf",), {"u/i:IMATRIX": "text"}, {}, "an importance matrix is no model"),
    Row(
        ("models--u--plain/plain.gguf",),
        {},
        {"u/plain/plain.gguf": "text"},
        "a file without a tag is listed by its path",
    ),
    Row(
        ("models--u--two/A-Q8_0.gguf", "models--u--two/B-Q8_0.gguf"),
        {"u/two:Q8_0": "text"},
        {"u/two:Q8_0": "text", "u/two/B-Q8_0.gguf": "text"},
        "of two with one tag none is lost",
    ),
    Row(("models--u--a--b/M-Q8_0.gguf",), {}, {"u/a--b:Q8_0": "text"}, "dashes in a repository's name"),
    Row(("models--alone/M-Q8_0.gguf",), {}, {"alone:Q8_0": "text"}, "a repository without a user"),
    Row(("models--u--norefs/M-Q8_0.gguf",), {}, {"u/norefs:Q8_0": "text"}, "a snapshot without refs"),
    Row(("models--u--v1.5/M-v1.5.gguf",), {"u/v1.5:5": "text"}, {"u/v1.5:5": "text"}),
    Row(
        ("models--u--hole/M-Q8_0.gguf!",),
        {"u/hole:Q8_0": "text"},
        {"u/hole:Q8_0": "text"},
        "listed by both; here with the shard that is missing",
    ),
    Row(("datasets--u--d/M-Q8_0.gguf", "models--u--x y/M-Q8_0.gguf"), {}, {}),
)


def put(path: Path) -> None:
    """The file of a row."""
    kind, name = path.name[-1], path.name.rstrip("#!")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not name.lower().endswith(".gguf"):
        path.write_text("x")
    elif "mmproj" in name:
        write_mmproj(path, vision="hears" not in name, audio="hears" in name)
    elif kind in "#!":
        shards = write_sharded_llama(path.with_name(name))
        if kind == "!":
            shards[1].unlink()
    else:
        write_llama(path, n_embd=32, n_layer=1, quant="Q4_0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows at once: `models`, and `hub`."""
    root = tmp_path_factory.mktemp("world")
    for row in FOLDER:
        for file in row.files:
            put(root / "models" / file)
    for row in CACHE:
        for file in row.files:
            folder, _, inside = file.partition("/")
            put(root / "hub" / folder / "snapshots" / ("c" * 40) / inside)
            if "norefs" not in folder:
                (root / "hub" / folder / "refs").mkdir(exist_ok=True)
                (root / "hub" / folder / "refs" / "main").write_text("c" * 40)
    return root


def environ_of(world: Path) -> dict[str, str]:
    empty = str(world / "empty")
    return {"HF_HUB_CACHE": str(world / "hub"), "HOME": empty, "XDG_CACHE_HOME": empty, "XDG_CONFIG_HOME": empty}


def arguments_of(world: Path) -> list[str]:
    return ["--models-dir", str(world / "models")]


def file_names(looks: Looks, id: str) -> str:
    options = looks[id].options
    names = (options.get(name) for name in ("--model", "--mmproj", "--model-draft"))
    return " + ".join(Path(name).name for name in names if name)


def expected(column: str) -> tuple[Found, Found]:
    """All rows of a column: of the folder, and of the cache."""
    folder, cache = (
        {id: what for row in rows for id, what in getattr(row, column).items()} for rows in (FOLDER, CACHE)
    )
    return folder, cache


def compare(looks: Looks, column: str) -> None:
    folder, cache = expected(column)
    assert sorted(looks) == list(looks) == sorted({*folder, *cache})
    for id, files in folder.items():
        if "(" not in files:  # one of two, by the order of the directory
            assert file_names(looks, id) == files
    for id, takes in cache.items():
        assert (looks[id].takes, looks[id].answers) == (takes, "text")


def test_here(world: Path) -> None:
    looks, warnings, catalog = ours(arguments_of(world), environ_of(world))
    compare(looks, "here")
    for row in (*FOLDER, *CACHE):
        for name, id in row.names.items():
            entry = catalog.resolve(name)
            assert entry is not None, name
            assert entry.id == id
    assert looks["D5"].options["--spec-type"] == "draft-eagle3"
    for file in ("hole-00001-of-00002.gguf", "M-Q8_0-00001-of-00002.gguf"):
        missing = file.replace("00001", "00002")
        assert any(line.endswith(f"{file}: shard 2 of 2 is missing: {missing}") for line in warnings)


@pytest.mark.compiled
def test_there(world: Path) -> None:
    looks = theirs(arguments_of(world), environ_of(world), world)
    assert looks is not None
    compare(looks, "there")


def test_every_difference_has_a_reason() -> None:
    for row in (*FOLDER, *CACHE):
        assert row.there == row.here or row.why, row
