"""The folders, presets and pages that both routers are started on: a copy for each, the same to the byte.

Every name is relative to the copy, which is the working directory of its router: so neither of them can be told apart
by a path.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.tiny_gguf import write_llama, write_mmproj

COMMIT = "0123456789abcdef0123456789abcdef01234567"

PRESET = """\
; a comment
version = 1

[*]
n-predict = 64
stop-timeout = 2

[sectioned]
model = models/alpha.gguf
alias = other-name, second
tags = small,test
c = 256 ; a comment behind a value
top-k = 7
no-warmup = true
LLAMA_ARG_N_PARALLEL = 1

[alpha]
metrics = true
tags = from-a-section
temp = 0.5

[negated]
model = models/alpha.gguf
no-jinja = true
LLAMA_ARG_NO_KV_UNIFIED = 1

[not-negated]
model = models/alpha.gguf
no-warmup = 0
metrics = false

[cut]
model = models/alpha.gguf
samplers = top_k;temperature
chat-template-kwargs = {"a": "b#c"}

[quoted]
model = "models/alpha.gguf"

[repeated]
model = models/beta.gguf
temp = 0.1

[repeated]
model = models/alpha.gguf
top-k = 1
top-k = 2

[spellings]
model = models/alpha.gguf
ctx-size = 256
c = 128
LLAMA_ARG_CTX_SIZE = 64

[user/repo:ud-q4_k_xl]
temp = 0.25

[ blanks ]
model = models/alpha.gguf

[prefilled]
model = models/alpha.gguf
stop-timeout = 3
load-on-startup = false

[truthy]
model = models/alpha.gguf
jinja = yes
flash-attn = off

[empty-value]
model = models/alpha.gguf
chat-template =

[gamma]
metrics = true

[doomed]
model = models/alpha.gguf
lora = models/no-model.gguf

[missing-file]
model = models/nowhere.gguf

[sleeper]
model = models/alpha.gguf
sleep-idle-seconds = 1

[embedder]
model = models/alpha.gguf
embedding = true
pooling = mean
"""


def build(root: Path) -> None:
    """Make the world below a folder that is not there yet."""
    models = root / "models"
    models.mkdir(parents=True)
    alpha = write_llama(models / "alpha.gguf", seed=1)
    beta = write_llama(models / "beta.gguf", seed=2)
    write_llama(models / "gamma.gguf", seed=3)
    for seed, name in enumerate(("long-a", "long-b"), 4):  # answers of theirs go on for as long as anybody looks
        write_llama(models / f"{name}.gguf", seed=seed, n_ctx=32768)
    write_mmproj(models / "mmproj-alpha.gguf")
    broken = alpha.read_bytes()
    (models / "broken.gguf").write_bytes(broken[: len(broken) // 2])
    (models / "no-model.gguf").write_text("this is no model at all\n")
    (models / "upper.GGUF").write_bytes(beta.read_bytes())
    (models / "mtp-draft.gguf").write_bytes(beta.read_bytes())
    (models / "linked.gguf").symlink_to("beta.gguf")
    for number in (1, 2):
        (models / f"top-0000{number}-of-00002.gguf").write_bytes(beta.read_bytes())
    _folders(models, beta.read_bytes())
    _cache(root / "cache", beta.read_bytes())
    _page(root / "page")
    (root / "models.ini").write_text(PRESET, encoding="utf-8")
    (root / "keys").write_text("# a comment\nkey-of-the-file\n", encoding="utf-8")
    (root / "home").mkdir()


def _folders(models: Path, model: bytes) -> None:
    for name in (
        "one/model.gguf",
        "seeing/model.gguf",
        "quants/q-Q4_0.gguf",
        "quants/q-Q8_0.gguf",
        "drafted/main.gguf",
        "drafted/mtp-main.gguf",
        "deep/deeper/nested.gguf",
    ):
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(model)
    write_mmproj(models / "seeing" / "mmproj.gguf")
    (models / "nothing").mkdir()


def _cache(cache: Path, model: bytes) -> None:
    for repo, files in {
        "models--user--repo": (
            "repo-Q8_0.gguf",
            "repo-UD-Q4_K_XL.gguf",
            "BF16/repo-BF16-00001-of-00002.gguf",
            "BF16/repo-BF16-00002-of-00002.gguf",
            "repo-imatrix.gguf",
            "untagged.gguf",
            "mmproj-repo-F16.gguf",
        ),
        "models--user--with--dashes": ("dashes-Q8_0.gguf",),
        "models--user--no-refs": ("norefs-Q8_0.gguf",),
    }.items():
        snapshot = cache / repo / "snapshots" / COMMIT
        for file in files:
            (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / file).write_bytes(model)
        if repo != "models--user--no-refs":
            (cache / repo / "refs").mkdir()
            (cache / repo / "refs" / "main").write_text(COMMIT)
    projector = cache / "models--user--repo" / "snapshots" / COMMIT / "mmproj-repo-F16.gguf"
    projector.unlink()
    write_mmproj(projector)


def _page(page: Path) -> None:
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>a page</title><script src=app.js></script>\n")
    (page / "app.js").write_text("document.title = 'run'\n")
    (page / "style.css").write_text("body { color: black }\n")
    (page / "manifest.webmanifest").write_text("{}\n")


def copies(root: Path, *names: str) -> list[Path]:
    """The world once for each name, below `root`."""
    first, *others = (root / name for name in names)
    build(first)
    for other in others:
        shutil.copytree(first, other, symlinks=True)
    return [first, *others]
