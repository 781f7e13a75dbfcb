"""Requests that name no model: the default answers them at every door, and without one they are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.relay_rig import WAYS, Client, fake_child, post, relay

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]

ECHO = '{"echo": true}'
FORM = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n0\r\n--b--\r\n'
UNNAMED = [b"{}", b'{"model":null}', b'{"model":""}', b'{"messages":[],"stream":false}', b"[1]"]


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def status_of(client: Client, body: bytes, **headers: str) -> int:
    client.send(post("/tokenize", body, **headers))
    return (await client.answer()).status


@pytest.mark.parametrize("body", UNNAMED)
async def test_the_default_answers_who_names_none(way: str, child: str, body: bytes) -> None:
    async with relay(way, child) as rig:
        rig.board.default_model = "m"
        client = await rig.client()
        client.send(post("/lora-adapters", body, x_fake=ECHO))
        answer = await client.answer()
        assert answer.status == 200
        assert answer.json()["body"] == body.decode()
        assert rig.board.asks[-1].model == "m"


async def test_the_default_answers_forms_and_queries_as_well(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        rig.board.default_model = "m"
        client = await rig.client()
        form = "multipart/form-data; boundary=b"
        client.send(post("/v1/audio/transcriptions", FORM, content_type=form, x_fake=ECHO))
        assert (await client.answer()).status == 200
        client.send(b"GET /slots HTTP/1.1\r\nhost: h\r\n\r\n")
        assert (await client.answer()).status == 200
        client.send(b"GET /slots?model= HTTP/1.1\r\nhost: h\r\n\r\n")
        assert (await client.answer()).status == 200
        assert [ask.model for ask in rig.board.asks] == ["m"] * 3


async def test_a_query_goes_before_the_default(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        rig.board.default_model = "z"
        client = await rig.client()
        client.send(post("/tokenize?model=m", b"{}"))
        assert (await client.answer()).status == 200
        assert [ask.model for ask in rig.board.asks] == ["m"]


async def test_a_name_that_is_wrong_is_not_none(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        rig.board.default_model = "m"
        for body, status in ((b'{"model":5}', 400), (b'{"model":["m"]}', 400), (b'{"model":"z"}', 404), (b"{", 400)):
            assert await status_of(await rig.client(), body) == status, body


async def test_without_a_default_it_is_the_clients_mistake(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        for body in UNNAMED:
            client = await rig.client()
            client.send(post("/tokenize", body))
            answer = await client.answer()
            assert answer.status == 400
            error = answer.json()["error"]
            assert error["message"] == "model name is missing from the request"
            assert error["reason"] == "missing_model"
        assert not rig.board.asks
