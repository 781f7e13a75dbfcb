"""Names of files and folders, and the ids that they become: pure functions over strings.

    models--user--repo, sub/M-Q4_K_M-00001-of-00002.gguf   ->  user/repo:Q4_K_M
    models--user--repo, plain.gguf                          ->  user/repo/plain.gguf
    M-Q8_0.gguf in --models-dir                             ->  M-Q8_0
    D/M-Q8_0.gguf in --models-dir                           ->  D, or D/M-Q8_0 beside other models in D

The rules are llama-server's (`common/download.cpp`, `common/hf-cache.cpp`, `tools/server/server-models.cpp`, build
b11434) but for what it misses: repositories with `--` in their name, files without a tag, shards at the top, and that
an importance matrix is no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

SUFFIX = ".gguf"
NUMBERS = "(?:i?q|tq|f|bf|fp|mxfp|nvfp)[0-9]"  # how the name of a quantisation begins, in any case
REPO_PREFIX = "models--"
DEFAULT_TAGS = ("Q4_K_M", "Q8_0")  # what a repository without a tag means, where it has one of them
DRAFT_MARKS = ("mtp-", "dspark-", "dflash-", "eagle3-")  # in the order of preference
_NO_MODEL_MARKS = ("mmproj", "imatrix", *DRAFT_MARKS)

_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})", re.DOTALL)
_TAG = re.compile(r"[-.]([A-Z0-9_]+)\Z", re.IGNORECASE | re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_REPO = re.compile(r"[A-Za-z0-9_]+(?:(?:[.-]|--)[A-Za-z0-9_]+)*")
_DIGITS = re.compile(r"[0-9]+")


class GgufName(Struct, frozen=True):
    """What a path that ends in `.gguf` says. `stem`: without suffix and shard number; a single file is 1 of 1."""

    stem: str
    tag: str | None  # in upper case
    index: int
    count: int

    def shard(self, index: int) -> str:
        """The path of another shard of the same model."""
        return f"{self.stem}-{index:05}-of-{self.count:05}{SUFFIX}"


def name_of(path: str) -> GgufName | None:
    """Take a path apart; None where it is no GGUF by its name. The suffix is case-sensitive, as in the reference."""
    if not path.endswith(SUFFIX):
        return None
    stem, index, count = path.removesuffix(SUFFIX), 1, 1
    shard = _SHARD.fullmatch(stem)
    if shard is not None:
        stem, index, count = shard[1], int(shard[2]), int(shard[3])
    tag = _TAG.search(stem)
    return GgufName(stem, tag[1].upper() if tag else None, index, count)


def tag_of(path: str) -> str | None:
    """The quantisation in a name, in upper case."""
    name = name_of(path)
    return name.tag if name is not None else None


def is_projector(path: str) -> bool:
    return "mmproj" in path.rpartition("/")[2]


def is_draft(path: str) -> bool:
    """Whether the file is a draft for another model; in a models folder such names begin with the mark."""
    return path.rpartition("/")[2].startswith(DRAFT_MARKS)


def is_imatrix(path: str) -> bool:
    """Whether the file is an importance matrix, which llama-server takes for a model."""
    return "imatrix" in path.rpartition("/")[2]


def is_model(path: str) -> bool:
    """Whether a GGUF of a repository is a model by its name: no projector, no draft, no importance matrix.

    Here a draft's mark counts wherever it stands in the name (in a models folder only where it begins the name).
    """
    return path.endswith(SUFFIX) and not any(mark in path.rpartition("/")[2] for mark in _NO_MODEL_MARKS)


def id_in_models_folder(path: str) -> str:
    """The id of a file or sub-folder of --models-dir, from its path there: `.gguf` and the shard's number go."""
    name = name_of(path)
    return (name.stem if name else path).replace(SUFFIX, "")


def repo_of_folder(folder: str) -> str | None:
    """`models--user--repo` -> `user/repo`, `models--repo` -> `repo`; None where the folder is none of models."""
    if not folder.startswith(REPO_PREFIX):
        return None
    user, separator, name = folder.removeprefix(REPO_PREFIX).partition("--")
    if not separator:
        return user if _USER.fullmatch(user) else None
    return f"{user}/{name}" if is_repo(f"{user}/{name}") else None


def is_repo(repo: str) -> bool:
    """Whether this is `user/repo`, in the characters that the Hub allows."""
    user, _, name = repo.partition("/")
    return bool(_USER.fullmatch(user) and _REPO.fullmatch(name))


def repo_in_id(id: str) -> str:
    """The repository in the id of a cached model: of `user/repo:TAG`, and of `user/repo/file.gguf`."""
    return "/".join(id.partition(":")[0].split("/")[:2])


