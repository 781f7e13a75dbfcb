"""The gate: who comes in, and that a change of the file is one at the next look."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llamarouter.core.access import OPEN, OPERATOR, Access
from llamarouter.core.errors import InvalidApiKey, UsageError
from llamarouter.host.key_file import KEYS, KeyFile
from llamarouter.server.gate import Gate
from tests.key_kit import give, secret_of, take, turn
from tests.waiting import until

pytestmark = pytest.mark.anyio


def let_in(gate: Gate, secret: str) -> Access | None:
    try:
        return gate.authorize(b"Bearer " + secret.encode(), None)
    except InvalidApiKey:
        return None


async def test_a_key_that_is_made_taken_away_and_turned_is_so_at_once(tmp_path: Path) -> None:
    gate = Gate((), KeyFile(tmp_path / KEYS))
    assert gate.is_open
    assert gate.authorize(None, None) is OPEN
    give(tmp_path, "ann", models=("a",))
    await until(lambda: not gate.is_open, seconds=3)  # by itself, as soon as somebody comes
    first = let_in(gate, secret_of("ann"))
    assert first is not None
    assert first.id == "ann"
    assert let_in(gate, secret_of("ann")) is first
    assert not gate.several
    turn(tmp_path, "ann", ("b",))
    gate.look_again()
    second = let_in(gate, secret_of("ann"))
    assert second is not None
    assert (second.sees("a"), second.sees("b")) == (False, True)
    assert gate.now(first) is second
    assert gate.stands(first)
    assert gate.owner_of(None, secret_of("ann").encode()) == first.owner != b""
    take(tmp_path, "ann")
    gate.look_again()
    assert let_in(gate, secret_of("ann")) is None
    assert not gate.stands(first)
    assert gate.now(first) is first
    assert gate.owner_of(None, secret_of("ann").encode()) == b""
    for credential in (None, b"", b"Bearer "):
        with pytest.raises(InvalidApiKey):  # it has had keys: it is never open again
            gate.authorize(credential, None)
    assert not gate.stands(OPEN)
    assert gate.stands(OPERATOR)


async def test_a_file_that_cannot_be_read_changes_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    give(tmp_path, "ann")
    gate = Gate(("operator",), KeyFile(tmp_path / KEYS))
    assert gate.several
    for spoil in (lambda path: path.chmod(0o644), lambda path: path.write_text("nonsense")):
        spoil(tmp_path / KEYS)
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                gate.look_again()
                assert let_in(gate, secret_of("ann")) is not None
        assert [record.message.startswith("the keys stay as they were") for record in caplog.records] == [True]
        caplog.clear()
        with pytest.raises(UsageError):
            Gate((), KeyFile(tmp_path / KEYS))
        (tmp_path / KEYS).chmod(0o600)
    (tmp_path / KEYS).unlink()
    gate.look_again()
    assert let_in(gate, secret_of("ann")) is None
    operator = let_in(gate, "operator")
    assert operator is not None
    assert operator.admin


async def test_a_key_is_over_at_its_hour_also_where_it_was_seen_before(tmp_path: Path) -> None:
    ends = datetime(2026, 6, 1, tzinfo=UTC)
    give(tmp_path, "ann", expires=ends)
    now = ends.timestamp() - 1
    gate = Gate((), KeyFile(tmp_path / KEYS), lambda: now)
    access = let_in(gate, secret_of("ann"))
    assert access is not None
    assert gate.stands(access)
    assert gate.said()[0]["expired"] is False
    now += 1
    assert let_in(gate, secret_of("ann")) is None
    assert not gate.stands(access)
    assert gate.said()[0]["expired"] is True


async def test_however_many_spellings_are_good_few_are_remembered(tmp_path: Path) -> None:
    gate = Gate(("k",), None)
    for blanks in range(1500):
        assert let_in(gate, " " * blanks + "k") is not None
    assert gate.authorize(None, b"k").id == "api-key"
    assert gate.authorize(b"Bearer k", b"wrong").admin
    for wrong in ((b"Bearer wrong", b"k"), (b"Basic k", None), (None, None)):
        with pytest.raises(InvalidApiKey):
            gate.authorize(*wrong)
    assert len(gate._seen) <= 1024


async def test_without_a_file_nobody_looks_for_one() -> None:
    gate = Gate((), None)
    gate.look_again()
    await asyncio.sleep(0)  # noqa: TID251 (a turn of the loop)
    assert gate.authorize(None, None) is OPEN


async def test_a_reload_takes_the_operators_keys_as_they_are_now(tmp_path: Path) -> None:
    give(tmp_path, "ann")
    gate = Gate(("old",), KeyFile(tmp_path / KEYS))
    assert gate.authorize(None, b"old").admin
    assert gate.renew(lambda: ("old",)) is None
    ann = let_in(gate, secret_of("ann"))
    assert gate.renew(lambda: ("new", "newer")) is None
    assert gate.authorize(None, b"new").admin
    assert gate.authorize(None, b"newer").admin
    with pytest.raises(InvalidApiKey):
        gate.authorize(None, b"old")
    assert ann is not None
    assert let_in(gate, secret_of("ann")) is not None  # those of the other file stay

    def spoilt() -> tuple[str, ...]:
        raise UsageError("--api-key-file k holds no key")

    doubt = gate.renew(spoilt)
    assert str(doubt) == "the keys stay as they were: --api-key-file k holds no key"
    assert gate.authorize(None, b"new").admin
