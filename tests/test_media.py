"""Media by address: which bodies make a model fetch something, and whose are let in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.errors import InvalidJson, RemoteMediaForbidden
from llamarouter.core.media import RemoteMedia, check_media
from llamarouter.core.settings import Settings, parse_settings
from tests.engine_table import TABLE
from tests.key_kit import give
from tests.node_kit import House, add_model, house

URL = "http://169.254.169.254/latest"
PART: dict[str, Any] = {"type": "image_url", "image_url": {"url": URL}}


def chat(*parts: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize(
    "body",
    [
        chat(PART),
        chat({"type": "text", "text": "look"}, PART),
        chat({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}),
        chat({"type": "image_url", "image_url": {"url": "http"}}),
        chat({"type": "input_audio", "input_audio": {"data": URL}}),
        chat({"type": "input_audio", "input_audio": {"url": URL, "format": "wav"}}),
        chat({"type": "input_video", "input_video": {"data": URL}}),
        chat({"type": "video_url", "video_url": {"url": URL}}),
        {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]},
        {
            "model": "m",
            "input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": URL}]}],
        },
        chat({"type": "image", "source": {"type": "url", "url": URL}}),
        chat({"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": URL}}]}),
        {"model": "m", "input": [{"content": [PART]}]},
        {"documents": [[{"content": [PART]}]]},
    ],
)
def test_what_llama_server_would_fetch_is_seen(body: dict[str, Any]) -> None:
    for text in (json.dumps(body), json.dumps(body, separators=(",", ":")), json.dumps(body, indent=2)):
        with pytest.raises(RemoteMediaForbidden, match="--remote-media"):
            check_media(text.encode())


@pytest.mark.parametrize(
    "hidden",
    [
        r"\u0068ttp://x/",
        r"h\u0074tp://x/",
        r"htt\u0070://x/",
        r"\u0068\u0074\u0074\u0070\u003a\u002f\u002fx/",
        r"http\u003a\/\/x/",
        r"http:\/\/x",
    ],
)
def test_escapes_hide_no_address(hidden: str) -> None:
    with pytest.raises(RemoteMediaForbidden):
        check_media(json.dumps(chat(PART)).replace(URL, hidden).encode())


def test_escapes_hide_no_key_and_the_last_of_equal_keys_counts_as_for_llama_server() -> None:
    text = json.dumps(chat(PART))
    with pytest.raises(RemoteMediaForbidden):
        check_media(text.replace('"url"', r'"\u0075rl"').replace('"image_url":', r'"im\u0061ge_url":').encode())
    twice = text.replace(f'"url": "{URL}"', f'"url": "data:image/png;base64,AA==", "url": "{URL}"')
    with pytest.raises(RemoteMediaForbidden):
        check_media(twice.encode())


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"role": "user", "content": "http://example.org is down: why?"}]},
        {"model": "m", "prompt": "http://example.org"},
        chat({"type": "text", "text": URL}),
        chat({"type": "image_url", "image_url": {"url": "data:image/png;base64,aHR0cDovLw=="}}),
        chat({"type": "image_url", "image_url": {"url": "file://a.png"}}),
        chat({"type": "image_url", "image_url": {"url": " http://x"}}),
        {"tools": [{"type": "function", "function": {"parameters": {"properties": {"url": {"default": URL}}}}}]},
        {"tools": [{"type": "mcp", "server_url": URL}]},
        chat({"type": "text", "text": "\u0068 \u0070 höflich \u4f60"}),
        [],
        ["http"],
        "http",
    ],
)
def test_nothing_else_is(body: Any) -> None:
    check_media(json.dumps(body).encode())


def test_what_cannot_be_read_is_not_let_in() -> None:
    with pytest.raises(InvalidJson):
        check_media(b'{"a": "http", "b": "\\ud800"}')
    with pytest.raises(InvalidJson):
        check_media(b'{"a": "http", "b": ' + b"[" * 5000 + b"]" * 5000 + b"}")


def settings(*argv: str, **environ: str) -> Settings:
    return parse_settings(argv, environ, TABLE, lambda _: "")


def test_by_default_those_without_a_key_on_loopback() -> None:
    assert settings().remote_media_of() is RemoteMedia.KEYLESS
    assert settings("--host", "127.0.0.1,::1,localhost,/run/x.sock").remote_media_of() is RemoteMedia.KEYLESS
    assert settings("--host", "0.0.0.0", "--allow-open").remote_media_of() is RemoteMedia.NOBODYS
    assert settings("--host", "127.0.0.1,0.0.0.0", "--allow-open").remote_media_of() is RemoteMedia.NOBODYS
    assert settings("--remote-media").remote_media_of() is RemoteMedia.EVERYBODYS
    assert settings(LR_REMOTE_MEDIA="on").remote_media_of() is RemoteMedia.EVERYBODYS
    assert settings("--no-remote-media", LR_REMOTE_MEDIA="on").remote_media_of() is RemoteMedia.NOBODYS


async def statuses(home: House, body: Any, **headers: str) -> list[int]:
    """Of the application, of the fast lane cold and warm and with a head that it knows, and of its slow way."""
    sent = json.dumps(body).encode()
    found = [(await home.client.post("/v1/chat/completions", content=sent, headers=headers)).status_code]
    door = await home.knock()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for more in ("", "", "", "expect: 100-continue\r\n"):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: {len(sent)}\r\n{lines}{more}\r\n"
        door.send(head.encode() + sent)
        answer = await door.answer()
        found.append((await door.answer()).status if answer.status == 100 else answer.status)
    door.close()
    return found


@pytest.mark.anyio
async def test_who_has_a_key_has_no_model_fetch_anything_through_any_door(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    user = give(tmp_path, "ann")
    plain = chat({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}})
    async with house(tmp_path) as home:
        assert await statuses(home, plain, **user) == [200] * 5
        assert await statuses(home, chat(PART), **user) == [400] * 5
        hidden = json.dumps(chat(PART)).replace('"http', '"\\u0068ttp')
        answer = await home.client.post("/v1/chat/completions", content=hidden, headers=user)
        assert answer.json()["error"]["reason"] == "remote_media_forbidden"
        large = chat({"type": "text", "text": "x" * (2 << 20)}, PART)
        answer = await home.client.post("/v1/chat/completions", json=large, headers=user)
        assert answer.json()["error"]["reason"] == "remote_media_forbidden"
        answer = await home.client.post("/v1/messages/count_tokens", json=chat(PART), headers=user)
        assert answer.json()["error"]["reason"] == "remote_media_forbidden"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("flags", "status"), [((), 200), (("--no-remote-media",), 400), (("--host", "0.0.0.0", "--allow-open"), 400)]
)
async def test_without_keys_only_who_comes_from_this_machine(
    tmp_path: Path, flags: tuple[str, ...], status: int
) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, *flags) as home:
        assert await statuses(home, chat(PART)) == [status] * 5


@pytest.mark.anyio
async def test_the_operator_may_allow_it_to_those_with_keys(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    user = give(tmp_path, "ann")
    async with house(tmp_path, "--remote-media") as home:
        assert await statuses(home, chat(PART), **user) == [200] * 5
