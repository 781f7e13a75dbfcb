"""What a request could have a real llama-server read or write: nothing, unless the operator says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import COMPILED, Serve

KEY = "sk-of-the-operator"


@pytest.mark.compiled
def test_no_request_reads_or_writes_a_file(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    router = serve(COMPILED, "--models-dir", models_dir, LLAMA_API_KEY=KEY)
    user = router.lr("key", "add", "ann").stdout.strip()
    part = {"type": "image_url", "image_url": {"url": f"file://{secret}"}}
    chat = {"model": "a", "messages": [{"role": "user", "content": [part]}]}
    save = {"model": "a", "filename": "../saved"}
    with router.client() as client:
        for key in (user, KEY):
            headers = {"x-api-key": key}
            refused = client.post("/v1/chat/completions", json=chat, headers=headers)
            assert refused.status_code in (400, 500)
            assert b"PNG secret" not in refused.content
            for action in ("save", "restore", "erase"):
                answer = client.post(f"/slots/0?action={action}", json=save, headers=headers)
                assert answer.status_code == (403 if key == user else 501)
            for path in ("/props", "/lora-adapters", "/tools", "/cors-proxy"):
                answer = client.post(path, json={"model": "a", "tool": "read_file"}, headers=headers)
                assert answer.status_code in (400, 403, 501), path
    assert not list(tmp_path.rglob("*saved*"))


@pytest.mark.compiled
def test_what_the_operator_allows_is_for_administrators_within_its_folder(
    serve: Serve, models_dir: Path, tmp_path: Path
) -> None:
    slots = tmp_path / "slots"
    slots.mkdir()
    router = serve(COMPILED, "--models-dir", models_dir, "--slot-save-path", f"{slots}/", LLAMA_API_KEY=KEY)
    user = router.lr("key", "add", "ann").stdout.strip()
    with router.client() as client:
        said = {"model": "a", "prompt": "hello", "n_predict": 1, "id_slot": 0}
        assert client.post("/completion", json=said, headers={"x-api-key": user}).status_code == 200

        def save(key: str, name: str) -> int:
            body = {"model": "a", "filename": name}
            return client.post("/slots/0?action=save", json=body, headers={"x-api-key": key}).status_code

        assert save(user, "mine") == 403
        for outside in ("../outside", str(tmp_path / "outside"), "a/../../outside", ".."):
            assert save(KEY, outside) == 400
        assert save(KEY, "kept") == 200
    assert [path.name for path in slots.iterdir()] == ["kept"]
    assert (slots / "kept").stat().st_mode & 0o077 == 0
    assert not list(tmp_path.rglob("*outside*"))
