"""The reception: keys in every spelling, names, and refusals before anything is started."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llamarouter.core.access import Keyring
from llamarouter.core.errors import InvalidApiKey, ModelInvalid, ModelNotFound, NotLoaded, RouterError
from llamarouter.core.keys import Key, Limits
from llamarouter.core.routes import fast_routes
from llamarouter.relay.switchboard import Ask, Outcome, Wait
from tests.key_kit import CREATED
from tests.node_kit import House, add_model, house
from tests.relay_rig import post

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
        assert "'zz' not found" in await refused(lease(Ask("zz", ROUTE, 0), Wait()), ModelNotFound)
        shown = await refused(lease(Ask("z\x1b[31m\u202e" * 40, ROUTE, 0), Wait()), ModelNotFound)
        assert shown.isascii()
        assert shown.isprintable()
        assert len(shown) < 500
        for model in ("broken", "nothing", "gone", "wrong"):
            message = await refused(lease(Ask(model, ROUTE, 0), Wait()), ModelInvalid)
            assert message.startswith(f"model '{model}' cannot be loaded: ")
            assert str(tmp_path) not in message
            assert home.node.reception.lease_now(Ask(model, ROUTE, 0)) is None
            await refused(lease(Ask(model, ROUTE, 0), Wait()), ModelInvalid)
            [known] = home.node.chronicle.incidents.of(model)
            assert (known.stage, known.cause, known.message) == ("refused", "model_invalid", message[len(model) + 9 :])
            assert f"`lr explain {model}`" in known.hint
        await refused(lease(Ask("m", ROUTE, 0, autoload=False), Wait()), NotLoaded)
        assert not home.node.supervisor.children


async def test_the_clients_word_on_autoload_wins_over_the_routers(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--no-models-autoload") as home:
        lease = home.node.reception.lease
        await refused(lease(Ask("m", ROUTE, 0), Wait()), NotLoaded)
        granted = await lease(Ask("m.gguf", ROUTE, 0, autoload=True), Wait())
        granted.end(Outcome(200, complete=True, client_left=False, tail=b""))
        again = home.node.reception.lease_now(Ask("m", ROUTE, 0))
        assert again is not None
        assert home.node.supervisor.scheduler.in_flight("m") == 1
        again.end(Outcome(200, complete=True, client_left=False, tail=b""))
        again.end(Outcome(200, complete=True, client_left=False, tail=b""))
        assert home.node.supervisor.scheduler.in_flight("m") == 0


def one_model(tmp_path: Path, *argv: str, preset: str | None = None) -> AbstractAsyncContextManager[House]:
    return house(tmp_path, "-m", str(add_model(tmp_path / "models", "m")), *argv, preset=preset)


async def test_one_model_answers_to_any_name_at_both_doors(tmp_path: Path) -> None:
    async with one_model(tmp_path, "--alias", "mine") as home:
        await home.node.reception.load("mine")
        door = await home.knock()
        large = "x" * (2 << 20)  # too large for the fast lane
        for name in ("mine", "m", "gpt-4", "user/repo:Q8_0", "../etc", "*", ""):
            for content in ("hi", large):
                door.send(post("/tokenize", json.dumps({"model": name, "content": content}).encode()))
                assert (await door.answer()).status == 200, name
            assert (await home.client.get("/slots", params={"model": name})).status_code == 200, name
        # What is told what to do is told by its name.
        for path in ("/models/load", "/models/unload"):
            assert (await home.client.post(path, json={"model": "gpt-4"})).status_code in (400, 404), path
        assert (await home.client.get("/v1/models/gpt-4")).status_code == 404
        assert (await home.client.delete("/models", params={"model": "gpt-4"})).status_code == 404
        assert list(home.node.supervisor.children) == ["mine"]


async def test_the_names_that_clients_say_are_not_kept_for_ever(tmp_path: Path) -> None:
    async with one_model(tmp_path) as home:
        for number in range(3000):
            assert home.node.shelf.id_of(f"name {number}") == "m"
        assert len(home.node.shelf.known) <= 1024


async def test_beside_other_models_it_answers_to_its_own_names(tmp_path: Path) -> None:
    folder = ("--models-dir", str(tmp_path / "models"))
    async with one_model(tmp_path, *folder) as home:
        await refused(home.node.reception.lease(Ask("gpt-4", ROUTE, 0), Wait()), ModelNotFound)
        assert home.node.reception.lease_now(Ask("gpt-4", ROUTE, 0)) is None
    async with one_model(tmp_path, preset="[p]\nctx-size = 9\n") as home:
        await refused(home.node.reception.lease(Ask("gpt-4", ROUTE, 0), Wait()), ModelNotFound)


async def test_a_key_that_nobody_has_asked_about_yet_has_no_place_in_a_ready_model_that_it_does_not_see(
    tmp_path: Path,
) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        reception = home.node.reception
        over = Outcome(200, complete=True, client_left=False, tail=b"")
        (await reception.lease(Ask("m", ROUTE, 0), Wait())).end(over)
        for models, has in ((("other",), False), (("m",), True), (None, True)):
            key = Key(name="ann", digest=b"", created=CREATED, models=models)
            for _ in range(2):
                lease = reception.lease_now(Ask("m", ROUTE, 0, access=Keyring([key]).all()[0]))
                assert (lease is not None) is has
                if lease is not None:
                    lease.end(over)


async def test_what_needs_no_slot_takes_no_tokens_of_a_key(tmp_path: Path) -> None:
    key = Key(name="k", digest=b"k" * 32, created=CREATED, limits=Limits(tokens_per_day=1000))
    access = Keyring([key]).all()[0]
    answered = Outcome(200, complete=True, client_left=False, tail=b'{"tokens":[1,2,3]}')
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        await home.node.supervisor.load("m")
        taken = []
        for target in (b"/tokenize", b"/completion"):
            lease = home.node.reception.lease_now(Ask("m", fast_routes()[target], 400, access=access))
            assert lease is not None
            assert access.meter is not None
            lease.end(answered)
            taken.append(access.meter.tokens(home.node.reception.gate.date()))
            assert access.meter.inside == 0
    assert taken[0] == 0
    assert taken[1] > 0