def cached_id(repo: str, tag: str) -> str:
    """The id of a cached model whose name tells its quantisation; of another it is `user/repo/file.gguf`."""
    return f"{repo}:{tag.upper()}"


def best_model(paths: Sequence[str], tag: str | None) -> str | None:
    """Which of a repository's files `repo[:tag]` means (its first shard): the reference's order over sorted paths."""
    models = [path for path in sorted(paths) if is_model(path) and (name := name_of(path)) and name.index == 1]
    for wanted in (tag,) if tag else DEFAULT_TAGS:
        pattern = re.compile(re.escape(wanted) + "[.-]", re.IGNORECASE)
        exact = next((path for path in models if _has_tag(path, wanted)), None)
        found = exact or next((path for path in models if pattern.search(path)), None)
        if found is not None:
            return found
    return models[0] if models and not tag else None


def _has_tag(path: str, tag: str) -> bool:
    return tag_of(path) == tag.upper()


def best_projector(model: str, paths: Iterable[str]) -> str | None:
    """The projector for `model` among a repository's files."""
    return best_sibling(model, (path for path in paths if is_projector(path)))


def best_sibling(model: str, paths: Iterable[str], tag: str | None = None) -> str | None:
    """What goes with `model`: of the deepest shared folder, then with `tag` in its name, then nearest in bits."""
    model_folders, model_bits = model.split("/")[:-1], _bits(model)
    best: tuple[tuple[int, bool, int], str] | None = None
    for path in sorted(paths):
        folders = path.split("/")[:-1]
        if not path.endswith(SUFFIX) or model_folders[: len(folders)] != folders:
            continue
        other = tag is None or f"-{tag}." not in path.upper()
        rank = (-len(folders), other, abs(_bits(path) - model_bits))
        if best is None or rank < best[0]:
            best = (rank, path)
    return best[1] if best else None


def _bits(path: str) -> int:
    """`M-Q4_0.gguf` -> 4; 0 where the name tells none."""
    digits = _DIGITS.search(tag_of(path) or "")
    return int(digits[0][:4]) if digits else 0


def collapsed_id(name: str) -> str:
    """A section's name as llama-server lists it: what follows the last `:` is cut to its last word, in upper case."""
    repo, colon, tag = name.rpartition(":")
    short = _TAG.search(tag)
    return cached_id(repo, short[1] if short else tag) if colon else name


def child_name_of(id: str) -> str:
    """The name that a child is given, and that stands in its answers: the id, as far as `--alias` can say it.

    llama-server splits that at commas, drops outer blanks, and answers under the least of the parts: such characters
    are written as in an address, and understood so when a client asks by that name.
    """
    inner = id.strip()
    if inner == id and "," not in id:
        return id
    start = id.index(inner) if inner else 0
    return "%20" * start + inner.replace(",", "%2C") + "%20" * (len(id) - start - len(inner))


def _plain(asked: str) -> str:
    """The id that `child_name_of` has turned into this."""
    return asked.replace("%2C", ",").replace("%20", " ") if "%2" in asked else asked


def spellings_of(asked: str) -> tuple[str, ...]:
    """The ids that a client may mean, likeliest first: as written, without `.gguf`, with the tag as ids have it.

    `S-00001-of-00002`, which llama-server calls a model, is `S` here.
    `user/repo:ud-q4_k_xl` is `user/repo:Q4_K_XL`: a tag in an id is what follows the last `-` or `.`.
    """
    file = asked if asked.endswith(SUFFIX) else asked + SUFFIX
    spellings = [asked, _plain(asked), asked.strip(), id_in_models_folder(file)]
    repo, separator, tag = spellings[-1].rpartition(":")
    if separator and repo and tag:
        spellings.append(cached_id(repo, tag))
        short = _TAG.search(tag)
        if short is not None:
            spellings.append(cached_id(repo, short[1]))
    return tuple(dict.fromkeys(spellings))


class FlatName(Struct, frozen=True):
    """`manifest=user=repo=tag.json`, of llama.cpp's flat cache as it was until 2026."""

    repo: str
    tag: str  # `latest` where the user gave none

    def file(self, path_in_repo: str) -> str:
        """The name under which a file of the repository lies in the flat folder."""
        return f"{self.repo}/{path_in_repo}".replace("/", "_")


def flat_manifest(file_name: str) -> FlatName | None:
    """Take a manifest's name apart; None where it is none."""
    parts = file_name.removesuffix(".json").split("=")
    if not file_name.endswith(".json") or len(parts) != 4 or parts[0] != "manifest":
        return None
    repo = f"{parts[1]}/{parts[2]}"
    return FlatName(repo, parts[3]) if is_repo(repo) and parts[3] else None
