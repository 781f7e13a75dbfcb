"""A conversation goes on without its client, until it is over or somebody stops it by its id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINES, Router, Serve, until
from tests.tiny_gguf import write_llama


def in_flight(router: Router) -> object:
    ours = router.models()["long"]["lr"]
    assert isinstance(ours, dict)
    return ours["in_flight"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_conversation_outlives_its_client_and_is_stopped_by_its_id(
    serve: Serve, engine: Path | None, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    write_llama(folder / "long.gguf", n_ctx=32768)
    router = serve(engine, "--models-dir", folder, "--threads", 1)
    body = {"model": "long", "messages": [{"role": "user", "content": "Tell"}], "stream": True, "ignore_eos": True}
    with router.client() as client:
        headers = {"X-Conversation-Id": "talk/1::long"}
        with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            next(answer.iter_raw())
        assert client.delete("/v1/stream", params={"conv_id": "another"}).status_code == 204
        assert in_flight(router) == 1
        assert client.delete("/v1/stream", params={"conv_id": "talk/1::long"}).status_code == 204
        until(lambda: in_flight(router) == 0, seconds=2)
        assert client.delete("/v1/stream").json()["error"]["code"] == 400
        found = client.post("/v1/streams/lookup", content=json.dumps({"conversation_ids": ["talk/1::long"]}))
        assert (found.status_code, found.json()) == (200, [])
