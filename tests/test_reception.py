"""The reception: keys in every spelling, names, and refusals before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.errors import InvalidApiKey, ModelInvalid, ModelNotFound, NotLoaded, RouterError
from llamarouter.core.routes import fast_routes
from llamarouter.relay.switchboard import Ask, Outcome
from tests.node_kit import add_model, house

pytestmark = pytest.mark.anyio

ROUTE = fast_routes()[b"/tokenize"]


async def test_keys_are_taken_as_llama_server_takes_them(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\nsk-file\n\n", encoding="utf-8")
    async with house(tmp_path, "--api-key", "sk-a,sk-b", "--api-key-file", str(tmp_path / "keys")) as home:
        reception = home.node.reception
        for authorization, other in (
            (b"Bearer sk-a", None),
            (b"bearer  sk-b ", None),
            (b"sk-file", None),
            (None, b"sk-a"),
            (None, b"Bearer sk-a"),
        ):
            reception.authorize(authorization, other)
        for authorization, other in (
            (None, None),
            (b"", None),
            (b"Bearer ", None),
            (b"Bearer sk-A", None),
            (b"Bearer # ours", None),
            (b"Bearer sk-a,sk-b", None),
            (b"Bearer wrong", b"sk-a"),  # the first that is there decides
            (b"\xff\xfe", None),
        ):
            with pytest.raises(InvalidApiKey):
                reception.authorize(authorization, other)


async def test_without_keys_everybody_comes_in(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.node.reception.authorize(None, None)
        home.node.reception.authorize(b"Bearer anything", None)


async def refused(home_lease: object, kind: type[RouterError]) -> str:
    with pytest.raises(kind) as caught:
        await home_lease  # type: ignore[misc]
    return caught.value.message


async def test_what_cannot_be_is_refused_before_a_process_is_started(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 40)
    add_model(tmp_path / "models", "m")
    preset = "[nothing]\nctx-size = 512\n[gone]\nmodel = missing.gguf\n[wrong]\nmodel = models/m.gguf\nfrobnicate = 1\n"
    async with house(tmp_path, preset=preset) as home:
        lease = home.node.reception.lease
        assert "'zz' not found" in await refused(lease(Ask("zz", ROUTE, 0)), ModelNotFound)
        shown = await refused(lease(Ask("z\x1b[31m\u202e" * 40, ROUTE, 0)), ModelNotFound)
        assert shown.isascii()
        assert shown.isprintable()
        assert len(shown) < 500
        for model in ("broken", "nothing", "gone", "wrong"):
            message = await refused(lease(Ask(model, ROUTE, 0)), ModelInvalid)
            assert message.startswith(f"model '{model}' cannot be loaded: ")
            assert str(tmp_path) not in message
            assert home.node.reception.lease_now(Ask(model, ROUTE, 0)) is None
        await refused(lease(Ask("m", ROUTE, 0, autoload=False)), NotLoaded)
        assert not home.node.supervisor.children


async def test_the_clients_word_on_autoload_wins_over_the_routers(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--no-models-autoload") as home:
        lease = home.node.reception.lease
        await refused(lease(Ask("m", ROUTE, 0)), NotLoaded)
        granted = await lease(Ask("m.gguf", ROUTE, 0, autoload=True))
        granted.end(Outcome(200, complete=True, client_left=False, tail=b""))
        again = home.node.reception.lease_now(Ask("m", ROUTE, 0))
        assert again is not None
        assert home.node.supervisor.scheduler.in_flight("m") == 1
        again.end(Outcome(200, complete=True, client_left=False, tail=b""))
        again.end(Outcome(200, complete=True, client_left=False, tail=b""))
        assert home.node.supervisor.scheduler.in_flight("m") == 0
