"""A router with very many models looks around: the list of models, and a reload of which nothing comes."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from pathlib import Path

from bench.candidates import Candidate, ours, reference
from bench.measure import Measure, rotated

_FILES, _REPOSITORIES = 1000, 300
_AFTER_A_PAUSE = 2.1  # seconds: from then on `lr` looks at its folders again
_ASKED = 5  # times in a round, of which the quickest counts: what else the machine does can only add to it
_ROUTERS = {"reference": reference, "lr": ours}


def furnish(model: Path, folder: Path) -> None:
    """Put many files into the folder, and repositories of one file each into the cache of the Hub in this home."""
    for number in range(_FILES):
        os.link(model, folder / f"model-{number:04}.gguf")
    hub = Path(os.environ["HOME"]) / ".cache" / "huggingface" / "hub"
    for number in range(_REPOSITORIES):
        commit = f"{number:040x}"
        repository = hub / f"models--user--repository-{number:03}-GGUF"
        for below in ("refs", "blobs", f"snapshots/{commit}"):
            (repository / below).mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        os.link(model, repository / "blobs" / commit)
        (repository / "snapshots" / commit / "model-Q4_K_M.gguf").symlink_to(f"../../blobs/{commit}")


def measure(server: Path, folder: Path, rounds: int) -> list[Measure]:
    """What clients wait for, with the many files of `folder` and whatever is in the cache."""
    again, rare, reload = (
        Measure("GET /models", "ms"),
        Measure("GET /models after a pause", "ms"),
        Measure("GET /models?reload=1", "ms"),
    )
    with contextlib.ExitStack() as stack:
        routers = {name: stack.enter_context(run(server, folder, 4)) for name, run in _ROUTERS.items()}
        for number in range(rounds):
            for name in rotated(list(routers), number):
                router = routers[name]
                time.sleep(_AFTER_A_PAUSE)  # noqa: TID251 (the pause is what is measured)
                rare.add(name, _get(router, "/models"))
                again.add(name, min(_get(router, "/models") for _ in range(_ASKED)))
                reload.add(name, min(_get(router, "/models?reload=1") for _ in range(_ASKED)))
    return [again, rare, reload]


def _get(router: Candidate, path: str) -> float:
    """Milliseconds to the last byte of the answer."""
    started = time.monotonic()
    with urllib.request.urlopen(router.url + path, timeout=60) as answer:
        answer.read()
    return 1000 * (time.monotonic() - started)
