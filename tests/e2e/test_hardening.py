"""A real router, started by somebody with an open umask: its files, its children, and what they inherit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINES, Serve, until
from tests.tiny_gguf import write_llama

NOBODY = 65534
SECRETS = {
    "LLAMA_API_KEY": "sk-CANARY-key",
    "HF_TOKEN": "hf_CANARY",
    "AWS_SECRET_ACCESS_KEY": "CANARY",
    "GOOGLE_APPLICATION_CREDENTIALS": "/CANARY.json",
    "HTTPS_PROXY": "http://user:CANARY@proxy:3128",
    "DATABASE_URL": "postgres://user:CANARY@db/x",
    "LLAMA_ARG_API_KEY": "CANARY",
    "LR_CANARY": "CANARY",
}
STAYS = {
    "CUDA_VISIBLE_DEVICES": "",
    "GGML_CUDA_GRAPH_OPT": "1",
    "LD_LIBRARY_PATH": "/nowhere",
    "HIP_VISIBLE_DEVICES": "",
}


def facts_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def looked_into_by(pid: int) -> tuple[int, int]:
    """Whose a process's memory and environment are: of root alone, once it is not dumpable."""
    found = os.stat(f"/proc/{pid}/environ")
    return found.st_uid, found.st_gid


def test_no_process_of_the_same_user_looks_into_the_router(serve: Serve, models_dir: Path) -> None:
    is_root = os.geteuid() == 0
    if is_root:  # as root of another group it could be told from what is root's alone
        os.setresgid(NOBODY, NOBODY, 0)
    try:
        router = serve(None, "--models-dir", models_dir)
        until(lambda: looked_into_by(router.process.pid) == (0, 0))
        with router.client() as client:
            assert client.post("/models/load", json={"model": "a"}).status_code == 200
        (child,) = router.engines()
        assert looked_into_by(child) == (os.geteuid(), os.getegid()) != (0, 0)  # a debugger may look into a model
    finally:
        if is_root:
            os.setresgid(0, 0, 0)
    router.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_left_open(serve: Serve, tmp_path: Path, engine: Path | None) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_llama(models / "a.gguf")
    preset = tmp_path / "preset.ini"
    preset.write_text("[a]\nlr-env = OF_THE_PRESET=1\n")
    before = os.umask(0)
    try:
        router = serve(
            engine,
            *("--models-dir", models, "--models-preset", preset, "--log-file", tmp_path / "log"),
            **SECRETS,
            **STAYS,
        )
    finally:
        os.umask(before)
    router.key = "sk-CANARY-key"
    with router.client(headers={"x-api-key": router.key}) as client:
        assert client.post("/v1/completions", json={"model": "a", "prompt": "x", "max_tokens": 1}).status_code == 200
        assert client.post("/models/unload", json={"model": "a"}).status_code == 200
        assert client.post("/v1/completions", json={"model": "a", "prompt": "x", "max_tokens": 1}).status_code == 200
    (child,) = router.engines()
    facts = facts_of(child)
    assert (facts["Umask"], facts["NoNewPrivs"]) == ("0077", "1")
    assert facts_of(router.process.pid)["Umask"] == "0077"
    assert "Max core file size        1                    1 " in Path(f"/proc/{child}/limits").read_text()
    assert int(Path(f"/proc/{child}/oom_score_adj").read_text()) == 500
    assert int(Path(f"/proc/{router.process.pid}/oom_score_adj").read_text()) < 500
    environ = dict(pair.split("=", 1) for pair in Path(f"/proc/{child}/environ").read_text().split("\0") if "=" in pair)
    assert "CANARY" not in str(environ)
    assert environ.items() >= (STAYS | {"OF_THE_PRESET": "1"}).items()
    # All that it has written, and where it listens.
    folders = [Path(router.environ["XDG_RUNTIME_DIR"], "llamarouter"), tmp_path / ".local"]
    written = [tmp_path / "log", *(path for folder in folders for path in (folder, *folder.rglob("*")))]
    assert any(stat.S_ISSOCK(path.lstat().st_mode) and path.name.startswith("c-") for path in written)
    assert {path.name for path in written} >= {"admin.sock", "headers.json", "log"}
    # A socket of a stranger needs a folder that he gets into: those of the children lie in one that nobody does.
    opened = [path for path in written if path.lstat().st_mode & 0o077]
    assert opened == []
    router.stop()
